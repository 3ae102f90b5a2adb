//! The faults of a service, switched on and off while it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// `token-exchange`.
    Exchange,
    /// `token-revoke`.
    Revoke,
    /// The list of tokens.
    List,
    /// `/api/health`.
    Health,
    /// The business API, `/api/v1/`.
    Business,
    /// All of these.
    All,
}

/// What goes wrong. Those up to [`Fault::Status`] come before the ledger is touched; the others
/// after it is written, so that the answer alone is lost or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The request waits, then goes on (to the next fault, if there is one), also when its caller has
    /// given up: this is how an exchange lands after its revoke.
    Delay {
        /// How long, in milliseconds.
        millis: u64,
    },
    /// Never answers; the ledger is not touched.
    Hang,
    /// 429 with Retry-After.
    TooManyRequests {
        /// Seconds.
        retry_after: u32,
    },
    /// 503 with Retry-After.
    Unavailable {
        /// Seconds.
        retry_after: u32,
    },
    /// 500.
    ServerError,
    /// 401, as if the shared secret (or the key) were another.
    WrongSecret,
    /// 302 to a login page.
    Redirect,
    /// Any other status, with a problem for a body.
    Status {
        /// The status; one that HTTP does not have becomes 500.
        code: u16,
    },
    /// The ledger is written, then the connection closes without a byte of answer.
    DropAnswer,
    /// The ledger is written, then nothing comes.
    HangAfterWrite,
    /// The ledger is written, then 500.
    ServerErrorAfterWrite,
    /// 200 with a text that is not JSON.
    NotJson,
    /// 200 with a page of HTML.
    Html,
    /// 200 with more than 64 KiB of JSON.
    HugeAnswer,
    /// JSON without `api_key` and `status`.
    MissingField,
    /// JSON with `token_id` twice.
    DuplicateField,
    /// A key with a line break and an assignment after it.
    NewlineInKey,
    /// A key with `$(id)` in it.
    SubstitutionInKey,
    /// A key of 5,000 characters.
    LongKey,
    /// The `token_id` of another live token.
    OtherTokenId,
    /// `expires_at` in the past.
    PastExpiry,
    /// Another key each time, of the same token.
    OtherKey,
    /// Lets in whoever asks.
    IgnoresSecret,
    /// Takes an `Idempotency-Key` that is not the `client_ref`.
    IgnoresIdempotencyKey,
    /// The same `client_ref` gets another token each time.
    NewTokenEachTime,
    /// The same `client_ref` gets its token whatever the body says.
    IgnoresOtherBody,
    /// A `client_ref` that was never used is forgotten once it is revoked.
    ForgetsTombstones,
    /// Confirms a revoke and does nothing.
    RevokesNothing,
    /// Confirms a revoke by `client_ref` and does nothing.
    RevokesByIdOnly,
    /// A revoke of what is unknown or revoked already gets 404.
    UnknownIsNotFound,
    /// The list is empty.
    EmptyList,
    /// The list has revoked tokens too.
    ListsRevoked,
    /// A page of the list has up to 1,000 tokens.
    LongPages,
    /// The list's `next` leads back to its first page.
    CirclingCursor,
    /// What would be 400 is 500.
    BadRequestIsServerError,
    /// Errors are `text/plain`.
    PlainErrors,
    /// Successes are `text/html`, whatever they hold.
    WrongContentType,
    /// Errors quote the Authorization header.
    EchoesSecret,
    /// The ledger is written, then this status, with the Authorization header and the whole answer,
    /// key and all, repeated in the body and in headers.
    RepeatsAll {
        /// The status; one that HTTP does not have becomes 500.
        code: u16,
    },
    /// A `Date` that is none.
    BadDate,
}

/// One fault, for some requests.
#[derive(Debug, Clone, Deserialize)]
pub struct Rule {
    /// For which requests.
    pub on: On,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
    /// For the next so many requests; without it, until cleared.
    #[serde(default)]
    pub times: Option<u32>,
}

/// The faults of one service. All methods may be called from any thread, at any time.
#[derive(Default)]
pub struct Faults(Mutex<Switches>);

#[derive(Default)]
struct Switches {
    rules: Vec<Rule>,
    granted_life_seconds: Option<i64>,
    clock_offset_seconds: i64,
}

impl Faults {
    /// Adds a fault for the next `times` requests.
    pub fn next(&self, on: On, fault: Fault, times: u32) {
        self.add(Rule { on, fault, times: Some(times) });
    }

    /// Adds a fault until [`Faults::clear`].
    pub fn always(&self, on: On, fault: Fault) {
        self.add(Rule { on, fault, times: None });
    }

    /// Adds a fault behind those that are there: a request meets the first that is for it.
    pub fn add(&self, rule: Rule) {
        if rule.times != Some(0) {
            self.switches().rules.push(rule);
        }
    }

    /// Takes all faults back; granted life and clock stay.
    pub fn clear(&self) {
        self.switches().rules.clear();
    }

    /// Tokens issued from now on live so many seconds, whatever is asked; `None`: as asked.
    pub fn set_granted_life(&self, seconds: Option<i64>) {
        self.switches().granted_life_seconds = seconds;
    }

    /// Shifts the service's clock (Date, issue, expiry) by so many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.switches().clock_offset_seconds = seconds;
    }

    pub(super) fn granted_life(&self) -> Option<i64> {
        self.switches().granted_life_seconds
    }

    pub(super) fn clock_offset(&self) -> i64 {
        self.switches().clock_offset_seconds
    }

    /// Takes what a request to this endpoint meets: all delays that are for it, and one fault.
    pub(super) fn take(&self, endpoint: On) -> (Duration, Option<Fault>) {
        let mut switches = self.switches();
        let (mut delay, mut found) = (Duration::ZERO, None);
        for rule in &mut switches.rules {
            if rule.on != On::All && rule.on != endpoint {
                continue;
            }
            match rule.fault {
                Fault::Delay { millis } => delay += Duration::from_millis(millis),
                _ if found.is_some() => continue,
                _ => found = Some(rule.fault.clone()),
            }
            rule.times = rule.times.map(|left| left - 1);
        }
        switches.rules.retain(|rule| rule.times != Some(0));
        (delay, found)
    }

    fn switches(&self) -> MutexGuard<'_, Switches> {
        // Every change is one assignment: a panic elsewhere leaves nothing half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
