//! Plans that join a pass which is under way: whatever they meet there, all is as it should be in the
//! end, and nothing was asked for twice.

mod support;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use service_connector::model::desired::{Desired, Wish};
use service_connector::model::guard::Limits;
use service_connector::model::name::{OpId, ServiceId, UserId};
use service_connector::model::token::Phase;

use support::fleet::{newcomers, service, settled, user};
use support::given::Given;
use support::services::{Behaviour, Mood, Services};
use support::simulated::{self, Happened, Join};

const USERS: usize = 2;
const SERVICES: usize = 3;
/// Longer than any backoff and any time that a service is left alone for.
const LATER: SignedDuration = SignedDuration::from_hours(3);

/// What somebody clicks.
#[derive(Debug, Clone, Copy)]
enum Click {
    Connect,
    Disconnect,
    Rotate,
    Leaked,
}

#[derive(Debug, Clone)]
struct Story {
    /// Whether all is delivered in the beginning, or nobody has anything.
    settled: bool,
    /// The milliseconds that a call takes, and what comes of it.
    services: Vec<(i64, Mood)>,
    /// After so many milliseconds, ready so many later, whose, of what.
    clicks: Vec<(i64, i64, usize, usize, Click)>,
}

fn stories() -> impl Strategy<Value = Story> {
    let mood = prop_oneof![
        12 => Just(Mood::Well),
        1 => Just(Mood::Silent),
        1 => Just(Mood::LosesAnswers),
        1 => Just(Mood::SaysGone),
        1 => Just(Mood::Rejects),
        1 => Just(Mood::BadKey),
    ];
    let click = prop_oneof![
        3 => Just(Click::Connect),
        3 => Just(Click::Disconnect),
        2 => Just(Click::Rotate),
        1 => Just(Click::Leaked),
    ];
    let latency = prop_oneof![Just(0i64), 1i64..400, 2000i64..10_000];
    let services = proptest::collection::vec((latency, mood), SERVICES);
    let clicks =
        proptest::collection::vec((0i64..3000, 0i64..700, 0..USERS, 0..SERVICES, click), 0..12);
    (any::<bool>(), services, clicks).prop_map(|(settled, services, clicks)| Story {
        settled,
        services,
        clicks,
    })
}

fn join((after, takes, whose, of, click): (i64, i64, usize, usize, Click)) -> Join {
    let (id, service) = (user(whose), service(of));
    let change = move |desired: &mut Desired, now: Timestamp| {
        let connections = &mut desired.users.entry(id.clone()).or_default().connections;
        match click {
            Click::Connect => {
                connections.entry(service.clone()).or_default();
            }
            Click::Disconnect => {
                connections.remove(&service);
            }
            Click::Rotate | Click::Leaked => {
                let Some(wish) = connections.get_mut(&service) else { return };
                let at = Some(now);
                match click {
                    Click::Leaked => wish.revoke_issued_before = at,
                    _ => wish.rotate_after = at,
                }
            }
        }
    };
    Join {
        after: SignedDuration::from_millis(after),
        takes: SignedDuration::from_millis(takes),
        user: user(whose),
        change: Box::new(change),
    }
}

/// How often each op id was asked with without an end in between: with v2 that is harmless, but a
/// plan that joins must not do it.
fn asked_twice_at_once(log: &[(Timestamp, Happened)]) -> Option<&OpId> {
    let mut open: BTreeMap<&OpId, u32> = BTreeMap::new();
    for (_, happened) in log {
        match happened {
            Happened::Called(_, op) => {
                let count = open.entry(op).or_default();
                *count += 1;
                if *count > 1 {
                    return Some(op);
                }
            }
            Happened::Answered(_, op) => {
                open.remove(op);
            }
            _ => {}
        }
    }
    None
}

fn wanted(given: &Given) -> BTreeMap<(UserId, ServiceId), Wish> {
    let users = given.desired.users.iter();
    let all = users.flat_map(|(user, desired)| {
        desired.connections.iter().map(|(id, wish)| ((user.clone(), id.clone()), wish.clone()))
    });
    all.collect()
}

/// Everybody has a delivered key of what is wanted, and no other works.
fn is_right(given: &Given, services: &Services) -> Result<(), String> {
    let plan = given.plan();
    if !plan.is_empty() {
        return Err(format!("still to do: {:#?}", plan.actions));
    }
    let wanted = wanted(given);
    let mut known = Vec::new();
    for (user, id) in (0..USERS).flat_map(|user| (0..SERVICES).map(move |id| (user, id))) {
        let tokens = given.actual.tokens_of(&support::fleet::user(user), &service(id));
        let is_wanted = wanted.contains_key(&(support::fleet::user(user), service(id)));
        let active =
            tokens.iter().filter(|token| token.phase == Phase::Active && token.delivered.is_some());
        if active.count() != usize::from(is_wanted) {
            return Err(format!("{user} {id}, wanted: {is_wanted}: {tokens:#?}"));
        }
        known.extend(tokens.iter().map(|token| token.op.clone()));
    }
    let alive = services.alive.iter().filter(|(_, end)| **end > given.now);
    let orphans: Vec<_> = alive.filter(|(op, _)| !known.contains(op)).collect();
    if orphans.is_empty() { Ok(()) } else { Err(format!("orphans: {orphans:?}")) }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_that_join_a_pass_end_in_what_is_wanted(story in stories()) {
        let mut given =
            if story.settled { settled(USERS, SERVICES) } else { newcomers(USERS, SERVICES) };
        given.limits = Limits { at_least: 100, ..Limits::default() };
        let mut services = Services::default();
        for (number, (latency, mood)) in story.services.iter().enumerate() {
            let latency = SignedDuration::from_millis(*latency);
            let behaviour = Behaviour { latency, mood: *mood, ..Behaviour::default() };
            services.set(service(number).as_str(), behaviour);
        }
        let joins: Vec<Join> = story.clicks.iter().copied().map(join).collect();
        let applied = simulated::pass_with(&mut given, &mut services, joins);
        prop_assert!(asked_twice_at_once(&applied.log).is_none(), "{:#?}", applied.log);
        // Those who were answered need no later pass.
        if story.services.iter().all(|(_, mood)| *mood == Mood::Well) {
            is_right(&given, &services).map_err(TestCaseError::fail)?;
        }
        services.behaviours.clear();
        for _ in 0..4 {
            given.now += LATER;
            simulated::pass(&mut given, &mut services);
        }
        is_right(&given, &services).map_err(TestCaseError::fail)?;
    }
}
