//! What a service's own list of tokens is taken for, and what a plan makes of it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use service_connector::model::action::{Action, IssueReason, RevokeReason};
use service_connector::model::guard::approve;
use service_connector::model::name::{Email, InstanceId, OpId};
use service_connector::model::plan::{LossKind, NoteKind};
use service_connector::model::registry::{Contract, Endpoint};
use service_connector::model::sweep::{
    APART, Found, Frozen, Good, Ground, Listed, Missing, Record, Stray, Sweep, compare, nobody,
};
use service_connector::model::token::{Ask, Binding, EXPIRY_LEEWAY, Grant, Phase, Token};

use support::fleet::{change_service, service, settled, settled_at, unwant, user};
use support::given::{Given, fingerprint, op};
use support::services::{Behaviour, Mood, Services};
use support::simulated;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn began() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn ours() -> InstanceId {
    "00000000000000aa".parse().unwrap()
}

fn theirs() -> InstanceId {
    "00000000000000bb".parse().unwrap()
}

fn endpoint(host: &str) -> Endpoint {
    let url = |path: &str| format!("https://{host}.example.com/{path}");
    Endpoint {
        contract: Contract::V2,
        exchange_url: url("exchange"),
        revoke_url: url("revoke"),
        list_url: url("tokens"),
        health_url: url("health"),
        secret: "SC_SECRET_X".parse().unwrap(),
        ca_file: None,
        timeout_seconds: 10,
    }
}

/// What became of one token here, and how the service lists it.
#[derive(Debug, Clone)]
struct Case {
    /// What the state says; none: it never heard of it.
    phase: Option<Phase>,
    was_live_before: bool,
    is_listed: bool,
    /// Under which name it is listed.
    name: Name,
    ends_in_minutes: i64,
    elsewhere: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Ours,
    Theirs,
    Other,
}

fn cases() -> impl Strategy<Value = Vec<Case>> {
    let phase = proptest::option::of(proptest::sample::select(Phase::ALL.to_vec()));
    let name = prop_oneof![3 => Just(Name::Ours), 1 => Just(Name::Theirs), 1 => Just(Name::Other)];
    let case = (phase, any::<bool>(), any::<bool>(), name, -60i64..600, any::<bool>()).prop_map(
        |(phase, was_live_before, is_listed, name, ends_in_minutes, elsewhere)| Case {
            phase,
            was_live_before,
            is_listed,
            name,
            ends_in_minutes,
            elsewhere,
        },
    );
    proptest::collection::vec(case, 0..40)
}

fn op_of(number: usize, name: Name) -> OpId {
    let instance = if name == Name::Theirs { theirs() } else { ours() };
    OpId::new(&instance, number as u128)
}

fn end(case: &Case) -> Timestamp {
    began() + SignedDuration::from_mins(case.ends_in_minutes)
}

/// The token as the state holds it, if it has not ended.
fn token(number: usize, case: &Case) -> Option<Token> {
    let phase = case.phase.filter(|phase| !phase.is_end())?;
    let op = op_of(number, Name::Ours);
    let host = if case.elsewhere { "old" } else { "new" };
    let granted = Grant {
        token_id: format!("t{number}").parse().unwrap(),
        expires_at: end(case),
        fingerprint: fingerprint(&op),
    };
    Some(Token {
        op,
        user: user(0),
        service: service(0),
        binding: Binding {
            account: "u".parse().unwrap(),
            uid: None,
            email: "u@your-domain.com".parse().unwrap(),
        },
        ask: Ask { endpoint: Arc::new(endpoint(host)), ttl_days: 90, at: began() - HOUR },
        phase,
        since: began() - HOUR,
        grant: (phase != Phase::Issuing).then_some(granted),
        delivered: None,
        key_readable: true,
    })
}

fn listed(number: usize, case: &Case) -> Option<Listed> {
    case.is_listed.then(|| Listed {
        token_id: format!("t{number}").parse().ok(),
        op: (case.name != Name::Other).then(|| op_of(number, case.name)),
        email: "u@your-domain.com".parse().ok(),
        expires_at: end(case),
    })
}

struct World {
    list: Vec<Listed>,
    tokens: Vec<Token>,
    ended_meanwhile: BTreeSet<OpId>,
    live_before: BTreeSet<OpId>,
    missing: BTreeMap<OpId, Missing>,
    good: Option<Good>,
    ended_since: usize,
}

impl World {
    fn of(cases: &[Case]) -> Self {
        let numbered = || cases.iter().enumerate();
        let live = numbered().filter(|(_, case)| case.was_live_before);
        Self {
            list: numbered().filter_map(|(number, case)| listed(number, case)).collect(),
            tokens: numbered().filter_map(|(number, case)| token(number, case)).collect(),
            ended_meanwhile: BTreeSet::new(),
            live_before: live.map(|(number, _)| op_of(number, Name::Ours)).collect(),
            missing: BTreeMap::new(),
            good: None,
            ended_since: 0,
        }
    }

    fn compare_at(&self, began: Timestamp) -> Found {
        let (service, endpoint, instance) = (service(0), endpoint("new"), ours());
        let ground = Ground {
            service: &service,
            endpoint: &endpoint,
            instance: &instance,
            began,
            ended_meanwhile: &self.ended_meanwhile,
            live_before: &self.live_before,
            tokens: &self.tokens,
            good: self.good,
            ended_since: self.ended_since,
            missing: &self.missing,
        };
        compare(&self.list, &ground, |_: &OpId, _: Option<&Email>| user(0))
    }

    fn compare(&self) -> Found {
        self.compare_at(began())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn strays_are_ours_alive_and_unknown_and_nothing_else_is(cases in cases()) {
        let world = World::of(&cases);
        let found: BTreeSet<OpId> =
            world.compare().strays.into_iter().map(|stray| stray.op).collect();
        for (number, case) in cases.iter().enumerate() {
            let is_known = case.phase.is_some_and(|phase| !phase.is_end());
            let is_alive = end(case) + EXPIRY_LEEWAY > began();
            let expected = case.is_listed && case.name == Name::Ours && !is_known && is_alive;
            prop_assert_eq!(found.contains(&op_of(number, Name::Ours)), expected, "{:?}", case);
            prop_assert!(!found.contains(&op_of(number, Name::Theirs)));
        }
    }

    #[test]
    fn what_is_missing_was_live_all_along_and_is_on_no_list(cases in cases()) {
        let world = World::of(&cases);
        let found = world.compare().missing;
        for (number, case) in cases.iter().enumerate() {
            // By its token id it is known, whatever name it is listed under.
            let expected = case.phase.is_some_and(Phase::is_live)
                && case.was_live_before
                && !case.is_listed
                && !case.elsewhere
                && end(case) > began() + EXPIRY_LEEWAY;
            prop_assert_eq!(found.contains_key(&op_of(number, Name::Ours)), expected, "{:?}", case);
        }
    }

    #[test]
    fn every_entry_counts_once(cases in cases()) {
        let found = World::of(&cases).compare();
        let alive = |case: &&Case| case.is_listed && end(case) + EXPIRY_LEEWAY > began();
        prop_assert_eq!(found.ours + found.others, cases.iter().filter(alive).count());
    }
}

fn live(is_listed: bool) -> Case {
    Case {
        phase: Some(Phase::Active),
        was_live_before: true,
        is_listed,
        name: Name::Ours,
        ends_in_minutes: 600,
        elsewhere: false,
    }
}

#[test]
fn a_token_issued_while_the_list_was_fetched_is_neither_stray_nor_missing() {
    let asked = Case { was_live_before: false, ..live(false) };
    let unanswered = Case { phase: Some(Phase::Issuing), was_live_before: false, ..live(true) };
    let found = World::of(&[asked, unanswered]).compare();
    assert_eq!((found.strays.len(), found.missing.len()), (0, 0));
}

#[test]
fn a_token_that_was_ended_while_the_list_was_fetched_is_no_stray() {
    let unknown = Case { phase: None, ..live(true) };
    let mut world = World::of(&[unknown.clone(), unknown]);
    world.ended_meanwhile.insert(op_of(0, Name::Ours));
    let strays: Vec<OpId> =
        world.compare_at(began()).strays.into_iter().map(|stray| stray.op).collect();
    assert_eq!(strays, [op_of(1, Name::Ours)]);
}

#[test]
fn a_token_that_is_held_under_another_name_is_neither_stray_nor_missing() {
    // Taken over by an import after an older state was restored: the name is unknown here.
    let held = Case { name: Name::Theirs, ..live(true) };
    let mut world = World::of(&[held]);
    let unknown = OpId::new(&ours(), 99);
    world.list[0].op = Some(unknown.clone());
    let found = world.compare();
    assert_eq!((found.ours, found.strays.len(), found.missing.len()), (1, 0, 0));
    world.tokens.clear();
    assert_eq!(world.compare().strays[0].op, unknown);
}

#[test]
fn lists_that_follow_close_upon_each_other_count_as_one() {
    let mut world = World::of(&[live(false)]);
    let times = |world: &mut World, at: Timestamp| {
        world.missing = world.compare_at(at).missing;
        *world.missing.values().next().unwrap()
    };
    assert!(!times(&mut world, began()).is_gone());
    assert!(!times(&mut world, began() + APART - SignedDuration::from_secs(1)).is_gone());
    let gone = times(&mut world, began() + APART);
    assert!(gone.is_gone());
    assert_eq!(gone.since, began());
    // Once it is back, it begins anew.
    world.missing = World::of(&[live(true)]).compare().missing;
    assert!(!times(&mut world, began() + APART * 3).is_gone());
}

#[test]
fn a_list_that_loses_more_than_we_ended_is_not_relied_on() {
    let shrunk = |listed: usize, lost: usize, good: Option<usize>, ended_since: usize| {
        let cases: Vec<Case> = (0..listed + lost).map(|n| live(n < listed)).collect();
        let good = good.map(|ours| Good { at: began() - HOUR, ours, others: 0 });
        World { good, ended_since, ..World::of(&cases) }.compare().shrunk.is_some()
    };
    assert!(!shrunk(10, 5, None, 0));
    assert!(shrunk(10, 6, None, 0), "of the first list, by what is held");
    assert!(!shrunk(10, 0, Some(15), 0));
    assert!(shrunk(10, 0, Some(16), 0));
    assert!(!shrunk(10, 0, Some(30), 20), "what we ended explains itself");
    assert!(!shrunk(90, 0, Some(100), 0), "a tenth");
    assert!(shrunk(89, 0, Some(100), 0));
}

#[test]
fn what_was_issued_since_the_last_list_hides_no_loss() {
    let old = World::of(&(0..10).map(|_| live(true)).collect::<Vec<_>>());
    let good = Some(Good { at: began() - HOUR * 2, ours: 16, others: 0 });
    // All ten were asked for an hour ago: none of the sixteen is left.
    assert!(World { good, ..old }.compare().shrunk.unwrap().contains("lacks 16 of 16"));
}

// What a plan makes of it.

fn given(users: usize) -> Given {
    let mut given = settled(users, 1);
    change_service(&mut given, &service(0), |service| service.endpoint.contract = Contract::V2);
    given
}

fn sweep(given: &mut Given, strays: Vec<Stray>, missing: &[(OpId, u8)], frozen: bool) {
    let at = given.now - HOUR;
    let why = "its list of tokens could not be had: no".to_owned();
    let record = Record { at, good: None, frozen: frozen.then_some(Frozen { why, shrunk: None }) };
    let missing = missing
        .iter()
        .map(|(op, times)| (op.clone(), Missing { since: at, counted: at, times: *times }))
        .collect();
    given.actual.sweeps.insert(service(0), Sweep { record, strays, missing });
}

fn stray(number: usize, of: usize) -> Stray {
    Stray {
        op: op(&format!("f{number:03x}")),
        user: user(of),
        email: format!("{}@your-domain.com", user(of)).parse().ok(),
        token_id: None,
        expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn stray_revokes(plan: &[Action]) -> usize {
    let is_stray =
        |action: &&Action| matches!(action, Action::Revoke(r) if r.why == RevokeReason::Stray);
    plan.iter().filter(is_stray).count()
}

#[test]
fn a_crash_anywhere_forgets_no_stray() {
    for crash in 0..8 {
        let mut given = given(2);
        unwant(&mut given, 1, 0);
        let strays = vec![stray(0, 0), stray(1, 1)];
        let mut services = Services::default();
        for stray in &strays {
            services.alive.insert(stray.op.clone(), stray.expires_at);
        }
        sweep(&mut given, strays.clone(), &[], false);
        let (approved, held) = approve(given.plan(), &given.limits);
        assert!(held.is_empty(), "{:?}", held.why);
        simulated::apply_until(&mut given, &mut services, approved, crash);
        for stray in &strays {
            let found = given.actual.sweeps[&service(0)].strays.contains(stray);
            let tokens = given.actual.tokens.values().flat_map(|of| of.values()).flatten();
            let owed = tokens.filter(|token| token.op == stray.op).count() == 1;
            let alive = services.alive.contains_key(&stray.op);
            assert!(found != owed || !alive, "after {crash} effects");
        }
        simulated::pass(&mut given, &mut services);
        assert!(strays.iter().all(|stray| !services.alive.contains_key(&stray.op)));
        assert!(given.plan().is_empty());
    }
}

#[test]
fn strays_count_with_those_of_the_last_hour_and_with_removals() {
    let mut given = given(20);
    sweep(&mut given, (0..3).map(|n| stray(n, n)).collect(), &[], false);
    given.actual.recent_strays = vec![(user(9), service(0)), (user(9), service(0))];
    let (approved, held) = approve(given.plan(), &given.limits);
    assert!(held.is_empty());
    assert_eq!(stray_revokes(&approved.plan().actions), 3);
    // One person's disconnect makes it too many, and passes itself.
    unwant(&mut given, 5, 0);
    let (approved, held) = approve(given.plan(), &given.limits);
    assert!(held.losses.iter().all(|loss| loss.kind == LossKind::Stray));
    assert_eq!(held.losses.len(), 3);
    assert_eq!(stray_revokes(&approved.plan().actions), 0);
    assert_eq!(approved.plan().losses.len(), 1);
    given.limits.approved.push(held.digest());
    let (approved, held) = approve(given.plan(), &given.limits);
    assert!(held.is_empty());
    assert_eq!(stray_revokes(&approved.plan().actions), 3);
    assert_eq!(approved.plan().losses.iter().filter(|loss| approved.counts(loss)).count(), 1);
}

#[test]
fn one_persons_strays_pass_and_nobodys_do_not() {
    let mut given = given(2);
    sweep(&mut given, (0..7).map(|n| stray(n, 0)).collect(), &[], false);
    assert!(approve(given.plan(), &given.limits).1.is_empty());
    for stray in &mut given.actual.sweeps.get_mut(&service(0)).unwrap().strays {
        stray.user = nobody();
    }
    assert_eq!(approve(given.plan(), &given.limits).1.losses.len(), 7);
}

#[test]
fn while_a_list_is_frozen_only_one_users_removals_pass() {
    let mut given = given(20);
    sweep(&mut given, vec![stray(0, 0)], &[(op("00200"), 2)], true);
    assert!(given.plan().is_empty(), "nothing is done because of it");
    assert!(given.plan().notes.iter().any(|note| note.kind == NoteKind::Blocked));
    unwant(&mut given, 3, 0);
    assert!(approve(given.plan(), &given.limits).1.is_empty());
    unwant(&mut given, 4, 0);
    let (approved, held) = approve(given.plan(), &given.limits);
    assert_eq!(held.losses.len(), 2);
    assert!(approved.plan().is_empty());
    given.limits.approved.push(held.digest());
    assert!(approve(given.plan(), &given.limits).1.is_empty(), "somebody said so");
    // A service that has no list any more is not waited for.
    given.limits.approved.clear();
    change_service(&mut given, &service(0), |service| service.endpoint.contract = Contract::V1);
    assert!(approve(given.plan(), &given.limits).1.is_empty());
}

#[test]
fn a_key_that_is_gone_is_replaced_before_it_is_dropped_and_once() {
    let mut given = given(2);
    let mut services = Services::default();
    sweep(&mut given, Vec::new(), &[(op("00000"), 1)], false);
    assert!(given.plan().is_empty(), "one list is not enough");
    sweep(&mut given, Vec::new(), &[(op("00000"), 2)], false);
    let plan = given.plan();
    let is_issue =
        |action: &Action| matches!(action, Action::Issue(i) if i.why == IssueReason::Missing);
    assert!(plan.actions.iter().any(is_issue));
    assert!(plan.losses.is_empty());
    simulated::pass(&mut given, &mut services);
    let tokens = given.actual.tokens_of(&user(0), &service(0));
    assert_eq!(
        tokens.iter().map(|t| t.phase).collect::<Vec<_>>(),
        [Phase::Retiring, Phase::Active]
    );
    let second = tokens[1].op.clone();
    given.now += SignedDuration::from_mins(1);
    assert!(given.plan().is_empty());

    // The next one is gone within a day: a person is asked, for as long as it takes.
    given.now += HOUR * 3;
    sweep(&mut given, Vec::new(), &[(second.clone(), 2)], false);
    for _ in 0..3 {
        let plan = given.plan();
        assert!(plan.is_empty());
        assert!(plan.notes.iter().any(|note| note.kind == NoteKind::Blocked));
        given.now += SignedDuration::from_hours(30);
    }
    // First missed later than that, it is another matter.
    sweep(&mut given, Vec::new(), &[(second, 2)], false);
    assert!(given.plan().actions.iter().any(is_issue));
}

#[test]
fn a_replacement_without_an_answer_is_asked_for_again_and_counts_once() {
    let mut given = given(1);
    let mut services = Services::default();
    services.set(service(0).as_str(), Behaviour { mood: Mood::Silent, ..Behaviour::default() });
    sweep(&mut given, Vec::new(), &[(op("00000"), 2)], false);
    simulated::pass(&mut given, &mut services);
    services.set(service(0).as_str(), Behaviour::default());
    given.now += HOUR;
    simulated::pass(&mut given, &mut services);
    let phases: Vec<Phase> =
        given.actual.tokens_of(&user(0), &service(0)).iter().map(|token| token.phase).collect();
    assert_eq!(phases, [Phase::Retiring, Phase::Active]);
    assert!(given.plan().is_empty());
}

#[test]
fn a_renewal_that_is_due_anyway_is_a_renewal() {
    let mut given = settled_at(1, 1, "2026-09-01T00:00:00Z");
    change_service(&mut given, &service(0), |service| service.endpoint.contract = Contract::V2);
    sweep(&mut given, Vec::new(), &[(op("00000"), 1)], false);
    let why = given.plan().actions.iter().find_map(|action| match action {
        Action::Issue(issue) => Some(issue.why),
        _ => None,
    });
    assert!(matches!(why, Some(IssueReason::RenewalDue(_))), "{why:?}");
}

#[test]
fn a_record_is_believed_only_where_there_was_a_list() {
    let good = Good { at: began(), ours: 3, others: 1 };
    let none = Record::without_list(began(), Some(good), "no");
    assert_eq!(none.clone().believed().good, Some(good));
    assert!(none.frozen.unwrap().shrunk.is_none());
}
