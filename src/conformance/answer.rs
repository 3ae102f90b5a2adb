//! An answer, and how it is shown.

use serde_json::Value;

use super::runner::{Halt, broken};
use crate::exchange::{NoBody, RawCall, RawReply, Shown, without_keys};

/// So much of somebody else's text is shown.
const LONGEST_QUOTE: usize = 300;

/// Fields whose values are shown; of others the name alone, since they may hold anything.
const SHOWN_FIELDS: [&str; 7] =
    ["status", "type", "token_id", "client_ref", "user_email", "expires_at", "next"];

/// An answer that came. It holds a key in the clear: one of a token that is about to be revoked.
pub(super) struct Answer {
    pub(super) status: u16,
    /// What our client would read, or why it would not.
    json: Result<Value, String>,
    /// What can be read at all, for what must be known of a wrong answer too.
    loose: Value,
    /// For people: what was sent, and what was seen.
    pub(super) story: String,
}

impl Answer {
    pub(super) fn new(reply: &RawReply, story: String) -> Self {
        let bytes = reply.body.as_ref().map(|body| body.as_slice()).unwrap_or_default();
        let loose: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let json = reply.read_strictly().map(|()| loose.clone());
        Self { status: reply.status, json, loose, story }
    }

    /// A field of the answer that is a text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.loose.get(field)?.as_str()
    }

    /// A 200 with well-formed JSON.
    pub(super) fn json(&self) -> Result<&Value, Halt> {
        self.must_be(&[200])?;
        match &self.json {
            Ok(json) => Ok(json),
            Err(why) => broken(format!("{}, but {why}", self.story)),
        }
    }

    pub(super) fn must_be(&self, statuses: &[u16]) -> Result<(), Halt> {
        if statuses.contains(&self.status) {
            return Ok(());
        }
        let wanted: Vec<String> = statuses.iter().map(u16::to_string).collect();
        broken(format!("{}; {} was to come", self.story, wanted.join(" or ")))
    }

    /// The one thing that ends a debt.
    pub(super) fn must_confirm(&self) -> Result<(), Halt> {
        if self.json()?.get("status").and_then(Value::as_str) == Some("ok") {
            return Ok(());
        }
        broken(format!("{}, but its status is not \"ok\"", self.story))
    }

    /// Refused for want of the secret, and nothing given away.
    pub(super) fn must_refuse(&self) -> Result<(), Halt> {
        self.must_be(&[401, 403])?;
        match self.text("api_key") {
            Some(_) => broken(format!("{}, but with a key", self.story)),
            None => Ok(()),
        }
    }
}

/// The status and what else tells of an answer. `clean` takes secrets and keys out of a text.
pub(super) fn shown(reply: &RawReply, clean: impl Fn(&str) -> String) -> String {
    let mut text = reply.status.to_string();
    for name in ["content-type", "retry-after", "location"] {
        if let Some(value) = reply.headers.get(name) {
            let value = clean(&String::from_utf8_lossy(value.as_bytes()));
            // Names of media types are as long as keys.
            let value = if name == "content-type" { value } else { without_keys(&value) };
            text = format!("{text}, {name} {}", quoted(&value));
        }
    }
    text.push_str(", ");
    text.push_str(&body(reply, clean));
    text
}

fn body(reply: &RawReply, clean: impl Fn(&str) -> String) -> String {
    let bytes = match &reply.body {
        Ok(bytes) => bytes,
        Err(NoBody::Empty) => return "no body".to_owned(),
        Err(why) => return why.to_string(),
    };
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(fields)) => {
            let fields = fields.iter().map(|(name, value)| field(name, value, &clean));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Ok(_) => "JSON that is not an object".to_owned(),
        // A body of success may hold a key that cannot be found in it.
        Err(_) if (200..300).contains(&reply.status) => {
            format!("{} bytes that are not JSON (not shown)", bytes.len())
        }
        Err(_) => quoted(&without_keys(&clean(&String::from_utf8_lossy(bytes)))),
    }
}

fn field(name: &str, value: &Value, clean: impl Fn(&str) -> String) -> String {
    let value = match value {
        Value::String(key) if name == "api_key" => format!("(a key of {} characters)", key.len()),
        // Words about a failure may repeat a key that no field has shown yet.
        Value::String(text) if name == "title" || name == "detail" => {
            format!("\"{}\"", quoted(&without_keys(&clean(text))))
        }
        Value::String(text) if SHOWN_FIELDS.contains(&name) => {
            format!("\"{}\"", quoted(&clean(text)))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{} items]", items.len()),
        Value::String(_) | Value::Object(_) => "…".to_owned(),
    };
    format!("{}: {value}", quoted(&clean(name)))
}

/// Somebody else's text, fit for a terminal and a report: one line, not endless.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted: String = text
        .trim()
        .chars()
        .take(LONGEST_QUOTE)
        .flat_map(|c| match c {
            '"' | '\'' | '\\' => vec![c],
            _ => c.escape_debug().collect(),
        })
        .collect();
    if text.trim().chars().nth(LONGEST_QUOTE).is_some() {
        quoted.push('…');
    }
    quoted
}

/// What is sent, for people.
pub(super) fn sent(raw: &RawCall<'_>) -> String {
    let path = url::Url::parse(raw.url).map_or_else(
        |_| raw.url.to_owned(),
        |url| url.query().map_or_else(|| url.path().to_owned(), |q| format!("{}?{q}", url.path())),
    );
    let mut text = match &raw.body {
        Some(body) => format!("POST {path} {}", quoted(&String::from_utf8_lossy(body))),
        None => format!("GET {path}"),
    };
    if let Some(key) = raw.idempotency_key {
        text = format!("{text} (Idempotency-Key {key})");
    }
    match raw.shown {
        Shown::SharedSecret => {}
        Shown::Nothing => text.push_str(" without a secret"),
        Shown::Other(_) => text.push_str(" with another secret or key"),
    }
    text
}
