//! A running example service in a scratch directory, and someone who talks to it over HTTP.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use service_connector::example_service::{Config, ExampleService, Faults, Kind, Ledger, Running};
use service_connector::model::secret::Secret;
use tempfile::TempDir;

/// An answer, read whole. It may hold a key: it has no `Debug`.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// Null when the text is not JSON.
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn str(&self, field: &str) -> &str {
        self.json[field].as_str().unwrap_or_default()
    }
}

pub struct Service {
    pub running: Running,
    pub directory: TempDir,
    pub secret: String,
    pub kind: Kind,
    http: Client,
}

impl Service {
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    pub async fn start_with(kind: Kind, change: impl Fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret = Secret::new(format!("{:032x}", fastrand::u128(..)));
        let mut config = Config::new(kind, directory.path(), secret);
        change(&mut config);
        let secret = config.secret.expose().to_owned();
        let running = ExampleService::start(config).await.unwrap();
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Self { running, directory, secret, kind, http }
    }

    /// Stops it, and starts it again on the same directory and port.
    pub async fn restart(self) -> Self {
        let secret = self.secret.clone();
        self.restart_with(secret).await
    }

    /// The same, and from then on it takes this secret and no other.
    pub async fn restart_with(self, secret: String) -> Self {
        let Self { running, directory, kind, http, .. } = self;
        let address = running.address();
        running.stop().await;
        let mut config = Config::new(kind, directory.path(), Secret::new(secret.clone()));
        config.listen = address;
        let running = ExampleService::start(config).await.unwrap();
        Self { running, directory, secret, kind, http }
    }

    pub fn faults(&self) -> &Faults {
        self.running.faults()
    }

    pub fn ledger(&self) -> Ledger {
        self.running.ledger().unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.running.base_url()))
    }

    pub async fn send(request: RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Answer { status, headers, text, json }
    }

    pub fn internal(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).bearer_auth(&self.secret).json(body)
    }

    pub fn exchange_request(&self, client_ref: &str) -> RequestBuilder {
        let body = json!({
            "user_email": "john@your-domain.com", "ttl_days": 90, "client_ref": client_ref
        });
        self.internal("/api/internal/token-exchange", &body).header("idempotency-key", client_ref)
    }

    pub async fn exchange(&self, client_ref: &str) -> Answer {
        Self::send(self.exchange_request(client_ref)).await
    }

    pub async fn revoke(&self, body: Value) -> Answer {
        Self::send(self.internal("/api/internal/token-revoke", &body)).await
    }

    pub async fn tokens(&self, cursor: &str) -> Answer {
        let path = format!("/api/internal/tokens{cursor}");
        Self::send(self.request(Method::GET, &path).bearer_auth(&self.secret)).await
    }

    /// A call of the business API with this key.
    pub async fn get(&self, key: &str, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path).bearer_auth(key)).await
    }

    /// A call of the business API with this key.
    pub async fn post(&self, key: &str, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::POST, path).bearer_auth(key).json(&body)).await
    }
}
