//! One story for each command: what it says, and its exit code.

use std::fs;

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::Scene;

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

#[test]
fn validate_says_what_is_right_and_each_thing_that_is_wrong() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.run(&["validate"]).expect(0).says("Services: 3, users: 1, connections: 1.");
    let json = scene.run(&["validate", "--json"]).expect(0).json();
    assert_eq!((json["ok"].as_bool(), json["version"].as_i64()), (Some(true), Some(1)));

    scene.entry(CRM, "ttl_days: 90", "ttl_days: 900");
    scene.entry(INVOICING, "INV_API_KEY", "PATH");
    scene.desired("users:\n  john: { connections: { crm: { ttl: 1 } } }\n");
    let wrong = scene.run(&["validate"]).expect(1);
    wrong.says("crm.yaml:8:11").says("invoicing.yaml:").says("desired.yaml:3:33");
    let json = scene.run(&["validate", "--json"]).expect(1).json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["errors"].as_array().unwrap().len(), 3, "{json}");
    assert_eq!(scene.calls(CRM), (0, 0));
}

#[test]
fn plan_shows_what_a_pass_would_do_as_text_and_as_json() {
    let scene = Scene::new();
    scene.run(&["plan"]).expect(0);
    scene.connect("john", CRM);
    scene.connect("eva", INVOICING);
    let text = scene.run(&["plan"]).expect(2);
    text.says("john").says("+CRM_API_KEY=(new)").says("sc_crm.md").says("eva");
    let json = scene.run(&["plan", "--json"]).expect(2).json();
    assert_eq!(json["version"], 1);
    let kinds: Vec<&str> =
        json["actions"].as_array().unwrap().iter().map(|a| a["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["issue", "install", "issue", "install"]);
    assert_eq!(json["actions"][0]["user"], "eva");

    let only = scene.run(&["plan", "--user", "john", "--json"]).expect(2).json();
    assert_eq!(only["actions"].as_array().unwrap().len(), 2);
    let only = scene.run(&["plan", "--service", "invoicing", "--json"]).expect(2).json();
    assert_eq!(only["actions"][0]["user"], "eva");
    scene.run(&["plan", "--user", "petr"]).expect(0);

    let file = scene.path("plan.txt");
    let quiet = scene.run(&["plan", "--out", file.to_str().unwrap()]).expect(2);
    assert_eq!(quiet.stdout, "");
    let written = fs::read_to_string(&file).unwrap();
    let same = scene.run(&["reconcile", "--plan"]).expect(2).stdout;
    let without_time = |text: &str| text.lines().skip(1).collect::<Vec<_>>().join("\n");
    assert_eq!(without_time(&written), without_time(&same));
    assert_eq!(scene.calls(CRM), (0, 0));
}

#[test]
fn plan_shows_a_removal_with_fingerprints_in_place_of_values() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.disconnect("john", CRM);
    let plan = scene.run(&["plan"]).expect(2);
    plan.says("-CRM_API_KEY=(").says("-CRM_BASE_URL=http://127.0.0.1:");
    let fingerprint = scene.status()["connections"][0]["key"].as_str().unwrap().to_owned();
    plan.says(&fingerprint);
}

#[test]
fn plan_ends_with_the_exit_code_of_what_keeps_it() {
    let scene = Scene::new();
    scene.run(&["plan"]).expect(0);
    scene.connect("john", CRM);
    scene.run(&["plan"]).expect(2);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    scene.run(&["plan"]).expect(4).says("failed once, next try at");
    scene.run(&["plan", "--retry-now"]).expect(2);
    scene.desired("users: []\n");
    scene.run(&["plan"]).expect(1);
    // 3 is told in `guard`.
}

#[test]
fn reconcile_acts_only_on_the_plan_that_was_expected() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let digest = scene.run(&["plan", "--json"]).expect(2).json()["digest"].clone();
    let digest = digest.as_str().unwrap();
    scene.run(&["reconcile", "--expect", &"0".repeat(64)]).expect(1).says(digest);
    assert_eq!(scene.calls(CRM), (0, 0));
    scene.connect("eva", CRM);
    scene.run(&["reconcile", "--expect", digest]).expect(1).says("the plan is another one now");
    assert_eq!(scene.calls(CRM), (0, 0));
    scene.disconnect("eva", CRM);
    scene.run(&["reconcile", "--expect", digest]).expect(0);
    scene.working_key("john", CRM);
    scene.run(&["reconcile", "--expect", "nonsense"]).expect(1);
    scene.run(&["reconcile", "--expect", digest, "--plan"]).expect(1);
}

#[test]
fn reconcile_can_be_about_one_user_or_one_service() {
    let scene = Scene::new();
    for user in ["eva", "john"] {
        scene.connect(user, CRM);
        scene.connect(user, INVOICING);
    }
    scene.run(&["reconcile", "--user", "john", "--service", "crm"]).expect(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.key("john", INVOICING), None);
    assert_eq!(scene.homes(), ["john"]);
    scene.run(&["reconcile", "--service", "crm"]).expect(0);
    scene.working_key("eva", CRM);
    assert_eq!(scene.calls(INVOICING), (0, 0));
    scene.run(&["reconcile", "--user", "eva"]).expect(0);
    scene.working_key("eva", INVOICING);
    assert_eq!(scene.key("john", INVOICING), None);
    scene.pass(0);
    scene.working_key("john", INVOICING);
}

#[test]
fn reconcile_tells_programs_what_each_action_found() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    scene.faults(INVOICING).next(On::Exchange, Fault::ServerError, 1);
    let json = scene.run(&["reconcile", "--json"]).expect(4).json();
    assert_eq!((json["version"].as_i64(), json["exit"].as_i64()), (Some(1), Some(4)));
    assert_eq!(json["outcomes"].as_array().unwrap().len(), 3, "{json}");
    assert!(json["error"].is_null());
    let json = scene.run(&["reconcile", "--json", "--retry-now"]).expect(0).json();
    assert_eq!(json["exit"], 0);
    let json = scene.run(&["reconcile", "--json"]).expect(0).json();
    assert_eq!(json["outcomes"].to_string(), "[]");
}

#[test]
fn a_retry_waits_unless_it_is_told_not_to() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4).says("500 Internal Server Error");
    scene.pass(4).says("failed once, next try at");
    assert_eq!(scene.calls(CRM), (1, 0));
    scene.retry(0);
    assert_eq!(scene.calls(CRM), (2, 0));
}

#[test]
fn status_shows_who_can_use_what_and_what_is_owed() {
    let scene = Scene::new();
    scene.run(&["status"]).expect(0).says("No pass has run yet");
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    assert_eq!(scene.status()["connections"][0]["state"], "connecting");
    scene.faults(INVOICING).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    let status = scene.status();
    assert_eq!(status["version"], 1);
    assert_eq!(status["last_pass"]["exit"], 4);
    let (crm, invoicing) = (&status["connections"][0], &status["connections"][1]);
    assert_eq!((crm["state"].as_str(), crm["usable"].as_bool()), (Some("connected"), Some(true)));
    assert!(crm["until"].is_string());
    assert_eq!((&invoicing["state"], &invoicing["usable"]), (&"waiting".into(), &false.into()));
    assert!(invoicing["why"].as_str().unwrap().contains("500"));
    scene.run(&["status"]).expect(0).says("john  crm").says("connected").says("waiting");

    scene.faults(CRM).next(On::Revoke, Fault::ServerError, 1);
    scene.disconnect("john", CRM);
    scene.pass(4);
    scene.run(&["status"]).expect(0).says("the revoke of john's key to crm");
    assert_eq!(scene.status()["debts"][0]["user"], "john");
    let only = scene.run(&["status", "--json", "--service", "crm"]).expect(0).json();
    let rows = only["connections"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["service"] == "crm"), "{only}");
}

#[test]
fn edits_say_what_the_next_pass_will_do() {
    let scene = Scene::new();
    let said = scene.run(&["connect", "john", "crm", "--ttl-days", "30"]).expect(0);
    said.says("john is to be connected to crm").says("+CRM_API_KEY=(new)");
    let desired = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    assert!(desired.contains("crm: { ttl_days: 30 }"), "{desired}");
    scene.pass(0);
    let life = |at: usize| {
        let token = &scene.issued(CRM)[at];
        token.expires_at.duration_since(token.issued_at).as_hours() / 24
    };
    assert_eq!(life(0), 30);
    scene.run(&["rotate", "john", "crm"]).expect(0).says("john is to get a new key to crm");
    let leaked = scene.run(&["rotate", "john", "crm", "--leaked"]).expect(0);
    leaked.says("- crm: revoke key").says("revoke_issued_before");
    let json = scene.run(&["disconnect", "john", "crm", "--json"]).expect(0).json();
    assert_eq!((json["changed"].as_bool(), json["user"].as_str()), (Some(true), Some("john")));
    scene.run(&["disconnect", "john", "crm"]).expect(0).says("It was so already");
    assert_eq!(scene.calls(CRM), (1, 0), "an edit calls nobody");
}

#[test]
fn edits_that_make_no_sense_change_nothing() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let before = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    scene.run(&["rotate", "john", "invoicing"]).expect(1).says("john");
    scene.run(&["rotate", "eva", "crm"]).expect(1).says("eva");
    scene.run(&["connect", "john", "nothing"]).expect(1).says("crm, invoicing, purchase_orders");
    scene.run(&["connect", "Jo hn", "crm"]).expect(1);
    scene.run(&["connect", "john", "crm", "--ttl-days", "0"]).expect(1);
    scene.run(&["connect", "john", "crm", "--ttl-days", "366"]).expect(1);
    assert_eq!(fs::read_to_string(scene.path("desired.yaml")).unwrap(), before);
}

#[test]
fn nobody_is_connected_who_is_offboarded() {
    let scene = Scene::new();
    scene.desired("users:\n  john: { disabled: true, connections: {} }\n");
    scene.run(&["connect", "john", "crm"]).expect(1).says("disabled");
}
