//! One call: what is sent, what comes, within one deadline.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::client::{CONNECT, Clients, Connection, causes, deepest};
use crate::model::outcome::FailureKind;
use crate::model::secret::Secret;

/// The longest body that is read, in bytes.
const LONGEST_BODY: usize = 64 * 1024;

pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) ca_file: Option<&'a str>,
    pub(super) connection: Connection,
    /// From the first look-up to the last byte.
    pub(super) total: Duration,
    pub(super) secret: Option<&'a Secret>,
    /// Another one that no message may show: it was shown before, or may be next.
    pub(super) unsaid: Option<&'a Secret>,
    /// When two were refused: `both` and their names.
    pub(super) refused: Option<String>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) idempotency_key: Option<&'a str>,
}

/// What came.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Wiped: it may hold a key.
    pub(super) body: Result<Zeroizing<Vec<u8>>, NoBody>,
}

/// Why there is no body to read, though there is a status.
#[derive(Debug, thiserror::Error)]
pub enum NoBody {
    /// Nothing but headers came.
    #[error("its body is empty")]
    Empty,
    /// It was not read to its end.
    #[error("its body is longer than 64 KiB")]
    TooLong,
    /// The total time was over.
    #[error("its body did not end within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The connection ended first.
    #[error("its body is cut: {0}")]
    Cut(String),
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    #[error("not sent: {0}")]
    Url(&'static str),
    #[error("not sent: the ca_file {0}: {1}")]
    Authority(String, String),
    #[error("not sent: no HTTP client can be made: {0}")]
    Client(String),
    #[error("{0}")]
    Unreached(String),
    #[error("timed out after {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("{0}")]
    Broken(String),
}

impl NoReply {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Url(_) | Self::Authority(..) | Self::Client(_) => FailureKind::Rejected,
            Self::Unreached(_) => FailureKind::Unreached,
            Self::TooSlow(_) | Self::Broken(_) => FailureKind::Unknown,
        }
    }
}

impl Call<'_> {
    /// Until when a call that begins now may last.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.total
    }

    pub(super) async fn send(
        &self,
        clients: &Clients,
        deadline: Instant,
    ) -> Result<Reply, NoReply> {
        let url = checked(self.url)?;
        let client = clients.get(&url, self.ca_file, self.connection)?;
        let answer = timeout_at(deadline, client.execute(self.request(url))).await;
        let mut response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_timeout() => {
                let why = format!("no connection within {} s", CONNECT.as_secs());
                return Err(NoReply::Unreached(why));
            }
            Ok(Err(error)) if error.is_connect() => {
                return Err(NoReply::Unreached(self.quote(&cause(&error))));
            }
            Ok(Err(error)) => return Err(NoReply::Broken(self.quote(&cause(&error)))),
            Err(_) => return Err(NoReply::TooSlow(self.total)),
        };
        let body = match timeout_at(deadline, body(&mut response)).await {
            Ok(body) => body,
            Err(_) => Err(NoBody::TooSlow(self.total)),
        };
        let headers = std::mem::take(response.headers_mut());
        Ok(Reply { status: response.status(), headers, body })
    }

    fn request(&self, url: Url) -> Request {
        let mut request = Request::new(self.method.clone(), url);
        if let Some(body) = &self.body {
            *request.body_mut() = Some(body.clone().into());
        }
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(ACCEPT, json.clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, json);
        }
        if let Some(secret) = self.secret {
            headers.insert(AUTHORIZATION, bearer(secret));
        }
        if let Some(op) = self.idempotency_key {
            let key = HeaderValue::from_str(op).expect("an op id is hex and colons");
            headers.insert("idempotency-key", key);
        }
        request
    }

    /// A message about this call. The only way to make one: whatever a service or a library put
    /// into `what`, the shared secret is not in the message.
    pub(super) fn say(&self, what: &impl Display) -> String {
        // What a person wrote into the registry may hold a password.
        let url = if checked(self.url).is_ok() { self.url } else { "(a URL that is refused)" };
        format!("{} {url}: {}", self.method, self.without_secret(&what.to_string()))
    }

    /// Someone else's text, fit for a terminal and a log: one line, at most 200 characters.
    pub(super) fn quote(&self, text: &str) -> String {
        // The secret goes first: cut in two it would not be found any more.
        let text = without_keys(&self.without_secret(text));
        let mut quoted = String::new();
        for c in text.trim().chars().take(200) {
            match c {
                '"' | '\'' | '\\' => quoted.push(c),
                _ => quoted.extend(c.escape_debug()),
            }
        }
        if text.trim().chars().nth(200).is_some() {
            quoted.push('…');
        }
        quoted
    }

    fn without_secret(&self, text: &str) -> String {
        without_secrets(text, self.secret.into_iter().chain(self.unsaid))
    }
}

/// The text with something else in the place of each of these.
pub(super) fn without_secrets<'a>(
    text: &str,
    secrets: impl IntoIterator<Item = &'a Secret>,
) -> String {
    let mut secrets: Vec<&str> = secrets.into_iter().map(Secret::expose).collect();
    // One may be the beginning of another, whose end would be left over.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let hide = |text: String, secret: &str| text.replace(secret, "(secret)");
    secrets.into_iter().fold(text.to_owned(), hide)
}

/// A service in trouble may repeat the key that it issued: what is as long as a key and made of a
/// key's characters is left out.
#[must_use]
pub fn without_keys(text: &str) -> String {
    let is_keys = |c: char| c.is_ascii_alphanumeric() || "_-+/=.%".contains(c);
    let parts = text.split_inclusive(|c| !is_keys(c)).map(|part| {
        let word = part.trim_end_matches(|c| !is_keys(c));
        if word.len() < 24 { part.to_owned() } else { format!("(left out){}", &part[word.len()..]) }
    });
    parts.collect()
}

/// Checked here again, though the registry did: this is the last place before the secret leaves.
fn checked(text: &str) -> Result<Url, NoReply> {
    let url = Url::parse(text).map_err(|_| NoReply::Url("not a URL"))?;
    let Some(host) = url.host_str() else { return Err(NoReply::Url("a URL without a host")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(NoReply::Url("a URL with a user name or a password"));
    }
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost"
        || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err(NoReply::Url("neither https nor this machine")),
    }
}

/// The header is made in memory that is wiped once the last copy of it is dropped. (The HTTP
/// library's own buffer, into which it is written, is not.)
fn bearer(secret: &Secret) -> HeaderValue {
    let secret = secret.expose().as_bytes();
    let mut line = Zeroizing::new(Vec::with_capacity("Bearer ".len() + secret.len()));
    line.extend_from_slice(b"Bearer ");
    line.extend_from_slice(secret);
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(line))
        .expect("`Secrets` holds printable ASCII only");
    value.set_sensitive(true);
    value
}

/// Reads the body, counting; a length that the headers promise is not believed beforehand.
async fn body(response: &mut Response) -> Result<Zeroizing<Vec<u8>>, NoBody> {
    // All of it at once: growing would leave copies of a key behind.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_BODY));
    while let Some(chunk) = response.chunk().await.map_err(|error| NoBody::Cut(cause(&error)))? {
        if body.len() + chunk.len() > LONGEST_BODY {
            return Err(NoBody::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() { Err(NoBody::Empty) } else { Ok(body) }
}

/// The cause in a few words.
fn cause(error: &reqwest::Error) -> String {
    if causes(error).any(|cause| cause.to_string() == "dns error") {
        return format!("its host is not found: {}", deepest(error));
    }
    match causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last() {
        Some(error) => io_cause(error),
        None => deepest(error),
    }
}

fn io_cause(error: &io::Error) -> String {
    match error.kind() {
        // What the TLS library reports comes as this kind, and nothing else does.
        io::ErrorKind::InvalidData => format!("TLS: {}", deepest(error)),
        io::ErrorKind::UnexpectedEof => "the connection was closed in the middle".to_owned(),
        kind @ (io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable) => kind.to_string(),
        _ => deepest(error),
    }
}
