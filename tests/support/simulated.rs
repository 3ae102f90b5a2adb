//! Drives the real step machine with a state, services and homes in memory and a clock of its own.
//!
//! It holds the machine to its word at every effect: nothing is asked for that is not recorded as
//! `issuing`, nothing is revoked that is not recorded as owed, and no move is illegal.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use service_connector::model::action::{Content, Install, status_until};
use service_connector::model::actual::{Actual, Installed, Piece};
use service_connector::model::desired::{Desired, People};
use service_connector::model::guard::{self, ApprovedPlan, Held, Limits};
use service_connector::model::home::{EnvFacts, FileFacts, HomeFacts, HomeLook};
use service_connector::model::name::{AccountName, OpId, ServiceId, UserId};
use service_connector::model::outcome::{Change, NewGrant, Outcome, PutOutcome, Recorded};
use service_connector::model::plan::{Scope, World, plan};
use service_connector::model::registry::Registry;
use service_connector::model::run::{Busy, Effect, Event, Run, Setting};
use service_connector::model::skill::Status;
use service_connector::model::token::{Ask, Binding, Delivery, Grant, Move, Phase, Token};

use super::files;
use super::given::{Given, fingerprint};
use super::services::Services;

/// One thing that happened, for tests that look at the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Called(ServiceId, OpId),
    Answered(ServiceId, OpId),
    Put(UserId, Vec<OpId>),
    Began(OpId),
    Moved(OpId, Move),
}

/// A pass that was carried out.
pub struct Applied {
    pub outcomes: Vec<Outcome>,
    pub log: Vec<(Timestamp, Happened)>,
    pub held: Held,
    pub end: Timestamp,
    /// Whether it crashed.
    pub crashed: bool,
}

/// Plans, asks the guard, and carries out; `given.now` moves to the end of the pass.
pub fn pass(given: &mut Given, services: &mut Services) -> Applied {
    let (approved, held) = guard::approve(given.plan(), &given.limits);
    Applied { held, ..apply(given, services, approved) }
}

/// Carries a plan out; `given.now` moves to the end of the pass.
pub fn apply(given: &mut Given, services: &mut Services, approved: ApprovedPlan) -> Applied {
    apply_until(given, services, approved, usize::MAX)
}

/// What somebody does to the desired state at a time.
pub type Edit = Box<dyn Fn(&mut Desired, Timestamp)>;

/// A user's wish that changes while a pass is under way: a plan is made of what is there then, and
/// joins the pass a while later.
pub struct Join {
    pub after: SignedDuration,
    pub takes: SignedDuration,
    pub user: UserId,
    pub change: Edit,
}

/// As [`pass`], with plans that join it.
pub fn pass_with(given: &mut Given, services: &mut Services, joins: Vec<Join>) -> Applied {
    let (approved, _) = guard::approve(given.plan(), &given.limits);
    carry_out(given, services, approved, joins, usize::MAX)
}

/// Carries a plan out, and crashes before the effect of this number.
pub fn apply_until(
    given: &mut Given,
    services: &mut Services,
    approved: ApprovedPlan,
    crash: usize,
) -> Applied {
    carry_out(given, services, approved, Vec::new(), crash)
}

fn carry_out(
    given: &mut Given,
    services: &mut Services,
    approved: ApprovedPlan,
    joins: Vec<Join>,
    crash: usize,
) -> Applied {
    let mut state = 0x9e37_79b9_7f4a_7c15_u128 ^ u128::from(given.now.as_second().unsigned_abs());
    let dice = move || {
        state = state.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
        state ^ (state >> 64)
    };
    let setting = Setting {
        desired: Some(&given.desired),
        registry: &given.registry,
        actual: &given.actual,
        now: given.now,
        retry_now: given.scope.retry_now,
    };
    let instance = "00000000000000aa".parse().expect("an instance id");
    let mut run = Run::new(&given.registry, instance, Box::new(dice));
    run.absorb(approved, &setting, &Busy::default());
    let mut driver = Driver {
        run,
        actual: &mut given.actual,
        desired: &mut given.desired,
        people: &given.people,
        limits: &given.limits,
        again: BTreeSet::new(),
        wanted: BTreeSet::new(),
        is_preparing: false,
        takes: SignedDuration::ZERO,
        registry: &given.registry,
        services,
        now: given.now,
        queue: BTreeMap::new(),
        next: 0,
        leaving: BTreeSet::new(),
        log: Vec::new(),
        effects_left: crash,
    };
    driver.schedule(given.now, Event::Start);
    for join in joins {
        driver.put_later(given.now + join.after, Later::Wish(join));
    }
    driver.drive();
    let outcomes = driver.run.take_outcomes();
    let crashed = !driver.run.is_done();
    let (log, end) = (driver.log, driver.now);
    given.now = end;
    Applied { outcomes, log, held: Held::default(), end, crashed }
}

struct Driver<'a> {
    run: Run,
    actual: &'a mut Actual,
    desired: &'a mut Desired,
    people: &'a People,
    limits: &'a Limits,
    /// Whose plan is to be made again once nothing of theirs is in work.
    again: BTreeSet<UserId>,
    wanted: BTreeSet<UserId>,
    is_preparing: bool,
    /// How long a plan takes.
    takes: SignedDuration,
    registry: &'a Registry,
    services: &'a mut Services,
    now: Timestamp,
    queue: BTreeMap<(Timestamp, usize), Later>,
    next: usize,
    leaving: BTreeSet<(UserId, AccountName)>,
    log: Vec<(Timestamp, Happened)>,
    effects_left: usize,
}

enum Later {
    Event(Event),
    Answer(Event, ServiceId, OpId),
    Wish(Join),
    Plan(Box<Joining>),
}

/// A plan that is about to join.
struct Joining {
    approved: ApprovedPlan,
    desired: Desired,
    actual: Actual,
    at: Timestamp,
    busy: Busy,
}

impl Driver<'_> {
    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.put_later(at, Later::Event(event));
    }

    fn put_later(&mut self, at: Timestamp, later: Later) {
        self.next += 1;
        self.queue.insert((at, self.next), later);
    }

    /// What this means for the machine.
    fn event(&mut self, later: Later) -> Option<Event> {
        match later {
            Later::Event(event) => Some(event),
            Later::Answer(event, service, op) => {
                self.log.push((self.now, Happened::Answered(service, op)));
                Some(event)
            }
            Later::Wish(join) => {
                (join.change)(self.desired, self.now);
                self.takes = join.takes;
                self.wanted.insert(join.user);
                self.begin_plan();
                None
            }
            Later::Plan(joining) => {
                let Joining { approved, desired, actual, at, busy } = *joining;
                let setting = Setting {
                    desired: Some(&desired),
                    registry: self.registry,
                    actual: &actual,
                    now: at,
                    retry_now: false,
                };
                self.again.extend(self.run.absorb(approved, &setting, &busy));
                self.is_preparing = false;
                Some(Event::Start)
            }
        }
    }

    /// One plan at a time, for all who are wanted.
    fn begin_plan(&mut self) {
        if self.is_preparing || !self.run.is_journaled() {
            return;
        }
        let busy = self.run.in_work(&self.again).users;
        let ready = self.again.difference(&busy).cloned().collect::<Vec<_>>();
        self.wanted.extend(ready);
        self.again = busy;
        if self.wanted.is_empty() {
            return;
        }
        self.is_preparing = true;
        let users = std::mem::take(&mut self.wanted);
        let scope = Scope::of_users(users.clone());
        let (actual, desired, at) = (self.actual.clone(), self.desired.clone(), self.now);
        let (people, registry) = (self.people, self.registry);
        let world =
            World { desired: &desired, people, registry, actual: &actual, scope: &scope, now: at };
        let (approved, _) = guard::approve(plan(&world), self.limits);
        let busy = self.run.in_work(&users);
        let joining = Joining { approved, desired, actual, at, busy };
        self.put_later(self.now + self.takes, Later::Plan(Box::new(joining)));
    }

    fn drive(&mut self) {
        for _ in 0..1_000_000 {
            let Some(((at, _), later)) = self.queue.pop_first() else { break };
            self.now = at;
            let Some(event) = self.event(later) else { continue };
            for effect in self.run.next(at, event) {
                let Some(left) = self.effects_left.checked_sub(1) else { return };
                self.effects_left = left;
                self.effect(effect);
            }
            self.begin_plan();
            if self.run.is_done()
                && self.queue.values().all(|later| matches!(later, Later::Event(_)))
            {
                return;
            }
        }
        assert!(self.run.is_done(), "the pass never ends");
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Record(ticket, changes) => {
                let mut recorded = Recorded::default();
                for change in changes {
                    self.record(change, &mut recorded);
                }
                self.schedule(self.now, Event::Recorded(ticket, Ok(recorded)));
            }
            Effect::Issue { ticket, op, ask, email, .. } => {
                let token = self.token(&op);
                assert_eq!(token.phase, Phase::Issuing, "asked for {op} before it was recorded");
                assert_eq!(
                    (&token.ask, &token.binding.email),
                    (&ask, &email),
                    "another ask of {op}"
                );
                let service = token.service.clone();
                let answer = self.services.issue(&service, &op, &ask, self.now);
                self.call(&service, &op, Event::Issued(ticket, answer));
            }
            Effect::Revoke { ticket, op, .. } => {
                let token = self.token(&op);
                assert_eq!(token.phase, Phase::Revoking, "revoked {op} before it was recorded");
                let service = token.service.clone();
                let answer = self.services.revoke(&service, &op, self.now);
                self.call(&service, &op, Event::Revoked(ticket, answer));
            }
            Effect::Put(ticket, install) => {
                let outcome = self.put(&install);
                self.schedule(self.now, Event::Put(ticket, outcome));
            }
            Effect::Wake(at) => self.schedule(at.max(self.now), Event::Woke),
        }
    }

    fn call(&mut self, service: &ServiceId, op: &OpId, answer: Event) {
        self.log.push((self.now, Happened::Called(service.clone(), op.clone())));
        let end = self.now + self.services.behaviour(service).latency;
        self.put_later(end, Later::Answer(answer, service.clone(), op.clone()));
    }

    fn token(&mut self, op: &OpId) -> &mut Token {
        let mut tokens = self.actual.tokens.values_mut().flat_map(BTreeMap::values_mut).flatten();
        tokens.find(|token| token.op == *op).unwrap_or_else(|| panic!("{op} is not recorded"))
    }

    fn owe_stray(&mut self, op: &OpId, ask: &Ask, counts: bool) {
        for (service, sweep) in &mut self.actual.sweeps {
            for stray in sweep.strays.extract_if(.., |stray| stray.op == *op) {
                if counts {
                    self.actual.recent_strays.push((stray.user.clone(), service.clone()));
                }
                let binding = Binding {
                    account: stray.user.as_str().parse().expect("an account"),
                    uid: None,
                    email: stray.email.expect("an address"),
                };
                let token = Token {
                    op: stray.op,
                    user: stray.user.clone(),
                    service: service.clone(),
                    binding,
                    ask: ask.clone(),
                    phase: Phase::Revoking,
                    since: self.now,
                    grant: None,
                    delivered: None,
                    key_readable: true,
                };
                let of_user = self.actual.tokens.entry(stray.user).or_default();
                of_user.entry(service.clone()).or_default().push(token);
            }
        }
    }

    fn record(&mut self, change: Change, recorded: &mut Recorded) {
        match change {
            Change::Begin { op, user, service, binding, ask } => {
                self.log.push((self.now, Happened::Began(op.clone())));
                let token = Token {
                    op,
                    user: user.clone(),
                    service: service.clone(),
                    binding,
                    ask,
                    phase: Phase::Issuing,
                    since: self.now,
                    grant: None,
                    delivered: None,
                    key_readable: true,
                };
                let services = self.actual.tokens.entry(user).or_default();
                services.entry(service).or_default().push(token);
            }
            Change::Grant { op, grant } => self.grant(&op, &grant, recorded),
            Change::Move { op, how } => self.move_token(&op, how),
            // What `leaves` means is remembered by `put`.
            Change::Delivered { user, account, generation, uid, leaves: _ } => {
                self.delivered(&user, &account, generation, uid);
            }
            Change::Backoff { user, service, backoff } => {
                let backoffs = self.actual.backoffs.entry(user).or_default();
                match backoff {
                    Some(backoff) => backoffs.insert(service, backoff),
                    None => backoffs.remove(&service),
                };
            }
            Change::Trouble { service, trouble } => {
                match trouble {
                    Some(trouble) => self.actual.troubles.insert(service, trouble),
                    None => self.actual.troubles.remove(&service),
                };
            }
            Change::OweStray { op, ask, counts } => self.owe_stray(&op, &ask, counts),
            Change::Reissued { user, service } => {
                self.actual.reissued.insert((user, service), self.now);
            }
            Change::Removed { user, service } => self.actual.recent_removals.push((user, service)),
        }
    }

    fn grant(&mut self, op: &OpId, grant: &NewGrant, recorded: &mut Recorded) {
        let mut tokens = self.actual.tokens.values().flat_map(BTreeMap::values).flatten();
        let taken = tokens.any(|token| {
            token.op != *op
                && token.grant.as_ref().is_some_and(|old| old.token_id == grant.token_id)
        });
        if taken {
            recorded.refused.push((op.clone(), "another connection holds its token id".to_owned()));
            return self.move_token(op, Move::RefuseAnswer);
        }
        self.move_token(op, Move::Grant);
        let fingerprint = fingerprint(op);
        let (token_id, expires_at) = (grant.token_id.clone(), grant.expires_at);
        self.token(op).grant = Some(Grant { token_id, expires_at, fingerprint });
    }

    fn move_token(&mut self, op: &OpId, how: Move) {
        self.log.push((self.now, Happened::Moved(op.clone(), how)));
        let now = self.now;
        let token = self.token(op);
        token.phase = token.phase.after(how).unwrap_or_else(|error| panic!("{op}: {error}"));
        token.since = now;
        if token.phase.is_end() {
            for services in self.actual.tokens.values_mut() {
                for tokens in services.values_mut() {
                    tokens.retain(|token| token.op != *op);
                }
                services.retain(|_, tokens| !tokens.is_empty());
            }
            self.actual.tokens.retain(|_, services| !services.is_empty());
        }
    }

    fn delivered(&mut self, user: &UserId, account: &AccountName, generation: u64, uid: u32) {
        let records = self.actual.installed.get_mut(user).expect("a record before the put");
        let record = records.get_mut(account).expect("a record before the put");
        record.confirmed = true;
        let pieces = record.pieces.clone();
        if self.leaving.contains(&(user.clone(), account.clone())) && pieces.is_empty() {
            records.remove(account);
        }
        let mut retired = Vec::new();
        for (service, piece) in &pieces {
            let tokens = self.actual.tokens.get_mut(user).and_then(|of| of.get_mut(service));
            let Some(tokens) = tokens else { continue };
            let Some(place) = tokens.iter().position(|token| Some(&token.op) == piece.op.as_ref())
            else {
                continue;
            };
            tokens[place].delivered.get_or_insert(Delivery { at: self.now, generation });
            tokens[place].binding.uid.get_or_insert(uid);
            let older = tokens[..place].iter().filter(|token| token.phase == Phase::Active);
            retired.extend(older.map(|token| token.op.clone()));
        }
        for op in retired {
            self.move_token(&op, Move::Retire);
        }
    }

    /// Fills the install with what the state holds now, records that, and puts it.
    fn put(&mut self, install: &Install) -> PutOutcome {
        let Install { user, account, .. } = install;
        let pieces = self.fill(install);
        let records = self.actual.installed.entry(user.clone()).or_default();
        let old = records.get(account);
        let generation = match old {
            Some(old) if old.pieces == pieces => old.generation,
            _ => old.map_or(0, |old| old.generation).max(install.seen) + 1,
        };
        let record = files::installed(&self.actual.renditions, generation, pieces);
        records.insert(account.clone(), record.clone());
        if install.leaves {
            self.leaving.insert((user.clone(), account.clone()));
        }
        let ops = record
            .pieces
            .iter()
            .filter_map(|(service, piece)| piece.op.clone().map(|op| (service.clone(), op)));
        let holds: Vec<(ServiceId, OpId)> = ops.collect();
        let uid = match self.actual.homes.get(account) {
            Some(HomeLook::Seen(facts)) => facts.uid,
            _ => return PutOutcome::Failed("the home cannot be reached".to_owned()),
        };
        let held = holds.iter().map(|(_, op)| op.clone()).collect();
        self.log.push((self.now, Happened::Put(user.clone(), held)));
        let facts = facts_of(&record, uid, self.actual.homes.get(account));
        self.actual.homes.insert(account.clone(), HomeLook::Seen(facts));
        PutOutcome::Done { generation, uid, holds, changed: true }
    }

    fn fill(&mut self, install: &Install) -> BTreeMap<ServiceId, Piece> {
        let mut pieces = BTreeMap::new();
        for (service, slot) in &install.slots {
            let piece = match &slot.after {
                None => continue,
                Some(Content::Keep(piece) | Content::Of(piece)) => Some(piece.clone()),
                Some(Content::New { rendition, until_then }) => {
                    let tokens = self.actual.tokens_of(&install.user, service).iter().rev();
                    let newest = tokens
                        .filter(|token| token.key_readable)
                        .find(|token| token.phase == Phase::Active)
                        .map(|token| Piece {
                            op: Some(token.op.clone()),
                            rendition: *rendition,
                            status: token.expires_at().map_or(Status::Expired, status_until),
                        });
                    newest.or_else(|| until_then.clone())
                }
            };
            for known in self.registry.services() {
                let rendition = known.rendition.clone();
                self.actual.renditions.insert(rendition.digest(), rendition);
            }
            pieces.extend(piece.map(|piece| (service.clone(), piece)));
        }
        pieces
    }
}

/// What a home looks like after a put.
fn facts_of(record: &Installed, uid: u32, before: Option<&HomeLook>) -> HomeFacts {
    let laptops = match before {
        Some(HomeLook::Seen(facts)) => facts.laptops.clone(),
        _ => Vec::new(),
    };
    let good = |digest| FileFacts { digest, mode_ok: true };
    HomeFacts {
        uid,
        env: Some(EnvFacts { file: good(record.env), generation: Some(record.generation) }),
        skills: record.skills.iter().map(|(file, digest)| (file.clone(), good(*digest))).collect(),
        rules_mode_ok: true,
        in_the_way: None,
        laptops,
    }
}
