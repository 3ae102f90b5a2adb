//! What holds for every plan: it converges, it is named stably, and what cannot be seen is not
//! taken away.

mod support;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use service_connector::model::action::{Action, Content, IssueReason, RevokeReason};
use service_connector::model::actual::Backoff;
use service_connector::model::digest::Digest;
use service_connector::model::guard::{Held, approve};
use service_connector::model::home::{FileFacts, HomeLook, LaptopSeen};
use service_connector::model::name::OpId;
use service_connector::model::plan::due::due;
use service_connector::model::plan::text::{Palette, text};
use service_connector::model::plan::{Scope, View, debts};
use service_connector::model::registry::Contract;
use service_connector::model::token::{Phase, days, later};

use support::fleet::{self, change_service, service, settled, settled_at, unwant, user};
use support::given::{Given, op};
use support::services::Services;
use support::simulated;
use support::variant::{BindingKind, Variant, WishKind, now};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// One pass, after which there is nothing to do, at once and a minute later.
fn converges(given: &mut Given, services: &mut Services) -> Result<(), String> {
    let digest = given.plan().digest(&given.actual);
    if digest != given.plan().digest(&given.actual) {
        return Err("two calls, two digests".to_owned());
    }
    simulated::pass(given, services);
    for wait in [SignedDuration::ZERO, MINUTE] {
        given.now += wait;
        let plan = given.plan();
        if !plan.is_empty() {
            let held = Held::default();
            let view = View {
                plan: &plan,
                held: &held,
                registry: &given.registry,
                actual: &given.actual,
                at: given.now,
            };
            let text = text(&view, &Palette::PLAIN);
            return Err(format!("{wait} after its apply, at {}:\n{text}", given.now));
        }
    }
    orphans(given, services)
}

/// Whatever can be used is known to the state.
fn orphans(given: &Given, services: &Services) -> Result<(), String> {
    let tokens = given.actual.tokens.values().flat_map(|of| of.values()).flatten();
    let known: BTreeSet<OpId> = tokens.map(|token| token.op.clone()).collect();
    let alive = services.alive.iter().filter(|(_, end)| **end > given.now).map(|(op, _)| op);
    let orphans: Vec<&OpId> = alive.filter(|op| !known.contains(*op)).collect();
    if orphans.is_empty() { Ok(()) } else { Err(format!("orphans: {orphans:?}")) }
}

/// The key that works is in the home, whenever the connection is wanted and not paused.
fn has_key(given: &Given) -> bool {
    let record = &given.actual.installed[&user(0)][user(0).as_str()];
    let op = record.pieces.get(&service(0)).and_then(|piece| piece.op.as_ref());
    let tokens = given.actual.tokens_of(&user(0), &service(0));
    tokens.iter().any(|token| {
        Some(&token.op) == op && token.phase == Phase::Active && !token.is_over(given.now)
    })
}

#[test]
fn every_ttl_converges_with_every_life_and_renewal() {
    for ttl_days in 1..=365 {
        let lives = [None, Some(HOUR), Some(days(ttl_days) / 2 + HOUR), Some(days(365))];
        for (life, renew_before_days) in
            lives.into_iter().flat_map(|life| [1, 15, 364].map(|renew| (life, renew)))
        {
            let variant = Variant { renew_before_days, life, ..Variant::plain(ttl_days) };
            let (mut given, mut services) = variant.given();
            converges(&mut given, &mut services)
                .unwrap_or_else(|error| panic!("{variant:?}: {error}"));
            assert!(has_key(&given), "{variant:?}");
        }
    }
}

#[test]
fn every_age_of_a_token_converges_with_every_wish() {
    let wishes = [
        WishKind::Plain,
        WishKind::RotateAfter(-1),
        WishKind::RotateAfter(1),
        WishKind::Leaked(-1),
        WishKind::Leaked(0),
        WishKind::Leaked(1),
        WishKind::Paused,
        WishKind::Shorter,
        WishKind::Unwanted,
    ];
    for (wish, grace_days) in wishes.into_iter().flat_map(|wish| [(wish, 0), (wish, 7)]) {
        for age_days in [0, 1, 29, 74, 76, 89, 90, 91] {
            let age_days = Some(age_days);
            let variant = Variant { grace_days, age_days, wish, ..Variant::plain(90) };
            let (mut given, mut services) = variant.given();
            converges(&mut given, &mut services)
                .unwrap_or_else(|error| panic!("{variant:?}: {error}"));
        }
    }
}

fn variants() -> impl Strategy<Value = Variant> {
    let wish = prop_oneof![
        Just(WishKind::Plain),
        (-100i64..100).prop_map(WishKind::RotateAfter),
        (-100i64..100).prop_map(WishKind::Leaked),
        Just(WishKind::Paused),
        Just(WishKind::Shorter),
        Just(WishKind::Unwanted),
    ];
    let binding = prop_oneof![
        3 => Just(BindingKind::Same),
        1 => Just(BindingKind::OtherEmail),
        1 => Just(BindingKind::OtherAccount),
        1 => Just(BindingKind::OtherUid),
    ];
    let contract = prop_oneof![Just(Contract::V1), Just(Contract::V2)];
    let life = proptest::option::of((1i64..24 * 366).prop_map(SignedDuration::from_hours));
    let age = proptest::option::of(0u16..400);
    let grace = prop_oneof![Just(0u16), 1u16..90];
    (1u16..=365, 1u16..=364, grace, contract, life, age, wish, binding).prop_map(
        |(ttl_days, renew_before_days, grace_days, contract, life, age_days, wish, binding)| {
            let (ttl_days, renew_before_days) = (ttl_days, renew_before_days);
            Variant {
                ttl_days,
                renew_before_days,
                grace_days,
                contract,
                life,
                age_days,
                wish,
                binding,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_connection_converges_pass_after_pass(
        variant in variants(),
        waits in proptest::collection::vec(1i64..24 * 120, 0..6),
    ) {
        let (mut given, mut services) = variant.given();
        converges(&mut given, &mut services).map_err(TestCaseError::fail)?;
        for wait in waits {
            given.now += SignedDuration::from_hours(wait);
            converges(&mut given, &mut services).map_err(TestCaseError::fail)?;
            let tokens = given.actual.tokens_of(&user(0), &service(0));
            prop_assert!(tokens.len() <= 3, "too many tokens: {tokens:#?}");
            let wanted = !matches!(variant.wish, WishKind::Paused | WishKind::Unwanted);
            prop_assert!(!wanted || has_key(&given), "no key that works");
        }
    }

    #[test]
    fn until_something_is_due_the_plan_is_the_same(
        variant in variants(),
        waits in proptest::collection::vec(1i64..24 * 120, 0..4),
        parts in proptest::collection::vec(0i64..1000, 8),
    ) {
        let (mut given, mut services) = variant.given();
        for wait in std::iter::once(0).chain(waits) {
            given.now += SignedDuration::from_hours(wait);
            simulated::pass(&mut given, &mut services);
            let began = given.now;
            let due = due(&given.actual, Some(&given.desired), &given.registry, began);
            let users: BTreeSet<_> =
                given.desired.users.keys().chain(given.actual.tokens.keys()).cloned().collect();
            for user in users {
                let first = due.users.get(&user).copied().into_iter().chain(due.of_all).min();
                // Without anything due, nothing ever changes: years are as good as for ever.
                let first = first.unwrap_or(later(began, days(2000)));
                let ahead = first.duration_since(began);
                given.scope = Scope::of_users([user]);
                let digest = given.plan().digest(&given.actual);
                for part in &parts {
                    given.now = later(began, ahead * i32::try_from(*part).unwrap() / 1000);
                    let then = given.plan().digest(&given.actual);
                    prop_assert!(then == digest, "at {}, before {first}", given.now);
                }
                given.now = began;
            }
            given.scope = Scope::default();
        }
    }

    #[test]
    fn a_crash_anywhere_loses_nothing(
        variant in variants(),
        crashes in proptest::collection::vec(0usize..12, 1..4),
        wait in 0i64..24 * 120,
    ) {
        let variant = Variant { contract: Contract::V2, ..variant };
        let (mut given, mut services) = variant.given();
        for crash in crashes {
            let (approved, _) = approve(given.plan(), &given.limits);
            simulated::apply_until(&mut given, &mut services, approved, crash);
            orphans(&given, &services).map_err(TestCaseError::fail)?;
        }
        given.now += SignedDuration::from_hours(wait);
        // What began under an old plan may be over when its answer comes: refused, taken back, and
        // asked for anew after a backoff.
        for _ in 0..2 {
            simulated::pass(&mut given, &mut services);
            given.now += MINUTE;
        }
        converges(&mut given, &mut services).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_grace_is_kept_and_no_longer() {
    let variant = Variant { age_days: Some(80), ..Variant::plain(90) };
    let (mut given, mut services) = variant.given();
    converges(&mut given, &mut services).unwrap();
    let phases = |given: &Given| -> Vec<Phase> {
        given.actual.tokens_of(&user(0), &service(0)).iter().map(|token| token.phase).collect()
    };
    assert_eq!(phases(&given), [Phase::Retiring, Phase::Active]);
    given.now += days(7) - HOUR;
    assert!(given.plan().is_empty());
    given.now += HOUR;
    converges(&mut given, &mut services).unwrap();
    assert_eq!(phases(&given), [Phase::Active]);
}

#[test]
fn without_a_grace_the_old_key_goes_in_the_same_pass_once_the_new_one_is_delivered() {
    let variant = Variant { age_days: Some(80), grace_days: 0, ..Variant::plain(90) };
    let (mut given, mut services) = variant.given();
    converges(&mut given, &mut services).unwrap();
    assert_eq!(given.actual.tokens_of(&user(0), &service(0)).len(), 1);
    let (mut given, mut services) = variant.given();
    let away = HomeLook::Unknown("away".to_owned());
    given.actual.homes.insert(user(0).as_str().parse().unwrap(), away);
    simulated::pass(&mut given, &mut services);
    let tokens = given.actual.tokens_of(&user(0), &service(0));
    assert_eq!(tokens.len(), 2, "the old key stays until the new one is in the home");
}

#[test]
fn while_a_newer_token_is_undelivered_no_third_is_asked_for() {
    let mut given = settled(1, 1);
    let away = HomeLook::Unknown("away".to_owned());
    given.actual.homes.insert(user(0).as_str().parse().unwrap(), away);
    for _ in 0..4 {
        let entry = given.desired.users.get_mut(&user(0)).unwrap();
        entry.connections.get_mut(&service(0)).unwrap().rotate_after = Some(given.now);
        simulated::pass(&mut given, &mut Services::default());
        given.now += MINUTE;
        assert_eq!(given.actual.tokens_of(&user(0), &service(0)).len(), 2);
    }
}

#[test]
fn a_home_that_cannot_be_looked_at_keeps_its_files_and_blocks_nothing_else() {
    for look in [Some(HomeLook::Unknown("away".to_owned())), None] {
        let mut given = settled(3, 3);
        let account = user(0).as_str().parse().unwrap();
        match look {
            Some(look) => given.actual.homes.insert(account, look),
            None => given.actual.homes.remove(&account),
        };
        unwant(&mut given, 0, 1);
        unwant(&mut given, 1, 1);
        let plan = given.plan();
        let revoked: Vec<_> =
            plan.actions.iter().filter(|a| matches!(a, Action::Revoke(_))).collect();
        assert_eq!(revoked.len(), 2, "no revoke waits for a home");
        for action in &plan.actions {
            let Action::Install(install) = action else { continue };
            let removed = install.slots.values().any(|slot| slot.after.is_none());
            assert_eq!(removed, install.user == user(1), "{install:?}");
        }
        let before = given.actual.installed[&user(0)].clone();
        simulated::pass(&mut given, &mut Services::default());
        assert_eq!(before, given.actual.installed[&user(0)]);
        assert!(
            !given.actual.installed[&user(1)][user(1).as_str()].pieces.contains_key(&service(1))
        );
    }
}

#[test]
fn a_former_home_that_cannot_be_looked_at_keeps_its_files() {
    let variant =
        Variant { age_days: Some(5), binding: BindingKind::OtherAccount, ..Variant::plain(90) };
    let (mut given, mut services) = variant.given();
    let away = HomeLook::Unknown("away".to_owned());
    let seen = given.actual.homes.insert("former".parse().unwrap(), away).unwrap();
    assert!(given.plan().installs_mut().all(|install| install.account.as_str() != "former"));
    simulated::pass(&mut given, &mut services);
    assert!(given.actual.installed[&user(0)].contains_key("former"));
    assert!(has_key(&given), "the present home has its key");
    given.actual.homes.insert("former".parse().unwrap(), seen);
    converges(&mut given, &mut services).unwrap();
    assert!(!given.actual.installed[&user(0)].contains_key("former"));
}

#[test]
fn no_home_ever_gets_a_key_that_is_bound_to_another_account() {
    let variant =
        Variant { age_days: Some(5), binding: BindingKind::OtherAccount, ..Variant::plain(90) };
    for broken in [false, true] {
        for wish in [WishKind::Plain, WishKind::Paused, WishKind::Unwanted] {
            let (given, _) = Variant { wish, ..variant.clone() }.given();
            let mut given = given;
            if broken {
                let entry = service_connector::model::registry::Entry::Broken("x".to_owned());
                given.registry.entries.insert(service(0), entry);
            }
            for install in given.plan().installs_mut().filter(|install| !install.leaves) {
                let keeps = |content: &Content| content.keeps_lines();
                let keys = install.slots.values().filter_map(|slot| slot.after.as_ref()).any(keeps);
                assert!(!keys, "broken: {broken}, {wish:?}: {install:?}");
            }
        }
    }
}

#[test]
fn a_reason_is_given_for_what_it_is() {
    let reason = |variant: &Variant| {
        let (given, _) = variant.given();
        given.plan().actions.iter().find_map(|action| match action {
            Action::Issue(issue) => Some(issue.why),
            _ => None,
        })
    };
    let aged = |age| Variant { age_days: Some(age), ..Variant::plain(90) };
    assert_eq!(reason(&Variant::plain(90)), Some(IssueReason::Connected));
    assert_eq!(reason(&aged(10)), None);
    assert!(matches!(reason(&aged(80)), Some(IssueReason::RenewalDue(_))));
    let leaked = Variant { wish: WishKind::Leaked(-1), ..aged(10) };
    assert!(matches!(reason(&leaked), Some(IssueReason::Leaked(_))));
    let (given, _) = leaked.given();
    let revoked = |action: &Action| {
        matches!(action, Action::Revoke(revoke)
            if matches!(revoke.why, RevokeReason::Leaked(_)) && !revoke.after_delivery)
    };
    assert!(given.plan().actions.iter().any(revoked), "a leaked key gets no grace");
}

#[test]
fn the_digest_changes_with_whatever_a_plan_does_or_found() {
    let digest = |change: &dyn Fn(&mut Given)| {
        let mut given = settled_at(2, 1, "2026-09-03T00:00:00Z");
        change(&mut given);
        given.plan().digest(&given.actual)
    };
    let first = |given: &mut Given,
                 change: &dyn Fn(&mut service_connector::model::token::Token)| {
        let tokens = given.actual.tokens.get_mut(&user(0)).unwrap();
        change(&mut tokens.get_mut(&service(0)).unwrap()[0]);
    };
    let mut digests = vec![
        digest(&|_| {}),
        digest(&|given| first(given, &|token| token.op = op("77"))),
        digest(&|given| {
            first(given, &|token| {
                token.grant.as_mut().unwrap().fingerprint = "00000001".parse().unwrap();
            });
        }),
        digest(&|given| {
            let HomeLook::Seen(facts) = given.actual.homes.values_mut().next().unwrap() else {
                return;
            };
            let file = FileFacts { digest: Digest::of("else"), mode_ok: true };
            facts.env.as_mut().unwrap().file = file;
        }),
        digest(&|given| change_service(given, &service(0), |entry| entry.ttl_days = 30)),
        digest(&|given| {
            change_service(given, &service(0), |entry| entry.rendition.skill_text += "more\n");
        }),
        digest(&|given| {
            change_service(given, &service(0), |entry| {
                entry.endpoint.exchange_url = "https://elsewhere.example.com/x".to_owned();
            });
        }),
        digest(&|given| unwant(given, 1, 0)),
        digest(&|given| given.desired.users.clear()),
    ];
    let all = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), all);
}

#[test]
fn the_digest_does_not_change_with_times_and_reasons() {
    let mut given = settled_at(2, 1, "2026-09-03T00:00:00Z");
    let digest = given.plan().digest(&given.actual);
    given.now += HOUR;
    assert_eq!(digest, given.plan().digest(&given.actual));
    for entry in given.desired.users.values_mut() {
        let wish = entry.connections.get_mut(&service(0)).unwrap();
        wish.rotate_after = Some(now());
    }
    assert_eq!(digest, given.plan().digest(&given.actual), "the same actions, another reason");
    let seen = given.actual.homes.values_mut().next().unwrap();
    if let HomeLook::Seen(facts) = seen {
        facts.env.as_mut().unwrap().generation = Some(900);
    }
    assert_eq!(digest, given.plan().digest(&given.actual), "another generation");
}

#[test]
fn a_fleet_does_not_renew_at_once() {
    let given = settled(200, 1);
    let due: BTreeSet<Timestamp> = given
        .actual
        .tokens
        .values()
        .map(|services| services[&service(0)][0].renewal_due(15).unwrap())
        .collect();
    let spread = due.last().unwrap().duration_since(*due.first().unwrap());
    assert!(due.len() > 150 && spread > days(2), "{} instants over {spread}", due.len());
    let end = given.actual.tokens[&user(0)][&service(0)][0].expires_at().unwrap();
    assert!(due.iter().all(|at| end.duration_since(*at) >= days(15)));
    assert_eq!(fleet::digits(1, 2), "00102");
}

#[test]
fn while_the_desired_state_cannot_be_read_only_debts_are_paid() {
    let mut given = settled_at(3, 2, "2026-08-01T00:00:00Z");
    let tokens = given.actual.tokens.get_mut(&user(0)).unwrap();
    tokens.get_mut(&service(1)).unwrap()[0].phase = Phase::Revoking;
    let plan = debts(&given.actual, &given.scope, given.now);
    let [Action::Revoke(revoke)] = plan.actions.as_slice() else { panic!("{:?}", plan.actions) };
    assert_eq!((&revoke.user, &revoke.service), (&user(0), &service(1)));
    assert_eq!(revoke.why, RevokeReason::Owed);
    let backoff = Backoff {
        until: later(given.now, HOUR),
        tries: 1,
        wish: Digest::of("whatever was desired"),
        message: "no answer".to_owned(),
    };
    given.actual.backoffs.entry(user(0)).or_default().insert(service(1), backoff);
    let plan = debts(&given.actual, &given.scope, given.now);
    assert!(plan.is_empty(), "a debt waits for its backoff, too");
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn a_scope_leaves_what_is_outside_as_it_is() {
    let mut given = settled(2, 2);
    given.desired.users.clear();
    given.scope = Scope::of_users([user(1)]);
    given.scope.service = Some(service(0));
    let plan = given.plan();
    assert_eq!(plan.losses.len(), 1);
    simulated::pass(&mut given, &mut Services::default());
    assert_eq!(given.actual.tokens[&user(0)].len(), 2);
    assert_eq!(given.actual.tokens[&user(1)].len(), 1);
    let record = &given.actual.installed[&user(1)][user(1).as_str()];
    assert!(!record.pieces.contains_key(&service(0)) && record.pieces.contains_key(&service(1)));
}

#[test]
fn the_digest_of_a_lone_revoke_covers_the_fingerprint() {
    let digest = |fingerprint: &str| {
        let mut given = settled(1, 1);
        given.actual.installed.clear();
        unwant(&mut given, 0, 0);
        let tokens = given.actual.tokens.get_mut(&user(0)).unwrap();
        let grant = tokens.get_mut(&service(0)).unwrap()[0].grant.as_mut().unwrap();
        grant.fingerprint = fingerprint.parse().unwrap();
        let plan = given.plan();
        assert!(matches!(plan.actions.as_slice(), [Action::Revoke(_)]));
        plan.digest(&given.actual)
    };
    assert_eq!(digest("00000001"), digest("00000001"));
    assert_ne!(digest("00000001"), digest("00000002"));
}

#[test]
fn a_home_is_looked_at_again_until_a_laptop_has_what_was_delivered_and_then_no_more() {
    let mut given = settled_at(1, 2, "2026-08-01T00:00:00Z");
    let deliveries = given.actual.tokens[&user(0)].values().flatten();
    let delivery = deliveries.filter_map(|token| token.delivered).max_by_key(|d| d.generation);
    let delivery = delivery.unwrap();
    let next = |given: &Given, now: Timestamp| {
        let due = due(&given.actual, Some(&given.desired), &given.registry, now);
        due.users.get(&user(0)).map(|at| at.duration_since(delivery.at).as_mins())
    };
    let (mut now, mut looks) = (delivery.at, Vec::new());
    while let Some(look) = next(&given, now).filter(|look| *look < 40) {
        looks.push(look);
        now = later(delivery.at, MINUTE * i32::try_from(look).unwrap());
    }
    assert_eq!(looks, [1, 2, 4, 8, 16, 32]);
    assert!(next(&given, now).is_none_or(|look| look >= 60), "then only what is due anyway");
    let seen = |generation| {
        let laptop = "0123456789abcdef".parse().unwrap();
        vec![LaptopSeen { laptop, generation, at: delivery.at }]
    };
    given.actual.laptops.insert(user(0), seen(delivery.generation - 1));
    assert_eq!(next(&given, delivery.at), Some(1), "that one has the older ones");
    given.actual.laptops.insert(user(0), seen(delivery.generation));
    assert!(next(&given, delivery.at).is_none_or(|look| look >= 60));
}
