//! A token's phases, and the legal moves between them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::name::{AccountName, Email, OpId, ServiceId, TokenId, UserId};
use super::registry::{Contract, Endpoint};
use super::secret::Fingerprint;

/// How long past its expiry a token is still treated as alive, for clocks that differ.
pub const EXPIRY_LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// What a service issued, or was asked to issue, for one connection.
#[derive(Debug, Clone)]
pub struct Token {
    /// The name that we gave it.
    pub op: OpId,
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// Whom it is bound to.
    pub binding: Binding,
    /// What was asked, word for word.
    pub ask: Ask,
    /// Where it is on its way.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// What the service answered; none while `issuing`, or when the answer was refused.
    pub grant: Option<Grant>,
    /// When a put with its key was first confirmed, and under which generation.
    pub delivered: Option<Delivery>,
    /// False once its key could not be unsealed.
    pub key_readable: bool,
}

/// Whom a token is bound to, beside the user id. None of it is ever inherited: a change of any
/// means a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The account whose home gets the key.
    pub account: AccountName,
    /// The account's numeric id, once it was seen.
    pub uid: Option<u32>,
    /// The address that the service knows the person by.
    pub email: Email,
}

impl Binding {
    /// Whether a token bound to `self` may serve someone bound to `other`. A uid that was not
    /// seen yet contradicts nothing.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let uids = self.uid.zip(other.uid);
        self.account == other.account
            && self.email == other.email
            && uids.is_none_or(|(mine, theirs)| mine == theirs)
    }
}

/// What a service is asked, repeated word for word under the same op id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Where.
    pub endpoint: Arc<Endpoint>,
    /// For how many days.
    pub ttl_days: u16,
    /// When it was first asked; counts as the time of issue.
    pub at: Timestamp,
}

/// What the service granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The service's name for the token.
    pub token_id: TokenId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What is shown in place of the key.
    pub fingerprint: Fingerprint,
}

/// A put that was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// When.
    pub at: Timestamp,
    /// Under which generation of the user's files.
    pub generation: u64,
}

/// Where a token is on its way (DESIGN, "Tokens").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Asked for; it may exist.
    Issuing,
    /// Granted and on disk.
    Active,
    /// A newer one was delivered; lives for the grace.
    Retiring,
    /// Its revoke is owed: a debt.
    Revoking,
    /// The end: the service confirmed.
    Revoked,
    /// The end: its time is over.
    Expired,
    /// The end (v1): it may exist, and nobody can tell, until asked + ttl.
    Lost,
    /// The end: an operator's recorded word.
    Forgotten,
}

/// What happens to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// The service's answer is on disk.
    Grant,
    /// The service's answer was refused by us.
    RefuseAnswer,
    /// The service says that this op is revoked (410).
    FindGone,
    /// A newer one is delivered.
    Retire,
    /// Nobody should have it any more.
    Unwant,
    /// The service confirmed the revoke.
    Confirm,
    /// Its time is over.
    Expire,
    /// An unknown outcome that cannot be asked about (v1).
    Lose,
    /// An operator's recorded word.
    Forget,
}

/// A move that the phase does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token that is {phase} cannot {attempted:?}")]
pub struct IllegalMove {
    phase: Phase,
    attempted: Move,
}

impl Phase {
    /// Every phase, in the order of a token's life.
    pub const ALL: [Self; 8] = [
        Self::Issuing,
        Self::Active,
        Self::Retiring,
        Self::Revoking,
        Self::Revoked,
        Self::Expired,
        Self::Lost,
        Self::Forgotten,
    ];

    /// The phase after this move.
    ///
    /// # Errors
    /// A move that DESIGN's diagram does not have.
    pub fn after(self, attempted: Move) -> Result<Self, IllegalMove> {
        match (self, attempted) {
            (Self::Issuing, Move::Grant) => Ok(Self::Active),
            (Self::Issuing, Move::RefuseAnswer)
            | (Self::Issuing | Self::Active | Self::Retiring, Move::Unwant) => Ok(Self::Revoking),
            (Self::Issuing, Move::FindGone) | (Self::Revoking, Move::Confirm) => Ok(Self::Revoked),
            (Self::Issuing, Move::Lose) => Ok(Self::Lost),
            (Self::Active, Move::Retire) => Ok(Self::Retiring),
            (Self::Active | Self::Retiring | Self::Revoking, Move::Expire) => Ok(Self::Expired),
            (Self::Revoking, Move::Forget) => Ok(Self::Forgotten),
            (phase, attempted) => Err(IllegalMove { phase, attempted }),
        }
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Lost | Self::Forgotten)
    }

    /// Whether its key opens the service, as far as we are concerned.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::Retiring)
    }

    /// Its name, in the state, in JSON and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Revoking => "revoking",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Forgotten => "forgotten",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Token {
    /// When the service says that it ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.grant.as_ref().map(|grant| grant.expires_at)
    }

    /// Whether its time is over, clocks that differ allowed for. A token without a grant has no
    /// known expiry.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|end| later(end, EXPIRY_LEEWAY) <= now)
    }

    /// Whether it can be asked for again, and revoked, under its op id.
    #[must_use]
    pub fn speaks_op_ids(&self) -> bool {
        self.ask.endpoint.contract == Contract::V2
    }

    /// Whether it has more life left than is wanted. Compared with what was asked, too: a service that
    /// grants more than was asked would be asked for ever.
    #[must_use]
    pub fn outlives(&self, ttl_days: u16, now: Timestamp) -> bool {
        self.ask.ttl_days > ttl_days
            && self.expires_at().is_some_and(|end| end > later(now, days(ttl_days)))
    }

    /// When renewal is due: `expires_at − min(renew_before, life/3)`, earlier by up to a sixth of
    /// that, by a hash of the connection, so that a fleet does not renew at once.
    #[must_use]
    pub fn renewal_due(&self, renew_before_days: u16) -> Option<Timestamp> {
        let expires_at = self.expires_at()?;
        let life = expires_at.duration_since(self.ask.at).max(SignedDuration::ZERO);
        let window = days(renew_before_days).min(life / 3);
        let spread = window.as_secs() / 6;
        let share = i64::from(connection_hash(&self.user, &self.service));
        let earlier = SignedDuration::from_secs(spread * share / i64::from(u16::MAX));
        Some(later(expires_at, -(window + earlier)))
    }
}

/// So many days as a duration: 24 hours each.
#[must_use]
pub fn days(days: u16) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(days))
}

/// A time moved by a duration; the end of time stays the end of time.
#[must_use]
pub fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX) // a SignedDuration always saturates
}

/// A number that differs from connection to connection and never changes.
fn connection_hash(user: &UserId, service: &ServiceId) -> u16 {
    let digest = super::digest::Digest::of_fields([user.as_str(), service.as_str()]);
    u16::from_be_bytes([digest.as_bytes()[0], digest.as_bytes()[1]])
}
