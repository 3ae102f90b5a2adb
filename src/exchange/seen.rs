//! What is seen of the calls to services, for whoever measures.

use std::sync::Arc;
use std::time::Duration;

use crate::model::name::ServiceId;
use crate::model::outcome::{Failure, FailureKind, IssueAnswer, RevokeAnswer};

/// A call that ended.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Whom.
    pub service: ServiceId,
    /// What was asked.
    pub call: CallKind,
    /// From before the connection to the end of the answer.
    pub took: Duration,
    /// What came: a word that does not change.
    pub result: &'static str,
}

/// What is asked of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// A token.
    Issue,
    /// The end of one.
    Revoke,
    /// The list of all.
    List,
    /// Whether it is well, and what time it is there.
    Health,
}

impl CallKind {
    /// A word that does not change.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Revoke => "revoke",
            Self::List => "list",
            Self::Health => "health",
        }
    }
}

/// Is told of each call.
pub type Observer = Arc<dyn Fn(&Seen) + Send + Sync>;

/// What came of an exchange, in a word.
#[must_use]
pub fn of_issue(answer: &IssueAnswer) -> &'static str {
    match answer {
        IssueAnswer::Granted(_) => OK,
        IssueAnswer::Gone => "gone",
        IssueAnswer::Conflict(_) => "conflict",
        IssueAnswer::Failed(failure) => of_failure(failure),
    }
}

/// What came of a revoke, in a word.
#[must_use]
pub fn of_revoke(answer: &RevokeAnswer) -> &'static str {
    match answer {
        RevokeAnswer::Confirmed => OK,
        RevokeAnswer::Failed(failure) => of_failure(failure),
    }
}

/// What came of any other call, in a word.
#[must_use]
pub fn of_result<T>(result: &Result<T, Failure>) -> &'static str {
    result.as_ref().map_or_else(of_failure, |_| OK)
}

const OK: &str = "ok";

fn of_failure(failure: &Failure) -> &'static str {
    match failure.kind {
        FailureKind::Unreached => "unreached",
        FailureKind::Unknown => "unknown",
        FailureKind::Rejected => "rejected",
        FailureKind::SecretRefused => "secret_refused",
    }
}
