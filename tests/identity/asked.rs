//! Requests, and keys in files.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use service_connector::identity::{Identity, IdentityConfig, IdentityError, Peer, Refused, Why};
use service_connector::model::yaml;
use tempfile::TempDir;

/// Loopback: what anybody on the server has.
pub fn tcp() -> Peer {
    Peer::Tcp(SocketAddr::from(([127, 0, 0, 1], 40_000)))
}

pub fn configure(text: &str) -> Result<Identity, IdentityError> {
    Identity::new(&yaml::read::<IdentityConfig>(text).unwrap())
}

pub fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// The address and what proved it; else why not.
pub fn who(identity: &Identity, headers: &HeaderMap, peer: Peer, now: Timestamp) -> String {
    match identity.who(headers, peer, now) {
        Ok(asker) => format!("{} by {:?}", asker.email, asker.by),
        Err(Refused::Bad(why)) => format!("{why:?}"),
        Err(Refused::Nobody) => "nobody".to_owned(),
        Err(Refused::CannotTell(error)) => error.to_string(),
    }
}

pub fn said(why: Why) -> String {
    format!("{why:?}")
}

/// A directory for keys.
pub struct Keys(TempDir);

impl Keys {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    pub fn put(&self, name: &str, key: &[u8], mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}
