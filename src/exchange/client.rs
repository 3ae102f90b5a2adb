//! The HTTP clients, one per authority that is trusted.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Url};

use super::call::NoReply;

/// A service that does not take a connection in this time will not answer well either. A call
/// with a shorter total ends sooner.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Shorter than the 5 seconds after which common servers close an idle connection: a call that
/// meets the close has an unknown outcome for nothing.
const IDLE: Duration = Duration::from_secs(3);

/// The clients that were needed so far.
#[derive(Default)]
pub(super) struct Clients(Mutex<BTreeMap<(Trust, Connection), Made>>);

struct Made {
    client: Client,
    /// The text of the `ca_file`, as it was then.
    pem: Vec<u8>,
}

/// Over which connection a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Connection {
    /// An open one, if there is one. The service may be closing it just then, and the outcome is
    /// unknown: for calls that can be repeated.
    Any,
    /// One of its own.
    Fresh,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// No authority at all: for plain HTTP to this machine, which then also works on one that has
    /// no certificates installed.
    Nobody,
    System,
    File(String),
}

impl Clients {
    /// The client for this URL.
    pub(super) fn get(
        &self,
        url: &Url,
        ca_file: Option<&str>,
        connection: Connection,
    ) -> Result<Client, NoReply> {
        let trust = match ca_file {
            _ if url.scheme() == "http" => Trust::Nobody,
            None => Trust::System,
            Some(path) => Trust::File(path.to_owned()),
        };
        // Read each time: an authority that was replaced counts from the next call on.
        let pem = match &trust {
            Trust::File(path) => std::fs::read(path)
                .map_err(|cause| NoReply::Authority(path.clone(), cause.to_string()))?,
            Trust::Nobody | Trust::System => Vec::new(),
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = (trust, connection);
        if let Some(made) = clients.get(&kind).filter(|made| made.pem == pem) {
            return Ok(made.client.clone());
        }
        let client = build(&kind.0, kind.1, &pem)?;
        clients.insert(kind, Made { client: client.clone(), pem });
        Ok(client)
    }
}

fn build(trust: &Trust, connection: Connection, pem: &[u8]) -> Result<Client, NoReply> {
    let builder = match trust {
        Trust::Nobody => plain(),
        Trust::System => strict().https_only(true),
        Trust::File(path) => {
            let bad = |why: &str| NoReply::Authority(path.clone(), why.to_owned());
            let authorities = Certificate::from_pem_bundle(pem).map_err(|_| bad("is not PEM"))?;
            if authorities.is_empty() {
                return Err(bad("has no certificate"));
            }
            strict().https_only(true).tls_certs_only(authorities)
        }
    };
    let builder = match connection {
        Connection::Any => builder,
        Connection::Fresh => builder.pool_max_idle_per_host(0),
    };
    builder.build().map_err(|error| match trust {
        Trust::File(path) => NoReply::Authority(path.clone(), deepest(&error)),
        Trust::Nobody | Trust::System => NoReply::Client(deepest(&error)),
    })
}

fn strict() -> ClientBuilder {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        // These four change nothing unless some dependency switches the features on.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("service-connector/", env!("CARGO_PKG_VERSION")))
}

fn plain() -> ClientBuilder {
    // Port 0 stands for the URL's own. The name must not lead away from this machine.
    let here =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
    strict().tls_certs_only([]).resolve_to_addrs("localhost", &here)
}

/// The innermost cause: the layers above it only repeat where they stand.
pub(super) fn deepest(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

/// An error and its causes, outermost first.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // The source of an I/O error is the source of what it wraps, which would be skipped.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}
