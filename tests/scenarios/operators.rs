//! What operators ask and do: explain, offboard, forget, health, events, `--now`.

use std::fs;

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::Scene;

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

#[test]
fn connect_now_ends_with_the_key_in_the_home_and_runs_only_that_users_pass() {
    let scene = Scene::new();
    scene.connect("eva", INVOICING);
    scene.run(&["connect", "john", "crm", "--now"]).expect(0).says("key issued");
    scene.working_key("john", CRM);
    assert_eq!(scene.issued(INVOICING).len(), 0, "eva's connection waits for a pass of all");
    let key = scene.working_key("john", CRM);
    scene.run(&["disconnect", "john", "crm", "--now"]).expect(0).says("key revoked");
    assert_eq!(scene.business_status(CRM, &key), 401);
}

#[test]
fn explain_says_what_is_desired_where_what_is_there_and_what_to_do() {
    let scene = Scene::new();
    scene.run(&["explain", "john", "crm"]).expect(0).says("not connected").says("connect john crm");
    scene.connect("john", CRM);
    let waiting = scene.run(&["explain", "john", "crm"]).expect(0);
    waiting.says("desired.yaml:").says("connected, and there is no key yet").says("reconcile");
    scene.pass(0);
    let there = scene.run(&["explain", "john", "crm"]).expect(0);
    there.says("active since").says("generation 1").says("nothing to do").says("delivered");
    let json = scene.run(&["explain", "john", "crm", "--json"]).expect(0).json();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 1);
    assert!(json["next_due"].is_string(), "the renewal has its time: {json}");

    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    scene.disconnect("john", CRM);
    scene.pass(4);
    let owed = scene.run(&["explain", "john", "crm"]).expect(0);
    owed.says("revoking since").says("500").says("--retry-now");
}

#[test]
fn an_offboarded_user_loses_everything_and_a_click_brings_nothing_back() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    scene.connect("eva", CRM);
    scene.pass(0);
    scene.run(&["offboard", "john", "--now"]).expect(0).says("john is offboarded");
    assert_eq!(scene.live(CRM).len(), 1, "eva's");
    assert_eq!(scene.live(INVOICING).len(), 0);
    assert!(scene.env_file("john").contains("# end 0 variables"));
    scene.run(&["connect", "john", "crm"]).expect(1).says("disabled");
    scene.run(&["offboard", "john"]).expect(0).says("It was so already");
    let text = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    assert!(text.contains("disabled: true"), "{text}");
}

#[test]
fn a_debt_that_nobody_can_confirm_is_forgotten_on_recorded_word() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let json = scene.run(&["explain", "john", "crm", "--json"]).expect(0).json();
    let op = json["tokens"][0]["op"].as_str().unwrap().to_owned();
    let forget = |args: &[&str]| scene.run(&[&["forget", "john", "crm", &op], args].concat());
    forget(&["--reason", "gone"]).expect(1).says("only a debt");
    scene.faults(CRM).always(On::Revoke, Fault::Status { code: 404 });
    scene.disconnect("john", CRM);
    scene.pass(4);
    forget(&[]).expect(1).says("--reason");
    forget(&["--reason", " "]).expect(1);
    scene.run(&["forget", "john", "crm", "ffff", "--reason", "gone"]).expect(1).says("no token");
    forget(&["--reason", "the service was rebuilt from scratch"]).expect(0).says("owed no more");
    scene.pass(0);
    assert_eq!(scene.status()["debts"].as_array().unwrap().len(), 0);
    let told = scene.run(&["events", "--user", "john"]).expect(0);
    told.says("forgotten").says("the service was rebuilt from scratch");
}

#[test]
fn health_asks_every_service_and_says_which_is_not_well() {
    let scene = Scene::new();
    scene.run(&["health"]).expect(0).says("ok  crm").says("ok  purchase_orders");
    scene.faults(CRM).always(On::Health, Fault::ServerError);
    let ill = scene.run(&["health"]).expect(1);
    ill.says("!!  crm").says("ok  invoicing");
    scene.run(&["health", "invoicing"]).expect(0);
    scene.run(&["health", "nothing"]).expect(1).says("no usable service");
    scene.faults(CRM).clear();
    scene.faults(CRM).set_clock_offset(3600);
    let json = scene.run(&["health", "crm", "--json"]).expect(1).json();
    assert!(json["services"][0]["trouble"].as_str().unwrap().contains("minutes ahead"), "{json}");
    assert_eq!(scene.calls(CRM), (0, 0), "no secret is needed");
}

#[test]
fn every_step_is_an_event_in_a_chain_that_shows_tampering() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.rotate("john", CRM);
    scene.pass(0);
    scene.disconnect("john", CRM);
    scene.pass(0);
    let all = scene.run(&["events", "--json"]).expect(0).json();
    let kinds: Vec<&str> =
        all["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    for kind in ["desired", "asked", "issued", "put", "delivered", "retired", "unwanted", "revoked"]
    {
        assert!(kinds.contains(&kind), "{kind} is missing: {kinds:?}");
    }
    let edits = scene.run(&["events"]).expect(0);
    edits.says("connect john crm").says("rotate john crm").says("disconnect john crm");
    scene.run(&["events", "--service", "invoicing"]).expect(0).says("No such event");
    scene.run(&["events", "verify"]).expect(0).says("Whole: ");

    scene.database().execute("UPDATE event SET who = 'nobody' WHERE seq = 3", []).unwrap();
    scene.run(&["events", "verify"]).expect(1).says("broken at event 3");
    scene.database().execute("DELETE FROM event WHERE seq = 2", []).unwrap();
    scene.run(&["events", "verify"]).expect(1).says("broken at event 2");
}

#[test]
fn when_an_event_cannot_be_written_nothing_is_done() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.kind <> 'desired' \
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    scene.database().execute_batch(refuse).unwrap();
    let (calls, files) = (scene.calls(CRM), scene.env_file("john"));
    scene.disconnect("john", CRM);
    scene.connect("eva", CRM);
    scene.pass(1).says("The state could not be written");
    assert_eq!(scene.calls(CRM), calls);
    assert_eq!(scene.env_file("john"), files);
    assert!(scene.works(CRM, &key));
    scene.database().execute_batch("DROP TRIGGER refuse").unwrap();
    scene.pass(0);
    assert_eq!(scene.business_status(CRM, &key), 401);
}

#[test]
fn among_thousands_a_pass_for_one_user_reads_that_users_lines() {
    let scene = Scene::new();
    let other = |n: u32| format!("  user{n}:\n    connections: {{ crm: {{}} }}\n");
    let others: Vec<String> = (0..9000).map(other).collect();
    let others = others.concat();
    scene.desired(&format!("users:\n{others}  john:\n    connections: {{}}\n"));
    scene.run(&["connect", "john", "crm", "--now"]).expect(0).says("key issued");
    scene.working_key("john", CRM);
    assert_eq!(scene.issued(CRM).len(), 1, "the others wait for a pass of all");
    let text = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    let line = 1 + text.lines().position(|line| line == "      crm: {}").unwrap();
    scene.run(&["explain", "john", "crm"]).expect(0).says(&format!("desired.yaml:{line}"));
    scene.run(&["connect", "user5", "crm", "--now"]).expect(0).says("It was so already");
    assert_eq!(scene.issued(CRM).len(), 2);
}
