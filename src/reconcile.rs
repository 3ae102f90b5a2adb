//! One pass: load, observe, plan, approve, execute, record.

mod checks;
mod import;
mod result;
mod sweep;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use crate::desired_file::DesiredFile;
use crate::exchange::{Exchange, Secrets};
use crate::execute::{Edges, Executed, execute};
use crate::installer::Installer;
use crate::model::actual::Actual;
use crate::model::digest::{Digest, DigestPrefix};
use crate::model::guard::{self, ApprovedPlan, Held, Limits};
use crate::model::name::{EnvName, ServiceId};
use crate::model::outcome::Outcome;
use crate::model::plan::{self, Plan, Scope, World, due};
use crate::model::registry::Registry;
use crate::model::run::{Run, Setting};
use crate::observe::{self, Intent, IntentError, Places, Wanted};
use crate::store::{self, PassLock, Store, StoreError};

pub use import::{ImportError, finish_import};
pub use result::{Exit, Passed, PlannedPart};
use result::{exit, last_pass};
pub use sweep::Swept;

/// How long a pass waits for a desired state that was changed by hand a moment ago.
pub const SETTLING_PATIENCE: Duration = Duration::from_secs(6);

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
        self.run_under(&lock, expect, stop, on_outcome).await
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
        let began = (self.clock)();
        self.refuse_lost_state().await?;
        let mut store = Store::open(&self.places.state, &self.places.sealing_key)?;
        finish_import(&self.places.desired, &store, began)?;
        let gathered = self.gather(&store, began)?;
        let mut planned = self.planned(gathered, None, Some(&mut store)).await;
        let exchange = Arc::new(self.exchange(&planned));
        if self.clocks_disagree(&mut store, &planned, &exchange).await? {
            let gathered = self.gather(&store, began)?;
            planned = self.planned(gathered, None, Some(&mut store)).await;
        }
        if expect.is_some_and(|expected| !expected.names(&planned.digest)) {
            return Err(PassError::AnotherPlan { now: planned.digest });
        }
        if let Ok(wanted) = &planned.intent.desired {
            let file = DesiredFile::new(&self.places.desired);
            file.adopt(&wanted.loaded, ADOPTER, began).map_err(PassError::Adopt)?;
            let edits = file.edits().map_err(|error| PassError::Adopt(error.into()))?;
            store.tell_edits(&edits, began)?;
        }
        let (store, passed) = self.carry_out(store, planned, exchange, stop, on_outcome).await;
        let took = (self.clock)().duration_since(began);
        store.record_pass(&last_pass(&passed, began, took))?;
        Ok(passed)
    }

    /// When time alone may change what is to be done, as things are now: see [`due::next_due`].
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn next_due(&self) -> Result<Option<Timestamp>, PassError> {
        let now = (self.clock)();
        let (actual, intent) = self.gather(&Store::open_to_read(&self.places.state)?, now)?;
        let desired = intent.desired.as_ref().ok().map(|wanted| &wanted.desired);
        Ok(due::next_due(&actual, desired, &intent.registry, now))
    }

    /// Loads the state and reads the files, each on a core of its own: in a fleet both take a while.
    fn gather(&self, store: &Store, at: Timestamp) -> Result<(Actual, Intent), StoreError> {
        let (actual, intent) = thread::scope(|threads| {
            let intent = threads.spawn(|| self.intent(&self.scope));
            (store.load(at, self.scope.user.as_ref()), intent.join())
        });
        Ok((actual?, intent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    }

    /// What the files say, settled and checked against what the state holds.
    pub async fn settled_intent(&self, actual: &Actual) -> Intent {
        let intent = self.settled(self.intent(&self.scope), &self.scope).await;
        intent.checked(&self.places, actual).with_arrivals(actual)
    }

    fn intent(&self, scope: &Scope) -> Intent {
        observe::intent(&self.places, (self.clock)(), scope)
    }

    /// Gathers the rest of the world and plans.
    async fn planned(
        &self,
        (mut actual, intent): (Actual, Intent),
        at: Option<Timestamp>,
        store: Option<&mut Store>,
    ) -> Planned {
        let intent = self.settled(intent, &self.scope).await.checked(&self.places, &actual);
        let intent = intent.with_arrivals(&actual);
        let at = at.unwrap_or_else(self.clock);
        if let Ok(wanted) = &intent.desired {
            actual.homes = observe::homes(&self.installer, wanted, &actual, &self.scope);
            let accounts = observe::accounts_of(wanted, &actual, &self.scope);
            if let Some(store) = store {
                let absent: Vec<_> = accounts.into_iter().map(|(u, a)| (u.clone(), a)).collect();
                // What cannot be noted now is noted by the next pass; nothing depends on the hour.
                if let Err(error) = store.note_absences(&absent, &mut actual, at) {
                    tracing::warn!(%error, "absent accounts could not be noted");
                }
            }
        }
        let plan = self.plan_of(&intent, &actual, at);
        let digest = plan.digest(&actual);
        let limits = Limits { approved: actual.approved.clone(), ..self.limits.clone() };
        let (approved, held) = guard::approve(plan, &limits);
        Planned { at, intent, actual, digest, approved, held }
    }

    fn plan_of(&self, intent: &Intent, actual: &Actual, now: Timestamp) -> Plan {
        let scope = &self.scope;
        match &intent.desired {
            Ok(Wanted { desired, people, .. }) => {
                let registry = &intent.registry;
                plan::plan(&World { desired, people, registry, actual, scope, now })
            }
            Err(_) => plan::debts(actual, scope, now),
        }
    }

    /// What the files say, once a desired state that was just changed by hand has settled.
    async fn settled(&self, mut intent: Intent, scope: &Scope) -> Intent {
        let mut patience = SETTLING_PATIENCE;
        while let Some(wait) = intent.desired.as_ref().err().and_then(IntentError::ready_in)
            && wait <= patience
        {
            tokio::time::sleep(wait).await;
            patience -= wait;
            intent = self.intent(scope);
        }
        intent
    }

    async fn carry_out(
        &self,
        store: Store,
        planned: Planned,
        exchange: Arc<Exchange>,
        stop: impl Future<Output = ()>,
        on_outcome: impl FnMut(&Outcome),
    ) -> (Store, Passed) {
        let Planned { at, intent, actual, approved, held, .. } = planned;
        let notes = approved.plan().notes.clone();
        let setting = Setting {
            desired: intent.desired.as_ref().ok().map(|wanted| &wanted.desired),
            registry: &intent.registry,
            actual: &actual,
            now: at,
            retry_now: self.scope.retry_now,
        };
        let is_empty = approved.plan().is_empty();
        let mut run =
            Run::new(approved, &setting, store.instance().clone(), Box::new(store::random));
        for (service, name) in secrets_needed(&actual, &intent.registry) {
            if let Some(why) = exchange.lacks_secret(name) {
                run.close(service, name, &format!("the shared secret {name} {why}"));
            }
        }
        let edges = Edges {
            exchange,
            installer: Arc::clone(&self.installer),
            renditions: observe::renditions(&intent.registry),
            registry: intent.registry.clone(),
            clock: self.clock,
        };
        let (store, executed) = if is_empty {
            (store, Executed { outcomes: Vec::new(), broken: None, stopped: false })
        } else {
            execute(store, edges, run, stop, on_outcome).await
        };
        let intent_error = intent.desired.err();
        let exit = exit(intent_error.as_ref(), &executed, &held, &notes);
        let planned = PlannedPart { intent_error, held, notes };
        (store, Passed { planned, executed, exit })
    }

    /// The services, with their shared secrets.
    fn exchange(&self, planned: &Planned) -> Exchange {
        let needed = secrets_needed(&planned.actual, &planned.intent.registry);
        let names = needed.iter().map(|(_, name)| *name);
        Exchange::new(Secrets::from_dir_or_env(self.secrets_dir.as_deref(), names))
    }
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
