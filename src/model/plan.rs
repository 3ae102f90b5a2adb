//! From what is desired and what is there to what must be done.

pub mod waiting;
pub mod connection;
pub mod digest;
pub mod due;
pub mod files;
pub mod home;
pub mod json;
pub mod stray;
pub mod summary;
pub mod text;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::action::{Action, EndKind, Install};
use super::actual::Actual;
use super::desired::{Desired, DesiredUser, People, Person};
use super::digest::Digest;
use super::home::HomeLook;
use super::name::{AccountName, OpId, ServiceId, UserId};
use super::registry::Registry;
use super::token::Binding;

use connection::Decision;

/// Everything that a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// Who should be connected to what.
    pub desired: &'a Desired,
    /// Who is who.
    pub people: &'a People,
    /// The services.
    pub registry: &'a Registry,
    /// What is there.
    pub actual: &'a Actual,
    /// The part of the world that the plan is about.
    pub scope: &'a Scope,
    /// When.
    pub now: Timestamp,
}

/// The part of the world that a plan is about. What is outside stays exactly as it is.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// These users only; none: all.
    pub users: Option<BTreeSet<UserId>>,
    /// One service only.
    pub service: Option<ServiceId>,
    /// Whether what failed before is tried again without waiting.
    pub retry_now: bool,
}

impl Scope {
    /// These users.
    #[must_use]
    pub fn of_users(users: impl IntoIterator<Item = UserId>) -> Self {
        Self { users: Some(users.into_iter().collect()), ..Self::default() }
    }

    /// Whether this user is in it.
    #[must_use]
    pub fn has_user(&self, user: &UserId) -> bool {
        self.users.as_ref().is_none_or(|only| only.contains(user))
    }

    /// Whether this service is in it.
    #[must_use]
    pub fn has_service(&self, service: &ServiceId) -> bool {
        self.service.as_ref().is_none_or(|only| only == service)
    }
}

/// The ordered actions that turn what is into what is desired.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do, user by user.
    pub actions: Vec<Action>,
    /// What is not done, and why.
    pub notes: Vec<Note>,
    /// The connections that would lose access.
    pub losses: Vec<Loss>,
    /// Who has access before the plan.
    pub census: Census,
}

/// Something that a plan does not do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whose; none: of the whole.
    pub user: Option<UserId>,
    /// Of which service.
    pub service: Option<ServiceId>,
    /// What keeps it.
    pub kind: NoteKind,
    /// For people.
    pub text: String,
}

/// What keeps something from being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// It failed; not to be tried again before this time.
    Waiting(Timestamp),
    /// It cannot be done until a person does something.
    Blocked,
    /// Nothing keeps anything; worth knowing.
    Remark,
}

/// A connection that would lose access: the guard counts these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// The tokens that go.
    pub ops: Vec<OpId>,
    /// Whether we take the access away, or time does.
    pub kind: LossKind,
}

/// What takes the access away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// We do, by a revoke or by removing lines.
    Removal,
    /// The key's time is over. Held all the same: a clock that jumped looks just like this.
    Expiry,
    /// Nobody here has it: it is a stray, and each counts. A wrong database looks just like this.
    Stray,
}

/// What the guard holds back, and why.
#[derive(Debug, Default)]
pub struct Held {
    /// The removals.
    pub losses: Vec<Loss>,
    /// One line for each limit that is passed.
    pub why: Vec<String>,
}

impl Held {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }
}

/// A plan beside all that is needed to show it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What would be carried out.
    pub plan: &'a Plan,
    /// What would not.
    pub held: &'a Held,
    /// The services: what homes will look like.
    pub registry: &'a Registry,
    /// What is there: what they look like now.
    pub actual: &'a Actual,
    /// The instant of the plan.
    pub at: Timestamp,
}

/// Who has access before a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Connections with access, by service.
    pub connections: BTreeMap<ServiceId, usize>,
    /// How many users have access to anything.
    pub users: usize,
    /// Removals of the last hour.
    pub recent: Vec<(UserId, ServiceId)>,
    /// Strays that were revoked in the last hour.
    pub recent_strays: Vec<(UserId, ServiceId)>,
    /// Services whose list of tokens cannot be relied on.
    pub frozen: BTreeSet<ServiceId>,
}

/// One user as the plan sees them.
struct Subject<'a> {
    id: &'a UserId,
    desired: Option<&'a DesiredUser>,
    person: Result<Person, String>,
    look: Option<&'a HomeLook>,
}

impl<'a> Subject<'a> {
    fn of(world: &World<'a>, id: &'a UserId) -> Self {
        let person = world.people.person(id).map_err(|no_person| no_person.to_string());
        let account = person.as_ref().ok().map(|person| &person.account);
        let look = account.and_then(|account| world.actual.homes.get(account));
        Self { id, desired: world.desired.users.get(id), person, look }
    }

    /// Whom a new token would be bound to.
    fn binding(&self) -> Option<Binding> {
        let person = self.person.as_ref().ok()?;
        let uid = match self.look {
            Some(HomeLook::Seen(facts)) => Some(facts.uid),
            _ => None,
        };
        Some(Binding { account: person.account.clone(), uid, email: person.email.clone() })
    }

    fn account(&self) -> Option<&AccountName> {
        self.person.as_ref().ok().map(|person| &person.account)
    }
}

/// What must be done, of all that DESIGN allows, at this instant. Two calls with one input give
/// one answer.
#[must_use]
pub fn plan(world: &World<'_>) -> Plan {
    let renditions: BTreeMap<&ServiceId, Digest> =
        world.registry.services().map(|s| (&s.id, s.rendition.digest())).collect();
    let actual = world.actual;
    let users: BTreeSet<&UserId> = world
        .desired
        .users
        .keys()
        .chain(actual.tokens.keys())
        .chain(actual.installed.keys())
        .filter(|user| world.scope.has_user(user))
        .collect();
    let mut plan = Plan { census: census(actual), ..Plan::default() };
    plan.census.frozen = stray::frozen(world);
    scope_notes(world, &users, &mut plan.notes);
    plan_notes(world, &mut plan.notes);
    for id in users {
        let subject = Subject::of(world, id);
        let mut installs = home::Homes::of(world, &subject);
        for service in services_of(world, &subject) {
            if !world.scope.has_service(service) {
                installs.keep(service);
                continue;
            }
            let (before, former) = installs.before(service);
            let Decision { actions, content, frozen, loss, notes } =
                connection::decide(world, &subject, service, &renditions, before, former);
            plan.actions.extend(actions);
            plan.losses.extend(loss);
            plan.notes.extend(notes);
            installs.set(service, content, frozen);
        }
        let (actions, notes) = installs.finish(world, &subject);
        plan.actions.extend(actions.into_iter().map(Action::Install));
        plan.notes.extend(notes);
    }
    stray::revoke(world, &mut plan);
    plan
}

/// What is still to be done while the desired state cannot be read: the debts, and nothing else.
#[must_use]
pub fn debts(actual: &Actual, scope: &Scope, now: Timestamp) -> Plan {
    let mut plan = Plan { census: census(actual), ..Plan::default() };
    let tokens = actual.tokens.iter().flat_map(|(user, services)| {
        services.iter().map(move |(service, tokens)| (user, service, tokens))
    });
    for (user, service, tokens) in tokens {
        if scope.has_user(user) && scope.has_service(service) {
            let (actions, notes) = connection::pay_debts(actual, scope, now, user, service, tokens);
            plan.actions.extend(actions);
            plan.notes.extend(notes);
        }
    }
    plan
}

fn services_of<'a>(world: &World<'a>, subject: &Subject<'a>) -> BTreeSet<&'a ServiceId> {
    let desired = subject.desired.into_iter().flat_map(|user| user.connections.keys());
    let tokens = world.actual.tokens.get(subject.id).into_iter().flat_map(BTreeMap::keys);
    let homes = world.actual.installed.get(subject.id).into_iter().flat_map(BTreeMap::values);
    let pieces = homes.flat_map(|installed| installed.pieces.keys());
    desired.chain(tokens).chain(pieces).collect()
}

fn census(actual: &Actual) -> Census {
    let mut connections = actual.elsewhere.connections.clone();
    let mut users = actual.elsewhere.users;
    for services in actual.tokens.values() {
        let live = services.iter().filter(|(_, tokens)| tokens.iter().any(|t| t.phase.is_live()));
        let mut has_access = false;
        for (service, _) in live {
            *connections.entry(service.clone()).or_default() += 1;
            has_access = true;
        }
        users += usize::from(has_access);
    }
    let (recent, recent_strays) = (actual.recent_removals.clone(), actual.recent_strays.clone());
    Census { connections, users, recent, recent_strays, frozen: BTreeSet::new() }
}

/// A slip of the pen looks like a world where all is well.
fn scope_notes(world: &World<'_>, users: &BTreeSet<&UserId>, notes: &mut Vec<Note>) {
    let mut note = |text: String| {
        notes.push(Note { user: None, service: None, kind: NoteKind::Remark, text });
    };
    let named = world.scope.users.iter().flatten();
    for user in named.filter(|user| !users.contains(user)) {
        note(format!("{user} is connected to nothing, and is not to be"));
    }
    if let Some(service) = &world.scope.service
        && !world.registry.entries.contains_key(service)
        && !world.actual.services().contains(service)
    {
        note(format!("{service} is a service that neither the registry nor the state knows"));
    }
}

fn plan_notes(world: &World<'_>, notes: &mut Vec<Note>) {
    for (service, trouble) in &world.actual.troubles {
        notes.push(Note {
            user: None,
            service: Some(service.clone()),
            kind: NoteKind::Remark,
            text: trouble.message.clone(),
        });
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// The services of which something is done because of the time alone: a clock that is wrong
    /// would do harm there.
    #[must_use]
    pub fn time_driven_services(&self) -> BTreeSet<&ServiceId> {
        let by_time = self.actions.iter().filter(|action| match action {
            Action::Issue(issue) => issue.why.is_time_driven(),
            Action::Revoke(revoke) => revoke.why.is_time_driven(),
            Action::End(end) => matches!(end.how, EndKind::Expired(_)),
            Action::Install(_) => false,
        });
        by_time.filter_map(Action::service).collect()
    }

    /// The installs of the plan.
    pub fn installs_mut(&mut self) -> impl Iterator<Item = &mut Install> {
        self.actions.iter_mut().filter_map(|action| match action {
            Action::Install(install) => Some(install),
            _ => None,
        })
    }
}
