//! Keys at rest are sealed: AES-256-GCM-SIV (RFC 8452), the record's identity as associated data.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::model::name::{OpId, ServiceId, UserId};
use crate::model::secret::{Fingerprint, Secret};

use super::StoreError;

/// The key that seals the keys: 64 hex digits in a file that only we read.
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl SealingKey {
    /// Reads the key.
    ///
    /// # Errors
    /// The file is missing, cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::SealingKey {
                    path: path.to_owned(),
                    trouble: "is missing",
                });
            }
            Err(source) => return Err(StoreError::File { path: path.to_owned(), source }),
        };
        let decoded = data_encoding::HEXLOWER.decode(text.trim_end().as_bytes());
        let bytes = decoded.map(Zeroizing::new).ok().and_then(|bytes| bytes[..].try_into().ok());
        bytes.map(|bytes| Self(Zeroizing::new(bytes))).ok_or_else(|| StoreError::SealingKey {
            path: path.to_owned(),
            trouble: "is not 64 hex digits",
        })
    }

    /// Reads the key, or makes one for a new state. A key that a killed run left is used.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub fn read_or_make(path: &Path) -> Result<Self, StoreError> {
        let unfinished = path.with_extension("unfinished");
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        if path.try_exists().map_err(failed)? {
            // A run that was killed may have left the same key under both names.
            match fs::remove_file(&unfinished) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::File { path: unfinished, source: error });
                }
                _ => return Self::read(path),
            }
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let filled = SystemRandom::new().fill(&mut bytes[..]);
        let write = || {
            filled.map_err(|_| io::Error::other("no randomness"))?;
            let text = Zeroizing::new(data_encoding::HEXLOWER.encode(&bytes[..]) + "\n");
            // Whole or not there: a killed run leaves no half key under the name that counts.
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::hard_link(&unfinished, path)?; // fails if somebody else was faster
            fs::remove_file(&unfinished)?;
            fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        match write() {
            Ok(()) => Ok(Self(bytes)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(path),
            Err(source) => Err(StoreError::File { path: path.to_owned(), source }),
        }
    }
}

/// The keys for each use, derived from the sealing key.
pub(super) struct Keys {
    seal: LessSafeKey,
    fingerprint: hmac::Key,
    check: hmac::Key,
}

impl Keys {
    pub(super) fn derive(key: &SealingKey) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key.0[..]);
        let derived = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        let seal = UnboundKey::new(&AES_256_GCM_SIV, derived("service-connector seal 1").as_ref())
            .expect("an HMAC-SHA-256 tag has the 32 bytes that AES-256 takes");
        let mac = |purpose| hmac::Key::new(hmac::HMAC_SHA256, derived(purpose).as_ref());
        Self {
            seal: LessSafeKey::new(seal),
            fingerprint: mac("service-connector fingerprint 1"),
            check: mac("service-connector check 1"),
        }
    }

    /// Tells this key from another, and tells nothing else.
    pub(super) fn check_value(&self) -> String {
        data_encoding::HEXLOWER.encode(hmac::sign(&self.check, b"check").as_ref())
    }

    pub(super) fn fingerprint(&self, key: &str) -> Fingerprint {
        let tag = hmac::sign(&self.fingerprint, key.as_bytes());
        let mac: &[u8; 32] = tag.as_ref().try_into().expect("an HMAC-SHA-256 tag has 32 bytes");
        Fingerprint::from_mac(mac)
    }

    /// Nonce, then the sealed key.
    pub(super) fn seal(&self, key: &str, whose: Identity<'_>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        // Sized first, so that growing leaves no copy of the key behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(key.len() + AES_256_GCM_SIV.tag_len()));
        sealed.extend_from_slice(key.as_bytes());
        let aad = Aad::from(whose.bytes());
        self.seal
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *sealed)
            .ok()?;
        Some([&nonce[..], &sealed[..]].concat())
    }

    pub(super) fn unseal(&self, sealed: &[u8], whose: Identity<'_>) -> Option<Secret> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = Zeroizing::new(body.to_vec());
        let opened = self.seal.open_in_place(nonce, Aad::from(whose.bytes()), &mut body).ok()?;
        Some(Secret::new(std::str::from_utf8(opened).ok()?.to_owned()))
    }
}

/// Which record a sealed key belongs to: moved to another, it cannot be opened.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub op: &'a OpId,
    pub user: &'a UserId,
    pub service: &'a ServiceId,
}

impl Identity<'_> {
    fn bytes(self) -> Vec<u8> {
        // Names hold no line feeds.
        format!("{}\n{}\n{}", self.op, self.user, self.service).into_bytes()
    }
}
