//! Keys that can be made again: derived from the service's own secret, never stored.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::{constant_time, hmac, rand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use zeroize::Zeroizing;

use crate::model::digest::Digest;
use crate::model::secret::Secret;

const SECRET_FILE: &str = "key-secret";
const SECRET_LENGTH: usize = 32;

/// Derives API keys with HMAC-SHA-256 (RFC 2104): the same `client_ref` gives the same key after
/// any crash, and the ledger needs a hash of it only.
pub(super) struct KeyMaker {
    key: hmac::Key,
    prefix: String,
}

impl KeyMaker {
    /// Reads the secret of this directory; makes both when they are not there.
    pub(super) fn open(directory: &Path, prefix: String) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(SECRET_FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_secret(directory, &path)?;
                File::open(&path)?
            }
            Err(error) => return Err(error),
        };
        let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
        file.read_exact(secret.as_mut())?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref()), prefix })
    }

    /// The key that belongs to this name. Its characters are safe in an env file.
    pub(super) fn key_for(&self, name: &str) -> Secret {
        let mac = hmac::sign(&self.key, name.as_bytes());
        Secret::new(format!("{}{}", self.prefix, BASE64URL_NOPAD.encode(mac.as_ref())))
    }
}

/// Renamed into place when it is whole: a crash leaves either no secret or all of it.
fn make_secret(directory: &Path, path: &Path) -> io::Result<()> {
    let fresh = directory.join(format!("{SECRET_FILE}.{}", random_hex()?));
    let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
    rand::fill(secret.as_mut()).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(secret.as_ref())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

/// 96 random bits, as hex digits.
pub(super) fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 12];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(HEXLOWER.encode(&bytes))
}

/// A secret that others must show. Only its hash is kept.
pub(super) struct Guarded(Digest);

impl Guarded {
    pub(super) fn new(secret: &Secret) -> Self {
        Self(Digest::of(secret.expose()))
    }

    /// Compares in constant time; hashes are compared, so that the length tells nothing either.
    pub(super) fn is_shown_by(&self, shown: &str) -> bool {
        let shown = Digest::of(shown);
        constant_time::verify_slices_are_equal(self.0.as_bytes(), shown.as_bytes()).is_ok()
    }
}
