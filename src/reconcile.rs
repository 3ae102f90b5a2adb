//! One pass: load, observe, plan, approve, execute, record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::desired_file::{BY_HAND, DesiredFile};
use crate::exchange::{Exchange, Secrets};
use crate::execute::{Edges, Executed, execute};
use crate::installer::Installer;
use crate::model::actual::{Actual, HomeLook, Trouble, TroubleKind};
use crate::model::digest::{Digest, DigestPrefix};
use crate::model::guard::{self, ApprovedPlan, Held, Limits};
use crate::model::name::{AccountName, EnvName, ServiceId};
use crate::model::outcome::{Change, Found, Outcome};
use crate::model::plan::{self, LossKind, NoteKind, Plan, Scope, World};
use crate::model::registry::{Endpoint, Registry};
use crate::model::run::answer::clock_skew;
use crate::model::run::{Run, Setting};
use crate::model::token::later;
use crate::observe::{self, Intent, IntentError, Places, Wanted};
use crate::store::{self, FailedRecord, HeldRecord, LastPass, PassLock, Store, StoreError};

/// How long a pass waits for a desired state that was changed by hand a moment ago.
pub const SETTLING_PATIENCE: Duration = Duration::from_secs(6);

/// How long nothing is renewed at a service whose clock disagrees; then a renewal looks again.
const NO_RENEWAL: SignedDuration = SignedDuration::from_hours(1);

/// Who took up a revision that was made by hand.
const ADOPTER: &str = "reconcile";

/// So many failures are remembered of a pass.
const MAX_FAILED: usize = 100;

/// Everything that a pass works with.
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

/// What a pass came to.
pub struct Passed {
    /// The plan that it carried out.
    pub planned: PlannedPart,
    /// What each action found.
    pub executed: Executed,
    /// The exit code of DESIGN, "The plan".
    pub exit: Exit,
}

/// What remains of a plan once it is carried out.
pub struct PlannedPart {
    /// Why only debts were paid, if so.
    pub intent_error: Option<IntentError>,
    /// What is held back.
    pub held: Held,
    /// What was not done, and why.
    pub notes: Vec<plan::Note>,
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

impl Pass {
    /// What a pass would do at `at`, without doing it: no lock, no secret, no write.
    ///
    /// # Errors
    /// The state cannot be read. A desired state that cannot be read is in the answer.
    pub async fn plan(&self, at: Option<Timestamp>) -> Result<Planned, PassError> {
        let now = (self.clock)();
        let actual = match Store::open_to_read(&self.places.state) {
            Ok(store) => store.load(at.unwrap_or(now))?,
            Err(StoreError::Missing(_)) => Actual::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(self.planned(actual, at, None).await)
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
        let _lock = PassLock::take(&self.places.state, on_wait)?;
        let began = (self.clock)();
        self.refuse_lost_state().await?;
        let mut store = Store::open(&self.places.state, &self.places.sealing_key)?;
        let mut planned = self.planned(store.load(began)?, None, Some(&mut store)).await;
        let exchange = Arc::new(self.exchange(&planned));
        if self.clocks_disagree(&mut store, &planned, &exchange).await? {
            planned = self.planned(store.load(began)?, None, Some(&mut store)).await;
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

    /// Gathers the world and plans.
    async fn planned(
        &self,
        mut actual: Actual,
        at: Option<Timestamp>,
        store: Option<&mut Store>,
    ) -> Planned {
        let intent = self.settled_intent(&actual).await;
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
    async fn settled_intent(&self, actual: &Actual) -> Intent {
        let mut patience = SETTLING_PATIENCE;
        loop {
            let intent = observe::intent(&self.places, (self.clock)(), actual);
            let ready_in = intent.desired.as_ref().err().and_then(IntentError::ready_in);
            match ready_in {
                Some(wait) if wait <= patience => {
                    tokio::time::sleep(wait).await;
                    patience -= wait;
                }
                _ => return intent,
            }
        }
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
            if exchange.secret_missing(name) {
                run.close(service, name, &format!("the shared secret {name} is not set"));
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

    /// Asks the services of which something is to be done by time alone what time it is there, and
    /// records where theirs and ours disagree. Says whether anything was recorded.
    async fn clocks_disagree(
        &self,
        store: &mut Store,
        planned: &Planned,
        exchange: &Arc<Exchange>,
    ) -> Result<bool, StoreError> {
        let troubles = &planned.actual.troubles;
        let skewed = |service: &ServiceId| {
            troubles.get(service).is_some_and(|trouble| trouble.kind == TroubleKind::ClockSkew)
        };
        let held = planned.held.losses.iter().filter(|loss| loss.kind == LossKind::Expiry);
        let by_time = planned.approved.plan().time_driven_services().into_iter();
        let doubtful = by_time.chain(held.map(|loss| &loss.service));
        let doubtful = doubtful.chain(troubles.keys().filter(|service| skewed(service)));
        let endpoints: BTreeMap<ServiceId, Arc<Endpoint>> = doubtful
            .filter_map(|service| Some((service.clone(), endpoint(planned, service)?)))
            .collect();
        let mut changes = Vec::new();
        for (service, date) in observe::clocks(exchange, endpoints).await {
            let now = (self.clock)();
            let trouble = clock_skew(date, now).map(|message| Trouble {
                kind: TroubleKind::ClockSkew,
                until: later(now, NO_RENEWAL),
                tries: 1,
                message,
            });
            if trouble.is_some() != skewed(&service) {
                changes.push(vec![Change::Trouble { service, trouble }]);
            }
        }
        let found_any = !changes.is_empty();
        if found_any {
            store.record(changes, (self.clock)())?.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        Ok(found_any)
    }

    /// A database that is missing where there was one is an error, never a new one. One without
    /// tables is as good as missing: a first pass that was killed leaves it, or what cut it short.
    async fn refuse_lost_state(&self) -> Result<(), PassError> {
        let Err(StoreError::Missing(path)) = Store::open_to_read(&self.places.state) else {
            return Ok(()); // whatever else is wrong with it, opening it to write will say
        };
        // Without it there are no debts to pay: while nobody knows what is desired, none is made.
        let wanted = self.settled_intent(&Actual::default()).await.desired?;
        let file = DesiredFile::new(&self.places.desired);
        let former = file.formerly();
        let listed = wanted.people.listed().map(|(user, _)| user);
        let everybody = wanted.desired.users.keys().chain(listed).chain(&former);
        let accounts: BTreeSet<AccountName> =
            everybody.filter_map(|user| Some(wanted.people.person(user).ok()?.account)).collect();
        let looks = self.installer.look(&accounts.iter().collect::<Vec<_>>());
        let path = path.display().to_string();
        for (account, look) in &looks {
            if let HomeLook::Seen(facts) = look
                && let Some(generation) = facts.env.and_then(|env| env.generation)
            {
                let trace =
                    format!("the home of {account} holds generation {generation} of our files");
                return Err(PassError::StateLost { path, trace });
            }
        }
        let edits = file.edits().map_err(|error| PassError::Adopt(error.into()))?;
        if let Some(edit) = edits.iter().find(|edit| edit.who == ADOPTER && edit.what == BY_HAND) {
            let trace = format!("a pass acted on {} at {}", file.path().display(), edit.at);
            return Err(PassError::StateLost { path, trace });
        }
        // With homes that are not mounted the state may be missing for the same reason.
        match looks.first_key_value() {
            Some((account, HomeLook::Unknown(why)))
                if looks.values().all(|look| matches!(look, HomeLook::Unknown(_))) =>
            {
                let why = format!("{account}: {why}");
                Err(PassError::NoTrace { path, why })
            }
            _ => Ok(()),
        }
    }
}

/// Where a service is reached: as the registry says, else where its tokens were issued.
fn endpoint(planned: &Planned, service: &ServiceId) -> Option<Arc<Endpoint>> {
    let known = planned.intent.registry.service(service);
    let known = known.map(|known| Arc::new(known.endpoint.clone()));
    let mut tokens = planned.actual.tokens.values().filter_map(|of_user| of_user.get(service));
    known.or_else(|| Some(Arc::clone(&tokens.find_map(|tokens| tokens.last())?.ask.endpoint)))
}

/// The shared secrets that a pass may need.
fn secrets_needed<'a>(
    actual: &'a Actual,
    registry: &'a Registry,
) -> BTreeSet<(&'a ServiceId, &'a EnvName)> {
    let asked = registry.services().map(|service| (&service.id, &service.endpoint.secret));
    let owed = actual.tokens.values().flatten().flat_map(|(service, tokens)| {
        tokens.iter().map(move |token| (service, &token.ask.endpoint.secret))
    });
    asked.chain(owed).collect()
}

fn exit(
    intent_error: Option<&IntentError>,
    executed: &Executed,
    held: &Held,
    notes: &[plan::Note],
) -> Exit {
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

fn last_pass(passed: &Passed, at: Timestamp, took: jiff::SignedDuration) -> LastPass {
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
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX); // 292 million years
    LastPass { at, took_ms, exit: passed.exit.code(), summary, held, failed }
}

fn failed_record(outcome: &Outcome) -> Option<FailedRecord> {
    let Found::Failed(why) = &outcome.found else { return None };
    let (user, service) = (outcome.user.clone(), outcome.service.clone());
    Some(FailedRecord { user, service, why: why.clone() })
}
