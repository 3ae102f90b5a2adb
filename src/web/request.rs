//! What requests carry, read strictly.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, IgnoredAny, Unexpected};
use tokio::time::timeout;

use super::MOST_BYTES;
use super::problem::Problem;
use crate::model::digest::Digest;

/// A body has so long to come: whoever begins one and goes away keeps a place no longer.
const COMES_WITHIN: Duration = Duration::from_secs(10);
/// Nobody is made to wait for longer, in seconds.
const LONGEST_WAIT: u64 = 60;

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "The body must be JSON: `Content-Type: application/json`.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > MOST_BYTES as u64) {
            let detail = format!("The body is larger than {MOST_BYTES} bytes.");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let Ok(bytes) = timeout(COMES_WITHIN, Bytes::from_request(request, state)).await else {
            let detail = "The rest of the body did not come.";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
        };
        let bytes = bytes.map_err(|error| {
            Problem::new(error.status(), "The body cannot be read, or is too large.")
        })?;
        match object(&bytes) {
            Ok(body) => Ok(Self(body)),
            Err(error) if error.is_data() => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The body is wrong: {error}."),
            )),
            Err(error) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("The body is not JSON: {error}."),
            )),
        }
    }
}

/// Fields by name: serde would take those of a list by their place.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let _: IgnoredAny = serde_json::from_slice(bytes)?;
        return Err(de::Error::invalid_type(Unexpected::Seq, &"an object"));
    }
    serde_json::from_slice(bytes)
}

/// Exactly `application/json`, parameters aside: a form of another page cannot send it unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    let essence = first.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The one part of the path that is not the same for all.
pub(super) struct Part(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(error) => Err(Problem::new(error.status(), format!("{error}."))),
        }
    }
}

/// What stands behind the `?`.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("{error}."))),
        }
    }
}

/// How long somebody wants to wait for what follows.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds to wait for what follows from the change, at most 60.
    #[serde(default)]
    wait: u64,
}

impl Wait {
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.wait.min(LONGEST_WAIT))
    }
}

/// What [`Expected`] reads, for the description of the API.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header")]
pub(super) struct IfMatch {
    /// The revision that is to be changed, in quotes, as the `ETag` of an answer has it; another one
    /// is refused with 412. Without it, or with `*`, whatever is there is changed.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// The revision that is to be changed, from `If-Match` (RFC 9110, section 13.1.1); none: whatever it
/// is.
pub(super) struct Expected(pub(super) Option<Digest>);

impl<S: Sync> FromRequestParts<S> for Expected {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if value == "*" {
            return Ok(Self(None));
        }
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        let tag = text.and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        // Whatever else it says is no revision of ours.
        let revision = tag.and_then(|tag| tag.parse().ok());
        let detail =
            "`If-Match` is not the revision of what is there. Look again, and then decide.";
        revision.map(Some).map(Self).ok_or(Problem::new(StatusCode::PRECONDITION_FAILED, detail))
    }
}
