//! What an answer means: DESIGN, "Answers to exchange".

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

use super::call::{Call, Reply};
use super::json::{self, BadJson};
use super::list::Page;
use super::time;
use crate::model::json::Json;
use crate::model::outcome::{Failure, FailureKind, IssueAnswer, RawGrant, RevokeAnswer};
use crate::model::secret::Secret;
use crate::model::sweep::Listed;

/// A reply, and what is needed to speak about it.
pub(super) struct Reading<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) reply: &'a Reply,
    /// By the service's clock.
    pub(super) date: Option<Timestamp>,
    /// By ours.
    pub(super) now: Timestamp,
}

pub(super) fn issue(reading: &Reading<'_>) -> IssueAnswer {
    match reading.reply.status {
        StatusCode::OK => granted(reading),
        StatusCode::GONE => IssueAnswer::Gone,
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            IssueAnswer::Conflict(reading.refusal())
        }
        _ => IssueAnswer::Failed(reading.failure()),
    }
}

/// A 200 that can be read to its end is the service's last word: what it issued is of no use when
/// the word is not well formed, and asking again would bring the same. One that is cut may come
/// whole the next time.
fn granted(reading: &Reading<'_>) -> IssueAnswer {
    let json = match reading.json() {
        Ok(json) => json,
        Err(NoJson::Perhaps(failure)) => return IssueAnswer::Failed(failure),
        Err(NoJson::Never(why)) => return IssueAnswer::Conflict(reading.but(&why)),
    };
    match grant(&json) {
        Ok(grant) => IssueAnswer::Granted(grant),
        Err(why) => IssueAnswer::Conflict(reading.but(&why)),
    }
}

fn grant(json: &Json) -> Result<RawGrant, String> {
    let text = |name: &str| match json.get(name) {
        Some(Json::Text(text)) => Ok(text.expose()),
        Some(_) => Err(format!("its {name} is not a text")),
        None => Err(format!("it has no {name}")),
    };
    if text("status")? != "ok" {
        return Err("its status is not `ok`".to_owned());
    }
    let user_email = match json.get("user_email") {
        None | Some(Json::Null) => None,
        Some(_) => {
            let email = text("user_email")?.parse();
            Some(email.map_err(|_| "its user_email is not an e-mail address".to_owned())?)
        }
    };
    Ok(RawGrant {
        api_key: Secret::new(text("api_key")?.to_owned()),
        token_id: text("token_id")?.to_owned(),
        expires_at: text("expires_at")?.to_owned(),
        user_email,
    })
}

pub(super) fn revoke(reading: &Reading<'_>) -> RevokeAnswer {
    if reading.reply.status != StatusCode::OK {
        return RevokeAnswer::Failed(reading.failure());
    }
    // Only its own clear word ends a debt.
    match reading.json() {
        Ok(json) if json.text("status") == Some("ok") => RevokeAnswer::Confirmed,
        Ok(_) => RevokeAnswer::Failed(reading.unknown(&"its status is not `ok`")),
        Err(NoJson::Never(why)) => RevokeAnswer::Failed(reading.unknown(&why)),
        Err(NoJson::Perhaps(failure)) => RevokeAnswer::Failed(failure),
    }
}

pub(super) fn list(reading: &Reading<'_>) -> Result<Page, Failure> {
    if reading.reply.status != StatusCode::OK {
        return Err(reading.failure());
    }
    match reading.json() {
        Ok(json) => page(&json).map_err(|why| reading.unknown(&why)),
        Err(NoJson::Never(why)) => Err(reading.unknown(&why)),
        Err(NoJson::Perhaps(failure)) => Err(failure),
    }
}

/// All of it or nothing: a list with an entry that nobody can read is no list.
fn page(json: &Json) -> Result<Page, &'static str> {
    let Some(Json::List(tokens)) = json.get("tokens") else {
        return Err("it has no list `tokens`");
    };
    let next = match json.get("next") {
        None | Some(Json::Null) => None,
        Some(Json::Text(next)) => Some(next.expose().to_owned()),
        Some(_) => return Err("its `next` is not a text"),
    };
    let tokens: Option<Vec<Listed>> = tokens.iter().map(listed).collect();
    let tokens = tokens.ok_or("a token in it lacks a field, or one is not as it should be")?;
    Ok(Page { tokens, next })
}

/// Names that are not of our form are somebody else's.
fn listed(token: &Json) -> Option<Listed> {
    let op = match token.get("client_ref") {
        None | Some(Json::Null) => None,
        Some(Json::Text(name)) => name.expose().parse().ok(),
        Some(_) => return None,
    };
    Some(Listed {
        token_id: token.text("token_id")?.parse().ok(),
        op,
        email: token.text("user_email")?.parse().ok(),
        expires_at: token.text("expires_at")?.parse().ok()?,
    })
}

pub(super) fn health(reading: &Reading<'_>) -> Result<(), Failure> {
    if reading.reply.status.is_success() {
        return Ok(());
    }
    let failure = reading.failure();
    Err(match failure.kind {
        // None was sent.
        FailureKind::SecretRefused => Failure { kind: FailureKind::Rejected, ..failure },
        FailureKind::Unreached | FailureKind::Unknown | FailureKind::Rejected => failure,
    })
}

/// Why a 200 has no JSON.
enum NoJson {
    /// The next try may bring it.
    Perhaps(Failure),
    /// This is what the service says.
    Never(BadJson),
}

impl Reading<'_> {
    fn json(&self) -> Result<Json, NoJson> {
        let body = match &self.reply.body {
            Ok(body) => body,
            Err(why) => return Err(NoJson::Perhaps(self.unknown(why))),
        };
        json::parse(body).map_err(|error| match error {
            BadJson::Cut => NoJson::Perhaps(self.unknown(&error)),
            BadJson::NotJson | BadJson::Repeated => NoJson::Never(error),
        })
    }

    /// What any status but the expected ones means.
    fn failure(&self) -> Failure {
        let kind = match self.reply.status.as_u16() {
            401 | 403 => FailureKind::SecretRefused,
            408 | 425 | 429 => FailureKind::Unknown,
            300..=499 => FailureKind::Rejected,
            // 5xx; and what no contract has (another 2xx, a number that is no status): it may
            // have been done.
            _ => FailureKind::Unknown,
        };
        Failure { kind, message: self.refusal(), retry_after: self.retry_after() }
    }

    /// A 200 that says too little.
    fn unknown(&self, why: &impl std::fmt::Display) -> Failure {
        let message = self.but(why);
        Failure { kind: FailureKind::Unknown, message, retry_after: self.retry_after() }
    }

    fn but(&self, why: &impl std::fmt::Display) -> String {
        self.call.say(&format_args!("{}, but {why}", self.reply.status))
    }

    fn refusal(&self) -> String {
        let mut what = self.reply.status.to_string();
        if self.reply.status.is_redirection() {
            what.push_str(" (redirects are not followed)");
        }
        if let Some(names) = &self.call.refused {
            what.extend([" (", names, " are refused)"]);
        }
        for text in self.problem() {
            what.push_str(": ");
            what.push_str(&text);
        }
        self.call.say(&what)
    }

    /// What a problem document says for people (RFC 9457): `title` and `detail`.
    fn problem(&self) -> Vec<String> {
        let is_problem = self.reply.headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes().to_ascii_lowercase();
            kind.starts_with(b"application/problem+json") || kind.starts_with(b"application/json")
        });
        // A status of success is never quoted: the body may hold a key.
        if !is_problem || self.reply.status.is_success() {
            return Vec::new();
        }
        let Ok(body) = &self.reply.body else { return Vec::new() };
        let Ok(json) = json::parse(body) else { return Vec::new() };
        let texts = ["title", "detail"].into_iter().filter_map(|name| json.text(name));
        texts.map(|text| self.call.quote(text)).filter(|text| !text.is_empty()).collect()
    }

    fn retry_after(&self) -> Option<jiff::SignedDuration> {
        let text = self.reply.headers.get(RETRY_AFTER)?.to_str().ok()?;
        time::retry_after(text, self.date.unwrap_or(self.now))
    }
}
