//! How much a plan does, in numbers.

use std::fmt;

use serde::Serialize;

use super::super::action::Action;
use super::{Note, NoteKind, View};

/// How much a plan does, and does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Tokens to ask for.
    pub issue: usize,
    /// Homes to put files into.
    pub install: usize,
    /// Tokens to revoke.
    pub revoke: usize,
    /// Tokens that have ended by themselves.
    pub end: usize,
    /// Connections whose removal the guard holds back.
    pub held: usize,
    /// What waits for a time.
    pub waiting: usize,
    /// What waits for a person.
    pub blocked: usize,
}

impl Summary {
    /// Of this plan.
    #[must_use]
    pub fn of(view: &View<'_>) -> Self {
        let actions = |fits: fn(&Action) -> bool| {
            view.plan.actions.iter().filter(|action| fits(action)).count()
        };
        let notes =
            |fits: fn(&Note) -> bool| view.plan.notes.iter().filter(|note| fits(note)).count();
        Self {
            issue: actions(|action| matches!(action, Action::Issue(_))),
            install: actions(|action| matches!(action, Action::Install(_))),
            revoke: actions(|action| matches!(action, Action::Revoke(_))),
            end: actions(|action| matches!(action, Action::End(_))),
            held: view.held.losses.len(),
            waiting: notes(|note| matches!(note.kind, NoteKind::Waiting(_))),
            blocked: notes(|note| note.kind == NoteKind::Blocked),
        }
    }

    /// Whether the plan does nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.issue + self.install + self.revoke + self.end == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_idle() {
            f.write_str("Nothing to do")?;
        } else {
            let (issue, install, revoke) = (self.issue, self.install, self.revoke);
            write!(f, "Plan: {issue} to issue, {install} to install, {revoke} to revoke")?;
            if self.end > 0 {
                write!(f, ", {} ended", self.end)?;
            }
        }
        if self.held > 0 || !self.is_idle() {
            write!(f, "; {} held", self.held)?;
        }
        if self.waiting > 0 {
            write!(f, "; {} waiting", self.waiting)?;
        }
        if self.blocked > 0 {
            write!(f, "; {} blocked", self.blocked)?;
        }
        f.write_str(".")
    }
}
