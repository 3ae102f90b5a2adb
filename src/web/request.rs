//! What requests carry, read strictly.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::model::digest::Digest;

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
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            Problem::new(error.status(), "The body cannot be read, or is too large.")
        })?;
        match serde_json::from_slice(&bytes) {
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

/// Exactly `application/json`, parameters aside: a form of another page cannot send it unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(first), None) = (types.next(), types.next()) else { return false };
    let essence = first.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
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
