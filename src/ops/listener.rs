//! The local listener: `/metrics`, `/healthz`, `/readyz`. It has a thread of its own: a loop that
//! stands still cannot keep it from saying so.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError};
use std::thread;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use super::Ops;
use super::guests::Guests;
use crate::watch::SILENCE;

/// The content type of `OpenMetrics` 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The socket's mode: its owner's and its group's.
const MODE: u32 = 0o660;

/// Where it listens: `127.0.0.1:9464`, `[::1]:9464` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum OpsAddress {
    /// On this machine only.
    Loopback(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// It cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Neither form.
    #[error("{0:?} is neither ADDRESS:PORT nor unix:PATH")]
    Form(String),
    /// Others could reach it.
    #[error("{0} is not on this machine alone: take 127.0.0.1, [::1] or unix:PATH")]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("{what} cannot be listened at")]
    Listen {
        /// Where.
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl FromStr for OpsAddress {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let address: SocketAddr = text.parse().map_err(|_| ListenError::Form(text.to_owned()))?;
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        Ok(Self::Loopback(address))
    }
}

impl TryFrom<String> for OpsAddress {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl OpsAddress {
    /// A socket's path as meant from this directory.
    #[must_use]
    pub fn from(self, base: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(base.join(path)),
            address @ Self::Loopback(_) => address,
        }
    }
}

/// Open, and not answering yet.
pub struct OpsListener {
    socket: Socket,
    left: Option<Left>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl OpsListener {
    /// Listens. A socket that was left there is replaced, anything else is not.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(address: &OpsAddress) -> Result<Self, ListenError> {
        let (what, listener) = match address {
            OpsAddress::Loopback(address) => {
                let listener = TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(Self { socket: Socket::Tcp(listener), left: None })
                });
                (address.to_string(), listener)
            }
            OpsAddress::Unix(path) => (path.display().to_string(), unix(path)),
        };
        listener.map_err(|source| ListenError::Listen { what, source })
    }

    /// Answers for as long as the process runs. Returns what is to be removed in the end, if
    /// something is.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub fn serve(self, ops: Arc<Ops>) -> io::Result<Option<Left>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .with_state(ops);
        let Self { socket, left } = self;
        thread::Builder::new().name("ops".to_owned()).spawn(move || {
            let ended = runtime.block_on(async move {
                match socket {
                    Socket::Tcp(listener) => {
                        let listener = tokio::net::TcpListener::from_std(listener)?;
                        axum::serve(Guests::new(listener), router).await
                    }
                    Socket::Unix(listener) => {
                        let listener = tokio::net::UnixListener::from_std(listener)?;
                        axum::serve(Guests::new(listener), router).await
                    }
                }
            });
            if let Err(error) = ended {
                tracing::error!(%error, "metrics are not served any more");
            }
        })?;
        Ok(left)
    }
}

/// It has its mode from its first instant in its place. Only a socket that nobody answers at is
/// replaced: whatever else is there is somebody's.
fn unix(path: &Path) -> io::Result<OpsListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another loop answers there"));
        }
        _ => {}
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(MODE))?;
    fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let left = Some(Left { path: path.to_owned(), inode });
    Ok(OpsListener { socket: Socket::Unix(listener), left })
}

/// A socket that is to be removed in the end, unless another has taken its place.
pub struct Left {
    path: PathBuf,
    inode: u64,
}

impl Left {
    /// Removes it. One that stays is replaced by the next loop.
    pub fn remove(self) {
        let is_ours = |found: fs::Metadata| found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            fs::remove_file(&self.path).ok();
        }
    }
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], ops.metrics.text()).into_response()
}

async fn healthz(State(ops): State<Arc<Ops>>) -> Response {
    let lives = ops.heart.beats_within(SILENCE);
    let status = if lives { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": lives }))).into_response()
}

async fn readyz(State(ops): State<Arc<Ops>>) -> Response {
    let answer = ops.readiness.lock().unwrap_or_else(PoisonError::into_inner).answer();
    let status = if answer.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}
