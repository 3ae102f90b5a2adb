//! `check-service`, by the real program: it passes the right reference service, finds what is
//! planted in a wrong one, and leaves nothing alive, whatever ends it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use service_connector::conformance::rule;
use service_connector::example_service::{Contract, Fault, Faults, Kind, On};
use service_connector::model::registry::Contract as OurContract;

use scene::{Ran, Scene, wait_until};

#[path = "support/scene.rs"]
mod scene;
#[path = "support/service.rs"]
mod service;

const CRM: Kind = Kind::Crm;
const PROBE: [&str; 2] = ["--probe", "/api/v1/me"];

fn v1() -> Scene {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    scene.entry(CRM, "contract: v2", "contract: v1");
    scene
}

fn check(scene: &Scene, more: &[&str]) -> Ran {
    let ran = scene.run(&[&["check-service", CRM.id()], more].concat());
    assert!(!ran.text().contains("pk_live_"), "a key is in what the check said");
    ran
}

fn names(json: &Value, result: &str) -> BTreeSet<String> {
    let checks = json["checks"].as_array().unwrap().iter();
    let found = checks.filter(|check| check["result"] == result);
    found.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn journal(scene: &Scene) -> String {
    fs::read_to_string(scene.path("state/check-service-crm.journal")).unwrap()
}

#[track_caller]
fn assert_nothing_left(scene: &Scene) {
    assert_eq!(scene.live(CRM), [], "no token is alive");
    assert_eq!(journal(scene), "", "nothing is owed");
}

/// Exactly these rules are found to be broken, and nothing is left behind.
#[track_caller]
fn finds(scene: &Scene, plant: impl FnOnce(&Faults), broken: &[&str]) {
    let faults = scene.faults(CRM);
    plant(faults);
    let ran = check(scene, &[&PROBE[..], &["--json"]].concat());
    faults.clear();
    faults.set_granted_life(None);
    faults.set_clock_offset(0);
    let json = ran.expect(1).json();
    assert_eq!(names(&json, "fail"), set(broken), "{json:#}");
    assert_eq!(json["ok"], false);
    assert_nothing_left(scene);
}

#[track_caller]
fn finds_fault(scene: &Scene, on: On, fault: Fault, broken: &[&str]) {
    finds(scene, |faults| faults.always(on, fault), broken);
}

#[test]
fn the_reference_service_keeps_every_rule() {
    let scene = Scene::new();
    let ran = check(&scene, &[&PROBE[..], &["--many", "--json"]].concat()).expect(0);
    let json = ran.json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["ok"], true);
    assert_eq!(json["email"], "conformance-check@your-domain.com");
    assert_eq!(names(&json, "fail"), set(&[]));
    assert_eq!(names(&json, "skip"), set(&["retry-after"]));
    assert_eq!(json["checks"].as_array().unwrap().len(), rule::ALL.len());
    assert_nothing_left(&scene);
    assert!(scene.issued(CRM).len() > 201);
}

#[test]
fn the_reference_service_of_contract_v1_keeps_every_rule_of_v1() {
    let scene = v1();
    let ran = check(&scene, &[&PROBE[..], &["--json"]].concat()).expect(0);
    let json = ran.json();
    assert_eq!(names(&json, "fail"), set(&[]));
    assert_eq!(names(&json, "skip"), set(&[]));
    let of_v1 = rule::ALL.iter().filter(|rule| rule.is_of(OurContract::V1));
    let of_v1: BTreeSet<String> = of_v1.map(|rule| rule.name.to_owned()).collect();
    assert_eq!(names(&json, "pass"), of_v1);
    assert_nothing_left(&scene);
}

#[test]
fn faults_of_v1_are_found() {
    let scene = v1();
    finds(&scene, |faults| faults.set_granted_life(Some(40 * 86_400)), &["expiry-as-asked"]);
    finds_fault(
        &scene,
        On::Revoke,
        Fault::UnknownIsNotFound,
        &["revoke-repeats", "revoke-unknown"],
    );
    finds_fault(&scene, On::Exchange, Fault::IgnoresSecret, &["exchange-needs-secret"]);
}

#[test]
fn what_nobody_can_revoke_with_v1_is_named_with_its_end_and_not_for_ever() {
    let scene = v1();
    scene.faults(CRM).always(On::All, Fault::BadRequestIsServerError);
    let ran = check(&scene, &[]).expect(1);
    ran.says("✗ malformed-refused").says("✗ nothing-left").says("contract v1 cannot revoke it");
    assert_eq!(scene.live(CRM), []);
    scene.faults(CRM).clear();
    check(&scene, &[]).expect(0).says("an earlier check left what was asked for");
    assert_nothing_left(&scene);
}

#[test]
fn faults_in_who_is_let_in_are_found() {
    let scene = Scene::new();
    finds_fault(&scene, On::Health, Fault::WrongSecret, &["health-open"]);
    finds_fault(&scene, On::Exchange, Fault::IgnoresSecret, &["exchange-needs-secret"]);
    finds_fault(&scene, On::Revoke, Fault::IgnoresSecret, &["revoke-needs-secret"]);
    finds_fault(&scene, On::List, Fault::IgnoresSecret, &["list-needs-secret"]);
    finds_fault(&scene, On::All, Fault::EchoesSecret, &["secret-not-shown"]);
}

#[test]
fn a_key_that_is_repeated_in_an_error_is_not_shown() {
    let marker = format!("pk_live_{:016x}", fastrand::u64(..));
    let scene = Scene::with(|config| config.key_prefix.clone_from(&marker));
    for code in [400, 500] {
        scene.faults(CRM).always(On::Exchange, Fault::RepeatsAll { code });
        let ran = check(&scene, &[]).expect(1);
        ran.says("(left out)").does_not_say(&marker);
        check(&scene, &["--json"]).expect(1).does_not_say(&marker);
        scene.faults(CRM).clear();
    }
}

#[test]
fn faults_in_what_an_exchange_brings_are_found() {
    let scene = Scene::new();
    let on = On::Exchange;
    finds_fault(&scene, on, Fault::MissingField, &["exchange-answer"]);
    finds_fault(&scene, on, Fault::DuplicateField, &["exchange-answer", "repeat-at-once"]);
    for fault in [Fault::NewlineInKey, Fault::SubstitutionInKey] {
        finds_fault(&scene, on, fault, &["key-alphabet", "key-works", "key-stops"]);
    }
    finds_fault(
        &scene,
        on,
        Fault::LongKey,
        &["key-alphabet", "two-asks-two-tokens", "key-works", "key-stops"],
    );
    finds_fault(&scene, on, Fault::PastExpiry, &["expiry-form", "list-has-live-tokens"]);
    finds(&scene, |faults| faults.set_granted_life(Some(40 * 86_400)), &["expiry-as-asked"]);
}

#[test]
fn faults_in_what_a_repeat_brings_are_found() {
    let scene = Scene::new();
    let on = On::Exchange;
    finds_fault(
        &scene,
        on,
        Fault::OtherKey,
        &["repeat-same-token", "repeat-at-once", "other-body-422", "key-works", "key-stops"],
    );
    finds_fault(
        &scene,
        on,
        Fault::NewTokenEachTime,
        &[
            "repeat-same-token",
            "repeat-at-once",
            "other-body-422",
            "gone-after-revoke-by-token-id",
            "revoke-by-client-ref",
            "gone-after-revoke",
            "late-exchange-refused",
            "list-has-live-tokens",
        ],
    );
    finds_fault(&scene, on, Fault::IgnoresOtherBody, &["other-body-422"]);
    finds_fault(&scene, on, Fault::IgnoresIdempotencyKey, &["idempotency-key-mismatch"]);
}

#[test]
fn faults_in_revokes_are_found() {
    let scene = Scene::new();
    let on = On::Revoke;
    finds_fault(&scene, on, Fault::ForgetsTombstones, &["late-exchange-refused"]);
    finds_fault(
        &scene,
        on,
        Fault::RevokesByIdOnly,
        &["revoke-by-client-ref", "gone-after-revoke", "late-exchange-refused"],
    );
    finds_fault(&scene, on, Fault::UnknownIsNotFound, &["revoke-repeats", "revoke-unknown"]);
    finds_fault(&scene, On::Business, Fault::Status { code: 200 }, &["key-stops"]);
}

#[test]
fn faults_in_the_list_are_found() {
    let scene = Scene::new();
    let on = On::List;
    finds_fault(&scene, on, Fault::EmptyList, &["list-has-live-tokens"]);
    finds_fault(
        &scene,
        on,
        Fault::CirclingCursor,
        &["list-has-live-tokens", "list-drops-revoked", "list-pages"],
    );
    finds_fault(
        &scene,
        on,
        Fault::NotJson,
        &[
            "list-needs-secret",
            "list-has-live-tokens",
            "list-drops-revoked",
            "list-pages",
            "json-content-type",
        ],
    );
    scene.faults(CRM).always(on, Fault::LongPages);
    let json = check(&scene, &["--many", "--json"]).expect(1).json();
    assert_eq!(names(&json, "fail"), set(&["list-pages"]));
    assert_nothing_left(&scene);
}

#[test]
fn faults_of_every_answer_are_found() {
    let scene = Scene::new();
    finds_fault(&scene, On::List, Fault::BadDate, &["date-header"]);
    finds(&scene, |faults| faults.set_clock_offset(3600), &["clock", "expiry-as-asked"]);
    finds_fault(
        &scene,
        On::Exchange,
        Fault::Redirect,
        &[
            "no-redirect",
            "exchange-needs-secret",
            "exchange-answer",
            "repeat-at-once",
            "idempotency-key-mismatch",
            "late-exchange-refused",
            "malformed-refused",
        ],
    );
    finds_fault(&scene, On::Health, Fault::HugeAnswer, &["answer-size"]);
    finds_fault(&scene, On::Revoke, Fault::WrongContentType, &["json-content-type"]);
    finds_fault(&scene, On::Exchange, Fault::PlainErrors, &["problem-json"]);
    finds_fault(
        &scene,
        On::All,
        Fault::BadRequestIsServerError,
        &["idempotency-key-mismatch", "malformed-refused"],
    );
    finds(
        &scene,
        |faults| faults.next(On::Exchange, Fault::Status { code: 429 }, 1),
        &["retry-after"],
    );
}

#[test]
fn a_service_that_asks_for_patience_gets_it() {
    let scene = Scene::new();
    scene.faults(CRM).next(On::Exchange, Fault::TooManyRequests { retry_after: 1 }, 2);
    scene.faults(CRM).next(On::Revoke, Fault::Unavailable { retry_after: 1 }, 1);
    let json = check(&scene, &["--json"]).expect(0).json();
    assert!(names(&json, "pass").contains("retry-after"));
    assert_nothing_left(&scene);
}

#[test]
fn what_cannot_be_revoked_is_named_and_is_revoked_by_the_next_run() {
    let scene = Scene::new();
    for fault in [Fault::RevokesNothing, Fault::ServerError] {
        scene.faults(CRM).always(On::Revoke, fault);
        let json = check(&scene, &["--json"]).expect(1).json();
        assert!(names(&json, "fail").contains("nothing-left"), "{json:#}");
        assert!(!json["left"].as_array().unwrap().is_empty());
        assert!(!journal(&scene).is_empty());
        assert_ne!(scene.live(CRM), []);
        scene.faults(CRM).clear();
        let json = check(&scene, &["--json"]).expect(0).json();
        assert!(json["recovered"].as_u64().unwrap() > 5);
        assert_nothing_left(&scene);
    }
}

#[test]
fn the_token_of_somebody_else_is_never_revoked() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    scene.faults(CRM).always(On::Exchange, Fault::OtherTokenId);
    let json = check(&scene, &["--json"]).expect(1).json();
    assert!(names(&json, "fail").contains("two-asks-two-tokens"), "{json:#}");
    assert!(scene.works(CRM, &key));
    assert_eq!(scene.live(CRM).len(), 1);
    assert_eq!(journal(&scene), "");
}

#[test]
fn where_nobody_listens_nothing_is_owed() {
    let scene = v1();
    let address = scene.service(CRM).running.base_url();
    scene.entry(CRM, &address, "http://127.0.0.1:1");
    let json = check(&scene, &["--json"]).expect(1).json();
    assert_eq!(names(&json, "pass"), set(&["nothing-left"]));
    assert_nothing_left(&scene);
}

#[test]
fn a_service_that_is_down_is_told_in_time() {
    let scene = Scene::new();
    scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 1");
    scene.faults(CRM).always(On::All, Fault::Hang);
    let begin = std::time::Instant::now();
    let ran = check(&scene, &[]).expect(1);
    ran.says("timed out after 1 s").says("does not answer any more");
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
}

/// Starts a check of a slow service, and waits until it has asked for some tokens.
fn under_way(scene: &Scene) -> std::process::Child {
    scene.faults(CRM).always(On::Exchange, Fault::Delay { millis: 150 });
    let before = scene.issued(CRM).len();
    let child = scene.start(&["check-service", CRM.id()]);
    wait_until("the check issues tokens", || scene.issued(CRM).len() >= before + 4);
    child
}

#[test]
fn an_interrupted_run_revokes_what_it_asked_for() {
    for scene in [Scene::new(), v1()] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let child = under_way(&scene);
            kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
            let ran = scene.wait(child).expect(1);
            ran.says("Interrupted");
            scene.faults(CRM).clear();
            assert_nothing_left(&scene);
        }
    }
}

#[test]
fn the_run_after_one_that_was_killed_revokes_what_that_asked_for() {
    let scene = Scene::new();
    let mut child = under_way(&scene);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!journal(&scene).is_empty());
    assert_ne!(scene.live(CRM), []);
    let mode = fs::metadata(scene.path("state/check-service-crm.journal")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    scene.faults(CRM).clear();
    let ran = check(&scene, &[]).expect(0);
    ran.says("of a check that was cut off were revoked first");
    assert_nothing_left(&scene);
}

#[test]
fn a_journal_that_is_none_is_left_alone() {
    let scene = Scene::new();
    let diary = scene.path("diary");
    fs::write(&diary, "Dear diary").unwrap();
    let ran = check(&scene, &["--journal", diary.to_str().unwrap()]).expect(1);
    ran.says("is not a journal of check-service");
    assert_eq!(fs::read_to_string(&diary).unwrap(), "Dear diary");
    assert_eq!(scene.calls(CRM), (0, 0));
}

#[test]
fn two_checks_of_one_service_do_not_meet() {
    let scene = Scene::new();
    let child = under_way(&scene);
    check(&scene, &[]).expect(1).says("another check of this service is under way");
    scene.faults(CRM).clear();
    scene.wait(child).expect(0);
    assert_nothing_left(&scene);
}

#[test]
fn the_text_says_what_is_broken_and_why_it_matters() {
    let scene = Scene::new();
    scene.faults(CRM).always(On::Revoke, Fault::ForgetsTombstones);
    let ran = check(&scene, &["--email", "eva@your-domain.com"]).expect(1);
    ran.says("tokens for eva@your-domain.com")
        .says("✓ health-open: ")
        .says("✗ late-exchange-refused: ")
        .says("410 was to come")
        .says("Why it matters: an exchange that arrives after its revoke")
        .says("> POST /api/internal/token-revoke {\"client_ref\":\"sc1:")
        .says("- list-pages: ")
        .says("1 broken");
}

#[test]
fn the_junit_report_is_xml_with_each_rule() {
    let scene = Scene::new();
    scene.faults(CRM).always(On::Revoke, Fault::UnknownIsNotFound);
    let file = scene.path("report.xml");
    check(&scene, &["--junit", file.to_str().unwrap()]).expect(1);
    let xml = fs::read_to_string(file).unwrap();
    let mut reader = quick_xml::Reader::from_str(&xml);
    let (mut cases, mut failures) = (0, 0);
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Eof => break,
            quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag) => {
                cases += usize::from(tag.name().as_ref() == b"testcase");
                failures += usize::from(tag.name().as_ref() == b"failure");
            }
            _ => {}
        }
    }
    assert_eq!((cases, failures), (rule::ALL.len(), 2), "{xml}");
    assert!(xml.contains(r#"failures="2""#) && xml.contains(r#"skipped="4""#), "{xml}");
}

#[test]
fn the_document_for_owners_has_each_rule_in_its_words() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/service-contract.md");
    let document = fs::read_to_string(path).unwrap();
    let of = |rule: &rule::Rule| if rule.is_of(OurContract::V1) { "v1, v2" } else { "v2" };
    let rows = rule::ALL
        .iter()
        .map(|rule| format!("| `{}` | {} | {} | {} |\n", rule.name, of(rule), rule.says, rule.why));
    let table = rows.collect::<String>();
    if std::env::var_os("UPDATE").is_some() {
        let begin = document.find("| `health-open`").unwrap();
        fs::write(path, document[..begin].to_owned() + &table).unwrap();
    } else {
        assert!(document.ends_with(&table), "the table of rules: UPDATE=1 writes it");
    }
}

#[test]
fn what_is_missing_is_said_before_anything_is_sent() {
    let scene = Scene::new();
    let without = |command: &mut std::process::Command| {
        command.env_remove(CRM.secret_variable());
    };
    let ran = scene.run_with(&["check-service", CRM.id()], without).expect(1);
    ran.says("the shared secret SC_SECRET_CRM is not set");
    scene.run(&["check-service", "wiki"]).expect(1).says("there is no wiki.yaml");
    scene.run(&["check-service", CRM.id(), "--probe", "//x.example/"]).expect(1).says("--probe");
    scene.entry(CRM, r#"["*@your-domain.com"]"#, "[]");
    scene.run(&["check-service", CRM.id()]).expect(1).says("--email");
    assert_eq!(scene.calls(CRM), (0, 0));
}
