//! A service that is down for a day, while passes are made as the loop makes them: when something is
//! due, and at any other time, as after restarts.

mod support;

use jiff::{SignedDuration, Timestamp};
use service_connector::model::desired::Wish;
use service_connector::model::name::ServiceId;
use service_connector::model::plan::due::due;

use support::fleet::{newcomers, service, user, want_all};
use support::given::Given;
use support::services::{Behaviour, Mood, Services};
use support::simulated::{self, Applied, Happened};

const USERS: usize = 40;
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// So often the loop is started anew, which looks at everything.
const RESTART: SignedDuration = SignedDuration::from_mins(7);

fn behave(services: &mut Services, mood: Mood, latency: SignedDuration) {
    services.set(service(0).as_str(), Behaviour { latency, mood, ..Behaviour::default() });
}

/// When this service was called.
fn calls_of(applied: &Applied, id: &ServiceId) -> Vec<Timestamp> {
    let call = |(at, happened): &(Timestamp, Happened)| match happened {
        Happened::Called(service, _) if service == id => Some(*at),
        _ => None,
    };
    applied.log.iter().filter_map(call).collect()
}

fn next_pass(given: &Given) -> Timestamp {
    let due = due(&given.actual, Some(&given.desired), &given.registry, given.now);
    let due = due.users.into_values().chain(due.of_all).min();
    let restart = given.now + RESTART;
    due.map_or(restart, |due| due.min(restart)).max(given.now + SECOND)
}

/// Everybody wants two services; the first is down for a day. Returns how often it was called after
/// the calls that found it so.
fn a_day_of(mood: Mood, given: &mut Given, services: &mut Services) -> usize {
    behave(services, mood, SECOND * 10);
    let (mut calls, mut passes) = (0, 0);
    let end = given.now + DAY;
    while given.now < end {
        let closed_until = given.actual.troubles.get(&service(0)).map(|trouble| trouble.until);
        let applied = simulated::pass(given, services);
        let of_it = calls_of(&applied, &service(0));
        let early = of_it.iter().find(|at| closed_until.is_some_and(|until| **at < until));
        assert!(early.is_none(), "called at {early:?}, before {closed_until:?}");
        calls += if passes == 0 { 0 } else { of_it.len() };
        passes += 1;
        // New people come all the time.
        let newcomer = user(USERS + passes);
        if passes % 20 == 0 {
            let connections = [0, 1].map(|number| (service(number), Wish::default())).into();
            let wanted = given.desired.users.entry(newcomer.clone()).or_default();
            wanted.connections = connections;
            let account = newcomer.as_str().parse().unwrap();
            given.actual.homes.insert(account, support::fleet::empty_home());
        }
        given.now = next_pass(given);
    }
    assert!(passes > 200, "{passes} passes");
    calls
}

#[test]
fn a_service_that_is_down_for_a_day_is_asked_forty_times_at_most() {
    for mood in [Mood::Silent, Mood::RefusesSecret] {
        let mut given = newcomers(USERS, 2);
        let mut services = Services::default();
        let calls = a_day_of(mood, &mut given, &mut services);
        assert!((20..=40).contains(&calls), "{mood:?}: {calls} probes");
        for number in 0..USERS {
            let tokens = given.actual.tokens_of(&user(number), &service(1));
            assert!(tokens.iter().any(|token| token.delivered.is_some()), "{number} has no key");
        }
    }
}

#[test]
fn after_a_day_it_is_asked_by_one_call_and_then_within_its_limits() {
    let mut given = newcomers(USERS, 2);
    want_all(&mut given, USERS, 2);
    let mut services = Services::default();
    a_day_of(Mood::Silent, &mut given, &mut services);
    behave(&mut services, Mood::Well, SECOND);
    given.now = given.actual.troubles[&service(0)].until;
    let applied = simulated::pass(&mut given, &mut services);
    let calls = calls_of(&applied, &service(0));
    let answered = applied.log.iter().find_map(|(at, happened)| match happened {
        Happened::Answered(id, _) if *id == service(0) => Some(*at),
        _ => None,
    });
    assert_eq!(calls.iter().filter(|at| **at < answered.unwrap()).count(), 1, "one goes first");
    let limits = given.registry.service(&service(0)).unwrap().limits;
    for call in &calls {
        let at_once = calls.iter().filter(|other| *other >= call && **other < *call + SECOND);
        assert!(at_once.count() <= limits.concurrency.get() as usize);
    }
    assert!(calls.len() >= USERS, "everybody's turn came");
}
