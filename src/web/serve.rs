//! Answers connections until it is told to stop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
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
/// And of all of them together: somebody may have many accounts.
const OF_STRANGERS: usize = 256;
/// Of one account where it is not said who the proxies are: one of these accounts is one.
const OF_AN_ACCOUNT: usize = AT_ONCE * 3 / 4;
/// Whoever takes nothing of an answer for so long is left.
const TAKES_NOTHING: Duration = Duration::from_secs(30);
/// From a connection, or the end of an answer, to the end of the next request's head.
const HEAD: Duration = Duration::from_secs(20);
/// What is under way when it is told to stop has this time.
const DRAIN: Duration = Duration::from_secs(10);
/// An account that has too many connections is named in the log so often.
const NAMED: Duration = Duration::from_mins(1);
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
    let mut strangers = Strangers::new(proxies);
    loop {
        let accepted = tokio::select! {
            accepted = acceptor.next(&free) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((visit, peer, place)) => {
                if let Ok(seat) = strangers.seat(peer) {
                    answer(visit, peer, (place, seat), &router, &graceful);
                } else {
                    strangers.name(peer);
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

/// How many more connections the accounts may have that are no proxies.
struct Strangers<'a> {
    proxies: &'a [u32],
    together: Arc<Semaphore>,
    each: HashMap<u32, Arc<Semaphore>>,
    named: HashMap<u32, Instant>,
}

impl<'a> Strangers<'a> {
    fn new(proxies: &'a [u32]) -> Self {
        let all = if proxies.is_empty() { AT_ONCE } else { OF_STRANGERS };
        let together = Arc::new(Semaphore::new(all));
        Self { proxies, together, each: HashMap::new(), named: HashMap::new() }
    }

    /// A place for this connection, if it needs one.
    ///
    /// # Errors
    /// Its account has too many, or all of them have.
    fn seat(&mut self, peer: Peer) -> Result<Seat, TryAcquireError> {
        let uid = match peer {
            Peer::Unix { uid } if !self.proxies.contains(&uid) => uid,
            Peer::Unix { .. } | Peer::Tcp(_) => return Ok(None),
        };
        let most = if self.proxies.is_empty() { OF_AN_ACCOUNT } else { OF_A_STRANGER };
        self.each.retain(|of, free| *of == uid || free.available_permits() < most);
        let free = self.each.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(most)));
        let own = Arc::clone(free).try_acquire_owned()?;
        Ok(Some((own, Arc::clone(&self.together).try_acquire_owned()?)))
    }

    /// Says whose connections are too many, once in a while.
    fn name(&mut self, peer: Peer) {
        let Peer::Unix { uid } = peer else { return };
        self.named.retain(|_, at| at.elapsed() < NAMED);
        if self.named.insert(uid, Instant::now()).is_none() {
            tracing::warn!(uid, "an account has too many connections");
        }
    }
}

/// Held for as long as a connection lives.
type Place = Option<OwnedSemaphorePermit>;
/// The same, of an account's own and of those that all share.
type Seat = Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>;

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
    places: (Place, Seat),
    router: &Router,
    graceful: &GracefulShutdown,
) {
    // To each request, since a layer of the router's would be put around each of its routes anew.
    let answering = TowerToHyperService::new(router.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        answering.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut visit = TimeoutStream::new(visit);
    visit.set_write_timeout(Some(TAKES_NOTHING));
    let io = TokioIo::new(Box::pin(visit));
    let connection = http.serve_connection(io, service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Who goes away in the middle is nobody's trouble.
        connection.await.ok();
        drop(places);
    });
}
