//! Flask's session cookie: itsdangerous' `URLSafeTimedSerializer` as `SecureCookieSessionInterface`
//! sets it up (salt, HMAC with SHA-1 for the key and for the signature), around tagged JSON.

use std::num::NonZeroU32;

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY as HMAC_SHA1};
use axum::http::HeaderMap;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde_json::Value;
use zeroize::Zeroizing;

use super::config::{CookieName, FlaskConfig};
use super::key_file::{KeyFile, KeyFileError};
use super::{IdentityError, Refused, Why, cookies};
use crate::model::name::Email;

/// `SecureCookieSessionInterface.salt`.
const SALT: &[u8] = b"cookie-session";
/// A session that is larger when unpacked is none of Flask's: browsers keep 4 KiB.
const LARGEST: usize = 64 << 10;
/// A shorter key can be guessed by whoever has one cookie.
const SHORTEST_KEY: usize = 16;
/// By how many seconds the other clock may be ahead.
const LEEWAY: i64 = 60;

pub(super) struct Flask {
    cookie: CookieName,
    key: KeyFile,
    max_age: NonZeroU32,
    email: Vec<String>,
}

impl Flask {
    pub(super) fn new(config: &FlaskConfig) -> Result<Self, IdentityError> {
        if config.email.is_empty() {
            return Err(IdentityError::Empty("flask.email"));
        }
        let key = KeyFile { path: config.key_file.clone(), is_secret: true };
        let (cookie, email) = (config.cookie.clone(), config.email.clone());
        let flask = Self { cookie, key, max_age: config.max_age_seconds, email };
        flask.key()?;
        Ok(flask)
    }

    pub(super) fn find(&self, headers: &HeaderMap, now: Timestamp) -> Result<Email, Refused> {
        let session = self.session(cookies::find(headers, &self.cookie)?, now)?;
        let mut place = &session;
        for key in &self.email {
            // Everybody has a session, also before they log in.
            place = step(place, key).ok_or(Refused::Nobody)?;
        }
        match text(place) {
            Some(text) => text.parse().map_err(|_| Refused::Bad(Why::NoAddress)),
            None if place.is_null() => Err(Refused::Nobody),
            None => Err(Refused::Bad(Why::NoAddress)),
        }
    }

    /// What the session holds, once its signature and its age are good.
    fn session(&self, cookie: &[u8], now: Timestamp) -> Result<Value, Refused> {
        let malformed = || Refused::Bad(Why::Malformed);
        let (signed, signature) = split_last(cookie).ok_or_else(malformed)?;
        let (payload, time) = split_last(signed).ok_or_else(malformed)?;
        let signature = BASE64URL_NOPAD.decode(signature).map_err(|_| malformed())?;
        if !is_signed(&self.key()?, signed, &signature) {
            return Err(Refused::Bad(Why::Signature));
        }
        let age = now.as_second() - seconds(time).ok_or_else(malformed)?;
        if age < -LEEWAY {
            return Err(Refused::Bad(Why::FromTheFuture));
        }
        if age > i64::from(self.max_age.get()) {
            return Err(Refused::Bad(Why::Ended));
        }
        let json = unpack(payload).ok_or_else(malformed)?;
        serde_json::from_slice(&json).map_err(|_| malformed())
    }

    fn key(&self) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let key = self.key.read()?;
        if key.trim_ascii().len() < SHORTEST_KEY {
            return Err(self.key.unfit("the key has fewer than 16 bytes and can be guessed"));
        }
        Ok(key)
    }
}

/// Whether this key signed it: as it is in the file, or without the line end that an editor puts
/// there. Some applications strip it and some do not.
fn is_signed(key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let line = key.strip_suffix(b"\n").unwrap_or(key);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    [key, line].into_iter().any(|key| {
        let derived = hmac::sign(&hmac::Key::new(HMAC_SHA1, key), SALT);
        let key = hmac::Key::new(HMAC_SHA1, derived.as_ref());
        hmac::verify(&key, signed, signature).is_ok()
    })
}

fn split_last(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().rposition(|c| *c == b'.')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// When it was signed, in seconds since 1970.
fn seconds(text: &[u8]) -> Option<i64> {
    let bytes = BASE64URL_NOPAD.decode(text).ok().filter(|bytes| bytes.len() <= 7)?;
    Some(bytes.iter().fold(0, |seconds, byte| seconds << 8 | i64::from(*byte)))
}

fn unpack(payload: &[u8]) -> Option<Vec<u8>> {
    let Some(packed) = payload.strip_prefix(b".") else {
        return BASE64URL_NOPAD.decode(payload).ok();
    };
    let packed = BASE64URL_NOPAD.decode(packed).ok()?;
    decompress_to_vec_zlib_with_limit(&packed, LARGEST).ok()
}

/// What is under this key. A map whose only key is a tag stands for a value of another type (Flask's
/// `TaggedJSONSerializer`), and a map that would look so is one under ` di`, its key ending in `__`.
fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    match tagged(value) {
        Some((" di", inner)) => inner.as_object()?.get(&format!("{key}__")),
        Some(_) => None,
        None => map.get(key),
    }
}

/// A text, or one that the application marked as safe HTML.
fn text(value: &Value) -> Option<&str> {
    match tagged(value) {
        Some((" m", inner)) => inner.as_str(),
        _ => value.as_str(),
    }
}

fn tagged(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    let (key, inner) = map.iter().next()?;
    key.starts_with(' ').then_some((key.as_str(), inner))
}
