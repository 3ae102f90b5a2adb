//! The nudge: a socket in the state's directory by which others tell the loop to look again.
//!
//! To connect is all there is to it. Nothing is read and nothing answered, so that neither garbage nor
//! a slow client costs anything. Who may connect is who may write to the socket: the directory's group.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

use crate::store::{self, StoreError};

/// Its name in the state's directory.
const SOCKET: &str = "nudge.sock";
/// Held by the loop whose socket it is: a loop that was killed lets go of it, its socket stays.
const LOCK: &str = ".nudge.lock";
/// Where the socket is made, before anybody can reach it.
const NEW: &str = ".nudge.sock.new";
/// The owner's and the group's.
const MODE: u32 = 0o660;
/// Whoever comes within this time of another is heard together with the next.
const APART: Duration = Duration::from_millis(100);
/// Nobody can keep the loop from going on by coming again and again.
const AT_ONCE: usize = 1024;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum NudgeError {
    /// The state's directory cannot be made.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The system refused.
    #[error("the nudge socket {path} cannot be made")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The socket, open. It goes with this.
pub struct Nudges {
    listener: UnixListener,
    path: PathBuf,
    _lock: File,
}

impl Nudges {
    /// Makes the socket, in place of one that a killed loop left; none: another loop has it. A runtime
    /// must run.
    ///
    /// # Errors
    /// See [`NudgeError`].
    pub fn listen(state_dir: &Path) -> Result<Option<Self>, NudgeError> {
        store::make_dir(state_dir)?;
        let path = state_dir.join(SOCKET);
        let failed = |source| NudgeError::Socket { path: path.clone(), source };
        // Nobody else's to open: whoever could read it could also lock it.
        let mut lock = OpenOptions::new();
        lock.create(true).truncate(false).write(true).mode(0o600);
        let lock = lock.open(state_dir.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let listener = bind(&state_dir.join(NEW), &path).map_err(failed)?;
        Ok(Some(Self { listener, path, _lock: lock }))
    }

    /// Waits for a nudge. All that came until it returns are one.
    pub async fn next(&self) {
        sleep(APART).await;
        while let Err(error) = self.listener.accept().await {
            tracing::warn!(%error, "a nudge could not be heard");
            sleep(APART).await;
        }
        for _ in 0..AT_ONCE {
            if !matches!(timeout(Duration::ZERO, self.listener.accept()).await, Ok(Ok(_))) {
                break;
            }
        }
    }
}

impl Drop for Nudges {
    fn drop(&mut self) {
        // One that stays is replaced by the next loop, and until then nobody listens there.
        fs::remove_file(&self.path).ok();
    }
}

/// Listens at `path`, which has its mode from its first instant there.
fn bind(new: &Path, path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(new)?;
    fs::set_permissions(new, fs::Permissions::from_mode(MODE))?;
    fs::rename(new, path)?;
    Ok(listener)
}

/// Tells the loop of this state to look again at everything, and returns at once: whether there is
/// one. It sees what was changed before.
///
/// # Errors
/// There may be one, but it is not ours to reach.
pub fn nudge(state_dir: &Path) -> io::Result<bool> {
    match knock(state_dir, SocketType::STREAM) {
        // As many as it can hold wait to be heard, which is as good.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether there is a loop, without telling it anything.
///
/// # Errors
/// There may be one, but it is not ours to reach.
pub fn is_watched(state_dir: &Path) -> io::Result<bool> {
    match knock(state_dir, SocketType::DGRAM) {
        // unix(7): somebody listens, for another kind of socket. Where nobody does, it is refused.
        Err(Errno::PROTOTYPE) => Ok(true),
        Ok(()) | Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn knock(state_dir: &Path, kind: SocketType) -> Result<(), Errno> {
    let address = SocketAddrUnix::new(state_dir.join(SOCKET))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
    connect(&socket, &address)
}
