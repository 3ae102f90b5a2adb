//! From the files, the state and the homes to a plan that may be carried out.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::result::PlannedPart;
use super::{ADOPTER, Pass, PassError, Planned, SETTLING_PATIENCE, secrets_needed};
use crate::causes::chain;
use crate::desired_file::DesiredFile;
use crate::exchange::Secrets;
use crate::execute::{Joining, More, Prepared};
use crate::model::action::{Action, Install, InstallReason};
use crate::model::actual::Actual;
use crate::model::digest::DigestPrefix;
use crate::model::guard::{self, Limits};
use crate::model::name::{AccountName, EnvName, UserId};
use crate::model::outcome::Change;
use crate::model::plan::due::{self, Due};
use crate::model::plan::json::{self, PlanJson};
use crate::model::plan::{self, NoteKind, Plan, Scope, View, World};
use crate::model::registry::Registry;
use crate::model::run::outlived::outlived;
use crate::observe::{self, Intent, IntentError, Wanted};
use crate::store::{Store, StoreError};

/// The names of the shared secrets that a run has needed so far.
pub(super) type SecretNames = Mutex<BTreeSet<EnvName>>;

/// So many actions of a plan are shown to who may only look.
const MOST_SHOWN: usize = 200;

/// A plan to carry out, and what is said of it.
pub(super) struct Made {
    pub(super) prepared: Prepared,
    pub(super) part: PlannedPart,
    pub(super) registry: Registry,
    /// As things were before it.
    pub(super) due: Due,
    /// What is shown of the plan.
    pub(super) shown: PlanJson,
}

impl Pass {
    /// Loads the state and reads the files, each on a core of its own: in a fleet both take a while.
    pub(super) fn gather(
        &self,
        store: &Store,
        at: Timestamp,
    ) -> Result<(Actual, Intent), StoreError> {
        let (actual, intent) = thread::scope(|threads| {
            let intent = threads.spawn(|| self.intent(&self.scope));
            (store.load(at, self.scope.users.as_ref()), intent.join())
        });
        Ok((actual?, intent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))))
    }

    /// What the files say, settled and checked against what the state holds.
    pub async fn settled_intent(&self, actual: &Actual) -> Intent {
        let intent = self.settled(self.intent(&self.scope), &self.scope).await;
        intent.checked(&self.places, actual).with_arrivals(actual)
    }

    pub(super) fn intent(&self, scope: &Scope) -> Intent {
        observe::intent(&self.places, (self.clock)(), scope)
    }

    /// Gathers the rest of the world and plans.
    pub(super) async fn planned(
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
            let accounts: Vec<_> = accounts.into_iter().map(|(u, a)| (u.clone(), a)).collect();
            match store {
                Some(store) => note_seen(store, &accounts, &mut actual, at),
                // Nothing is written down.
                None => drop(actual.see_laptops(accounts.iter().map(|(u, a)| (u, a)))),
            }
        }
        self.judged(at, intent, actual)
    }

    /// Plans, and asks the guard.
    fn judged(&self, at: Timestamp, intent: Intent, actual: Actual) -> Planned {
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
    pub(super) async fn settled(&self, mut intent: Intent, scope: &Scope) -> Intent {
        let mut patience = SETTLING_PATIENCE;
        while let Some(wait) = intent.desired.as_ref().err().and_then(IntentError::ready_in)
            && wait <= patience
        {
            tokio::time::sleep(wait).await;
            patience -= wait;
            let now = (self.clock)();
            intent.desired = observe::wanted(&self.places, now, scope);
        }
        intent
    }

    /// Makes sure of the clocks and of the plan, and takes up what is desired: from here on the
    /// plan is to be carried out.
    pub(super) async fn prepare(
        &self,
        mut planned: Planned,
        expect: Option<DigestPrefix>,
        names: &SecretNames,
    ) -> Result<Made, PassError> {
        let exchange = Arc::new(self.exchange.with(self.secrets(&planned, names)));
        let mut found = self.disagreeing_clocks(&planned, &exchange).await;
        if !found.is_empty() {
            let Planned { at, intent, mut actual, .. } = planned;
            note_troubles(&mut actual, &found);
            planned = self.judged(at, intent, actual);
        }
        if expect.is_some_and(|expected| !expected.names(&planned.digest)) {
            return Err(PassError::AnotherPlan { now: planned.digest });
        }
        let Planned { at, intent, actual, approved, held, .. } = planned;
        let (plan, registry) = (approved.plan(), &intent.registry);
        let view = View { plan, held: &held, registry, actual: &actual, at };
        let shown = json::first(&view, MOST_SHOWN);
        let mut edits = Vec::new();
        if let Ok(wanted) = &intent.desired {
            let file = DesiredFile::new(&self.places.desired);
            file.adopt(&wanted.loaded, ADOPTER, at).map_err(PassError::Adopt)?;
            edits = file.edits().map_err(|error| PassError::Adopt(error.into()))?;
        }
        let (desired, intent_error) = match intent.desired {
            Ok(wanted) => (Some(wanted.desired), None),
            Err(error) => (None, Some(error)),
        };
        let due = due::due(&actual, desired.as_ref(), &intent.registry, at);
        if let Some(desired) = &desired {
            found.extend(outlived(desired, &intent.registry, &actual));
        }
        let notes = approved.plan().notes.clone();
        let drifted = drifted(approved.plan());
        let shut = secrets_needed(&actual, &intent.registry).into_iter();
        let shut = shut.filter_map(|(service, name)| {
            let why = format!("the shared secret {name} {}", exchange.lacks_secret(name)?);
            Some(((service.clone(), name.clone()), why))
        });
        let shut = shut.collect();
        let retry_now = self.scope.retry_now;
        let prepared = Prepared {
            plan: approved,
            desired,
            actual,
            at,
            retry_now,
            exchange,
            shut,
            found,
            edits,
        };
        let part = PlannedPart { intent_error, held, notes, drifted };
        Ok(Made { prepared, part, registry: intent.registry, due, shown })
    }

    /// The shared secrets that may be needed, those of the whole run so far among them.
    fn secrets(&self, planned: &Planned, names: &SecretNames) -> Secrets {
        let needed = secrets_needed(&planned.actual, &planned.intent.registry);
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        names.extend(needed.into_iter().map(|(_, name)| name.clone()));
        Secrets::from_dir_or_env(self.secrets_dir.as_deref(), names.iter())
    }
}

/// What cannot be noted now is noted by the next pass; nothing depends on the hour.
fn note_seen(
    store: &mut Store,
    accounts: &[(UserId, AccountName)],
    actual: &mut Actual,
    at: Timestamp,
) {
    if let Err(error) = store.note_absences(accounts, actual, at) {
        tracing::warn!(%error, "absent accounts could not be noted");
    }
    if let Err(error) = store.note_laptops(accounts, actual) {
        tracing::warn!(%error, "what laptops hold could not be noted");
    }
}

/// Homes that do not hold what was put there.
fn drifted(plan: &Plan) -> BTreeSet<AccountName> {
    let has_drifted =
        |install: &&Install| install.why.iter().any(|why| matches!(why, InstallReason::Drift(_)));
    let installs = plan.actions.iter().filter_map(|action| match action {
        Action::Install(install) => Some(install),
        _ => None,
    });
    installs.filter(has_drifted).map(|install| install.account.clone()).collect()
}

fn note_troubles(actual: &mut Actual, found: &[Change]) {
    for change in found {
        if let Change::Trouble { service, trouble } = change {
            match trouble {
                Some(trouble) => actual.troubles.insert(service.clone(), trouble.clone()),
                None => actual.troubles.remove(service),
            };
        }
    }
}

/// Plans for single users, made beside a run and for it.
pub(super) struct Further {
    pub(super) pass: Pass,
    /// The run's: what is in homes is made from these, until the run is over.
    pub(super) registry: Registry,
    pub(super) names: SecretNames,
    pub(super) made: Mutex<FurtherMade>,
    /// Who is told of whom something waits; none: nobody can join.
    pub(super) waits: Option<UnboundedSender<(UserId, Timestamp)>>,
}

/// What came of them.
#[derive(Default)]
pub(super) struct FurtherMade {
    pub(super) parts: Vec<PlannedPart>,
    pub(super) users: BTreeSet<UserId>,
}

impl Further {
    pub(super) fn more(self: &Arc<Self>, joining: UnboundedReceiver<Joining>) -> More {
        let further = Arc::clone(self);
        let prepare = move |users: BTreeSet<UserId>| match further.prepare(&users) {
            Ok(made) => {
                further.say_who_waits(&made.part);
                let mut all = further.made.lock().unwrap_or_else(PoisonError::into_inner);
                all.parts.push(made.part);
                all.users.extend(users);
                Some(made.prepared)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "a change waits for the next pass");
                None
            }
        };
        More { joining, prepare: Arc::new(prepare) }
    }

    pub(super) fn say_who_waits(&self, part: &PlannedPart) {
        let Some(waits) = &self.waits else { return };
        for note in &part.notes {
            if let (Some(user), NoteKind::Waiting(until)) = (&note.user, note.kind) {
                waits.send((user.clone(), until)).ok(); // nobody waits for them any more
            }
        }
    }

    /// Without writing to the state, which the run does.
    fn prepare(&self, users: &BTreeSet<UserId>) -> Result<Made, PassError> {
        let scope = Scope::of_users(users.iter().cloned());
        let pass = Pass { scope, ..self.pass.clone() };
        let now = (pass.clock)();
        let store = Store::open_to_read(&pass.places.state)?;
        let actual = store.load(now, pass.scope.users.as_ref())?;
        let desired = observe::wanted(&pass.places, now, &pass.scope);
        let intent = Intent { desired, registry: self.registry.clone(), problems: Vec::new() };
        Handle::current().block_on(async {
            let planned = pass.planned((actual, intent), None, None).await;
            pass.prepare(planned, None, &self.names).await
        })
    }
}
