//! A JSON Web Token (RFC 7519), as a cookie or a bearer token (RFC 6750).

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use super::config::{CookieName, JwtAlgorithm, JwtConfig};
use super::key_file::{KeyFile, KeyFileError};
use super::{IdentityError, Refused, Why, cookies};
use crate::model::name::Email;

/// The output of SHA-256 (RFC 7518, section 3.2), in bytes.
const SHORTEST_SECRET: usize = 32;

pub(super) struct Jwt {
    pub(super) cookie: Option<CookieName>,
    pub(super) is_bearer: bool,
    algorithm: JwtAlgorithm,
    key: KeyFile,
    validation: Validation,
    email_claim: String,
    leeway: f64,
}

impl Jwt {
    pub(super) fn new(config: &JwtConfig) -> Result<Self, IdentityError> {
        if config.cookie.is_none() && !config.bearer {
            return Err(IdentityError::NoPlace);
        }
        for (what, text) in [
            ("jwt.issuer", &config.issuer),
            ("jwt.audience", &config.audience),
            ("jwt.email_claim", &config.email_claim),
        ] {
            if text.is_empty() {
                return Err(IdentityError::Empty(what));
            }
        }
        let is_secret = config.algorithm == JwtAlgorithm::HS256;
        let jwt = Self {
            cookie: config.cookie.clone(),
            is_bearer: config.bearer,
            algorithm: config.algorithm,
            key: KeyFile { path: config.key_file.clone(), is_secret },
            validation: validation(config),
            email_claim: config.email_claim.clone(),
            leeway: f64::from(config.leeway_seconds.0),
        };
        jwt.key()?;
        Ok(jwt)
    }

    pub(super) fn in_cookie(
        &self,
        headers: &HeaderMap,
        name: &CookieName,
        now: Timestamp,
    ) -> Result<Email, Refused> {
        self.check(cookies::find(headers, name)?, now)
    }

    pub(super) fn in_bearer(&self, headers: &HeaderMap, now: Timestamp) -> Result<Email, Refused> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(Refused::Nobody)?.as_bytes();
        if values.next().is_some() {
            return Err(Refused::Bad(Why::HeaderTwice));
        }
        let scheme = value.split(|c| *c == b' ').next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            // Another scheme is the proxy's business.
            return Err(Refused::Nobody);
        }
        let token = value[scheme.len()..].trim_ascii();
        if token.len() > cookies::LONGEST {
            return Err(Refused::Bad(Why::TooLong));
        }
        self.check(token, now)
    }

    fn check(&self, token: &[u8], now: Timestamp) -> Result<Email, Refused> {
        let decoded =
            jsonwebtoken::decode::<Map<String, Value>>(token, &self.key()?, &self.validation)
                .map_err(|error| Refused::Bad(why(&error)))?;
        // Whoever signed it says that it must not be taken by one who does not know an extension
        // (RFC 7515, section 4.1.11). None is known here.
        if decoded.header.crit.is_some() {
            return Err(Refused::Bad(Why::Malformed));
        }
        self.check_times(&decoded.claims, now)?;
        match decoded.claims.get("email_verified") {
            None | Some(Value::Bool(true)) => {}
            // As some providers write it.
            Some(Value::String(text)) if text == "true" => {}
            Some(_) => return Err(Refused::Bad(Why::NotVerified)),
        }
        let email = decoded.claims.get(&self.email_claim).and_then(Value::as_str);
        email.and_then(|text| text.parse().ok()).ok_or(Refused::Bad(Why::NoAddress))
    }

    /// The library would ask the clock.
    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), Refused> {
        let number = |claim: &Value| claim.as_f64().ok_or(Refused::Bad(Why::Malformed));
        let now = now.as_duration().as_secs_f64();
        let expires = number(claims.get("exp").unwrap_or(&Value::Null))?;
        if let Some(begins) = claims.get("nbf")
            && number(begins)? > now + self.leeway
        {
            return Err(Refused::Bad(Why::FromTheFuture));
        }
        if expires + self.leeway <= now {
            return Err(Refused::Bad(Why::Ended));
        }
        Ok(())
    }

    fn key(&self) -> Result<DecodingKey, KeyFileError> {
        let bytes = self.key.read()?;
        if self.algorithm == JwtAlgorithm::HS256 {
            let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            if secret.starts_with(b"-----BEGIN ") {
                return Err(self.key.unfit("HS256 takes a secret, and this is a PEM file"));
            }
            if secret.len() < SHORTEST_SECRET {
                return Err(self
                    .key
                    .unfit("the secret has fewer than 32 bytes and can be guessed"));
            }
            return Ok(DecodingKey::from_secret(secret));
        }
        self.public_key(&bytes)
    }

    fn public_key(&self, pem: &[u8]) -> Result<DecodingKey, KeyFileError> {
        let text = std::str::from_utf8(pem).unwrap_or_default();
        if text.contains("PRIVATE KEY-----") {
            return Err(self.key.unfit(
                "it holds a private key, with which anybody can be made up: put the public key \
                 there alone",
            ));
        }
        let blocks = text.matches("-----BEGIN ").count();
        if blocks != 1 || !text.contains(" PUBLIC KEY-----") && !text.contains("BEGIN PUBLIC KEY") {
            return Err(self.key.unfit("it is not one public key (PEM, `BEGIN PUBLIC KEY`)"));
        }
        if self.algorithm == JwtAlgorithm::ES256 {
            let key = DecodingKey::from_ec_pem(pem).ok().filter(is_on_p256);
            return key.ok_or_else(|| self.key.unfit("it is not a public key on P-256"));
        }
        let key = DecodingKey::from_rsa_pem(pem).ok().filter(is_long_rsa);
        key.ok_or_else(|| self.key.unfit("it is not an RSA public key of 2048 to 8192 bits"))
    }
}

fn is_on_p256(key: &DecodingKey) -> bool {
    let bytes = key.try_get_as_bytes().unwrap_or_default();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
}

fn is_long_rsa(key: &DecodingKey) -> bool {
    let bytes = key.try_get_as_bytes().unwrap_or_default();
    // Its length is looked at when a signature is verified, and when something is encrypted.
    ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes)
        .ok()
        .and_then(|key| key.as_der().ok())
        .is_some_and(|der| PublicEncryptingKey::from_der(der.as_ref()).is_ok())
}

fn validation(config: &JwtConfig) -> Validation {
    let mut validation = Validation::new(match config.algorithm {
        JwtAlgorithm::HS256 => Algorithm::HS256,
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
    });
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&[&config.audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // See `check_times`.
    validation.validate_exp = false;
    validation
}

fn why(error: &jsonwebtoken::errors::Error) -> Why {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => Why::Signature,
        ErrorKind::InvalidAlgorithm => Why::Algorithm,
        ErrorKind::InvalidIssuer => Why::Issuer,
        ErrorKind::InvalidAudience => Why::Audience,
        _ => Why::Malformed,
    }
}
