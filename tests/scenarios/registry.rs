//! The registry changes, or is wrong.

use std::fs;

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{KINDS, Scene};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

fn connected() -> (Scene, String) {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    (scene, key)
}

#[test]
fn a_broken_registry_entry_blocks_only_its_own_connections() {
    let (scene, key) = connected();
    scene.entry(CRM, "contract: v2", "contrct: v2");
    scene.connect("john", INVOICING);
    scene.pass(4).says("its registry entry is not usable");
    scene.working_key("john", INVOICING);
    assert_eq!(scene.working_key("john", CRM), key);
    assert!(scene.skill("john", CRM).contains("active until"));
    let validated = scene.run(&["validate"]).expect(1);
    validated.says("crm.yaml:6:1").says("contrct");
    scene.run(&["connect", "eva", "crm"]).expect(1).says("the registry entry is not usable");
}

#[test]
fn a_registry_entry_that_is_gone_blocks_only_its_own_connections_and_pays_their_debts() {
    let (scene, key) = connected();
    scene.connect("eva", CRM);
    scene.pass(0);
    let evas = scene.working_key("eva", CRM);
    fs::remove_file(scene.path("registry/crm.yaml")).unwrap();
    scene.disconnect("eva", CRM);
    scene.connect("john", INVOICING);
    scene.pass(4).says("it is not in the registry");
    assert!(!scene.works(CRM, &evas), "revoked at the address that the token remembers");
    assert_eq!(scene.working_key("john", CRM), key);
    scene.working_key("john", INVOICING);
}

#[test]
fn a_service_that_nobody_knows_is_refused_with_its_place() {
    let (scene, key) = connected();
    scene.desired("users:\n  john:\n    connections:\n      crm: {}\n      cmr: {}\n");
    scene.pass(1).says("desired.yaml:6:7").says("cmr");
    assert_eq!(scene.working_key("john", CRM), key);
    scene.run(&["connect", "john", "cmr"]).expect(1).says("there is no service `cmr`");
}

#[test]
fn a_retired_service_disconnects_everybody_and_connects_nobody() {
    let (scene, key) = connected();
    scene.entry(CRM, "contract: v2", "contract: v2\nretired: true");
    scene.pass(0);
    assert!(!scene.works(CRM, &key));
    assert!(scene.env_file("john").contains("# end 0 variables"));
    scene.pass(4).says("the service is retired");
    assert_eq!(scene.calls(CRM), (1, 1));
}

#[test]
fn a_missing_shared_secret_stops_its_own_service_only() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    let without = |args: &[&str]| {
        scene.run_with(args, |command| {
            command.env_remove("SC_SECRET_CRM");
        })
    };
    without(&["plan"]).expect(2).does_not_say("SC_SECRET");
    without(&["reconcile"]).expect(4).says("the shared secret SC_SECRET_CRM is not set");
    let unfit = |command: &mut std::process::Command| {
        command.env("SC_SECRET_CRM", "two words");
    };
    let ran = scene.run_with(&["reconcile"], unfit).expect(4);
    ran.says("SC_SECRET_CRM is not 1 to 4096 printable ASCII characters").does_not_say("two words");
    scene.working_key("john", INVOICING);
    assert_eq!(scene.calls(CRM), (0, 0));
    scene.pass(0);
    scene.working_key("john", CRM);
}

#[test]
fn a_shared_secret_of_another_name_pays_what_was_asked_for_under_the_old_one() {
    let (scene, old) = connected();
    scene.entry(CRM, "SC_SECRET_CRM", "SC_SECRET_CRM_NEW");
    scene.disconnect("john", CRM);
    scene.connect("eva", CRM);
    let ran = scene.run_with(&["reconcile"], |command| {
        command.env_remove("SC_SECRET_CRM");
        command.env("SC_SECRET_CRM_NEW", &scene.service(CRM).secret);
    });
    ran.expect(0);
    assert!(!scene.works(CRM, &old));
    scene.working_key("eva", CRM);
}

#[test]
fn shared_secrets_are_read_from_a_directory_too() {
    let scene = Scene::new();
    fs::create_dir(scene.path("secrets")).unwrap();
    for kind in KINDS {
        let path = scene.path(&format!("secrets/{}", kind.secret_variable()));
        fs::write(path, format!("{}\n", scene.service(kind).secret)).unwrap();
    }
    scene.connect("john", CRM);
    let ran = scene.run_with(&["reconcile"], |command| {
        for kind in KINDS {
            command.env_remove(kind.secret_variable());
        }
        command.env("SC_SECRETS", scene.path("secrets"));
    });
    ran.expect(0);
    scene.working_key("john", CRM);
}

#[test]
fn another_variable_is_delivered_without_a_new_key() {
    let (scene, key) = connected();
    scene.entry(CRM, "CRM_BASE_URL: \"{{ base_url }}\"", "CRM_URL: \"{{ base_url }}\"");
    scene.pass(0).says("files put into john's home");
    assert!(scene.variables("john").contains_key("CRM_URL"));
    assert!(!scene.variables("john").contains_key("CRM_BASE_URL"));
    assert_eq!(scene.working_key("john", CRM), key);
    assert_eq!(scene.calls(CRM).0, 1);
}

#[test]
fn a_shorter_registry_ttl_counts_from_the_next_key_on() {
    let (scene, key) = connected();
    scene.entry(CRM, "ttl_days: 90", "ttl_days: 45");
    scene.pass(0).says("Nothing to do");
    assert_eq!(scene.working_key("john", CRM), key);
}

#[test]
fn an_ask_to_an_address_that_changed_is_taken_back_there() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.pass(4);
    scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 9");
    scene.retry(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.live(CRM).len(), 1);
}
