//! One pass: load, observe, plan, approve, execute, record.

mod approvals;
mod checks;
mod import;
mod prepare;
mod result;
mod sweep;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::Instrument as _;

use crate::exchange::Exchange;
use crate::execute::{Edges, Joining, execute};
use crate::installer::Installer;
use crate::model::actual::Actual;
use crate::model::digest::{Digest, DigestPrefix};
use crate::model::guard::{ApprovedPlan, Held, Limits};
use crate::model::name::{EnvName, ServiceId, UserId};
use crate::model::outcome::Outcome;
use crate::model::plan::due::{self, Due};
use crate::model::plan::{Plan, Scope};
use crate::model::registry::Registry;
use crate::model::run::Pace;
use crate::observe::{self, Intent, IntentError, Places};
use crate::store::{PassLock, Shown, Store, StoreError};

pub use import::{ImportError, finish_import};
use prepare::{Further, Made, SecretNames};
pub use result::{Exit, Passed, PlannedPart};
use result::{LastCalls, exit, kept_back, last_pass};
pub use sweep::Swept;

/// How long a pass waits for a desired state that was changed by hand a moment ago.
pub const SETTLING_PATIENCE: Duration = Duration::from_secs(6);

/// What is said to a pass that is under way, and what it says.
pub struct Talk {
    /// Who joins.
    pub joining: UnboundedReceiver<Joining>,
    /// Of whom something waits, and until when: then they may join.
    pub waits: UnboundedSender<(UserId, Timestamp)>,
}

/// Who took up a revision that was made by hand.
const ADOPTER: &str = "reconcile";

/// Everything that a pass works with.
#[derive(Clone)]
pub struct Pass {
    /// Where everything is.
    pub places: Places,
    /// The part of the world that it is about.
    pub scope: Scope,
    /// How much it may take away; what was approved is added from the state.
    pub limits: Limits,
    /// The homes.
    pub installer: Arc<Installer>,
    /// Where shared secrets are, one file each, besides the environment. Read at each pass.
    pub secrets_dir: Option<PathBuf>,
    /// Whether approvals that were asked for in the portal are taken up.
    pub portal_may_approve: bool,
    /// The way to the services, without any secret: connections stay open between passes.
    pub exchange: Arc<Exchange>,
    /// When the calls of the last passes began: see the services' limits.
    pub pace: Arc<Mutex<Pace>>,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

/// A pass could not begin.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no database, and something shows that there was one.
    #[error(
        "there is no state at {path}, but {trace}: it was lost. Restore it from a backup; \
         a new one would know none of the keys that are out"
    )]
    StateLost {
        /// Where it should be.
        path: String,
        /// What shows that there was one.
        trace: String,
    },
    /// There is no database, and nobody can tell whether there was one.
    #[error(
        "there is no state at {path}, and no home could be looked at, so nobody can tell whether \
         it was lost ({why}): mend that first"
    )]
    NoTrace {
        /// Where it should be.
        path: String,
        /// Why a home could not be looked at.
        why: String,
    },
    /// There is no database yet, and nobody knows what is desired.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// The plan is not the one that was expected.
    #[error(
        "the plan is another one now: its digest is {now}, not the expected one; look again with `service-connector plan`"
    )]
    AnotherPlan {
        /// The digest of the plan as it is.
        now: Digest,
    },
    /// An import was cut short, and the rest of it cannot be done: nothing else may be, either.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The history beside the desired state cannot be written.
    #[error("the desired state was not taken up")]
    Adopt(#[source] crate::desired_file::EditError),
}

/// The world at one instant, and what is to be done in it.
pub struct Planned {
    /// When.
    pub at: Timestamp,
    /// What the files say.
    pub intent: Intent,
    /// What is there.
    pub actual: Actual,
    /// The whole plan's digest, before the guard.
    pub digest: Digest,
    /// What may be done.
    pub approved: ApprovedPlan,
    /// What is held back.
    pub held: Held,
}

impl Pass {
    /// What a pass would do at `at`, without doing it: no lock, no secret, no write.
    ///
    /// # Errors
    /// The state cannot be read. A desired state that cannot be read is in the answer.
    pub async fn plan(&self, at: Option<Timestamp>) -> Result<Planned, PassError> {
        let now = (self.clock)();
        let gathered = match Store::open_to_read(&self.places.state) {
            Ok(store) => self.gather(&store, at.unwrap_or(now))?,
            Err(StoreError::Missing(_)) => match self.refuse_lost_state().await {
                // What is wrong with the files is said with the plan.
                Ok(()) | Err(PassError::Intent(_)) => (Actual::default(), self.intent(&self.scope)),
                Err(lost) => return Err(lost),
            },
            Err(error) => return Err(error.into()),
        };
        Ok(self.planned(gathered, at, None).await)
    }

    /// Carries out what must be done.
    ///
    /// # Errors
    /// When nothing was done: the state cannot be used, or the plan is not the expected one.
    pub async fn run(
        &self,
        expect: Option<DigestPrefix>,
        stop: impl Future<Output = ()>,
        on_wait: impl FnOnce(),
        on_outcome: impl FnMut(&Outcome),
    ) -> Result<Passed, PassError> {
        let lock = PassLock::take(&self.places.state, on_wait)?;
        let span = tracing::info_span!("pass");
        self.run_under(&lock, expect, stop, on_outcome).instrument(span).await
    }

    /// The same, under a lock that is held.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub async fn run_under(
        &self,
        _lock: &PassLock,
        expect: Option<DigestPrefix>,
        stop: impl Future<Output = ()>,
        on_outcome: impl FnMut(&Outcome),
    ) -> Result<Passed, PassError> {
        self.carry_out(expect, None, stop, on_outcome).await
    }

    /// The same, with further users that are wanted while it is under way.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub async fn run_with(
        &self,
        _lock: &PassLock,
        talk: Talk,
        stop: impl Future<Output = ()>,
        on_outcome: impl FnMut(&Outcome),
    ) -> Result<Passed, PassError> {
        self.carry_out(None, Some(talk), stop, on_outcome).await
    }

    async fn carry_out(
        &self,
        expect: Option<DigestPrefix>,
        talk: Option<Talk>,
        stop: impl Future<Output = ()>,
        on_outcome: impl FnMut(&Outcome),
    ) -> Result<Passed, PassError> {
        let began = (self.clock)();
        let calls = LastCalls::default();
        // Clones of it, too.
        let observed = Self { exchange: Arc::new(calls.observe(&self.exchange)), ..self.clone() };
        observed.carry_out_observed(&calls, began, expect, talk, stop, on_outcome).await
    }

    async fn carry_out_observed(
        &self,
        calls: &LastCalls,
        began: Timestamp,
        expect: Option<DigestPrefix>,
        talk: Option<Talk>,
        stop: impl Future<Output = ()>,
        on_outcome: impl FnMut(&Outcome),
    ) -> Result<Passed, PassError> {
        self.refuse_lost_state().await?;
        let mut store = Store::open(&self.places.state, &self.places.sealing_key)?;
        finish_import(&self.places.desired, &store, began)?;
        if self.portal_may_approve {
            approvals::take_up(&self.places.desired, &mut store, began)?;
        }
        let gathered = self.gather(&store, began)?;
        let planned = self.planned(gathered, None, Some(&mut store)).await;
        let names = SecretNames::default();
        let Made { prepared, mut part, registry, due, shown } =
            self.prepare(planned, expect, &names).await?;
        let edges = Edges {
            installer: Arc::clone(&self.installer),
            renditions: observe::renditions(&registry),
            registry: registry.clone(),
            pace: std::mem::take(&mut *self.pace.lock().unwrap_or_else(PoisonError::into_inner)),
            clock: self.clock,
        };
        let mut touched = users_of(prepared.plan.plan());
        let (pass, made) = (self.clone(), Mutex::default());
        let (joining, waits) = talk.map(|talk| (talk.joining, talk.waits)).unzip();
        let further = Arc::new(Further { pass, registry, names, made, waits });
        further.say_who_waits(&part);
        let more = joining.map(|joining| further.more(joining));
        let (mut store, mut executed) =
            execute(store, edges, prepared, more, stop, on_outcome).await?;
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) =
            std::mem::take(&mut executed.pace);
        let made =
            std::mem::take(&mut *further.made.lock().unwrap_or_else(PoisonError::into_inner));
        touched.extend(made.users);
        made.parts.into_iter().for_each(|further| part.add(further));
        let exit = exit(&part, &executed);
        let (now, of_all) = ((self.clock)(), self.scope.users.is_none());
        let took = now.duration_since(began);
        let last = store.last_pass()?.filter(|_| !of_all);
        let held = last.as_ref().and_then(|last| last.held.as_ref());
        let held = part.held.losses.len().max(held.map_or(0, |held| held.connections));
        let fleet = store.fleet(held, now)?;
        // What an older or newer program left there is not needed.
        let former = store.shown(Shown::Health)?;
        let former = former.and_then(|(_, text)| serde_json::from_str(&text).ok());
        let health = calls.health(store.health()?, former, &further.registry, &fleet);
        let passed = Passed {
            planned: part,
            executed,
            exit,
            began,
            took,
            of_all,
            fleet,
            health,
            due,
            touched,
        };
        let plan = if of_all { Shown::Plan } else { Shown::PlanOfUsers };
        let kept_back = kept_back(&passed);
        // One of a single service, or of debts alone, has not looked at the rest.
        let looked = self.scope.service.is_none() && passed.planned.intent_error.is_none();
        let whom = self.scope.users.as_ref().map(|users| users | &passed.touched);
        store.record_pass(&last_pass(&passed, last, began), |store| {
            if looked {
                store.record_kept_back(whom.as_ref(), &kept_back)?;
            }
            store.show(Shown::Fleet, &passed.fleet, now)?;
            store.show(Shown::Health, &passed.health, now)?;
            store.show(plan, &shown, now)
        })?;
        Ok(passed)
    }

    /// The first times after `since` when time alone may change what is to be done, as things are
    /// now: see [`due::due`].
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn due(&self, since: Timestamp) -> Result<Due, PassError> {
        let store = Store::open_to_read(&self.places.state)?;
        let (actual, intent) = self.gather(&store, (self.clock)())?;
        let desired = intent.desired.as_ref().ok().map(|wanted| &wanted.desired);
        Ok(due::due(&actual, desired, &intent.registry, since))
    }
}

fn users_of(plan: &Plan) -> BTreeSet<UserId> {
    plan.actions.iter().map(|action| action.user().clone()).collect()
}

/// The shared secrets that a pass may need.
#[must_use]
pub fn secrets_needed<'a>(
    actual: &'a Actual,
    registry: &'a Registry,
) -> BTreeSet<(&'a ServiceId, &'a EnvName)> {
    let asked = registry.services().map(|service| (&service.id, &service.endpoint.secret));
    let owed = actual.tokens.values().flatten().flat_map(|(service, tokens)| {
        tokens.iter().map(move |token| (service, &token.ask.endpoint.secret))
    });
    asked.chain(owed).collect()
}
