//! What services answered, what is written down of it, and what each action found.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::action::{EndKind, Install, IssueReason, RevokeReason};
use super::actual::{Backoff, Trouble};
use super::name::{AccountName, Email, EnvValue, OpId, ServiceId, TokenId, UserId};
use super::secret::Secret;
use super::token::{Ask, Binding, EXPIRY_LEEWAY, Move, days, later};

/// An answer, and the service's clock.
pub struct Answer<T> {
    /// The `Date` of the answer (RFC 9110, section 6.6.1), if there was one.
    pub date: Option<Timestamp>,
    /// What it says.
    pub what: T,
}

/// What a service says to an exchange.
pub enum IssueAnswer {
    /// 200 and well formed. Not judged yet.
    Granted(RawGrant),
    /// 410: this op is revoked.
    Gone,
    /// 409 or 422: it cannot be repeated.
    Conflict(String),
    /// Anything else.
    Failed(Failure),
}

/// What a service says to a revoke.
pub enum RevokeAnswer {
    /// It is gone, or never was.
    Confirmed,
    /// Anything else.
    Failed(Failure),
}

/// A call that brought nothing.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What that means.
    pub kind: FailureKind,
    /// For people: what was tried, and what came.
    pub message: String,
    /// Not to be tried again sooner (RFC 9110, section 10.2.3).
    pub retry_after: Option<SignedDuration>,
}

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: nothing was sent.
    Unreached,
    /// No answer, 408, 425, 429 or 5xx: it may have been done or not.
    Unknown,
    /// Another 3xx or 4xx: it was not done.
    Rejected,
    /// 401 or 403: it was not done, and will not be for anybody.
    SecretRefused,
}

/// The fields of a 200, as they came.
pub struct RawGrant {
    /// The key.
    pub api_key: Secret,
    /// The service's name for the token.
    pub token_id: String,
    /// When it ends.
    pub expires_at: String,
    /// Whom it was issued for, if the service says so.
    pub user_email: Option<Email>,
}

/// A grant that we accept.
pub struct NewGrant {
    /// The key, in the alphabet of an env file.
    pub api_key: EnvValue,
    /// The service's name for the token.
    pub token_id: TokenId,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A key that ends later than this after now is not what anybody asked for.
const LONGEST_LIFE_DAYS: u16 = 366;

impl RawGrant {
    /// Whether we take it.
    ///
    /// # Errors
    /// Why not; never shows the key.
    pub fn judge(&self, email: &Email, now: Timestamp) -> Result<NewGrant, String> {
        let api_key = EnvValue::parse(self.api_key.expose())
            .map_err(|error| format!("its api_key cannot stand in an env file: {error}"))?;
        let token_id: TokenId =
            self.token_id.parse().map_err(|error| format!("its token_id: {error}"))?;
        let expires_at: Timestamp = self
            .expires_at
            .parse()
            .map_err(|_| "its expires_at is not a time (RFC 3339)".to_owned())?;
        if expires_at <= later(now, EXPIRY_LEEWAY) {
            return Err(format!("its expires_at is {expires_at}: over, or within 5 minutes"));
        }
        if expires_at > later(now, days(LONGEST_LIFE_DAYS)) {
            return Err(format!("its expires_at is {expires_at}: more than a year from now"));
        }
        if self.user_email.as_ref().is_some_and(|other| other != email) {
            return Err("it is for another person".to_owned());
        }
        Ok(NewGrant { api_key, token_id, expires_at })
    }
}

/// One thing that is written down. Several make one transaction.
pub enum Change {
    /// A new op id and what will be asked: before the socket opens.
    Begin {
        /// The token to be.
        op: OpId,
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
        /// Whom it will be bound to.
        binding: Binding,
        /// What will be asked.
        ask: Ask,
    },
    /// The service's answer. Refused by the state, and the token revoked by its op id, when another
    /// connection holds a token of that id.
    Grant {
        /// The token.
        op: OpId,
        /// What was granted.
        grant: NewGrant,
    },
    /// A move to another phase.
    Move {
        /// The token.
        op: OpId,
        /// How it moves.
        how: Move,
    },
    /// A put was confirmed: its tokens are delivered, those that they replace retire.
    Delivered {
        /// Whose.
        user: UserId,
        /// Into whose home.
        account: AccountName,
        /// Under which generation.
        generation: u64,
        /// The uid of the home.
        uid: u32,
        /// Whether the home is forgotten once it holds nothing of ours: it is not the user's.
        leaves: bool,
    },
    /// A connection failed, or (none) works again.
    Backoff {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
        /// When it may be tried again.
        backoff: Option<Backoff>,
    },
    /// A service is in trouble, or (none) works again.
    Trouble {
        /// Which.
        service: ServiceId,
        /// What is wrong.
        trouble: Option<Trouble>,
    },
    /// A stray is a debt from now on.
    OweStray {
        /// The token.
        op: OpId,
        /// Where it is revoked.
        ask: Ask,
        /// Whether it counts against the next hour's limit for strays.
        counts: bool,
    },
    /// A key is being replaced because the service's list lacks it.
    Reissued {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
    },
    /// A removal that counts against the next hour's limit.
    Removed {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
    },
}

/// What writing down brought to light.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Grants that the state refused, and why: their tokens are `revoking` now.
    pub refused: Vec<(OpId, String)>,
}

/// What became of a put.
#[derive(Debug)]
pub enum PutOutcome {
    /// The files are there, as of this generation.
    Done {
        /// The generation.
        generation: u64,
        /// The uid of the home.
        uid: u32,
        /// The tokens whose keys are there.
        holds: Vec<(ServiceId, OpId)>,
        /// Whether anything had to be written.
        changed: bool,
    },
    /// Nothing was to be put after all.
    Already,
    /// It failed, and why.
    Failed(String),
}

/// What one action found.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Whose.
    pub user: UserId,
    /// Of which service; an install is of all.
    pub service: Option<ServiceId>,
    /// What was done.
    pub what: What,
    /// What it found.
    pub found: Found,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A token was asked for.
    Issue(IssueReason),
    /// Files were put.
    Install(AccountName),
    /// A token was revoked.
    Revoke(RevokeReason),
    /// A token ended.
    End(EndKind),
}

/// What an action found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Done.
    Done,
    /// It was so already.
    Already,
    /// Not done; the next pass tries again. Why, for people.
    Failed(String),
}

impl Outcome {
    /// Of an install.
    #[must_use]
    pub fn of_install(install: &Install, found: Found) -> Self {
        Self {
            user: install.user.clone(),
            service: None,
            what: What::Install(install.account.clone()),
            found,
        }
    }
}
