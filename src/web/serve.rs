//! Answers connections until it is told to stop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use crate::identity::Peer;
use crate::listen::{Listening, Socket};

/// The mode of the socket: whoever connects is told by who they are.
pub const SOCKET_MODE: u32 = 0o666;

/// Connections at once; others wait in the kernel's queue.
const AT_ONCE: usize = 1024;
/// Of these, those of one account that is no proxy: whoever has an account may connect.
const OF_A_STRANGER: usize = 32;
/// The same where it is not said who the proxies are: one of these accounts is one.
const OF_AN_ACCOUNT: usize = AT_ONCE * 3 / 4;
/// Whoever takes nothing of an answer for so long is left.
const TAKES_NOTHING: Duration = Duration::from_secs(30);
/// From a connection, or the end of an answer, to the end of the next request's head.
const HEAD: Duration = Duration::from_secs(20);
/// What is under way when it is told to stop has this time.
const DRAIN: Duration = Duration::from_secs(10);
/// After a connection that could not be taken.
const AGAIN: Duration = Duration::from_millis(100);

/// Answers until `stop` is true, and then finishes what is under way. `proxies` are the users who
/// connect for others.
///
/// # Errors
/// The socket cannot be used.
pub async fn serve(
    listening: Listening,
    router: Router,
    proxies: &[u32],
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let Listening { socket, left } = listening;
    let acceptor = Acceptor::new(socket)?;
    let (free, graceful) = (Arc::new(Semaphore::new(AT_ONCE)), GracefulShutdown::new());
    let mut strangers = Strangers::default();
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&free) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((visit, peer, place)) => {
                if let Ok(seat) = strangers.seat(peer, proxies) {
                    answer(visit, peer, (place, seat), &router, &graceful);
                } else {
                    tracing::warn!(?peer, "an account has too many connections");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(AGAIN).await;
            }
        }
    }
    drop(acceptor);
    if let Some(left) = left {
        left.remove();
    }
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections that did not end were left");
    }
    Ok(())
}

/// How many more connections each account may have that is no proxy.
#[derive(Default)]
struct Strangers(HashMap<u32, Arc<Semaphore>>);

impl Strangers {
    /// A place for this connection, if it needs one.
    ///
    /// # Errors
    /// Its account has too many.
    fn seat(&mut self, peer: Peer, proxies: &[u32]) -> Result<Place, TryAcquireError> {
        let uid = match peer {
            Peer::Unix { uid } if !proxies.contains(&uid) => uid,
            Peer::Unix { .. } | Peer::Tcp(_) => return Ok(None),
        };
        let most = if proxies.is_empty() { OF_AN_ACCOUNT } else { OF_A_STRANGER };
        self.0.retain(|of, free| *of == uid || free.available_permits() < most);
        let free = self.0.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(most)));
        Arc::clone(free).try_acquire_owned().map(Some)
    }
}

/// Held for as long as a connection lives.
type Place = Option<OwnedSemaphorePermit>;

/// A connection, of either kind.
type Visit = Box<dyn Stream>;
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Socket::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    async fn next(&self, free: &Arc<Semaphore>) -> io::Result<(Visit, Peer, Place)> {
        // Nobody closes it, so that there is always one in the end.
        let place = Arc::clone(free).acquire_owned().await.ok();
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Tcp(address), place))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Box::new(stream), Peer::Unix { uid }, place))
            }
        }
    }
}

fn answer(
    visit: Visit,
    peer: Peer,
    places: (Place, Place),
    router: &Router,
    graceful: &GracefulShutdown,
) {
    let service = router.clone().layer(Extension(ConnectInfo(peer)));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut visit = TimeoutStream::new(visit);
    visit.set_write_timeout(Some(TAKES_NOTHING));
    let io = TokioIo::new(Box::pin(visit));
    let connection = http.serve_connection(io, TowerToHyperService::new(service));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Who goes away in the middle is nobody's trouble.
        connection.await.ok();
        drop(places);
    });
}
