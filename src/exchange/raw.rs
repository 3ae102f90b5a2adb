//! A call of any form, and the answer as it came: for the conformance check, which also sends what
//! no client of ours would.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use zeroize::Zeroizing;

use super::call::{Call, NoBody, without_secrets};
use super::{Exchange, SecretError, date, get, post, time};
use crate::model::outcome::FailureKind;
use crate::model::registry::Endpoint;
use crate::model::secret::Secret;

/// A call of any form.
pub struct RawCall<'a> {
    /// Where. The rules for addresses hold here too.
    pub url: &'a str,
    /// POST with these bytes; GET without any.
    pub body: Option<Vec<u8>>,
    /// The header, if it is sent: printable ASCII.
    pub idempotency_key: Option<&'a str>,
    /// What stands behind `Authorization: Bearer`.
    pub shown: Shown<'a>,
}

/// What a call shows to be let in.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    /// No such header.
    Nothing,
    /// The endpoint's shared secret.
    SharedSecret,
    /// Another text: printable ASCII.
    Other(&'a Secret),
}

/// An answer as it came.
pub struct RawReply {
    /// The status.
    pub status: u16,
    /// Every header.
    pub headers: HeaderMap,
    /// At most 64 KiB. Wiped: it may hold a key.
    pub body: Result<Zeroizing<Vec<u8>>, NoBody>,
    /// By the service's clock; none when the header is missing, malformed or there twice.
    pub date: Option<Timestamp>,
}

/// No answer came.
pub struct NoAnswer {
    /// Whether the call may have arrived.
    pub sent: bool,
    /// Why; the shared secret is not in it.
    pub why: String,
}

impl RawReply {
    /// Not to be tried again sooner (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<SignedDuration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        time::retry_after(text, self.date.unwrap_or_else(Timestamp::now))
    }

    /// Whether our client would read the body as JSON: a name that stands twice is refused.
    ///
    /// # Errors
    /// Why not; never shows the body.
    pub fn read_strictly(&self) -> Result<(), String> {
        let body = self.body.as_ref().map_err(ToString::to_string)?;
        super::json::parse(body).map(drop).map_err(|error| error.to_string())
    }
}

impl Exchange {
    /// Makes one call.
    ///
    /// # Errors
    /// No answer came.
    pub async fn raw(&self, endpoint: &Endpoint, raw: &RawCall<'_>) -> Result<RawReply, NoAnswer> {
        let call = match &raw.body {
            Some(body) => post(endpoint, raw.url, body.clone()),
            None => get(endpoint, raw.url),
        };
        let call = Call { idempotency_key: raw.idempotency_key, ..call };
        let (call, came) = match raw.shown {
            Shown::Nothing => self.send(call).await,
            Shown::Other(text) => self.send(Call { secret: Some(text), ..call }).await,
            Shown::SharedSecret => {
                let found = self.secrets.get(&endpoint.secret);
                let not_sent = |why: &SecretError| NoAnswer { sent: false, why: why.to_string() };
                self.send_with(&endpoint.secret, found.map_err(not_sent)?, call).await
            }
        };
        let reply = came.map_err(|error| NoAnswer {
            sent: error.kind() == FailureKind::Unknown,
            why: call.say(&error),
        })?;
        let date = date(&reply);
        Ok(RawReply {
            status: reply.status.as_u16(),
            headers: reply.headers,
            body: reply.body,
            date,
        })
    }

    /// Whether a shared secret stands in the bytes.
    #[must_use]
    pub fn secret_is_in(&self, bytes: &[u8]) -> bool {
        self.secrets.found().any(|secret| {
            let secret = secret.expose().as_bytes();
            bytes.windows(secret.len()).any(|window| window == secret)
        })
    }

    /// The text with something else in the place of each shared secret.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        without_secrets(text, self.secrets.found())
    }
}
