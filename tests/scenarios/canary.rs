//! Every key and every shared secret carries a text that is nowhere else. A long story with faults
//! is told at the highest level of logging, and the text is then in no output, no file, no
//! database, no argument and no environment, neither as it is nor encoded; but for the two places
//! where it belongs: the file that each shared secret is given in, and `.service_env` in homes.

mod marker;
mod places;
mod planted;
mod processes;

use std::fs;
use std::time::Duration;

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{DAY, KINDS, wait_until};
use places::Canary;
use processes::Watch;

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;
const ORDERS: Kind = Kind::PurchaseOrders;

#[test]
fn a_marker_in_every_key_and_secret_is_found_nowhere_but_where_these_belong() {
    let canary = Canary::new();
    let watch = Watch::begin(&canary.keys, &canary.secrets);
    nobody_is_connected_and_everything_is_looked_at(&canary);

    a_pass_is_held_in_the_middle_and_killed(&canary);

    services_fail_in_every_way_when_they_are_asked_for_keys(&canary);
    services_fail_in_every_way_when_they_are_asked_to_revoke(&canary);
    a_home_does_not_take_its_files(&canary);

    everything_that_can_be_asked_is_asked(&canary);

    passes_are_killed_at_any_moment(&canary);

    edits_are_carried_out_at_once(&canary);

    the_guard_holds_and_somebody_approves(&canary);

    services_are_checked(&canary);

    a_debt_is_forgotten_and_a_user_leaves(&canary);

    keys_are_renewed_and_end(&canary);

    everything_that_can_be_asked_is_asked(&canary);

    let (seen, leaks) = watch.end();
    assert!(leaks.is_empty(), "{leaks:#?}");
    assert!(seen > 0, "no process of the program was seen");
}

fn nobody_is_connected_and_everything_is_looked_at(canary: &Canary) {
    canary.run(&["validate"]).expect(0);
    canary.run(&["connect", "john", "crm", "--json"]).expect(0);
    let plan = canary.run(&["plan"]).expect(2);
    assert!(plan.stderr.is_empty() || plan.stderr.contains("TRACE"), "{}", plan.stderr);
    let first = canary.run(&["reconcile"]).expect(0);
    assert!(first.stderr.contains("TRACE"), "the log is on: {}", first.stderr);
    // What is looked for is really there.
    let file = canary.scene.env_file("john");
    assert!(!canary.keys.found_in(file.as_bytes()).is_empty(), "the key carries its marker");
    let secret = canary.scene.path("secrets").join(CRM.secret_variable());
    assert!(!canary.secrets.found_in(&fs::read(secret).unwrap()).is_empty());
    assert!(canary.scene.works(CRM, &canary.scene.key("john", CRM).unwrap()));
    canary.assert_nothing_leaked();
}

/// One key is on its way into a home, another is waited for.
fn a_pass_is_held_in_the_middle_and_killed(canary: &Canary) {
    let scene = &canary.scene;
    canary.run(&["rotate", "john", "crm", "--json"]).expect(0);
    canary.run(&["connect", "john", "invoicing", "--json"]).expect(0);
    let old = scene.key("john", CRM);
    scene.entry(INVOICING, "timeout_seconds: 10", "timeout_seconds: 60");
    scene.faults(INVOICING).next(On::Exchange, Fault::Hang, 1);
    let args = ["reconcile", "--user", "john"];
    let mut pass = canary.start(&args);
    wait_until("one key is delivered and the other asked for", || {
        scene.calls(INVOICING).0 == 1 && scene.key("john", CRM) != old
    });
    processes::assert_can_be_seen(pass.id(), b"reconcile", b"SC_LOG=trace");
    canary.assert_nothing_leaked();
    pass.kill().unwrap();
    let output = pass.wait_with_output().unwrap();
    let leaks = canary.leaks_in_output(&args, &output.stdout, &output.stderr);
    assert!(leaks.is_empty(), "{leaks:#?}");
    canary.assert_nothing_leaked();
    scene.entry(INVOICING, "timeout_seconds: 60", "timeout_seconds: 10");
    canary.retry().expect(0);
    scene.working_key("john", INVOICING);
}

/// What a service may answer, or not; `RepeatsAll` has secret and key in the body and in headers.
fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::Hang,
        Fault::HangAfterWrite,
        Fault::DropAnswer,
        Fault::ServerError,
        Fault::ServerErrorAfterWrite,
        Fault::Unavailable { retry_after: 1 },
        Fault::TooManyRequests { retry_after: 1 },
        Fault::WrongSecret,
        Fault::Redirect,
        Fault::NotJson,
        Fault::Html,
        Fault::HugeAnswer,
        Fault::MissingField,
        Fault::DuplicateField,
        Fault::NewlineInKey,
        Fault::SubstitutionInKey,
        Fault::OtherTokenId,
        Fault::PastExpiry,
        Fault::WrongContentType,
        Fault::BadDate,
        Fault::EchoesSecret,
    ];
    let codes = [201, 302, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503];
    faults.extend(codes.map(|code| Fault::RepeatsAll { code }));
    faults
}

fn a_pass_meets(canary: &Canary, on: On, fault: Fault) {
    let hangs = matches!(fault, Fault::Hang | Fault::HangAfterWrite);
    canary.scene.faults(CRM).next(on, fault, 1);
    // Nothing else is hurried: a machine may have much to do.
    if hangs {
        canary.scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 1");
    }
    canary.retry();
    if hangs {
        canary.scene.entry(CRM, "timeout_seconds: 1", "timeout_seconds: 10");
    }
}

fn services_fail_in_every_way_when_they_are_asked_for_keys(canary: &Canary) {
    canary.run(&["connect", "eva", "crm", "--json"]).expect(0);
    for fault in faults() {
        canary.run(&["rotate", "eva", "crm", "--leaked", "--json"]).expect(0);
        a_pass_meets(canary, On::Exchange, fault);
        canary.run(&["explain", "eva", "crm"]).expect(0);
    }
    canary.scene.faults(CRM).clear();
    canary.retry();
    canary.retry().expect(0);
    canary.scene.working_key("eva", CRM);
    canary.assert_nothing_leaked();
}

fn services_fail_in_every_way_when_they_are_asked_to_revoke(canary: &Canary) {
    for fault in faults() {
        canary.run(&["rotate", "eva", "crm", "--leaked", "--json"]).expect(0);
        a_pass_meets(canary, On::Revoke, fault);
        canary.run(&["explain", "eva", "crm", "--json"]).expect(0);
    }
    canary.scene.faults(CRM).clear();
    canary.retry();
    canary.retry().expect(0);
    canary.scene.working_key("eva", CRM);
    canary.assert_nothing_leaked();
}

fn a_home_does_not_take_its_files(canary: &Canary) {
    let rules = canary.scene.path("homes/john/.claude_rules");
    fs::remove_dir_all(&rules).unwrap();
    fs::write(&rules, "a file where the directory belongs").unwrap();
    canary.run(&["rotate", "john", "crm", "--json"]).expect(0);
    canary.retry().expect(4).says("john: files not put");
    canary.assert_nothing_leaked();
    fs::remove_file(&rules).unwrap();
    canary.retry().expect(0);
    // The key that is there was changed by hand: the drift is shown, and mended.
    let file = canary.scene.path("homes/john/.service_env");
    let text = fs::read_to_string(&file).unwrap().replace("CRM_API_KEY=", "CRM_API_KEY=x");
    fs::write(&file, text).unwrap();
    canary.run(&["plan"]).expect(2);
    canary.retry().expect(0);
}

fn everything_that_can_be_asked_is_asked(canary: &Canary) {
    let out = canary.scene.path("plan-out");
    let out = out.to_str().unwrap();
    for args in [
        &["plan"][..],
        &["plan", "--json"],
        &["plan", "--out", out],
        &["plan", "--json", "--out", &format!("{out}.json")],
        &["plan", "--at", "2036-01-01T00:00:00Z"],
        &["plan", "--at", "2036-01-01T00:00:00Z", "--json", "--out", &format!("{out}.later.json")],
        &["reconcile", "--plan", "--json"],
        &["reconcile", "--json"],
        &["status"],
        &["status", "--json"],
        &["explain", "john", "crm"],
        &["explain", "john", "crm", "--json"],
        &["events"],
        &["events", "--json", "--last", "100000"],
        &["events", "verify"],
        &["health"],
        &["health", "--json"],
        &["validate"],
        &["doctor"],
        &["doctor", "--json"],
    ] {
        canary.run(args);
    }
    assert!(fs::metadata(out).is_ok());
    canary.scene.faults(CRM).next(On::Health, Fault::RepeatsAll { code: 500 }, 1);
    canary.run(&["health", "crm", "--json"]).expect(1);
    canary.scene.faults(CRM).next(On::Health, Fault::RepeatsAll { code: 500 }, 1);
    canary.run(&["doctor"]).expect(1);
    canary.assert_nothing_leaked();
}

fn passes_are_killed_at_any_moment(canary: &Canary) {
    for moment in 0..12 {
        canary.run(&["rotate", "john", "crm", "--json"]).expect(0);
        let args = ["reconcile", "--retry-now"];
        let mut pass = canary.start(&args);
        std::thread::sleep(Duration::from_millis(moment * 8));
        pass.kill().unwrap();
        let output = pass.wait_with_output().unwrap();
        let leaks = canary.leaks_in_output(&args, &output.stdout, &output.stderr);
        assert!(leaks.is_empty(), "{leaks:#?}");
        canary.assert_nothing_leaked();
    }
    canary.retry();
    canary.retry().expect(0);
    canary.scene.working_key("john", CRM);
}

fn edits_are_carried_out_at_once(canary: &Canary) {
    canary.run(&["connect", "mia", "crm", "--now"]).expect(0);
    canary.run(&["rotate", "mia", "crm", "--now", "--json"]).expect(0);
    canary.scene.faults(CRM).next(On::Exchange, Fault::RepeatsAll { code: 500 }, 1);
    canary.run(&["rotate", "mia", "crm", "--leaked", "--now"]).expect(4);
    canary.retry().expect(0);
    canary.run(&["disconnect", "mia", "crm", "--now"]).expect(0);
    canary.assert_nothing_leaked();
}

fn the_guard_holds_and_somebody_approves(canary: &Canary) {
    for (user, kind) in
        ["eva", "mia", "petr"].into_iter().flat_map(|user| KINDS.map(|kind| (user, kind)))
    {
        canary.run(&["connect", user, kind.id(), "--json"]).expect(0);
    }
    canary.retry().expect(0);
    for kind in KINDS {
        for user in ["eva", "mia"] {
            canary.run(&["disconnect", user, kind.id(), "--json"]).expect(0);
        }
    }
    canary.run(&["plan"]).expect(3);
    let held = canary.run(&["reconcile", "--json"]).expect(3).json();
    canary.assert_nothing_leaked();
    canary.run(&["approve", held["held_digest"].as_str().unwrap()]).expect(0);
    canary.retry().expect(0);
    canary.assert_nothing_leaked();
}

fn services_are_checked(canary: &Canary) {
    let report = canary.scene.path("report.xml");
    let report = report.to_str().unwrap();
    canary.run(&["check-service", "crm", "--probe", "/api/v1/me", "--junit", report]).expect(0);
    for (fault, form) in [
        (Fault::EchoesSecret, ["--junit", report]),
        (Fault::RepeatsAll { code: 500 }, ["--junit", report]),
        (Fault::NewlineInKey, ["--probe", "/api/v1/me"]),
        (Fault::RepeatsAll { code: 400 }, ["--json", "--many"]),
    ] {
        canary.scene.faults(CRM).always(On::All, fault);
        canary.run(&[&["check-service", "crm"], &form[..]].concat()).expect(1);
        canary.scene.faults(CRM).clear();
        canary.assert_nothing_leaked();
    }
    canary.run(&["check-service", "crm"]).expect(0);
    canary.assert_nothing_leaked();
}

fn a_debt_is_forgotten_and_a_user_leaves(canary: &Canary) {
    canary.scene.faults(CRM).always(On::Revoke, Fault::RepeatsAll { code: 404 });
    canary.run(&["disconnect", "petr", "crm", "--json"]).expect(0);
    canary.retry().expect(4);
    let told = canary.run(&["explain", "petr", "crm", "--json"]).expect(0).json();
    let tokens = told["tokens"].as_array().unwrap();
    let owed = tokens.iter().find(|token| token["phase"] == "revoking").unwrap();
    let op = owed["op"].as_str().unwrap();
    canary.run(&["forget", "petr", "crm", op, "--reason", "nobody can confirm it"]).expect(0);
    canary.scene.faults(CRM).clear();
    canary.run(&["offboard", "petr", "--now"]).expect(0);
    canary.assert_nothing_leaked();
}

fn keys_are_renewed_and_end(canary: &Canary) {
    canary.scene.let_pass(80 * DAY);
    canary.scene.faults(CRM).next(On::Exchange, Fault::RepeatsAll { code: 503 }, 1);
    canary.retry();
    canary.scene.faults(ORDERS).always(On::All, Fault::ServerErrorAfterWrite);
    canary.scene.faults(INVOICING).always(On::All, Fault::RepeatsAll { code: 500 });
    canary.scene.let_pass(30 * DAY);
    canary.retry();
    canary.assert_nothing_leaked();
    canary.scene.faults(ORDERS).clear();
    canary.scene.faults(INVOICING).clear();
    canary.retry();
    canary.assert_nothing_leaked();
}
