//! The step machine that carries out an approved plan: no I/O, no choices of policy.
//!
//! `Run::next` takes what happened and says what to do. A driver carries the effects out against
//! the state, the services and the homes, and tells the machine what became of each. The order of
//! effects is what makes a crash harmless: what has begun is recorded before it is called.

pub mod answer;
mod begin;
mod lane;
pub mod outlived;
mod person;
mod take;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::action::{Install, Issue, Revoke, RevokeReason};
use super::actual::Actual;
use super::desired::Desired;
use super::digest::Digest;
use super::name::{AccountName, Email, EnvName, InstanceId, OpId, ServiceId, UserId};
use super::outcome::{
    Answer, Change, Found, IssueAnswer, Outcome, PutOutcome, Recorded, RevokeAnswer, What,
};
use super::registry::{Registry, ValueTemplate};
use super::token::{Ask, Move};
pub use lane::Pace;
use lane::{Address, Lane};
use person::Person;

/// Services whose shared secret is missing are shut only as long as nobody has looked again.
const UNTIL_THE_NEXT_PLAN: Timestamp = Timestamp::MIN;
/// Puts under way at once. Enough for the driver to write many down at a time, and few to finish.
const PUTS: usize = 128;

/// One of the machine's calls or transactions, so that its answer finds its way back.
pub type Ticket = usize;

/// What the machine asks its driver to do.
pub enum Effect {
    /// Write this down in one transaction. Answered by [`Event::Recorded`].
    Record(Ticket, Vec<Change>),
    /// Ask a service for a token. Answered by [`Event::Issued`].
    Issue {
        /// Comes back with the answer.
        ticket: Ticket,
        /// The name that we gave it.
        op: OpId,
        /// What is asked.
        ask: Ask,
        /// For whom.
        email: Email,
        /// Whose, and of which service.
        of: Connection,
    },
    /// Ask a service to end a token. Answered by [`Event::Revoked`].
    Revoke {
        /// Comes back with the answer.
        ticket: Ticket,
        /// The token.
        op: OpId,
        /// Whose, and of which service.
        of: Connection,
    },
    /// Fill this with what the state holds and put it. Answered by [`Event::Put`].
    Put(Ticket, Install),
    /// Say [`Event::Woke`] at this time.
    Wake(Timestamp),
}

/// What happened.
pub enum Event {
    /// A plan was taken over: begin with it.
    Start,
    /// A transaction is on disk, or is not.
    Recorded(Ticket, Result<Recorded, String>),
    /// A service answered an exchange.
    Issued(Ticket, Answer<IssueAnswer>),
    /// A service answered a revoke.
    Revoked(Ticket, Answer<RevokeAnswer>),
    /// A put ended.
    Put(Ticket, PutOutcome),
    /// It is time.
    Woke,
    /// Another pass is wanted. What is not begun is left to it; once what is under way has ended, so
    /// does the run. Until then it takes over what comes for single users.
    WindDown,
    /// Begin nothing new; what is under way is finished.
    Stop,
    /// The state cannot be written. The same.
    Broken(String),
}

/// Whose, and of which service.
pub type Connection = (UserId, ServiceId);

/// What has something under way, or waiting for its turn.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    /// A token is asked for or revoked.
    pub connections: BTreeSet<Connection>,
    /// Whose these are, and whose homes are being changed.
    pub users: BTreeSet<UserId>,
}

/// A source of random numbers: op ids and jitter. Passed in, since the model has none.
pub type Dice = Box<dyn FnMut() -> u128 + Send>;

/// The state of one pass.
pub struct Run {
    instance: InstanceId,
    dice: Dice,
    jobs: Vec<Job>,
    lanes: BTreeMap<Address, Lane>,
    /// Of addresses that nothing was called at yet.
    pace: Pace,
    people: BTreeMap<UserId, Person>,
    /// Users of whom something happened: a put may be due.
    touched: BTreeSet<UserId>,
    wakes: BTreeSet<(Timestamp, UserId)>,
    records: BTreeMap<Ticket, Purpose>,
    puts: BTreeMap<Ticket, (UserId, Install)>,
    calls: BTreeMap<Ticket, usize>,
    next_ticket: Ticket,
    journal: Vec<Change>,
    /// What begins once the journal is on disk.
    taken: Taken,
    /// How many jobs of each connection have not ended.
    in_work: BTreeMap<Connection, usize>,
    /// Where nothing is called, and why.
    shut: BTreeMap<(ServiceId, EnvName), String>,
    tried: BTreeMap<Connection, Tried>,
    wishes: BTreeMap<Connection, Digest>,
    templates: BTreeMap<ServiceId, Vec<(EnvName, ValueTemplate)>>,
    counted_strays: BTreeSet<OpId>,
    outcomes: Vec<Outcome>,
    broken: Option<String>,
    winding_down: bool,
    stopped: bool,
    /// Whether something was left before it was begun.
    has_left: bool,
}

/// What the state holds of a connection's failures.
#[derive(Clone, Copy, Default)]
struct Tried {
    /// How often what is wanted now has failed.
    times: u32,
    /// Whether something is noted, of whatever was wanted.
    is_noted: bool,
}

/// What a run knows of the world that its plan was made from.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The desired state; none while it cannot be read.
    pub desired: Option<&'a Desired>,
    /// The services.
    pub registry: &'a Registry,
    /// What was there.
    pub actual: &'a Actual,
    /// When.
    pub now: Timestamp,
    /// Whether what failed before is tried again without waiting.
    pub retry_now: bool,
}

/// Why a transaction was asked for: what follows once it is on disk.
enum Purpose {
    /// A plan's own beginnings: the rest of it may begin.
    Journal(Taken),
    /// A job's op id is on disk: it may be asked with.
    Begun(usize),
    /// A job's answer is on disk: it is done, and this is what it found.
    Answered(usize, Found),
    /// A delayed revoke is on disk as a debt.
    Owed(Vec<usize>),
    /// A put is confirmed.
    Delivered(UserId, Box<Install>, Vec<(ServiceId, OpId)>, bool),
}

/// What was taken over from a plan and has not begun.
#[derive(Default)]
struct Taken {
    jobs: Vec<usize>,
    /// Whose puts may be due.
    users: BTreeSet<UserId>,
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.users.is_empty()
    }
}

struct Job {
    task: Task,
    op: Option<OpId>,
    /// Whether the op id is still on its way to the disk.
    writing: bool,
    /// Whether it is this job's turn.
    has_turn: bool,
    done: bool,
}

enum Task {
    Issue(Issue),
    Revoke(Revoke),
}

impl Task {
    fn service(&self) -> &ServiceId {
        match self {
            Self::Issue(issue) => &issue.service,
            Self::Revoke(revoke) => &revoke.service,
        }
    }

    fn user(&self) -> &UserId {
        match self {
            Self::Issue(issue) => &issue.user,
            Self::Revoke(revoke) => &revoke.user,
        }
    }

    fn address(&self) -> Address {
        match self {
            Self::Issue(issue) => Address::new(&issue.service, &issue.ask.endpoint),
            Self::Revoke(revoke) => Address::new(&revoke.service, &revoke.ask.endpoint),
        }
    }

    fn what(&self) -> What {
        match self {
            Self::Issue(issue) => What::Issue(issue.why),
            Self::Revoke(revoke) => What::Revoke(revoke.why),
        }
    }
}

impl Run {
    /// A machine with nothing to do.
    #[must_use]
    pub fn new(registry: &Registry, instance: InstanceId, dice: Dice) -> Self {
        Self {
            instance,
            dice,
            jobs: Vec::new(),
            lanes: BTreeMap::new(),
            pace: Pace::default(),
            people: BTreeMap::new(),
            touched: BTreeSet::new(),
            wakes: BTreeSet::new(),
            records: BTreeMap::new(),
            puts: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_ticket: 0,
            journal: Vec::new(),
            taken: Taken::default(),
            in_work: BTreeMap::new(),
            shut: BTreeMap::new(),
            tried: BTreeMap::new(),
            wishes: BTreeMap::new(),
            templates: registry
                .services()
                .map(|service| (service.id.clone(), service.rendition.env.clone()))
                .collect(),
            counted_strays: BTreeSet::new(),
            outcomes: Vec::new(),
            broken: None,
            winding_down: false,
            stopped: false,
            has_left: false,
        }
    }

    /// Goes on from the calls of the run before.
    #[must_use]
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// When the calls of this run began, for the next.
    #[must_use]
    pub fn into_pace(self) -> Pace {
        self.pace.left_by(self.lanes)
    }

    /// What makes a revoke a debt, before it is called.
    fn owe(&self, revoke: &Revoke) -> Change {
        let op = revoke.op.clone();
        match revoke.why {
            RevokeReason::Stray => {
                let counts = self.counted_strays.contains(&op);
                Change::OweStray { op, ask: revoke.ask.clone(), counts }
            }
            _ => Change::Move { op, how: Move::Unwant },
        }
    }

    fn enqueue(&mut self, job: usize) {
        if let Some(lane) = self.lanes.get_mut(&self.jobs[job].task.address()) {
            lane.enqueue(job);
        }
    }

    /// Calls nothing at services that take these shared secrets, and why; in place of what was shut
    /// by the plan before.
    pub fn shut(&mut self, shut: BTreeMap<(ServiceId, EnvName), String>) {
        self.shut = shut;
        let lanes = self.lanes.iter_mut().filter_map(|(at, lane)| {
            let why = self.shut.get(&(at.service.clone(), at.secret.clone()))?;
            Some((lane.close(why, UNTIL_THE_NEXT_PLAN), why.clone()))
        });
        for (waiting, why) in lanes.collect::<Vec<_>>() {
            self.give_up(waiting, &why);
        }
    }

    /// Has this written down before anything else is begun.
    pub fn journal(&mut self, changes: Vec<Change>) {
        self.journal.extend(changes);
    }

    /// Whether the beginnings of all plans are on disk. A plan that is made before would not count
    /// their removals.
    #[must_use]
    pub fn is_journaled(&self) -> bool {
        let is_journal = |purpose: &Purpose| matches!(purpose, Purpose::Journal(_));
        self.journal.is_empty() && !self.records.values().any(is_journal)
    }

    /// What of these users is under way or waiting.
    #[must_use]
    pub fn in_work(&self, users: &BTreeSet<UserId>) -> Busy {
        let connections = self.in_work.keys().filter(|(user, _)| users.contains(user));
        let connections: BTreeSet<Connection> = connections.cloned().collect();
        let home =
            |user: &&UserId| self.people.get(*user).is_some_and(|person| !person.is_settled());
        let homes = users.iter().filter(home).cloned();
        let users = connections.iter().map(|(user, _)| user.clone()).chain(homes).collect();
        Busy { connections, users }
    }

    /// What the actions found so far, in the order in which they ended; each is said once.
    pub fn take_outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Why nothing new is begun, when the state cannot be written.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Whether nothing is under way and nothing more will be.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.records.is_empty()
            && self.puts.is_empty()
            && self.calls.is_empty()
            && (self.halted() || (self.taken.is_empty() && self.journal.is_empty()))
            && (self.halted() || self.lanes.values().all(Lane::is_idle))
            && (self.halted() || self.people.values().all(Person::is_idle))
    }

    /// Whether somebody ended the pass before all of it was begun.
    #[must_use]
    pub fn was_cut_short(&self) -> bool {
        let is_complete = self.taken.is_empty()
            && self.lanes.values().all(Lane::is_idle)
            && self.people.values().all(Person::is_idle);
        self.has_left || (self.stopped && !is_complete)
    }

    /// Whether nothing new is begun.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn halted(&self) -> bool {
        self.stopped || self.broken.is_some()
    }

    /// One step: what happened, and what to do now.
    pub fn next(&mut self, now: Timestamp, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => self.start(&mut effects),
            Event::Recorded(ticket, result) => self.recorded(ticket, result, &mut effects),
            Event::Issued(ticket, answer) => self.issued(now, ticket, answer, &mut effects),
            Event::Revoked(ticket, answer) => self.revoked(now, ticket, answer, &mut effects),
            Event::Put(ticket, outcome) => self.put_ended(ticket, outcome, &mut effects),
            Event::Woke => {}
            Event::WindDown => self.wind_down(),
            Event::Stop => self.stopped = true,
            Event::Broken(why) => {
                self.broken.get_or_insert(why);
            }
        }
        self.stopped |= self.winding_down && !self.lanes.values().any(Lane::is_draining);
        if !self.halted() {
            self.advance(now, &mut effects);
        }
        effects
    }

    /// A service at which calls are under way begins nothing before they have ended: one that hangs
    /// would keep the run for ever.
    fn wind_down(&mut self) {
        self.winding_down = true;
        for lane in self.lanes.values_mut() {
            self.has_left |= !lane.drain().is_empty();
        }
        self.has_left |= !std::mem::take(&mut self.touched).is_empty();
    }

    /// Nothing of a plan is called before its debts are on disk.
    fn start(&mut self, effects: &mut Vec<Effect>) {
        let (journal, taken) = (std::mem::take(&mut self.journal), std::mem::take(&mut self.taken));
        if journal.is_empty() {
            self.begin_with(taken);
        } else {
            self.record(Purpose::Journal(taken), journal, effects);
        }
    }

    fn begin_with(&mut self, taken: Taken) {
        self.touched.extend(taken.users);
        self.enqueue_all(taken.jobs);
    }

    fn enqueue_all(&mut self, jobs: Vec<usize>) {
        for job in jobs {
            self.enqueue(job);
        }
        self.flush_closed();
    }

    fn put_if_due(&mut self, user: UserId, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(person) = self.people.get_mut(&user) else { return };
        match person.due(now) {
            Ok(install) => {
                let ticket = self.ticket();
                self.puts.insert(ticket, (user, install.clone()));
                effects.push(Effect::Put(ticket, install));
            }
            Err(Some(wake)) => {
                effects.push(Effect::Wake(wake));
                self.wakes.insert((wake, user));
            }
            Err(None) => {}
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn record(&mut self, purpose: Purpose, changes: Vec<Change>, effects: &mut Vec<Effect>) {
        let ticket = self.ticket();
        self.records.insert(ticket, purpose);
        effects.push(Effect::Record(ticket, changes));
    }

    fn recorded(
        &mut self,
        ticket: Ticket,
        result: Result<Recorded, String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(purpose) = self.records.remove(&ticket) else { return };
        let recorded = match result {
            Ok(recorded) => recorded,
            Err(error) => {
                // What was under way stays resumable; nothing new is begun.
                self.broken.get_or_insert(error);
                return;
            }
        };
        match purpose {
            Purpose::Journal(taken) => self.begin_with(taken),
            Purpose::Owed(jobs) => self.enqueue_all(jobs),
            Purpose::Begun(job) => self.begun(job, effects),
            Purpose::Answered(job, found) => {
                let op = self.jobs[job].op.as_ref();
                let refused = recorded.refused.iter().find(|(refused, _)| Some(refused) == op);
                let found = match refused {
                    Some((_, why)) => Found::Failed(why.clone()),
                    None => found,
                };
                self.finish(job, found);
            }
            Purpose::Delivered(user, install, holds, changed) => {
                if let Some(person) = self.people.get_mut(&user) {
                    person.confirmed();
                }
                let found = if changed { Found::Done } else { Found::Already };
                self.outcomes.push(Outcome::of_install(&install, found));
                self.release(&user, &holds, effects);
            }
        }
    }

    /// Revokes that waited for these keys to be in the home.
    fn release(&mut self, user: &UserId, holds: &[(ServiceId, OpId)], effects: &mut Vec<Effect>) {
        let Some(person) = self.people.get_mut(user) else { return };
        let jobs = &self.jobs;
        let replaced = |job: &usize| {
            let Job { task, op, .. } = &jobs[*job];
            holds
                .iter()
                .any(|(service, held)| service == task.service() && Some(held) != op.as_ref())
        };
        let (released, delayed): (Vec<usize>, Vec<usize>) =
            person.delayed.drain(..).partition(replaced);
        person.delayed = delayed;
        let owed = |job: &usize| {
            let Task::Revoke(revoke) = &self.jobs[*job].task else { return None };
            Some(self.owe(revoke))
        };
        let changes: Vec<Change> = released.iter().filter_map(owed).collect();
        if !changes.is_empty() {
            self.record(Purpose::Owed(released), changes, effects);
        }
    }

    fn put_ended(&mut self, ticket: Ticket, outcome: PutOutcome, effects: &mut Vec<Effect>) {
        let Some((user, install)) = self.puts.remove(&ticket) else { return };
        if let Some(person) = self.people.get_mut(&user) {
            person.put_ended();
            self.touched.insert(user.clone());
        }
        match outcome {
            PutOutcome::Done { generation, uid, holds, changed } => {
                let account: AccountName = install.account.clone();
                let (user_id, leaves) = (user.clone(), install.leaves);
                let delivered =
                    Change::Delivered { user: user_id, account, generation, uid, leaves };
                if let Some(person) = self.people.get_mut(&user) {
                    person.confirms();
                }
                let purpose = Purpose::Delivered(user, Box::new(install), holds, changed);
                self.record(purpose, vec![delivered], effects);
            }
            PutOutcome::Already => {
                self.outcomes.push(Outcome::of_install(&install, Found::Already));
            }
            PutOutcome::Failed(why) => {
                self.outcomes.push(Outcome::of_install(&install, Found::Failed(why)));
            }
        }
    }

    fn finish(&mut self, job: usize, found: Found) {
        let Job { task, done, .. } = &mut self.jobs[job];
        if std::mem::replace(done, true) {
            return;
        }
        if let Task::Issue(issue) = task
            && let Some(person) = self.people.get_mut(&issue.user)
        {
            person.ask_ended(found == Found::Done);
            self.touched.insert(issue.user.clone());
        }
        let (user, service) = (task.user().clone(), task.service().clone());
        let connection = (user.clone(), service.clone());
        if let Entry::Occupied(mut jobs) = self.in_work.entry(connection) {
            *jobs.get_mut() -= 1;
            if *jobs.get() == 0 {
                jobs.remove();
            }
        }
        let service = Some(service);
        self.outcomes.push(Outcome { user, service, what: task.what(), found });
    }

    fn give_up(&mut self, jobs: Vec<usize>, why: &str) {
        for job in jobs {
            self.finish(job, Found::Failed(why.to_owned()));
        }
    }

    /// Jobs that came to a lane after it was closed.
    fn flush_closed(&mut self) {
        let mut given_up = Vec::new();
        for lane in self.lanes.values_mut() {
            if let Some(why) = lane.closed().map(str::to_owned) {
                given_up.push((lane.empty(), why));
            }
        }
        for (jobs, why) in given_up {
            self.give_up(jobs, &why);
        }
    }
}
