//! What a pass came to: its exit code, and what is remembered of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Planned;
use crate::exchange::Exchange;
use crate::execute::Executed;
use crate::model::guard::Held;
use crate::model::kept_back::{KeptBack, KeptBy};
use crate::model::name::{AccountName, ServiceId, UserId};
use crate::model::outcome::{Found, Outcome, What};
use crate::model::plan::due::Due;
use crate::model::plan::{self, LossKind, NoteKind};
use crate::model::registry::Registry;
use crate::observe::IntentError;
use crate::store::{FailedRecord, Fleet, Health, HeldRecord, LastCall, LastPass, ServiceHealth};

/// So many failures are remembered of a pass.
const MAX_FAILED: usize = 100;

/// What a pass came to.
pub struct Passed {
    /// The plan that it carried out.
    pub planned: PlannedPart,
    /// What each action found.
    pub executed: Executed,
    /// The exit code of DESIGN, "The plan".
    pub exit: Exit,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: SignedDuration,
    /// Whether it was about everything.
    pub of_all: bool,
    /// The fleet after it.
    pub fleet: Fleet,
    /// The services after it.
    pub health: Health,
    /// When time alone may change what is to be done, as things were before it.
    pub due: Due,
    /// Whom it may have changed something of.
    pub touched: BTreeSet<UserId>,
}

/// What remains of a plan once it is carried out.
pub struct PlannedPart {
    /// Why only debts were paid, if so.
    pub intent_error: Option<IntentError>,
    /// What is held back.
    pub held: Held,
    /// What was not done, and why.
    pub notes: Vec<plan::Note>,
    /// Homes that did not hold what was put there.
    pub drifted: BTreeSet<AccountName>,
}

/// The exit codes of `plan` and `reconcile`: of several, the highest in the order 1, 3, 4, 2, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Nothing to do; converged.
    Converged,
    /// `plan`: there are changes to make.
    Changes,
    /// Something is owed, or blocked.
    Owed,
    /// The guard holds something.
    Held,
    /// An error.
    Error,
}

impl Exit {
    /// The process's exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Converged => 0,
            Self::Error => 1,
            Self::Changes => 2,
            Self::Held => 3,
            Self::Owed => 4,
        }
    }
}

/// The last call to each service within a pass.
#[derive(Clone, Default)]
pub(super) struct LastCalls(Arc<Mutex<BTreeMap<ServiceId, LastCall>>>);

impl LastCalls {
    /// The same way to the services, with an eye on it.
    pub(super) fn observe(&self, exchange: &Exchange) -> Exchange {
        let calls = Arc::clone(&self.0);
        exchange.observed(Arc::new(move |seen| {
            let call = LastCall {
                at: Timestamp::now(),
                call: seen.call.word().to_owned(),
                took_ms: u64::try_from(seen.took.as_millis()).unwrap_or(u64::MAX),
                result: seen.result.to_owned(),
            };
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.insert(seen.service.clone(), call);
        }))
    }

    /// How the services are that can be used or that something is held of, those among them that
    /// nothing is wrong with. Where this pass called none, the `former` call is still the last.
    pub(super) fn health(
        &self,
        mut known: Health,
        former: Option<Health>,
        registry: &Registry,
        fleet: &Fleet,
    ) -> Health {
        let mut calls: BTreeMap<ServiceId, LastCall> = former
            .into_iter()
            .flat_map(|former| former.services)
            .filter_map(|(service, health)| Some((service, health.last_call?)))
            .collect();
        calls.extend(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let usable = registry.services().filter(|service| !service.retired);
        let held = fleet.services.iter().filter(|(_, figures)| !figures.tokens.is_empty());
        let services: BTreeSet<&ServiceId> =
            usable.map(|service| &service.id).chain(held.map(|(service, _)| service)).collect();
        let mut health = |service: &ServiceId| {
            let known = known.services.remove(service).unwrap_or_default();
            ServiceHealth { last_call: calls.remove(service), ..known }
        };
        let services = services.into_iter().map(|id| (id.clone(), health(id))).collect();
        Health { version: known.version, services }
    }
}

impl PlannedPart {
    /// Adds what another plan of the same pass left.
    pub(super) fn add(&mut self, other: Self) {
        self.intent_error = self.intent_error.take().or(other.intent_error);
        self.held.losses.extend(other.held.losses);
        self.held.why.extend(other.held.why);
        self.notes.extend(other.notes);
        self.drifted.extend(other.drifted);
    }
}

impl Planned {
    /// The exit code of a `plan` that stops here.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.intent.desired.is_err() {
            Exit::Error
        } else if !self.held.is_empty() {
            Exit::Held
        } else if is_kept_back(&self.approved.plan().notes) {
            Exit::Owed
        } else if self.approved.plan().is_empty() {
            Exit::Converged
        } else {
            Exit::Changes
        }
    }
}

fn is_kept_back(notes: &[plan::Note]) -> bool {
    notes.iter().any(|note| !matches!(note.kind, NoteKind::Remark))
}

pub(super) fn exit(planned: &PlannedPart, executed: &Executed) -> Exit {
    let PlannedPart { intent_error, held, notes, .. } = planned;
    let failed = |outcome: &Outcome| matches!(outcome.found, Found::Failed(_));
    if intent_error.is_some() || executed.broken.is_some() {
        Exit::Error
    } else if !held.is_empty() {
        Exit::Held
    } else if executed.stopped || executed.outcomes.iter().any(failed) || is_kept_back(notes) {
        Exit::Owed
    } else {
        Exit::Converged
    }
}

/// What is remembered of a pass. One of single users leaves what the `former` one held as it was:
/// it did not look.
pub(super) fn last_pass(passed: &Passed, former: Option<LastPass>, at: Timestamp) -> LastPass {
    let outcomes = &passed.executed.outcomes;
    let mut failed: Vec<FailedRecord> = outcomes.iter().filter_map(failed_record).collect();
    let ended = if passed.executed.stopped { ", ended before the rest" } else { "" };
    let summary = match &passed.planned.intent_error {
        Some(error) => format!("only debts were paid: {error}"),
        None => format!("{} actions, {} failed{ended}", outcomes.len(), failed.len()),
    };
    failed.truncate(MAX_FAILED);
    let held = &passed.planned.held;
    let held = (!held.is_empty()).then(|| HeldRecord {
        digest: held.digest(),
        connections: held.losses.len(),
        why: held.why.clone(),
    });
    let held = held.or_else(|| former?.held);
    let took_ms = i64::try_from(passed.took.as_millis()).unwrap_or(i64::MAX); // 292 million years
    LastPass { at, took_ms, exit: passed.exit.code(), summary, held, failed }
}

/// What the pass found to keep connections back.
pub(super) fn kept_back(passed: &Passed) -> BTreeSet<KeptBack> {
    let PlannedPart { held, notes, .. } = &passed.planned;
    let held_why = held.why.join("; ");
    let held = held.losses.iter().filter(|loss| loss.kind != LossKind::Stray);
    let held = held.map(|loss| KeptBack {
        user: loss.user.clone(),
        service: Some(loss.service.clone()),
        by: KeptBy::Guard,
        why: held_why.clone(),
    });
    let blocked = notes.iter().filter(|note| note.kind == NoteKind::Blocked);
    let blocked = blocked.filter_map(|note| {
        let (user, service) = (note.user.clone()?, note.service.clone());
        Some(KeptBack { user, service, by: KeptBy::Block, why: note.text.clone() })
    });
    // Of what failed at a service the state knows more: its backoffs.
    let installs = passed.executed.outcomes.iter().filter_map(|outcome| match &outcome.what {
        What::Install(account) => Some(((&outcome.user, account), outcome)),
        _ => None,
    });
    // A later put of the same files mends what an earlier one could not do.
    let last: BTreeMap<_, _> = installs.collect();
    let failed = last.into_values().filter_map(failed_record).map(|failed| KeptBack {
        user: failed.user,
        service: None,
        by: KeptBy::Failure,
        why: failed.why,
    });
    held.chain(blocked).chain(failed).collect()
}

fn failed_record(outcome: &Outcome) -> Option<FailedRecord> {
    let Found::Failed(why) = &outcome.found else { return None };
    let (user, service) = (outcome.user.clone(), outcome.service.clone());
    Some(FailedRecord { user, service, why: why.clone() })
}
