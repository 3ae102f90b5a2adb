//! What a pass can do, and why.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::actual::Piece;
use super::name::{AccountName, OpId, ServiceId, UserId};
use super::skill::Status;
use super::token::{Ask, Binding, Phase};

/// One step of a plan.
#[derive(Debug, Clone)]
pub enum Action {
    /// Ask a service for a token.
    Issue(Issue),
    /// Put a user's files into a home.
    Install(Install),
    /// Ask a service to end a token.
    Revoke(Revoke),
    /// Note that a token has ended by itself.
    End(End),
}

impl Action {
    /// Whose.
    #[must_use]
    pub fn user(&self) -> &UserId {
        match self {
            Self::Issue(issue) => &issue.user,
            Self::Install(install) => &install.user,
            Self::Revoke(revoke) => &revoke.user,
            Self::End(end) => &end.user,
        }
    }

    /// Of which service; an install is of all of a user's.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::Issue(issue) => Some(&issue.service),
            Self::Install(_) => None,
            Self::Revoke(revoke) => Some(&revoke.service),
            Self::End(end) => Some(&end.service),
        }
    }
}

/// Ask a service for a token.
#[derive(Debug, Clone)]
pub struct Issue {
    /// For whom.
    pub user: UserId,
    /// At which service.
    pub service: ServiceId,
    /// Under a new op id, or again under one that has no answer yet.
    pub op: IssueOp,
    /// Whom the token will be bound to.
    pub binding: Binding,
    /// What is asked, word for word.
    pub ask: Ask,
    /// Why.
    pub why: IssueReason,
}

/// The op id of an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssueOp {
    /// Given when it is carried out.
    New,
    /// Asked before; the answer is not known.
    Resume(OpId),
}

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueReason {
    /// The connection has no token.
    Connected,
    /// An earlier ask has no answer yet.
    Unanswered,
    /// The token ends soon.
    RenewalDue(Timestamp),
    /// The desired state asks for a rotation.
    RotateAfter(Timestamp),
    /// The desired state says that keys issued before then leaked.
    Leaked(Timestamp),
    /// The desired state asks for shorter lives than the token has left.
    TtlShortened,
    /// Account, uid or e-mail are not those that the token is bound to.
    BindingChanged,
    /// The key that we hold cannot be unsealed.
    KeyUnreadable,
    /// The service's own list lacks the key, twice running.
    Missing,
}

impl IssueReason {
    /// Whether only the time asks for it.
    #[must_use]
    pub fn is_time_driven(self) -> bool {
        matches!(self, Self::RenewalDue(_) | Self::RotateAfter(_))
    }
}

impl fmt::Display for IssueReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected, and there is no key yet"),
            Self::Unanswered => f.write_str("asked before, the answer is not known"),
            Self::RenewalDue(at) => write!(f, "renewal was due {}", shown(*at)),
            Self::RotateAfter(at) => write!(f, "rotate_after {}", shown(*at)),
            Self::Leaked(at) => write!(f, "revoke_issued_before {}", shown(*at)),
            Self::TtlShortened => f.write_str("ttl_days was shortened"),
            Self::BindingChanged => f.write_str("account, uid or e-mail changed"),
            Self::KeyUnreadable => f.write_str("the stored key cannot be unsealed"),
            Self::Missing => f.write_str("the service's list of tokens lacks the key"),
        }
    }
}

/// Ask a service to end a token.
#[derive(Debug, Clone)]
pub struct Revoke {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// Which token.
    pub op: OpId,
    /// The phase that it is in now: `revoking` is a debt that is tried again.
    pub phase: Phase,
    /// Where it was issued.
    pub ask: Ask,
    /// When: now, or once the key that takes its place is in the home.
    pub after_delivery: bool,
    /// Why.
    pub why: RevokeReason,
}

/// Why a token is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeReason {
    /// A revoke that was owed before this pass.
    Owed,
    /// The connection is not desired any more.
    Disconnected,
    /// The user is disabled.
    Offboarded,
    /// The user is not in `people.yaml` any more.
    NotInPeople,
    /// The registry's `allow` does not cover the user any more.
    NotAllowed,
    /// The service is retired.
    Retired,
    /// The account has been absent for an hour.
    AccountGone,
    /// Account, uid or e-mail are not those that the token is bound to.
    BindingChanged,
    /// The desired state says that keys issued before then leaked.
    Leaked(Timestamp),
    /// The service moved before it answered.
    EndpointChanged,
    /// A newer key is in the home and the grace is over.
    GraceOver,
    /// A newer key is on every laptop that was seen.
    Acknowledged,
    /// More than two old keys are alive.
    TooMany,
    /// It bears our name at the service, and the state does not know it as one that may live.
    Stray,
}

impl RevokeReason {
    /// Whether only the time asks for it.
    #[must_use]
    pub fn is_time_driven(self) -> bool {
        matches!(self, Self::AccountGone | Self::GraceOver | Self::Acknowledged)
    }
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owed => "owed from an earlier pass",
            Self::Disconnected => "not desired any more",
            Self::Offboarded => "the user is disabled",
            Self::NotInPeople => "the user is not in people.yaml any more",
            Self::NotAllowed => "the registry's `allow` does not cover the user any more",
            Self::Retired => "the service is retired",
            Self::AccountGone => "the account has been absent for an hour",
            Self::BindingChanged => "account, uid or e-mail changed",
            Self::Leaked(at) => return write!(f, "revoke_issued_before {}", shown(*at)),
            Self::EndpointChanged => "the service moved before it answered",
            Self::GraceOver => "a newer key is in place and the grace is over",
            Self::Acknowledged => "every laptop has the newer key",
            Self::TooMany => "more than two old keys are alive",
            Self::Stray => "a key of ours at the service that the state does not know",
        })
    }
}

/// Note that a token has ended by itself.
#[derive(Debug, Clone)]
pub struct End {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// Which token.
    pub op: OpId,
    /// How.
    pub how: EndKind,
}

/// How a token ends without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndKind {
    /// Its time is over.
    Expired(Timestamp),
    /// Contract v1: whether it exists cannot be known; if so, it ends by itself at this time.
    Lost(Timestamp),
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired(at) => write!(f, "expired {}", shown(*at)),
            Self::Lost(at) => write!(
                f,
                "asked over contract v1 without an answer: it may exist until {}",
                shown(*at)
            ),
        }
    }
}

/// Put the whole set of a user's files into one home. Names its contents by reference: when it
/// runs it is filled with what the state then holds.
#[derive(Debug, Clone)]
pub struct Install {
    /// Whose.
    pub user: UserId,
    /// Into whose home.
    pub account: AccountName,
    /// The uid that the home must have, where it was seen.
    pub uid: Option<u32>,
    /// Whether the account is not the user's any more: once emptied, the home is left alone.
    pub leaves: bool,
    /// The highest generation that was seen in the home or at a laptop; a new one goes above it.
    pub seen: u64,
    /// Each connection that the home has a part of, or will have.
    pub slots: BTreeMap<ServiceId, Slot>,
    /// Why.
    pub why: Vec<InstallReason>,
}

/// One connection's part of a home, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What was put there last.
    pub before: Option<Piece>,
    /// What goes there; none: it is removed.
    pub after: Option<Content>,
}

/// What goes into a slot, by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Exactly what is there.
    Keep(Piece),
    /// The key of this token, or only the skill.
    Of(Piece),
    /// The key that this pass is asking for; until it is there, this.
    New {
        /// The [`super::registry::Rendition`] to make it from.
        rendition: super::digest::Digest,
        /// What stands there until the new key comes, and if it does not.
        until_then: Option<Piece>,
    },
}

impl Content {
    /// Whether there is a key, whatever else happens.
    #[must_use]
    pub fn keeps_lines(&self) -> bool {
        match self {
            Self::Keep(piece) | Self::Of(piece) => piece.op.is_some(),
            Self::New { until_then, .. } => {
                until_then.as_ref().is_some_and(|piece| piece.op.is_some())
            }
        }
    }
}

/// Why files are put.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallReason {
    /// A connection's key or skill comes, changes or goes.
    Changed,
    /// An earlier put was not confirmed.
    Unconfirmed,
    /// The home does not hold what was put there.
    Drift(String),
    /// The user's files are now in another account's home.
    Moved,
}

impl fmt::Display for InstallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("contents change"),
            Self::Unconfirmed => f.write_str("an earlier put was not confirmed"),
            Self::Drift(what) => write!(f, "drift: {what}"),
            Self::Moved => f.write_str("the user has another account now"),
        }
    }
}

/// The skill's status line for a token that ends at this time.
#[must_use]
pub fn status_until(expires_at: Timestamp) -> Status {
    Status::ActiveUntil(utc_date(expires_at))
}

fn utc_date(at: Timestamp) -> Date {
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// A time as it is shown to people: UTC, to the second.
#[must_use]
pub fn shown(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}
