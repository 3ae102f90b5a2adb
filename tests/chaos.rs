//! Anything may fail at any time: services, homes, the machine itself, and people change their
//! minds. Nothing is lost meanwhile, and once all is well everything is as it is desired.

mod support;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use proptest::prelude::*;
use service_connector::model::desired::Wish;
use service_connector::model::guard::approve;
use service_connector::model::home::HomeLook;
use service_connector::model::name::OpId;
use service_connector::model::token::Phase;

use support::fleet::{change_service, newcomers, service, user};
use support::given::Given;
use support::services::{Behaviour, Mood, Services};
use support::simulated;

const USERS: usize = 3;
const SERVICES: usize = 2;
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// One thing that happens between two passes.
#[derive(Debug, Clone)]
enum Blow {
    Connect(usize, usize),
    Disconnect(usize, usize),
    Rotate(usize, usize),
    Leak(usize, usize),
    Pause(usize, usize),
    Shorten(usize, usize),
    Mood(usize, Mood),
    Grace(usize, u16),
    HomeAway(usize),
    HomeBack(usize),
    Wait(i64),
    Crash(usize),
}

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let (user, service) = (0..USERS, 0..SERVICES);
    let of = (user.clone(), service.clone());
    let mood = prop_oneof![
        2 => Just(Mood::Well),
        1 => Just(Mood::LosesAnswers),
        1 => Just(Mood::Silent),
        1 => Just(Mood::RefusesSecret),
        1 => Just(Mood::Rejects),
        1 => Just(Mood::Conflicts),
        1 => Just(Mood::SaysGone),
        1 => Just(Mood::BadKey),
    ];
    let blow = prop_oneof![
        of.clone().prop_map(|(u, s)| Blow::Connect(u, s)),
        of.clone().prop_map(|(u, s)| Blow::Disconnect(u, s)),
        of.clone().prop_map(|(u, s)| Blow::Rotate(u, s)),
        of.clone().prop_map(|(u, s)| Blow::Leak(u, s)),
        of.clone().prop_map(|(u, s)| Blow::Pause(u, s)),
        of.prop_map(|(u, s)| Blow::Shorten(u, s)),
        (service.clone(), mood).prop_map(|(s, mood)| Blow::Mood(s, mood)),
        (service, prop_oneof![Just(0u16), Just(7u16)]).prop_map(|(s, days)| Blow::Grace(s, days)),
        user.clone().prop_map(Blow::HomeAway),
        user.prop_map(Blow::HomeBack),
        (1i64..24 * 60 * 40).prop_map(Blow::Wait),
        (0usize..30).prop_map(Blow::Crash),
    ];
    proptest::collection::vec(blow, 1..25)
}

/// A world and what is behind it.
struct Sea {
    given: Given,
    services: Services,
    away: [Option<HomeLook>; USERS],
}

impl Sea {
    fn new() -> Self {
        let given = newcomers(USERS, SERVICES);
        Self { given, services: Services::default(), away: [const { None }; USERS] }
    }

    fn wish(&mut self, user_number: usize, number: usize) -> &mut Wish {
        let entry = self.given.desired.users.get_mut(&user(user_number)).unwrap();
        entry.connections.entry(service(number)).or_default()
    }

    /// Takes a blow; says after how many effects the pass that follows crashes, if it does.
    fn take(&mut self, blow: &Blow) -> Option<usize> {
        let now = self.given.now;
        match *blow {
            Blow::Connect(u, s) => *self.wish(u, s) = Wish::default(),
            Blow::Disconnect(u, s) => {
                let entry = self.given.desired.users.get_mut(&user(u)).unwrap();
                entry.connections.remove(&service(s));
            }
            Blow::Rotate(u, s) => self.wish(u, s).rotate_after = Some(now),
            Blow::Leak(u, s) => self.wish(u, s).revoke_issued_before = Some(now),
            Blow::Pause(u, s) => self.wish(u, s).paused ^= true,
            Blow::Shorten(u, s) => self.wish(u, s).ttl_days = Some(5),
            Blow::Mood(s, mood) => {
                let behaviour = Behaviour { mood, ..Behaviour::default() };
                self.services.set(service(s).as_str(), behaviour);
            }
            Blow::Grace(s, days) => {
                change_service(&mut self.given, &service(s), |entry| entry.grace_days = days);
            }
            Blow::HomeAway(u) if self.away[u].is_none() => {
                let look = HomeLook::Unknown("away".to_owned());
                self.away[u] = self.given.actual.homes.insert(account(u), look);
            }
            Blow::HomeBack(u) => self.home_back(u),
            Blow::Wait(minutes) => self.given.now += MINUTE * i32::try_from(minutes).unwrap(),
            Blow::Crash(effects) => return Some(effects),
            Blow::HomeAway(_) => {}
        }
        None
    }

    fn home_back(&mut self, number: usize) {
        if let Some(look) = self.away[number].take() {
            self.given.actual.homes.insert(account(number), look);
        }
    }

    fn pass(&mut self, crash: usize) {
        // Losses are not what this is about: whatever the guard would hold is approved.
        let held = approve(self.given.plan(), &self.given.limits).1;
        self.given.limits.approved = vec![held.digest()];
        let (approved, _) = approve(self.given.plan(), &self.given.limits);
        simulated::apply_until(&mut self.given, &mut self.services, approved, crash);
        self.given.actual.recent_removals.clear();
        self.given.now += MINUTE;
    }

    fn orphans(&self) -> Vec<OpId> {
        let tokens = self.given.actual.tokens.values().flat_map(|of| of.values()).flatten();
        let known: BTreeSet<&OpId> = tokens.map(|token| &token.op).collect();
        let leeway = self.given.now - MINUTE * 5;
        let alive = self.services.alive.iter().filter(|(_, end)| **end > leeway);
        alive.map(|(op, _)| op).filter(|op| !known.contains(op)).cloned().collect()
    }

    /// All is well again, and all backoffs are over.
    fn calm(&mut self) {
        (0..USERS).for_each(|number| self.home_back(number));
        self.services.behaviours.clear();
        for _ in 0..4 {
            self.given.now += SignedDuration::from_hours(2);
            self.pass(usize::MAX);
        }
    }

    /// Whether every home holds exactly what is desired, by a key that works.
    fn is_as_desired(&self) -> Result<(), String> {
        let plan = self.given.plan();
        if !plan.is_empty() {
            return Err(format!("still to do: {:#?}", plan.actions));
        }
        for (u, s) in (0..USERS).flat_map(|u| (0..SERVICES).map(move |s| (u, s))) {
            let wish = self.given.desired.users[&user(u)].connections.get(&service(s));
            let tokens = self.given.actual.tokens_of(&user(u), &service(s));
            let record =
                self.given.actual.installed.get(&user(u)).and_then(|of| of.get(&account(u)));
            let op = record.and_then(|r| r.pieces.get(&service(s))).and_then(|p| p.op.as_ref());
            let active = |op: &OpId| {
                tokens.iter().any(|token| token.op == *op && token.phase == Phase::Active)
            };
            match wish {
                None if op.is_some() || !tokens.is_empty() => {
                    return Err(format!("{u} {s} is left over: {op:?} {tokens:#?}"));
                }
                Some(wish) if !wish.paused && !op.is_some_and(active) => {
                    return Err(format!("{u} {s} has no key that works: {op:?} {tokens:#?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn account(number: usize) -> service_connector::model::name::AccountName {
    user(number).as_str().parse().expect("an account")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_lost_in_a_storm_and_all_is_as_desired_after_it(blows in blows()) {
        let mut sea = Sea::new();
        for blow in &blows {
            let crash = sea.take(blow).unwrap_or(usize::MAX);
            sea.pass(crash);
            prop_assert!(sea.orphans().is_empty(), "after {blow:?}: {:?}", sea.orphans());
        }
        sea.calm();
        sea.is_as_desired().map_err(TestCaseError::fail)?;
        prop_assert!(sea.orphans().is_empty());
    }
}

/// What the storm found once: the fake brought a key back to life that it had called gone.
#[test]
fn a_key_that_was_called_gone_stays_gone_though_answers_are_lost() {
    let mut sea = Sea::new();
    let blows = [
        Blow::Mood(1, Mood::LosesAnswers),
        Blow::Connect(0, 0),
        Blow::Mood(1, Mood::SaysGone),
        Blow::Crash(4),
        Blow::Mood(1, Mood::LosesAnswers),
    ];
    for blow in &blows {
        let crash = sea.take(blow).unwrap_or(usize::MAX);
        sea.pass(crash);
    }
    sea.calm();
    assert!(sea.orphans().is_empty(), "{:?}", sea.orphans());
}
