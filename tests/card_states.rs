//! How a connection stands, as the person is told whose it is.

mod support;

use service_connector::model::card::{Can, Facts, Standing, State};
use service_connector::model::desired::DesiredUser;
use service_connector::model::kept_back::{KeptBack, KeptBy};
use service_connector::model::name::{ServiceId, UserId};

use support::given::{Given, plans, registry};

/// In use for three weeks, and good for another two months.
const IN_USE: &str = "tokens:\n\
  - { op: a1, user: john, service: crm, phase: active, asked: 2026-11-01T00:00:00Z, delivered: 2026-11-01T00:00:05Z }\n\
installed:\n  john: { john: { generation: 7, pieces: { crm: a1 } } }\n";

/// In use, and good for another three days.
const ENDING: &str = "tokens:\n\
  - { op: a1, user: john, service: crm, phase: active, asked: 2026-08-27T12:00:00Z, delivered: 2026-08-27T12:00:05Z }\n\
installed:\n  john: { john: { generation: 7, pieces: { crm: a1 } } }\n";

const FAILED: &str = "backoffs:\n\
  - { user: john, service: crm, until: 2026-11-22T12:10:00Z, tries: 2, message: \"POST /x: 400\" }\n";
const DOWN: &str = "troubles:\n  crm: { kind: down, until: 2026-11-22T12:05:00Z, message: \"it does not answer\" }\n";

/// A world in which John wishes this, or nothing.
fn given(wish: Option<&str>, actual: &str) -> Given {
    let connections = wish.map(|wish| format!("crm: {wish}")).unwrap_or_default();
    let desired = format!("version: 1\nusers:\n  john: {{ connections: {{ {connections} }} }}\n");
    let people = "version: 1\npeople: {}\nrules: [{ domain: your-domain.com }]\n";
    let actual = format!("now: 2026-11-22T12:00:00Z\n{actual}");
    Given::parse(&desired, people, registry(&plans()), &actual)
}

fn standing<'g>(given: &'g Given, kept_back: &[KeptBack]) -> Standing<'g> {
    let (user, service) = ids();
    let person = given.people.person(&user).unwrap();
    let entry = given.registry.entries.get(&service);
    let known = given.registry.service(&service);
    let nobody = DesiredUser::default();
    let desired = given.desired.users.get(&user).unwrap_or(&nobody);
    let id = given.registry.entries.keys().find(|id| **id == service).unwrap();
    let facts = Facts {
        service: id,
        entry,
        allowed: known.is_none_or(|known| known.allow.covers(&user, &person.email)),
        disabled: desired.disabled,
        wish: given.desired.users.get(&user).and_then(|user| user.connections.get(&service)),
        tokens: given.actual.tokens_of(&user, &service),
        installed: given.actual.installed.get(&user),
        backoff: given.actual.backoffs.get(&user).and_then(|of_user| of_user.get(&service)),
        trouble: given.actual.troubles.get(&service),
        now: given.now,
    };
    facts.standing(kept_back)
}

fn ids() -> (UserId, ServiceId) {
    ("john".parse().unwrap(), "crm".parse().unwrap())
}

fn kept(by: KeptBy, why: &str) -> Vec<KeptBack> {
    let (user, service) = ids();
    vec![KeptBack { user, service: Some(service), by, why: why.to_owned() }]
}

#[track_caller]
fn holds(
    wish: Option<&str>,
    actual: &str,
    kept_back: &[KeptBack],
    state: State,
    can: &[Can],
) -> String {
    let given = given(wish, actual);
    let standing = standing(&given, kept_back);
    assert_eq!((standing.state, &*standing.can), (state, can), "{}", standing.message);
    standing.message
}

#[test]
fn what_nobody_wants_and_nothing_is_left_of_can_be_connected() {
    assert_eq!(holds(None, "", &[], State::NotConnected, &[Can::Connect]), "");
}

#[test]
fn what_is_wanted_and_has_not_come_is_on_its_way() {
    holds(Some("{}"), "", &[], State::Connecting, &[Can::Disconnect]);
    let issuing = "tokens:\n  - { op: a1, user: john, service: crm, phase: issuing, asked: 2026-11-22T11:59:00Z }\n";
    holds(Some("{}"), issuing, &[], State::Connecting, &[Can::Disconnect]);
    // A key that is not in the home yet is none; one that was there stays while files are put.
    let put = IN_USE.replace("generation: 7,", "generation: 7, unconfirmed: true,");
    let undelivered = put.replace(", delivered: 2026-11-01T00:00:05Z", "");
    holds(Some("{}"), &undelivered, &[], State::Connecting, &[Can::Disconnect]);
    holds(Some("{}"), &put, &[], State::Connected, &[Can::Disconnect, Can::Rotate]);
}

#[test]
fn a_key_in_the_home_is_connected_with_its_times() {
    let given = given(Some("{}"), IN_USE);
    let standing = standing(&given, &[]);
    assert_eq!(standing.state, State::Connected);
    assert_eq!(standing.can, [Can::Disconnect, Can::Rotate]);
    let key = standing.key.unwrap();
    assert_eq!(key.since.to_string(), "2026-11-01T00:00:00Z");
    assert_eq!(key.until.unwrap().to_string(), "2027-01-30T00:00:00Z");
    assert_eq!((key.generation, standing.retry_at, standing.old_key_until), (Some(1), None, None));
}

#[test]
fn a_key_that_is_to_be_replaced_is_renewing_and_says_if_it_leaked() {
    let both = [Can::Disconnect, Can::Rotate];
    let newer = format!(
        "{}- {{ op: b2, user: john, service: crm, phase: issuing, asked: 2026-11-22T11:59:00Z }}\n{}",
        &IN_USE[..IN_USE.find("installed").unwrap()],
        &IN_USE[IN_USE.find("installed").unwrap()..]
    );
    holds(Some("{}"), &newer, &[], State::Renewing, &both);
    let rotated = "{ rotate_after: 2026-11-22T11:59:59Z }";
    let said = holds(Some(rotated), IN_USE, &[], State::Renewing, &both);
    assert!(said.contains("The present one works"), "{said}");
    let leaked = "{ revoke_issued_before: 2026-11-22T11:59:59Z }";
    let said = holds(Some(leaked), IN_USE, &[], State::Renewing, &both);
    assert!(said.contains("leaked"), "{said}");
    // A rotation that is done, and one that is yet to come.
    holds(Some("{ rotate_after: 2026-10-01T00:00:00Z }"), IN_USE, &[], State::Connected, &both);
    holds(Some("{ rotate_after: 2026-12-01T00:00:00Z }"), IN_USE, &[], State::Connected, &both);
}

#[test]
fn a_key_that_was_replaced_says_how_long_it_lives() {
    let retiring = format!(
        "tokens:\n- {{ op: b2, user: john, service: crm, phase: retiring, asked: 2026-10-01T00:00:00Z, since: 2026-11-20T00:00:00Z }}\n{}",
        &IN_USE["tokens:\n".len()..]
    );
    let given = given(Some("{}"), &retiring);
    let until = standing(&given, &[]).old_key_until.unwrap();
    assert_eq!(until.to_string(), "2026-11-27T00:00:00Z");
}

#[test]
fn a_key_that_ends_soon_and_is_not_renewed_says_why() {
    let paused =
        holds(Some("{ paused: true }"), ENDING, &[], State::ExpiringSoon, &[Can::Disconnect]);
    assert!(paused.contains("paused"), "{paused}");
    let both = [Can::Disconnect, Can::Rotate];
    let failing = format!("{ENDING}{FAILED}");
    let said = holds(Some("{}"), &failing, &[], State::ExpiringSoon, &both);
    assert!(said.contains("POST /x: 400."), "{said}");
    holds(Some("{}"), &format!("{ENDING}{DOWN}"), &[], State::ExpiringSoon, &both);
    holds(Some("{ paused: true }"), IN_USE, &[], State::Connected, &[Can::Disconnect]);
}

#[test]
fn a_key_that_has_ended_and_could_not_be_renewed_is_expired() {
    let ended = "installed:\n  john: { john: { generation: 8, pieces: { crm: expired } } }\n";
    let can = [Can::Disconnect, Can::Retry];
    holds(Some("{}"), &format!("{ended}{FAILED}"), &[], State::Expired, &can);
    holds(Some("{ paused: true }"), ended, &[], State::Expired, &[Can::Disconnect]);
}

#[test]
fn what_failed_says_why_and_when_it_is_tried_again_until_somebody_asks_for_another_try() {
    let given_ = given(Some("{}"), FAILED);
    let found = standing(&given_, &[]);
    assert_eq!((found.state, &*found.can), (State::Failed, &[Can::Disconnect, Can::Retry][..]));
    assert_eq!(found.retry_at.unwrap().to_string(), "2026-11-22T12:10:00Z");
    let mut retried = given(Some("{}"), FAILED);
    let (user, service) = ids();
    let wish = retried.desired.users.get_mut(&user).unwrap().connections.get_mut(&service).unwrap();
    wish.retried_at = Some(retried.now);
    assert_eq!(standing(&retried, &[]).state, State::Connecting);
}

#[test]
fn a_service_that_is_down_is_nobodys_fault_here() {
    let said = holds(Some("{}"), DOWN, &[], State::ServiceDown, &[Can::Disconnect]);
    assert!(said.contains("does not answer"), "{said}");
    let refused = DOWN.replace("down", "secret_refused");
    let said = holds(Some("{}"), &refused, &[], State::ServiceDown, &[Can::Disconnect]);
    assert!(said.contains("refuses this portal"), "{said}");
    // Who has a key keeps it.
    let both = [Can::Disconnect, Can::Rotate];
    holds(Some("{}"), &format!("{IN_USE}{DOWN}"), &[], State::Connected, &both);
}

#[test]
fn what_a_pass_found_in_the_way_is_told() {
    let blocked = kept(KeptBy::Block, "account john: no such account");
    let said = holds(Some("{}"), "", &blocked, State::Blocked, &[Can::Disconnect]);
    assert!(said.contains("no such account"), "{said}");
    let failed = kept(KeptBy::Failure, "the home of john: no space left");
    holds(Some("{}"), "", &failed, State::Failed, &[Can::Disconnect]);
    let held = kept(KeptBy::Guard, "9 of 20 connections would go");
    let said = holds(None, IN_USE, &held, State::Held, &[Can::Connect]);
    assert!(said.contains("administrator"), "{said}");
    // Once it is gone, nothing holds it.
    holds(None, "", &held, State::NotConnected, &[Can::Connect]);
}

#[test]
fn what_is_taken_back_says_what_is_left() {
    holds(None, IN_USE, &[], State::Disconnecting, &[Can::Connect]);
    let owed = "tokens:\n  - { op: a1, user: john, service: crm, phase: revoking, asked: 2026-11-01T00:00:00Z }\n";
    let said = holds(None, &format!("{owed}{FAILED}"), &[], State::Disconnecting, &[Can::Connect]);
    assert!(said.contains("out of your files"), "{said}");
    let files = kept(KeptBy::Failure, "the home cannot be reached");
    let said = holds(None, IN_USE, &files, State::Disconnecting, &[Can::Connect]);
    assert!(said.contains("cannot be reached"), "{said}");
}

#[test]
fn who_may_not_have_a_service_can_only_give_it_back() {
    let mut refused = given(Some("{}"), IN_USE);
    support::fleet::change_service(&mut refused, &ids().1, |service| {
        service.allow = <_>::default();
    });
    let found = standing(&refused, &[]);
    assert_eq!((found.state, &*found.can), (State::Disconnecting, &[Can::Disconnect][..]));
    let mut nothing = given(None, "");
    support::fleet::change_service(&mut nothing, &ids().1, |service| {
        service.allow = <_>::default();
    });
    let found = standing(&nothing, &[]);
    assert_eq!((found.state, found.can), (State::NotAllowed, vec![]));
    let mut retired = given(None, "");
    support::fleet::change_service(&mut retired, &ids().1, |service| service.retired = true);
    assert_eq!(standing(&retired, &[]).state, State::NotAllowed);
    let mut disabled = given(None, "");
    disabled.desired.users.get_mut(&ids().0).unwrap().disabled = true;
    let found = standing(&disabled, &[]);
    assert_eq!((found.state, found.can), (State::NotAllowed, vec![]));
}
