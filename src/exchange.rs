//! HTTP to the services: issue, revoke, list, health.
//!
//! Nothing here is repeated: the next pass is the only retry. (But a call that gets 401 is made with
//! the secret that is to follow, if there is one: it was not let in at all.) A call ends in an answer whatever
//! happens, and what it means is read off the status first (`answer.rs`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use crate::model::name::{Email, EnvName, OpId, ServiceId, TokenId};
use crate::model::outcome::{Answer, Failure, FailureKind, IssueAnswer, RevokeAnswer};
use crate::model::registry::{Contract, Endpoint};

mod answer;
mod call;
mod client;
mod json;
mod list;
mod raw;
mod secrets;
pub mod seen;
mod time;

pub use call::{NoBody, without_keys};
pub use list::{MOST_PAGES, page_url};
pub use raw::{NoAnswer, RawCall, RawReply, Shown};
pub use secrets::{SecretError, Secrets};

use answer::Reading;
use call::{Call, NoReply, Reply};
use client::{Clients, Connection};
use secrets::{Choice, NEXT};
use seen::{CallKind, Observer, Seen};

/// The way to the services. One for the whole process: it keeps connections open.
#[derive(Default)]
pub struct Exchange {
    secrets: Secrets,
    clients: Arc<Clients>,
    observer: Option<Observer>,
}

/// By which name a token is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeBy {
    /// The service's.
    TokenId(TokenId),
    /// Ours (v2).
    Op(OpId),
}

#[derive(Serialize)]
struct Ask<'a> {
    user_email: &'a Email,
    ttl_days: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ref: Option<&'a OpId>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RevokeBody<'a> {
    TokenId(&'a TokenId),
    ClientRef(&'a OpId),
}

impl Exchange {
    /// The same way, without any secret, and with somebody else besides who is told of each call
    /// that [`Exchange::see`] is told of.
    #[must_use]
    pub fn observed(&self, observer: Observer) -> Self {
        let former = self.observer.clone();
        let both = move |seen: &Seen| {
            observer(seen);
            if let Some(former) = &former {
                former(seen);
            }
        };
        let (clients, secrets) = (Arc::clone(&self.clients), Secrets::default());
        Self { clients, secrets, observer: Some(Arc::new(both)) }
    }

    /// Makes a call, and tells how it went. `result` is one of the words of [`seen`].
    pub async fn see<T>(
        &self,
        service: &ServiceId,
        call: CallKind,
        work: impl Future<Output = T>,
        result: impl FnOnce(&T) -> &'static str,
    ) -> T {
        let began = Instant::now();
        let answer = work.await;
        let (took, result) = (began.elapsed(), result(&answer));
        tracing::debug!(%service, call = call.word(), ?took, result, "called");
        if let Some(observer) = &self.observer {
            observer(&Seen { service: service.clone(), call, took, result });
        }
        answer
    }

    /// The same way with these secrets: connections that are open stay so.
    #[must_use]
    pub fn with(&self, secrets: Secrets) -> Self {
        Self { clients: Arc::clone(&self.clients), secrets, observer: self.observer.clone() }
    }

    /// With these shared secrets.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, ..Self::default() }
    }

    /// Why there is no such secret, or none that can be used.
    #[must_use]
    pub fn lacks_secret(&self, name: &EnvName) -> Option<&SecretError> {
        self.secrets.get(name).err()
    }

    /// Why the secret that is to follow the one of this name (`<NAME>_NEXT`) cannot be used, though
    /// it is there.
    #[must_use]
    pub fn bad_next_secret(&self, name: &EnvName) -> Option<(EnvName, &SecretError)> {
        self.secrets.bad_next(name)
    }

    /// Asks for a token. Repeating it under the same op id is safe with v2 only.
    pub async fn issue(
        &self,
        endpoint: &Endpoint,
        op: &OpId,
        email: &Email,
        ttl_days: u16,
    ) -> Answer<IssueAnswer> {
        let client_ref = (endpoint.contract == Contract::V2).then_some(op);
        let body = encode(&Ask { user_email: email, ttl_days, client_ref });
        let call = Call {
            idempotency_key: client_ref.map(OpId::as_str),
            ..post(endpoint, &endpoint.exchange_url, body)
        };
        self.with_secret(endpoint, call, answer::issue, IssueAnswer::Failed).await
    }

    /// Revokes a token. May be repeated.
    pub async fn revoke(&self, endpoint: &Endpoint, by: RevokeBy) -> Answer<RevokeAnswer> {
        let body = match &by {
            RevokeBy::TokenId(id) => encode(&RevokeBody::TokenId(id)),
            RevokeBy::Op(op) => encode(&RevokeBody::ClientRef(op)),
        };
        let call = post(endpoint, &endpoint.revoke_url, body);
        if matches!(by, RevokeBy::Op(_)) && endpoint.contract == Contract::V1 {
            let why = "contract v1 cannot revoke by op id";
            return not_sent(&call, FailureKind::Rejected, why, RevokeAnswer::Failed);
        }
        self.with_secret(endpoint, call, answer::revoke, RevokeAnswer::Failed).await
    }

    /// Whether the service is well. No secret is sent.
    pub async fn health(&self, endpoint: &Endpoint) -> Answer<Result<(), Failure>> {
        let (call, came) = self.send(get(endpoint, &endpoint.health_url)).await;
        finish(&call, came, answer::health, Err)
    }

    /// Makes the call with the endpoint's secret.
    async fn with_secret<T>(
        &self,
        endpoint: &Endpoint,
        call: Call<'_>,
        read: fn(&Reading<'_>) -> T,
        failed: fn(Failure) -> T,
    ) -> Answer<T> {
        match self.secrets.get(&endpoint.secret) {
            Ok(choice) => {
                let (call, came) = self.send_with(&endpoint.secret, choice, call).await;
                finish(&call, came, read, failed)
            }
            Err(error) => {
                // As if it were refused: it is the same for everybody.
                let why = format!("the shared secret {} {error}", endpoint.secret);
                not_sent(&call, FailureKind::SecretRefused, &why, failed)
            }
        }
    }

    /// Makes the call with the first of these, and, if that gets 401, the very same call with the
    /// other: a 401 has done nothing. Both share one deadline.
    async fn send_with<'a>(
        &self,
        name: &EnvName,
        choice: Choice<'a>,
        call: Call<'a>,
    ) -> (Call<'a>, Came) {
        let deadline = call.deadline();
        let call = Call { secret: Some(choice.first), unsaid: choice.then, ..call };
        let came = call.send(&self.clients, deadline).await;
        let Some(then) = choice.then.filter(|_| is_unauthorized(&came)) else {
            return (call, came);
        };
        // What is sent too late has an unknown outcome; this one is known.
        if deadline <= Instant::now() {
            return (call, came);
        }
        let mut call = Call { secret: Some(then), unsaid: Some(choice.first), ..call };
        let came = call.send(&self.clients, deadline).await;
        if is_unauthorized(&came) {
            call.refused = Some(format!("both {name} and {name}{NEXT}"));
        } else if came.as_ref().is_ok_and(|reply| took_secret(reply.status)) {
            tracing::info!(%name, "the other secret of this name is the one that the service takes");
            choice.turn();
        }
        (call, came)
    }

    /// Makes the call as it is.
    async fn send<'a>(&self, call: Call<'a>) -> (Call<'a>, Came) {
        let came = call.send(&self.clients, call.deadline()).await;
        (call, came)
    }
}

/// What came of a call.
type Came = Result<Reply, NoReply>;

fn is_unauthorized(came: &Came) -> bool {
    came.as_ref().is_ok_and(|reply| reply.status == StatusCode::UNAUTHORIZED)
}

/// Whether it tells that the secret was taken. A service in trouble may not have looked at it.
fn took_secret(status: StatusCode) -> bool {
    !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) && !status.is_server_error()
}

/// Reads what came.
fn finish<T>(
    call: &Call<'_>,
    came: Came,
    read: fn(&Reading<'_>) -> T,
    failed: fn(Failure) -> T,
) -> Answer<T> {
    match came {
        Ok(reply) => {
            let date = date(&reply);
            let reading = Reading { call, reply: &reply, date, now: Timestamp::now() };
            Answer { date, what: read(&reading) }
        }
        Err(error) => {
            let message = call.say(&error);
            let failure = Failure { kind: error.kind(), message, retry_after: None };
            Answer { date: None, what: failed(failure) }
        }
    }
}

fn get<'a>(endpoint: &'a Endpoint, url: &'a str) -> Call<'a> {
    Call {
        method: Method::GET,
        url,
        ca_file: endpoint.ca_file.as_deref(),
        // v1 cannot be asked what became of a call: none is lost for a stale connection.
        connection: match endpoint.contract {
            Contract::V1 => Connection::Fresh,
            Contract::V2 => Connection::Any,
        },
        total: Duration::from_secs(u64::from(endpoint.timeout_seconds)),
        secret: None,
        unsaid: None,
        refused: None,
        body: None,
        idempotency_key: None,
    }
}

fn post<'a>(endpoint: &'a Endpoint, url: &'a str, body: Vec<u8>) -> Call<'a> {
    Call { method: Method::POST, body: Some(body), ..get(endpoint, url) }
}

fn not_sent<T>(
    call: &Call<'_>,
    kind: FailureKind,
    why: &str,
    failed: fn(Failure) -> T,
) -> Answer<T> {
    let message = call.say(&format_args!("not sent: {why}"));
    Answer { date: None, what: failed(Failure { kind, message, retry_after: None }) }
}

/// Two dates are none: one of them is not the service's.
fn date(reply: &Reply) -> Option<Timestamp> {
    let mut dates = reply.headers.get_all(reqwest::header::DATE).iter();
    let first = dates.next()?;
    if dates.next().is_some() { None } else { time::http_date(first.to_str().ok()?) }
}

fn encode(body: &impl Serialize) -> Vec<u8> {
    // Names and numbers only: there is no map with odd keys, nothing that could fail.
    serde_json::to_vec(body).expect("names and numbers are always JSON")
}
