//! The service contract: exchange, revoke, list, health (DESIGN, "The service contract"), and the
//! switches of the faults.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::faults::{Fault, Rule};
use super::problem::{Payload, Problem};
use super::store::{Ask, Exchanged, LiveToken, NewToken, Store, Target};
use super::{Contract, Shared, keys};
use crate::model::digest::Digest;
use crate::model::name::Email;

const PAGE: u32 = 200;
const LONGEST_TTL_DAYS: u32 = 365;

/// The routes of this version of the contract. v1 has no list.
pub(super) fn routes(contract: Contract) -> Router<Arc<Shared>> {
    let router = Router::new()
        .route("/api/internal/token-exchange", post(exchange))
        .route("/api/internal/token-revoke", post(revoke))
        .route("/api/health", get(health));
    match contract {
        Contract::V1 => router,
        Contract::V2 => router.route("/api/internal/tokens", get(tokens)),
    }
}

/// The switches of the faults, for services that run as processes of their own.
pub(super) fn fault_routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/internal/faults", post(add_fault).delete(clear_faults))
        .route("/api/internal/faults/granted-life", put(set_granted_life))
        .route("/api/internal/faults/clock-offset", put(set_clock_offset))
}

/// The caller has shown the shared secret.
struct Insider;

impl FromRequestParts<Arc<Shared>> for Insider {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        if has(parts.extensions.get(), &Fault::IgnoresSecret) {
            return Ok(Self);
        }
        match bearer(&parts.headers) {
            Some(shown) if shared.secret.is_shown_by(shown) => Ok(Self),
            _ => Err(Problem::unauthorized("the shared secret is missing or not this service's")),
        }
    }
}

/// The fault that this request meets, where the handler itself makes it.
type Planted = Option<Extension<Fault>>;

fn has(planted: Option<&Fault>, fault: &Fault) -> bool {
    planted == Some(fault)
}

/// What stands behind `Authorization: Bearer` (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

#[derive(Serialize)]
struct Done {
    status: &'static str,
}

const OK: Json<Done> = Json(Done { status: "ok" });

async fn health() -> Json<Done> {
    OK
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeBody {
    user_email: Email,
    ttl_days: u32,
    client_ref: Option<String>,
}

#[derive(Serialize)]
struct ExchangeAnswer {
    status: &'static str,
    api_key: String,
    token_id: String,
    expires_at: Timestamp,
}

async fn exchange(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    planted: Planted,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Json<ExchangeAnswer>, Problem> {
    let planted = |fault: Fault| has(planted.as_deref(), &fault);
    let mut body: ExchangeBody = payload.parse_strict()?;
    check_exchange(shared.contract, &body)?;
    if !planted(Fault::IgnoresIdempotencyKey) {
        check_idempotency_key(shared.contract, &headers, &body)?;
    }
    if planted(Fault::NewTokenEachTime) {
        body.client_ref = None;
    }
    // v1 has no name to derive the key from: each ask gets another key.
    let random = keys::random_hex().map_err(|error| Problem::broken(&error))?;
    let named = body.client_ref.as_ref().map(|name| format!("ref {name}"));
    let key = shared.keys.key_for(&named.unwrap_or_else(|| format!("random {random}")));
    let now = shared.now();
    let new = NewToken {
        token_id: format!("tok_{random}"),
        key_hash: Digest::of(key.expose()),
        issued_at: now.as_second(),
        expires_at: now.as_second() + granted_seconds(&shared, body.ttl_days),
    };
    let ask = Ask {
        user_email: body.user_email.as_str().to_owned(),
        ttl_days: body.ttl_days,
        client_ref: body.client_ref,
        ignores_other_body: planted(Fault::IgnoresOtherBody),
    };
    match shared.on_store(move |store| store.exchange(&ask, &new)).await? {
        Exchanged::Granted { token_id, expires_at } => Ok(Json(ExchangeAnswer {
            status: "ok",
            api_key: key.expose().to_owned(),
            token_id,
            expires_at: timestamp(expires_at)?,
        })),
        Exchanged::Different => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "this client_ref was used with another body",
        )),
        Exchanged::Gone => {
            Err(Problem::new(StatusCode::GONE, "the token of this client_ref is revoked or over"))
        }
    }
}

fn check_exchange(contract: Contract, body: &ExchangeBody) -> Result<(), Problem> {
    if !(1..=LONGEST_TTL_DAYS).contains(&body.ttl_days) {
        return Err(Problem::bad_request("ttl_days is from 1 to 365"));
    }
    match (contract, &body.client_ref) {
        (Contract::V1, None) => Ok(()),
        (Contract::V1, Some(_)) => Err(Problem::bad_request("client_ref is not known here")),
        (Contract::V2, None) => Err(Problem::bad_request("client_ref is missing")),
        (Contract::V2, Some(client_ref)) => check_client_ref(client_ref),
    }
}

fn check_idempotency_key(
    contract: Contract,
    headers: &HeaderMap,
    body: &ExchangeBody,
) -> Result<(), Problem> {
    let key = headers.get("idempotency-key").map(axum::http::HeaderValue::as_bytes);
    if contract == Contract::V1 || key == body.client_ref.as_deref().map(str::as_bytes) {
        Ok(())
    } else {
        Err(Problem::bad_request("the Idempotency-Key header is not the client_ref"))
    }
}

fn check_client_ref(client_ref: &str) -> Result<(), Problem> {
    let legal = (1..=256).contains(&client_ref.len())
        && client_ref.bytes().all(|byte| byte.is_ascii_graphic());
    if legal {
        Ok(())
    } else {
        Err(Problem::bad_request("client_ref is 1 to 256 printable characters"))
    }
}

/// The service decides: never more than its own limit, and what the tests say comes first.
fn granted_seconds(shared: &Shared, asked_days: u32) -> i64 {
    let days = asked_days.min(shared.max_ttl_days);
    let asked = SignedDuration::from_hours(24 * i64::from(days)).as_secs();
    shared.faults.granted_life().unwrap_or(asked)
}

fn timestamp(seconds: i64) -> Result<Timestamp, Problem> {
    Timestamp::from_second(seconds).map_err(|error| Problem::broken(&error))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    token_id: Option<String>,
    client_ref: Option<String>,
}

async fn revoke(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    planted: Planted,
    payload: Payload,
) -> Result<Json<Done>, Problem> {
    let planted = |fault: Fault| has(planted.as_deref(), &fault);
    let body: RevokeBody = payload.parse_strict()?;
    let target = match (shared.contract, body.token_id, body.client_ref) {
        (_, Some(token_id), None) => Target::Token(token_id),
        (Contract::V2, None, Some(client_ref)) => {
            check_client_ref(&client_ref)?;
            Target::Ref(client_ref)
        }
        (Contract::V1, ..) => return Err(Problem::bad_request("give token_id and nothing else")),
        (Contract::V2, ..) => {
            return Err(Problem::bad_request("give either token_id or client_ref"));
        }
    };
    let by_id = matches!(target, Target::Token(_));
    if planted(Fault::RevokesNothing) || (planted(Fault::RevokesByIdOnly) && !by_id) {
        return Ok(OK);
    }
    let now = shared.now().as_second();
    let forgets = planted(Fault::ForgetsTombstones);
    let found = shared.on_store(move |store| store.revoke(&target, now, forgets)).await?;
    if !found && planted(Fault::UnknownIsNotFound) {
        return Err(Problem::not_found("there is no such token"));
    }
    Ok(OK)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct ListedToken {
    token_id: String,
    client_ref: Option<String>,
    user_email: String,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct ListAnswer {
    tokens: Vec<ListedToken>,
    next: Option<String>,
}

async fn tokens(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    planted: Planted,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ListAnswer>, Problem> {
    let planted = |fault: Fault| has(planted.as_deref(), &fault);
    let wrong = || Problem::bad_request("the cursor is not one that this service gave");
    let Query(query) = query.map_err(|_| wrong())?;
    let after = match query.cursor {
        Some(cursor) => cursor.parse().map_err(|_| wrong())?,
        None => 0,
    };
    let now = shared.now().as_second();
    let page = if planted(Fault::LongPages) { 5 * PAGE } else { PAGE };
    let revoked_too = planted(Fault::ListsRevoked);
    // One more than is shown tells whether there is a next page.
    let look = move |store: &mut Store| store.live_tokens(after, page + 1, now, revoked_too);
    let mut found = shared.on_store(look).await?;
    let more = found.len() > page as usize;
    found.truncate(page as usize);
    let mut next = found.last().filter(|_| more).map(|token| token.seq.to_string());
    if planted(Fault::EmptyList) {
        found.clear();
    }
    if planted(Fault::CirclingCursor) {
        next = Some("0".to_owned());
    }
    let tokens = found.into_iter().map(listed).collect::<Result<_, _>>()?;
    Ok(Json(ListAnswer { tokens, next }))
}

fn listed(token: LiveToken) -> Result<ListedToken, Problem> {
    Ok(ListedToken {
        token_id: token.token_id,
        client_ref: token.client_ref,
        user_email: token.user_email,
        expires_at: timestamp(token.expires_at)?,
    })
}

async fn add_fault(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    payload: Payload,
) -> Result<Json<Done>, Problem> {
    shared.faults.add(payload.parse_strict::<Rule>()?);
    Ok(OK)
}

async fn clear_faults(_: Insider, State(shared): State<Arc<Shared>>) -> Json<Done> {
    shared.faults.clear();
    OK
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Life {
    seconds: Option<i64>,
}

async fn set_granted_life(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    payload: Payload,
) -> Result<Json<Done>, Problem> {
    shared.faults.set_granted_life(payload.parse_strict::<Life>()?.seconds);
    Ok(OK)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offset {
    seconds: i64,
}

async fn set_clock_offset(
    _: Insider,
    State(shared): State<Arc<Shared>>,
    payload: Payload,
) -> Result<Json<Done>, Problem> {
    shared.faults.set_clock_offset(payload.parse_strict::<Offset>()?.seconds);
    Ok(OK)
}
