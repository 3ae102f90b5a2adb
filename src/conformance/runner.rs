//! Tries one rule after the other.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::bench::{Bench, Step};
use super::rule::Rule;

/// One rule, tried.
#[derive(Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What must be so.
    pub says: &'static str,
    /// What goes wrong where it is not.
    pub why: &'static str,
    /// Whether it is.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was sent and seen, in order, without secrets and keys.
    pub steps: Vec<Step>,
}

/// Whether a rule is kept.
pub enum Verdict {
    /// It is.
    Pass,
    /// It is not, and what was seen instead.
    Fail(String),
    /// It cannot be told, and why.
    Skip(String),
}

impl Verdict {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Skip(_) => "skip",
        }
    }

    /// What is said of it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail(reason) | Self::Skip(reason) => Some(reason),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("result", self.name())?;
        map.serialize_entry("reason", &self.reason())?;
        map.end()
    }
}

/// Why a rule's trial ended before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The rule is broken.
    Broken(String),
    /// Nothing came of it, since the service was not reached.
    NotSent(String),
    /// It cannot be told.
    Moot(String),
}

/// What a rule's trial comes to.
pub(super) type Trial = Result<(), Halt>;

/// The rule is broken: this was seen.
pub(super) fn broken<T>(what: impl Into<String>) -> Result<T, Halt> {
    Err(Halt::Broken(what.into()))
}

/// It cannot be told, for this reason.
pub(super) fn moot<T>(why: impl Into<String>) -> Result<T, Halt> {
    Err(Halt::Moot(why.into()))
}

/// The rules that were tried so far.
pub(super) struct Runner<'a> {
    pub(super) bench: &'a Bench<'a>,
    checks: Vec<Check>,
    say: &'a mut dyn FnMut(&Check),
}

impl<'a> Runner<'a> {
    pub(super) fn new(bench: &'a Bench<'a>, say: &'a mut dyn FnMut(&Check)) -> Self {
        Self { bench, checks: Vec::new(), say }
    }

    /// Tries a rule, if it is one of the contract that the service keeps.
    pub(super) async fn check(&mut self, rule: &'static Rule, trial: impl Future<Output = Trial>) {
        if rule.is_of(self.bench.contract()) {
            let found = trial.await;
            self.conclude(rule, found);
        }
    }

    /// Notes what a rule's trial came to.
    pub(super) fn conclude(&mut self, rule: &'static Rule, found: Trial) {
        let steps = self.bench.take_steps();
        if !rule.is_of(self.bench.contract()) {
            return;
        }
        let verdict = match found {
            Ok(()) => Verdict::Pass,
            Err(Halt::Broken(what) | Halt::NotSent(what)) => Verdict::Fail(what),
            Err(Halt::Moot(why)) => Verdict::Skip(why),
        };
        let Rule { name, says, why, .. } = *rule;
        let check = Check { name, says, why, verdict, steps };
        (self.say)(&check);
        self.checks.push(check);
    }

    pub(super) fn into_checks(self) -> Vec<Check> {
        self.checks
    }
}
