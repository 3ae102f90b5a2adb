//! HTTP to the services: issue, revoke, health.
//!
//! Nothing here is repeated: the next pass is the only retry. A call ends in an answer whatever
//! happens, and what it means is read off the status first (`answer.rs`).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;

use crate::model::name::{Email, EnvName, OpId, TokenId};
use crate::model::outcome::{Answer, Failure, FailureKind, IssueAnswer, RevokeAnswer};
use crate::model::registry::{Contract, Endpoint};
use crate::model::secret::Secret;

mod answer;
mod call;
mod client;
mod json;
mod secrets;
mod time;

pub use secrets::{SecretError, Secrets};

use answer::Reading;
use call::{Call, Reply};
use client::{Clients, Connection};

/// The way to the services. One for the whole process: it keeps connections open.
#[derive(Default)]
pub struct Exchange {
    secrets: Secrets,
    clients: Clients,
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
    /// With these shared secrets.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, clients: Clients::default() }
    }

    /// From now on with these: they are read again at each pass, connections stay open.
    pub fn replace_secrets(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Whether there is no such secret, or none that can be used.
    #[must_use]
    pub fn secret_missing(&self, name: &EnvName) -> bool {
        self.secrets.get(name).is_err()
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
        let ask = Ask { user_email: email, ttl_days, client_ref };
        self.with_secret(
            endpoint,
            &endpoint.exchange_url,
            encode(&ask),
            client_ref,
            answer::issue,
            IssueAnswer::Failed,
        )
        .await
    }

    /// Revokes a token.
    pub async fn revoke(&self, endpoint: &Endpoint, by: RevokeBy) -> Answer<RevokeAnswer> {
        let body = match &by {
            RevokeBy::Op(_) if endpoint.contract == Contract::V1 => {
                let message = format!(
                    "POST {}: not sent: contract v1 cannot revoke by op id",
                    endpoint.revoke_url
                );
                let kind = FailureKind::Rejected;
                let failure = Failure { kind, message, retry_after: None };
                return Answer { date: None, what: RevokeAnswer::Failed(failure) };
            }
            RevokeBy::Op(op) => RevokeBody::ClientRef(op),
            RevokeBy::TokenId(id) => RevokeBody::TokenId(id),
        };
        self.with_secret(
            endpoint,
            &endpoint.revoke_url,
            encode(&body),
            None,
            answer::revoke,
            RevokeAnswer::Failed,
        )
        .await
    }

    /// Whether the service is well. No secret is sent.
    pub async fn health(&self, endpoint: &Endpoint) -> Answer<Result<(), Failure>> {
        let call = Call {
            method: Method::GET,
            url: &endpoint.health_url,
            ca_file: endpoint.ca_file.as_deref(),
            connection: Connection::Any,
            total: total(endpoint),
            secret: None,
            body: None,
            idempotency_key: None,
        };
        self.finish(&call, answer::health, Err).await
    }

    async fn with_secret<T>(
        &self,
        endpoint: &Endpoint,
        url: &str,
        body: Vec<u8>,
        idempotency_key: Option<&OpId>,
        read: fn(&Reading<'_>) -> T,
        failed: fn(Failure) -> T,
    ) -> Answer<T> {
        let secret: &Secret = match self.secrets.get(&endpoint.secret) {
            Ok(secret) => secret,
            Err(error) => {
                // Like a refused one: it will be the same for everybody.
                let kind = FailureKind::SecretRefused;
                let name = &endpoint.secret;
                let message = format!("POST {url}: not sent: the shared secret {name} {error}");
                let what = failed(Failure { kind, message, retry_after: None });
                return Answer { date: None, what };
            }
        };
        let call = Call {
            method: Method::POST,
            url,
            ca_file: endpoint.ca_file.as_deref(),
            // v1 cannot be asked what became of a call: none is lost for a stale connection.
            connection: match endpoint.contract {
                Contract::V1 => Connection::Fresh,
                Contract::V2 => Connection::Any,
            },
            total: total(endpoint),
            secret: Some(secret),
            body: Some(body),
            idempotency_key,
        };
        self.finish(&call, read, failed).await
    }

    /// Makes the call and reads what comes.
    async fn finish<T>(
        &self,
        call: &Call<'_>,
        read: fn(&Reading<'_>) -> T,
        failed: fn(Failure) -> T,
    ) -> Answer<T> {
        match call.send(&self.clients).await {
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
}

fn total(endpoint: &Endpoint) -> Duration {
    Duration::from_secs(u64::from(endpoint.timeout_seconds))
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
