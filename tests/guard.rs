//! What the guard holds, and what it lets pass.

mod support;

use std::collections::BTreeSet;

use jiff::Timestamp;
use service_connector::model::action::Action;
use service_connector::model::desired::{Desired, Wish};
use service_connector::model::digest::Digest;
use service_connector::model::guard::{ApprovedPlan, Held, Limits, approve};
use service_connector::model::name::{ServiceId, UserId};
use service_connector::model::plan::LossKind;
use service_connector::model::token::Phase;

use support::fleet::{change_service, newcomers, service, settled, settled_at, unwant, user};
use support::given::Given;
use support::services::{Behaviour, Mood, Services};
use support::simulated;

fn judged(given: &Given) -> (ApprovedPlan, Held) {
    approve(given.plan(), &given.limits)
}

fn unwant_all(given: &mut Given, user_number: usize) {
    given.desired.users.get_mut(&user(user_number)).expect("a user").connections.clear();
}

fn held_keys(held: &Held) -> BTreeSet<(UserId, ServiceId)> {
    held.losses.iter().map(|loss| (loss.user.clone(), loss.service.clone())).collect()
}

/// Whether the plan leaves these connections as they are.
fn leaves_alone(approved: &ApprovedPlan, held: &Held) -> bool {
    let keys = held_keys(held);
    approved.plan().actions.iter().all(|action| match action {
        Action::Install(install) => install.slots.iter().all(|(service, slot)| {
            let key = (install.user.clone(), service.clone());
            !keys.contains(&key) || !slot.changes()
        }),
        Action::Revoke(revoke) if revoke.phase == Phase::Revoking => true,
        other => {
            let service = other.service().expect("all but installs have one").clone();
            !keys.contains(&(other.user().clone(), service))
        }
    })
}

#[test]
fn one_users_disconnect_passes_whatever_its_size() {
    for services in [3, 8] {
        let mut given = settled(3, services);
        unwant_all(&mut given, 0);
        let (approved, held) = judged(&given);
        assert!(held.is_empty(), "{services} services: {:?}", held.why);
        assert_eq!(approved.plan().losses.len(), services);
    }
}

#[test]
fn two_users_disconnects_at_once_are_held() {
    for services in [3, 8] {
        let mut given = settled(3, services);
        unwant_all(&mut given, 0);
        unwant_all(&mut given, 1);
        let (approved, held) = judged(&given);
        assert_eq!(held.losses.len(), 2 * services, "{services} services");
        assert!(approved.plan().is_empty(), "{:#?}", approved.plan().actions);
    }
}

#[test]
fn five_connections_of_two_users_pass() {
    let mut given = settled(3, 8);
    unwant_all(&mut given, 0);
    given
        .desired
        .users
        .get_mut(&user(0))
        .unwrap()
        .connections
        .extend((4..8).map(|number| (service(number), Wish::default())));
    unwant(&mut given, 1, 7);
    assert!(judged(&given).1.is_empty());
    unwant(&mut given, 1, 6);
    assert_eq!(judged(&given).1.losses.len(), 6);
}

#[test]
fn a_file_without_users_is_held_even_when_there_were_only_two() {
    let mut given = settled(2, 1);
    given.desired = Desired::default();
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 2);
    assert!(held.why.iter().any(|why| why == "nobody would be left"), "{:?}", held.why);
    assert!(approved.plan().is_empty());
}

#[test]
fn the_last_user_may_leave() {
    let mut given = settled(1, 8);
    given.desired = Desired::default();
    assert!(judged(&given).1.is_empty());
}

#[test]
fn a_rotation_of_the_whole_fleet_is_never_held() {
    let mut given = settled(20, 3);
    let at: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
    for entry in given.desired.users.values_mut() {
        entry.connections.values_mut().for_each(|wish| wish.rotate_after = Some(at));
    }
    for grace in [0, 7] {
        for number in 0..3 {
            change_service(&mut given, &service(number), |entry| entry.grace_days = grace);
        }
        let (approved, held) = judged(&given);
        assert!(held.is_empty(), "grace {grace}: {:?}", held.why);
        assert!(approved.plan().losses.is_empty());
    }
}

#[test]
fn a_held_connection_stays_exactly_as_it_is_while_the_rest_goes_on() {
    let mut given = settled(3, 8);
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    given.desired.users.insert(user(7), given.desired.users[&user(2)].clone());
    let (approved, held) = judged(&given);
    assert!(leaves_alone(&approved, &held));
    assert_eq!(approved.plan().actions.len(), 9, "the newcomer's keys and files");
    let before =
        format!("{:?} {:?}", given.actual.tokens[&user(0)], given.actual.installed[&user(0)]);
    simulated::apply(&mut given, &mut Services::default(), approved);
    let after =
        format!("{:?} {:?}", given.actual.tokens[&user(0)], given.actual.installed[&user(0)]);
    assert_eq!(before, after);
    assert!(given.actual.recent_removals.is_empty());
}

#[test]
fn under_a_hold_an_unanswered_ask_of_a_held_connection_stays_too() {
    let mut given = settled(3, 8);
    for number in 0..8 {
        let tokens = given.actual.tokens.get_mut(&user(0)).unwrap();
        let tokens = tokens.get_mut(&service(number)).unwrap();
        let mut ask = tokens[0].clone();
        ask.op = support::given::op(&format!("f{number}"));
        (ask.phase, ask.grant, ask.delivered) = (Phase::Issuing, None, None);
        tokens.push(ask);
    }
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 16);
    assert!(approved.plan().is_empty(), "{:#?}", approved.plan().actions);
}

#[test]
fn debts_are_paid_under_a_hold() {
    let mut given = settled(3, 8);
    let tokens = given.actual.tokens.get_mut(&user(0)).unwrap().get_mut(&service(0)).unwrap();
    let mut debt = tokens[0].clone();
    debt.op = support::given::op("dd");
    debt.phase = Phase::Revoking;
    tokens.insert(0, debt);
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 16);
    assert_eq!(approved.plan().actions.len(), 1);
    assert!(leaves_alone(&approved, &held));
}

#[test]
fn an_approval_removes_exactly_that_set_and_no_other() {
    let mut given = settled(4, 8);
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    let digest = judged(&given).1.digest();
    given.limits.approved = vec![digest];
    unwant(&mut given, 2, 0);
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 17, "another set is held again");
    assert!(approved.plan().is_empty());
    assert_ne!(held.digest(), digest);
    given.desired.users.get_mut(&user(2)).unwrap().connections.insert(service(0), Wish::default());
    let (approved, held) = judged(&given);
    assert!(held.is_empty());
    assert_eq!(approved.plan().losses.len(), 16);
    simulated::apply(&mut given, &mut Services::default(), approved);
    let left: Vec<&UserId> = given.actual.tokens.keys().collect();
    assert_eq!(left, [&user(2), &user(3)]);
    assert!(given.actual.recent_removals.is_empty(), "what was approved does not count");
    assert!(given.plan().is_empty());
}

#[test]
fn an_approved_removal_whose_put_failed_needs_no_second_approval() {
    let mut given = settled(3, 8);
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    given.limits.approved = vec![judged(&given).1.digest()];
    let mut services = Services::default();
    for number in 0..8 {
        let dead = Behaviour { mood: Mood::Silent, ..Behaviour::default() };
        services.set(service(number).as_str(), dead);
    }
    let approved = judged(&given).0;
    // Both homes turn out to be out of reach after the plan was made.
    let away = service_connector::model::home::HomeLook::Unknown("away".to_owned());
    let homes: Vec<_> = (0..2)
        .map(|number| {
            let account = user(number).as_str().parse().unwrap();
            let seen = given.actual.homes.insert(account, away.clone()).unwrap();
            (user(number).as_str().parse().unwrap(), seen)
        })
        .collect();
    simulated::apply(&mut given, &mut services, approved);
    given.actual.homes.extend(homes);
    given.limits.approved.clear();
    let (approved, held) = judged(&given);
    assert!(held.is_empty(), "{:?}", held.why);
    assert!(approved.plan().losses.is_empty());
    assert!(!approved.plan().is_empty());
}

#[test]
fn removals_of_the_last_hour_count() {
    let mut given = settled(4, 5);
    unwant_all(&mut given, 0);
    simulated::pass(&mut given, &mut Services::default());
    assert_eq!(given.actual.recent_removals.len(), 5);
    unwant(&mut given, 1, 0);
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 1);
    assert!(approved.plan().is_empty());
    given.actual.recent_removals.clear();
    assert!(judged(&given).1.is_empty());
}

#[test]
fn whoever_comes_and_goes_time_and_again_moves_no_limit() {
    let mut given = settled(4, 5);
    // Sixty times within the hour, and there again: as if there had been 80 connections.
    given.actual.recent_removals = vec![(user(3), service(0)); 60];
    (0..3).for_each(|number| (0..2).for_each(|of| unwant(&mut given, number, of)));
    assert_eq!(judged(&given).1.losses.len(), 6);
}

#[test]
fn an_expiry_of_the_whole_fleet_is_held_but_renewal_goes_on() {
    let mut given = settled_at(4, 3, "2026-08-01T00:00:00Z");
    let (approved, held) = judged(&given);
    assert_eq!(held.losses.len(), 12);
    assert!(held.losses.iter().all(|loss| loss.kind == LossKind::Expiry));
    let kinds = |action: &Action| match action {
        Action::Issue(_) => "issue",
        Action::Install(_) => "install",
        Action::Revoke(_) => "revoke",
        Action::End(_) => "end",
    };
    let kinds: BTreeSet<&str> = approved.plan().actions.iter().map(kinds).collect();
    assert_eq!(kinds, BTreeSet::from(["install", "issue"]));
    // A service that is down must not cost anybody their lines.
    let mut services = Services::default();
    let dead = Behaviour { mood: Mood::Silent, ..Behaviour::default() };
    (0..3).for_each(|number| services.set(service(number).as_str(), dead));
    let before = format!("{:?}", given.actual.installed);
    simulated::apply(&mut given, &mut services, approved);
    assert_eq!(before, format!("{:?}", given.actual.installed));
}

#[test]
fn an_expiry_of_a_few_is_not_held() {
    let mut given = settled(40, 1);
    for number in 0..4 {
        let tokens = given.actual.tokens.get_mut(&user(number)).unwrap();
        let token = &mut tokens.get_mut(&service(0)).unwrap()[0];
        token.grant.as_mut().unwrap().expires_at = "2026-11-20T00:00:00Z".parse().unwrap();
    }
    assert!(judged(&given).1.is_empty());
}

#[test]
fn a_limit_counts_for_each_service_by_itself() {
    let mut given = settled(30, 8);
    (0..6).for_each(|number| unwant(&mut given, number, 0));
    unwant(&mut given, 9, 1);
    let (approved, held) = judged(&given);
    assert_eq!(
        held.losses.len(),
        6,
        "6 of 30 is too many for one service, 7 of 240 is not for all"
    );
    assert!(held.losses.iter().all(|loss| loss.service == service(0)));
    assert!(leaves_alone(&approved, &held));
    assert_eq!(approved.plan().losses.len(), 1);
}

#[test]
fn a_tenth_of_a_hundred_connections_may_go_and_no_more() {
    let mut given = settled(50, 2);
    (0..5).for_each(|number| unwant(&mut given, number, 0));
    (0..5).for_each(|number| unwant(&mut given, number + 10, 1));
    assert!(judged(&given).1.is_empty(), "10 of 100");
    unwant(&mut given, 20, 1);
    assert_eq!(judged(&given).1.losses.len(), 11, "11 of 100");
}

#[test]
fn a_token_whose_successor_is_delivered_does_not_count() {
    let mut given = settled(20, 1);
    for number in 0..20 {
        let tokens = given.actual.tokens.get_mut(&user(number)).unwrap();
        let tokens = tokens.get_mut(&service(0)).unwrap();
        let mut old = tokens[0].clone();
        old.op = support::given::op(&format!("e{number:02x}"));
        old.phase = Phase::Retiring;
        tokens.insert(0, old);
    }
    let (approved, held) = judged(&given);
    assert!(held.is_empty());
    assert_eq!(approved.plan().actions.len(), 20);
    assert!(approved.plan().losses.is_empty());
}

#[test]
fn newcomers_are_never_held() {
    let (approved, held) = judged(&newcomers(30, 3));
    assert!(held.is_empty());
    assert_eq!(approved.plan().actions.len(), 30 * 4);
}

#[test]
fn limits_may_be_narrower() {
    let mut given = settled(3, 3);
    given.limits = Limits { at_least: 0, percent: 0, approved: Vec::new() };
    unwant(&mut given, 0, 0);
    assert!(judged(&given).1.is_empty(), "one user's removals are never held");
    unwant(&mut given, 1, 0);
    assert_eq!(judged(&given).1.losses.len(), 2);
}

#[test]
fn approving_nothing_approves_nothing() {
    let mut given = settled(3, 8);
    given.limits.approved = vec![Held::default().digest(), Digest::of("something")];
    unwant_all(&mut given, 0);
    unwant_all(&mut given, 1);
    assert_eq!(judged(&given).1.losses.len(), 16);
}
