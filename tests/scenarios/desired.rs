//! The desired state: edited by the program and by people, and wrong in every way.

use std::fs;
use std::time::{Duration, Instant};

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{HOUR, Scene};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

/// John has two keys, and a third whose revoke failed.
fn with_a_debt() -> Scene {
    let scene = Scene::new();
    for kind in [CRM, INVOICING, Kind::PurchaseOrders] {
        scene.connect("john", kind);
    }
    scene.pass(0);
    scene.faults(CRM).next(On::Revoke, Fault::ServerError, 1);
    scene.disconnect("john", CRM);
    scene.pass(4);
    scene.let_pass(HOUR);
    scene
}

/// While this holds, debts are paid and nothing else is done.
fn assert_only_debts_are_paid(scene: &Scene, break_it: impl FnOnce(), says: &str) {
    let homes = homes(scene);
    break_it();
    let said = scene.pass(1);
    said.says(says).says("Only debts were paid");
    assert_eq!(scene.phases("john", CRM), ["revoked"], "{says}");
    scene.run(&["plan"]).expect(1).says("only debts are paid");
    assert_eq!(scene.pass(1).text().matches("key revoked").count(), 0);
    assert!(homes == self::homes(scene), "{says}: a home was changed");
    scene.working_key("john", INVOICING);
    scene.working_key("john", Kind::PurchaseOrders);
}

fn homes(scene: &Scene) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = scene.files().into_iter();
    let homes = files.filter(|(path, _)| path.starts_with(scene.path("homes")));
    homes.map(|(path, (bytes, ..))| (path, bytes)).collect()
}

#[test]
fn a_desired_state_that_is_wrong_never_means_nobody() {
    let wrong = [
        ("", "desired.yaml"),
        ("version: 1\n", "desired.yaml"),
        ("version: 1\nusers:\n  john: # who?\n", "nothing (null) stands here"),
        ("version: 1\nusers: {}\nextra: 1\n", "desired.yaml:3:1"),
        ("version: 2\nusers: {}\n", "desired.yaml:1:10"),
        ("version: 1\nusers: []\n", "desired.yaml:2:8"),
        ("version: 1\nusers: {}\n---\nversion: 1\nusers: {}\n", "desired.yaml:3:1"),
        ("version: 1\nusers:\n  john: {}\n  john: {}\n", "the first is on line 3"),
        ("version: 1\nusers:\n  john: { conections: {} }\n", "desired.yaml:3:11"),
        ("version: 1\nusers:\n  Jöhn: { connections: {} }\n", "desired.yaml:3:3"),
        ("version: 1\nusers: &a {}\nmore: *a\n", "desired.yaml:2:"),
        ("version: 1\nusers: !!map {}\n", "desired.yaml:2:"),
        (
            "version: 1\nusers:\n  john: { connections: { crm: { ttl_days: 0 } } }\n",
            "desired.yaml:3:43",
        ),
    ];
    let scene = with_a_debt();
    for (text, says) in wrong {
        scene.desired_text(text);
        let homes = homes(&scene);
        scene.run(&["validate"]).expect(1).says(says);
        scene.pass(1).says(says).says("Only debts were paid");
        assert!(homes == self::homes(&scene), "{text:?}: a home was changed");
        scene.run(&["connect", "eva", "crm"]).expect(1);
        assert_eq!(fs::read_to_string(scene.path("desired.yaml")).unwrap(), text);
    }
    assert_eq!(scene.phases("john", CRM), ["revoked"]);
    scene.working_key("john", INVOICING);
    scene.working_key("john", Kind::PurchaseOrders);
}

#[test]
fn a_missing_desired_state_never_means_nobody() {
    let scene = with_a_debt();
    let remove = || fs::remove_file(scene.path("desired.yaml")).unwrap();
    assert_only_debts_are_paid(&scene, remove, "desired.yaml is not there");
}

#[test]
fn a_desired_state_that_cannot_be_read_never_means_nobody() {
    let scene = with_a_debt();
    let replace = || {
        fs::remove_file(scene.path("desired.yaml")).unwrap();
        fs::create_dir(scene.path("desired.yaml")).unwrap();
    };
    assert_only_debts_are_paid(&scene, replace, "cannot read");
}

#[test]
fn a_missing_people_file_never_means_nobody() {
    let scene = with_a_debt();
    let remove = || fs::remove_file(scene.path("people.yaml")).unwrap();
    assert_only_debts_are_paid(&scene, remove, "people.yaml cannot be read");
}

#[test]
fn a_missing_registry_never_means_no_services() {
    let scene = with_a_debt();
    let remove = || fs::rename(scene.path("registry"), scene.path("elsewhere")).unwrap();
    assert_only_debts_are_paid(&scene, remove, "cannot read the directory");
}

#[test]
fn a_file_that_was_cut_off_is_refused_until_somebody_means_it() {
    let scene = Scene::new();
    for user in ["eva", "john"] {
        scene.connect(user, CRM);
    }
    scene.pass(0);
    let whole = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    let cut = whole.find("  john:").unwrap();
    // Just what it was before the last edit.
    fs::write(scene.path("desired.yaml"), &whole[..cut]).unwrap();
    scene.pass(1).says("it looks cut off");
    scene.working_key("john", CRM);
    scene.desired_text(&format!("{}# meant\n", &whole[..cut]));
    scene.pass(0).says("john crm: key revoked");
    scene.working_key("eva", CRM);
}

#[test]
fn an_edit_by_hand_is_waited_for_until_it_is_still() {
    let scene = Scene::new();
    let text = "version: 1\nusers:\n  john:\n    connections: { crm: {} }\n";
    fs::write(scene.path("desired.yaml"), text).unwrap();
    let begin = Instant::now();
    scene.pass(0);
    assert!(begin.elapsed() > Duration::from_secs(1));
    scene.working_key("john", CRM);
    let log = fs::read_to_string(scene.path("history/log.jsonl")).unwrap();
    assert!(log.contains("by hand"), "{log}");
}

#[test]
fn a_file_that_never_comes_to_rest_is_not_taken_up() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let path = scene.path("desired.yaml");
    let write = |number: u32| {
        fs::write(&path, format!("version: 1\nusers: {{}} # {number}\n")).unwrap();
    };
    write(0);
    let pass = scene.start(&["reconcile"]);
    for number in 1..80 {
        write(number);
        std::thread::sleep(Duration::from_millis(100));
    }
    scene.wait(pass).expect(1).says("Only debts were paid");
    scene.working_key("john", CRM);
}

#[test]
fn an_edit_keeps_every_other_byte() {
    let scene = Scene::new();
    let text = "# ours\nversion: 1\nusers:\n  \"john\":   # the one\n    connections: {crm: {}, }\n  eva:\n    connections: {}\n";
    scene.desired_text(text);
    scene.connect("eva", INVOICING);
    let edited = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    assert!(edited.starts_with(text.strip_suffix("    connections: {}\n").unwrap()), "{edited}");
    scene.disconnect("eva", INVOICING);
    let history = fs::read_to_string(scene.path("history/log.jsonl")).unwrap();
    assert!(history.contains("\"who\":\"tester\""), "{history}");
    scene.pass(0);
    scene.working_key("john", CRM);
}

#[test]
fn edits_at_the_same_time_are_all_kept() {
    let scene = Scene::new();
    let users: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
    let edits: Vec<_> =
        users.iter().map(|user| scene.start(&["connect", user, "crm", "--json"])).collect();
    for edit in edits {
        scene.wait(edit).expect(0);
    }
    scene.pass(0);
    for user in &users {
        scene.working_key(user, CRM);
    }
}
