//! The address in a reverse proxy's header.
//!
//! Whoever can connect can write a header, so it is believed only where the system says who
//! connected: over a Unix socket, from a user that is listed.

use axum::http::{HeaderMap, HeaderName};
use nix::unistd::User;

use super::config::{HeaderConfig, PeerUser};
use super::{IdentityError, Peer, Refused, Why};
use crate::model::name::Email;

/// What a proxy or a client sends for other ends.
const OTHERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "origin",
    "sec-fetch-site",
    "te",
    "transfer-encoding",
    "upgrade",
];

pub(super) struct Header {
    name: HeaderName,
    folded: String,
    pub(super) peers: Vec<u32>,
}

impl Header {
    pub(super) fn new(config: &HeaderConfig) -> Result<Self, IdentityError> {
        if OTHERS.contains(&config.name.as_str()) {
            return Err(IdentityError::OthersHeader(config.name.clone()));
        }
        if config.peers.is_empty() {
            return Err(IdentityError::NoPeers);
        }
        let peers = uids("header.peers", &config.peers)?;
        Ok(Self { name: config.name.clone(), folded: fold(&config.name), peers })
    }

    pub(super) fn find(&self, headers: &HeaderMap, peer: Peer) -> Result<Email, Refused> {
        let look_alike = |name: &HeaderName| *name != self.name && fold(name) == self.folded;
        if headers.keys().any(look_alike) {
            return Err(Refused::Bad(Why::LookAlike));
        }
        let mut values = headers.get_all(&self.name).iter();
        let value = values.next().ok_or(Refused::Nobody)?;
        if !matches!(peer, Peer::Unix { uid } if self.peers.contains(&uid)) {
            return Err(Refused::Bad(Why::NotAPeer));
        }
        if values.next().is_some() {
            return Err(Refused::Bad(Why::HeaderTwice));
        }
        // The alphabet of addresses has no comma, no space and nothing but ASCII.
        let email = value.to_str().ok().and_then(|text| text.parse().ok());
        email.ok_or(Refused::Bad(Why::NoAddress))
    }
}

/// As the most careless program on the way would write it: what a client sends under a name that
/// folds to the proxy's could become the proxy's.
fn fold(name: &HeaderName) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.as_str().chars().map(fold).collect()
}

/// The numbers of the users that stand in this place of the configuration.
pub(super) fn uids(place: &'static str, users: &[PeerUser]) -> Result<Vec<u32>, IdentityError> {
    let uid = |user: &PeerUser| {
        let name = match user {
            PeerUser::Uid(uid) => return Ok(*uid),
            PeerUser::Name(name) => name.clone(),
        };
        match User::from_name(&name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            Ok(None) => Err(IdentityError::NoSuchUser { place, name }),
            Err(errno) => Err(IdentityError::Lookup { place, name, source: errno.into() }),
        }
    };
    users.iter().map(uid).collect()
}
