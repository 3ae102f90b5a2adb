//! Where we answer: on this machine alone, by TCP or by a socket in the file system.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// Where it listens: `127.0.0.1:9464`, `[::1]:9464` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
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

impl FromStr for Address {
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl Address {
    /// A socket's path as meant from this directory.
    #[must_use]
    pub fn from(self, base: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(base.join(path)),
            address @ Self::Loopback(_) => address,
        }
    }
}

/// Open, and not answering yet. Neither blocks.
pub struct Listening {
    /// What listens.
    pub socket: Socket,
    /// What is to be removed in the end.
    pub left: Option<Left>,
}

/// What listens.
pub enum Socket {
    /// On a port.
    Tcp(TcpListener),
    /// In the file system.
    Unix(UnixListener),
}

impl Listening {
    /// Listens; a socket in the file system has this mode. One that was left there is replaced, anything
    /// else is not.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(address: &Address, mode: u32) -> Result<Self, ListenError> {
        let (what, listener) = match address {
            Address::Loopback(address) => {
                let listener = TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(Self { socket: Socket::Tcp(listener), left: None })
                });
                (address.to_string(), listener)
            }
            Address::Unix(path) => (path.display().to_string(), unix(path, mode)),
        };
        listener.map_err(|source| ListenError::Listen { what, source })
    }
}

/// It has its mode from its first instant in its place. Only a socket that nobody answers at is
/// replaced: whatever else is there is somebody's.
fn unix(path: &Path, mode: u32) -> io::Result<Listening> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another answers there"));
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
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    fs::rename(&new, path)?;
    listener.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let left = Some(Left { path: path.to_owned(), inode });
    Ok(Listening { socket: Socket::Unix(listener), left })
}

/// A socket that is to be removed in the end, unless another has taken its place.
pub struct Left {
    path: PathBuf,
    inode: u64,
}

impl Left {
    /// Removes it. One that stays is replaced by who listens there next.
    pub fn remove(self) {
        let is_ours = |found: fs::Metadata| found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            fs::remove_file(&self.path).ok();
        }
    }
}
