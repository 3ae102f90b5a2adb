//! Who is let in: by the name that was asked for, by who asks, by whether a page of ours made them ask,
//! and by how often.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::problem::Problem;
use super::{HostName, Web};
use crate::identity::{By, Peer, Refused};
use crate::portal::{Known, PortalError};

/// What a page of ours may do: nothing that does not come from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Sets what protects whoever sees an answer in a browser.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set("content-security-policy", POLICY);
    set("x-content-type-options", "nosniff");
    set("x-frame-options", "DENY");
    set("referrer-policy", "no-referrer");
    set("cross-origin-resource-policy", "same-origin");
    set("cross-origin-opener-policy", "same-origin");
    set("permissions-policy", "camera=(), geolocation=(), microphone=()");
    set("cache-control", "no-store");
    response
}

/// Refuses a request for another name: a page elsewhere may have had its own name point to us.
pub(super) async fn host(
    State(web): State<Arc<Web>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match requested_host(&request) {
        Some(host) if is_ours(without_port(&host), &web.config.hosts, peer) => {
            next.run(request).await
        }
        Some(_) => Problem::new(StatusCode::MISDIRECTED_REQUEST, "This portal has another name.")
            .into_response(),
        None => {
            let detail = "One Host header is needed, the same as in the address.";
            Problem::new(StatusCode::BAD_REQUEST, detail).into_response()
        }
    }
}

/// The one name that was asked for, in lower case.
fn requested_host(request: &Request) -> Option<String> {
    let host = one(request.headers(), &header::HOST).ok()??.to_ascii_lowercase();
    let same = |authority: &str| authority.eq_ignore_ascii_case(&host);
    request.uri().authority().is_none_or(|uri| same(uri.as_str())).then_some(host)
}

fn is_ours(host: &str, ours: &[HostName], peer: Peer) -> bool {
    let is_named = ours.iter().any(|name| name.is(host));
    let is_this_machine = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match peer {
        Peer::Tcp(_) if is_this_machine => true,
        Peer::Tcp(_) => is_named,
        Peer::Unix { .. } => ours.is_empty() || is_named,
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !port.is_empty() => name,
        _ => host,
    }
}

/// Finds out who asks; nobody is let in otherwise.
pub(super) async fn who(
    State(web): State<Arc<Web>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match identified(&web, request.headers(), peer).await {
        Ok((known, by)) => {
            request.extensions_mut().insert(known);
            request.extensions_mut().insert(by);
            next.run(request).await
        }
        Err(NotIn::Nobody) => {
            Problem::new(StatusCode::UNAUTHORIZED, "Log in to the portal first.").into_response()
        }
        Err(NotIn::Unknown(_)) => {
            let whom_to_ask = &web.config.whom_to_ask;
            let detail = format!("You are not among the people of this portal. {whom_to_ask}");
            Problem::new(StatusCode::FORBIDDEN, detail).into_response()
        }
        Err(NotIn::CannotTell(problem)) => problem.into_response(),
    }
}

/// Why somebody is not let in.
pub(super) enum NotIn {
    /// It is not known who it is.
    Nobody,
    /// It is, by this address, and they are not among the people.
    Unknown(String),
    /// It cannot be told.
    CannotTell(Problem),
}

/// Who asks.
pub(super) async fn identified(
    web: &Web,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<(Known, By), NotIn> {
    let asker = match web.config.identity.who(headers, peer, Timestamp::now()) {
        Ok(asker) => asker,
        Err(Refused::Nobody) => return Err(NotIn::Nobody),
        Err(Refused::Bad(why)) => {
            tracing::info!(%why, "somebody was not believed");
            return Err(NotIn::Nobody);
        }
        Err(Refused::CannotTell(error)) => {
            tracing::error!(error = crate::causes::chain(&error), "nobody can be told apart");
            let detail = "The portal cannot tell who is who now. Tell whoever runs it.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(30);
            return Err(NotIn::CannotTell(problem));
        }
    };
    let cannot_tell = |error: PortalError| NotIn::CannotTell(error.into());
    let view = web.portal.view().await.map_err(cannot_tell)?;
    match web.portal.known(&view, &asker.email).map_err(cannot_tell)? {
        Some(known) => Ok((known, asker.by)),
        None => Err(NotIn::Unknown(asker.email.to_string())),
    }
}

/// Lets a change through only if a page of ours made them ask, or no browser did.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    // Without it, as if a browser had sent it along.
    let is_ambient = request.extensions().get::<By>().is_none_or(|by| by.is_ambient());
    if is_meant(request.headers(), is_ambient) {
        return next.run(request).await;
    }
    let detail = "This must be asked for by a page of the portal itself.";
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

/// By what browsers say of who made them ask (Fetch Metadata; RFC 6454, section 7). Both must agree,
/// and one of them be there, where a browser proves who asks by itself.
fn is_meant(headers: &HeaderMap, is_ambient: bool) -> bool {
    let (Ok(site), Ok(origin)) = (one(headers, &SEC_FETCH_SITE), one(headers, &header::ORIGIN))
    else {
        return false;
    };
    let same_site = site.is_none_or(|site| site == "same-origin");
    let same_origin = origin.is_none_or(|origin| is_origin_of(origin, headers));
    same_site && same_origin && (site.is_some() || origin.is_some() || !is_ambient)
}

/// Whether the origin is the one that was asked. The scheme is the proxy's business.
fn is_origin_of(origin: &str, headers: &HeaderMap) -> bool {
    let Ok(Some(host)) = one(headers, &header::HOST) else { return false };
    let (authority, default_port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let same = |host: &str| host.eq_ignore_ascii_case(authority);
    same(host) || host.strip_suffix(default_port).is_some_and(same)
}

/// A header that is there at most once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, NotOne> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(NotOne);
    }
    first.to_str().map(Some).map_err(|_| NotOne)
}

/// It is there twice, or is no text.
struct NotOne;

/// Refuses who clicks too often.
pub(super) async fn limit(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let Some(known) = request.extensions().get::<Known>() else {
        return Problem::new(StatusCode::UNAUTHORIZED, "Log in to the portal first.")
            .into_response();
    };
    if web.clicks.check_key(&known.user).is_err() {
        let detail = "That was a lot at once. Wait a moment.";
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(1).into_response();
    }
    next.run(request).await
}
