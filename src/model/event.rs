//! What happened, one line each, in a chain: each event's hash covers the one before, so that none
//! can be changed or taken out unseen.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;

use super::digest::Digest;
use super::name::{OpId, ServiceId, UserId};
use super::token::Move;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// When it was written down.
    pub at: Timestamp,
    /// Who did it: `reconcile`, or a person.
    pub who: String,
    /// What.
    pub kind: EventKind,
    /// Whose connection.
    pub user: Option<UserId>,
    /// To which service.
    pub service: Option<ServiceId>,
    /// Which token.
    pub op: Option<OpId>,
    /// For people.
    pub detail: String,
    /// Covers all of it, and the hash of the event before.
    pub hash: Digest,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The desired state was changed.
    Desired,
    /// A service is about to be asked for a token.
    Asked,
    /// A token was granted.
    Issued,
    /// A service's answer was refused by us.
    AnswerRefused,
    /// A service says that the ask was revoked.
    FoundGone,
    /// A key is in the home.
    Delivered,
    /// Files were put into a home.
    Put,
    /// A newer key took a token's place.
    Retired,
    /// A service lists a token of ours that the state did not know; its revoke is owed.
    Stray,
    /// A revoke is owed.
    Unwanted,
    /// A service confirmed a revoke.
    Revoked,
    /// A token's time is over.
    Expired,
    /// A token may exist, and nobody can tell (v1).
    Lost,
    /// An operator took a debt off the list.
    Forgotten,
    /// A call for a connection failed.
    Failed,
    /// A service as a whole is in trouble.
    Trouble,
    /// A service works again.
    Recovered,
    /// Somebody let held removals go.
    Approved,
    /// A token that another program asked for was taken over.
    Imported,
    /// Keys were written into a file.
    Exported,
}

impl EventKind {
    const ALL: [Self; 20] = [
        Self::Desired,
        Self::Asked,
        Self::Issued,
        Self::AnswerRefused,
        Self::FoundGone,
        Self::Delivered,
        Self::Put,
        Self::Retired,
        Self::Stray,
        Self::Unwanted,
        Self::Revoked,
        Self::Expired,
        Self::Lost,
        Self::Forgotten,
        Self::Failed,
        Self::Trouble,
        Self::Recovered,
        Self::Approved,
        Self::Imported,
        Self::Exported,
    ];

    /// Its name, in the state, in JSON and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Asked => "asked",
            Self::Issued => "issued",
            Self::AnswerRefused => "answer_refused",
            Self::FoundGone => "found_gone",
            Self::Delivered => "delivered",
            Self::Put => "put",
            Self::Retired => "retired",
            Self::Stray => "stray",
            Self::Unwanted => "unwanted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Forgotten => "forgotten",
            Self::Failed => "failed",
            Self::Trouble => "trouble",
            Self::Recovered => "recovered",
            Self::Approved => "approved",
            Self::Imported => "imported",
            Self::Exported => "exported",
        }
    }
}

impl From<Move> for EventKind {
    fn from(how: Move) -> Self {
        match how {
            Move::Grant => Self::Issued,
            Move::RefuseAnswer => Self::AnswerRefused,
            Move::FindGone => Self::FoundGone,
            Move::Retire => Self::Retired,
            Move::Unwant => Self::Unwanted,
            Move::Confirm => Self::Revoked,
            Move::Expire => Self::Expired,
            Move::Lose => Self::Lost,
            Move::Forget => Self::Forgotten,
        }
    }
}

/// Not the name of a kind of event.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is no kind of event")]
pub struct EventKindError(String);

impl FromStr for EventKind {
    type Err = EventKindError;

    fn from_str(text: &str) -> Result<Self, EventKindError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or_else(|| EventKindError(text.to_owned()))
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Event {
    /// The hash that this event must have behind one of that hash; none: it is the first.
    #[must_use]
    pub fn hash_after(&self, before: Option<Digest>) -> Digest {
        let shown = |value: Option<String>| value.unwrap_or_default();
        let fields = [
            shown(before.map(|digest| digest.to_string())),
            self.seq.to_string(),
            self.at.to_string(),
            self.who.clone(),
            self.kind.to_string(),
            shown(self.user.as_ref().map(ToString::to_string)),
            shown(self.service.as_ref().map(ToString::to_string)),
            shown(self.op.as_ref().map(ToString::to_string)),
            self.detail.clone(),
        ];
        Digest::of_fields(fields.iter().map(String::as_str))
    }
}
