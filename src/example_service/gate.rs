//! What every request passes on its way in and out: the count of calls, the faults, the Date.

use std::future::pending;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse as _, Response};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::Shared;
use super::connection::Cut;
use super::faults::{Fault, On};
use super::problem::Problem;
use super::store;

/// As large as a body may be.
pub(super) const LARGEST_BODY: usize = 64 * 1024;
/// More than any answer of ours; what is larger was not made here.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// Counts the request, lets it meet the faults that are for it, and dates the answer.
pub(super) async fn gate(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: Request,
    next: Next,
) -> Response {
    let answer = match endpoint(request.uri().path()) {
        Some(endpoint) => pass(&shared, &cut, endpoint, request, next).await,
        None => Ok(next.run(request).await),
    };
    let mut answer = answer.unwrap_or_else(Problem::into_response);
    if answer.extensions().get() == Some(&Fault::BadDate) {
        answer.headers_mut().insert(header::DATE, HeaderValue::from_static("now"));
    } else if let Some(date) = http_date(shared.now()) {
        // hyper adds a Date of its own only where there is none.
        answer.headers_mut().insert(header::DATE, date);
    }
    answer
}

/// Which endpoint a path is of. The switches of the faults have none: they always work.
fn endpoint(path: &str) -> Option<On> {
    match path {
        "/api/internal/token-exchange" => Some(On::Exchange),
        "/api/internal/token-revoke" => Some(On::Revoke),
        "/api/internal/tokens" => Some(On::List),
        "/api/health" => Some(On::Health),
        _ => path.starts_with("/api/v1/").then_some(On::Business),
    }
}

async fn pass(
    shared: &Arc<Shared>,
    cut: &Cut,
    endpoint: On,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(name) = store::call_name(endpoint) {
        shared.on_store(move |store| store.count_call(name)).await?;
    }
    let (delay, fault) = shared.faults.take(endpoint);
    if delay.is_zero() {
        return answer(shared, cut, fault, request, next).await;
    }
    let request = received(request).await?;
    let (shared, cut) = (Arc::clone(shared), cut.clone());
    // In a task of its own: a caller who gives up cannot call back what is on its way, and it lands
    // all the same.
    let late = tokio::spawn(async move {
        if stops_before(&shared, tokio::time::sleep(delay)).await {
            cut.cut();
            return Ok(server_error());
        }
        answer(&shared, &cut, fault, request, next).await
    });
    late.await.unwrap_or_else(|error| Err(Problem::broken(&error)))
}

/// The request with its whole body read.
async fn received(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, LARGEST_BODY).await;
    let bytes = bytes.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn answer(
    shared: &Arc<Shared>,
    cut: &Cut,
    fault: Option<Fault>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(fault) = fault else { return Ok(next.run(request).await) };
    if let Some(answer) = instead_of_answering(shared, cut, &fault).await {
        return Ok(answer);
    }
    // Some faults are the handlers' own.
    let mut request = request;
    request.extensions_mut().insert(fault.clone());
    let shown = request.headers().get(header::AUTHORIZATION).cloned();
    let answer = next.run(request).await;
    if fault == Fault::EchoesSecret && answer.status().is_client_error() {
        return Ok(Problem::new(answer.status(), format!("not with {shown:?}")).into_response());
    }
    if let Fault::RepeatsAll { code } = fault {
        return repeat_all(code, shown.as_ref(), answer).await;
    }
    spoil(shared, cut, &fault, answer).await
}

async fn repeat_all(
    code: u16,
    shown: Option<&HeaderValue>,
    answer: Response,
) -> Result<Response, Problem> {
    let bytes = to_bytes(answer.into_body(), LARGEST_ANSWER).await;
    let bytes = bytes.map_err(|error| Problem::broken(&error))?;
    let shown = shown.map_or(&b""[..], HeaderValue::as_bytes);
    let text = String::from_utf8_lossy(&[shown, b" ", &bytes[..]].concat()).into_owned();
    let repeated = HeaderValue::from_str(&text).map_err(|error| Problem::broken(&error))?;
    let mut answer = Problem::new(status(code), text).into_response();
    for name in [header::LOCATION, header::RETRY_AFTER, header::SERVER] {
        answer.headers_mut().insert(name, repeated.clone());
    }
    Ok(answer)
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The faults that come before the ledger is touched.
async fn instead_of_answering(shared: &Shared, cut: &Cut, fault: &Fault) -> Option<Response> {
    let answer = match fault {
        Fault::Hang => hang(shared, cut).await,
        Fault::TooManyRequests { retry_after } => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
                .retry_after(*retry_after)
                .into_response()
        }
        Fault::Unavailable { retry_after } => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "down for maintenance")
                .retry_after(*retry_after)
                .into_response()
        }
        Fault::ServerError => server_error(),
        Fault::WrongSecret => Problem::unauthorized("not this service's secret").into_response(),
        Fault::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response(),
        Fault::Status { code } => {
            Problem::new(status(*code), "switched on by a test").into_response()
        }
        _ => return None,
    };
    Some(answer)
}

/// The faults that come after the ledger is written.
async fn spoil(
    shared: &Arc<Shared>,
    cut: &Cut,
    fault: &Fault,
    answer: Response,
) -> Result<Response, Problem> {
    Ok(match fault {
        Fault::DropAnswer => {
            cut.cut();
            answer
        }
        Fault::HangAfterWrite => hang(shared, cut).await,
        Fault::ServerErrorAfterWrite => server_error(),
        Fault::NotJson => "ok".into_response(),
        Fault::Html => Html("<!doctype html><title>Sign in</title>").into_response(),
        Fault::HugeAnswer => {
            Json(Map::from_iter([("status".to_owned(), "x".repeat(100_000).into())]))
                .into_response()
        }
        Fault::BadRequestIsServerError if answer.status() == StatusCode::BAD_REQUEST => {
            server_error()
        }
        Fault::PlainErrors if !answer.status().is_success() => of_type(answer, "text/plain"),
        Fault::WrongContentType if answer.status().is_success() => of_type(answer, "text/html"),
        Fault::BadDate => {
            let mut answer = answer;
            answer.extensions_mut().insert(Fault::BadDate);
            answer
        }
        _ if !answer.status().is_success() => answer,
        _ => spoil_json(shared, fault, answer).await?,
    })
}

fn of_type(mut answer: Response, kind: &'static str) -> Response {
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

async fn spoil_json(
    shared: &Arc<Shared>,
    fault: &Fault,
    answer: Response,
) -> Result<Response, Problem> {
    let (parts, body) = answer.into_parts();
    let bytes = to_bytes(body, LARGEST_ANSWER).await.map_err(|error| Problem::broken(&error))?;
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(&bytes) else {
        return Ok(Response::from_parts(parts, Body::from(bytes)));
    };
    if *fault == Fault::DuplicateField {
        let text = String::from_utf8_lossy(&bytes).replacen('{', r#"{"token_id":"tok_a","#, 1);
        return Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response());
    }
    if *fault == Fault::OtherTokenId {
        let other = another_token_id(shared, fields.get("token_id")).await?;
        fields.insert("token_id".to_owned(), other.into());
    }
    spoil_fields(fault, &mut fields);
    Ok(Json(fields).into_response())
}

fn spoil_fields(fault: &Fault, fields: &mut Map<String, Value>) {
    let key = fields.get("api_key").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut set_key = |key: String| fields.insert("api_key".to_owned(), key.into());
    match fault {
        Fault::MissingField => {
            fields.remove("api_key");
            fields.remove("status");
        }
        Fault::NewlineInKey => drop(set_key(format!("{key}\nPATH=/tmp/elsewhere"))),
        Fault::SubstitutionInKey => drop(set_key(format!("{key}$(id)"))),
        Fault::OtherKey => drop(set_key(format!("{key}{:016x}", fastrand::u64(..)))),
        Fault::LongKey => drop(set_key("k".repeat(5000))),
        Fault::PastExpiry => {
            // The same at each repetition, and longer ago than any key lives.
            let end = fields.get("expires_at").and_then(Value::as_str).map(str::parse::<Timestamp>);
            if let Some(Ok(end)) = end {
                let past = end - SignedDuration::from_hours(24 * 366);
                fields.insert("expires_at".to_owned(), past.to_string().into());
            }
        }
        _ => {}
    }
}

async fn another_token_id(shared: &Arc<Shared>, own: Option<&Value>) -> Result<String, Problem> {
    let now = shared.now().as_second();
    let live = shared.on_store(move |store| store.live_tokens(0, 2, now, false)).await?;
    let other = live.into_iter().find(|token| own != Some(&Value::from(&*token.token_id)));
    Ok(other.map_or_else(|| "tok_of_somebody_else".to_owned(), |token| token.token_id))
}

fn server_error() -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "switched on by a test").into_response()
}

/// No answer until the service stops; then the connection closes without one.
async fn hang(shared: &Shared, cut: &Cut) -> Response {
    stops_before(shared, pending()).await;
    cut.cut();
    server_error()
}

/// Waits, and says whether the service was stopped before the end.
async fn stops_before(shared: &Shared, wait: impl Future<Output = ()>) -> bool {
    let mut stopping = shared.stopping.subscribe();
    tokio::select! {
        () = wait => false,
        // The sender is in `shared`, so that this ends only with the stop.
        _ = stopping.wait_for(|stopping| *stopping) => true,
    }
}

/// RFC 9110, section 5.6.7. Years that it cannot write have no Date.
fn http_date(now: Timestamp) -> Option<HeaderValue> {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    HeaderValue::from_str(&text).ok()
}
