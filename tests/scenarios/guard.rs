//! What the guard holds, and how somebody lets it go.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use service_connector::example_service::Kind;

use crate::scene::{DAY, HOUR, KINDS, Ran, Scene};

const USERS: [&str; 3] = ["eva", "john", "petr"];

/// Three users with three keys each.
pub fn nine_keys() -> Scene {
    let scene = Scene::new();
    for user in USERS {
        for kind in KINDS {
            scene.connect(user, kind);
        }
    }
    scene.pass(0);
    scene
}

pub fn disconnect_all(scene: &Scene, users: &[&str]) {
    for user in users {
        for kind in KINDS {
            scene.disconnect(user, kind);
        }
    }
}

fn homes(scene: &Scene) -> BTreeMap<PathBuf, (Vec<u8>, u32, std::time::SystemTime)> {
    let mut files = scene.files();
    files.retain(|path, _| path.starts_with(scene.path("homes")));
    files
}

/// The digest in `service-connector approve <digest>`.
pub fn held_digest(held: &Ran) -> String {
    let text = held.text();
    let (_, rest) = text.split_once("service-connector approve ").expect("how to approve");
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn one_users_disconnects_always_pass() {
    let scene = nine_keys();
    disconnect_all(&scene, &["john"]);
    scene.pass(0);
    assert_eq!(scene.variables("john").len(), 0);
    for kind in KINDS {
        assert_eq!(scene.live(kind).len(), 2);
    }
}

#[test]
fn too_many_disconnects_are_held_and_every_key_still_works() {
    let scene = nine_keys();
    let before = homes(&scene);
    disconnect_all(&scene, &["eva", "john"]);
    scene.run(&["plan"]).expect(3).says("held");
    scene.pass(3).says("The guard holds 6 removals: 6 of 9 connections would go");
    for user in USERS {
        for kind in KINDS {
            scene.working_key(user, kind);
        }
    }
    assert!(before == homes(&scene), "a home was changed");
    for kind in KINDS {
        assert_eq!(scene.calls(kind), (3, 0));
    }
    let status = scene.status();
    assert_eq!(status["last_pass"]["exit"], 3);
    assert_eq!(status["connections"][0]["why"], "held by the guard");
    assert_eq!(status["connections"][0]["usable"], true);
}

#[test]
fn what_is_not_held_is_done_all_the_same() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    scene.connect("mia", Kind::Crm);
    scene.rotate("petr", Kind::Crm);
    let petrs = scene.working_key("petr", Kind::Crm);
    scene.pass(3);
    scene.working_key("mia", Kind::Crm);
    assert_ne!(scene.working_key("petr", Kind::Crm), petrs);
    scene.working_key("eva", Kind::Crm);
}

#[test]
fn an_approval_lets_go_exactly_what_it_names() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    let digest = held_digest(&scene.pass(3));
    scene.run(&["approve", &"0".repeat(64)]).expect(1).says("look again");
    scene.run(&["approve", &digest]).expect(0).says("these 6 removals");
    scene.pass(0);
    for kind in KINDS {
        assert_eq!(scene.live(kind).len(), 1);
        scene.working_key("petr", kind);
    }
    assert_eq!(scene.variables("eva").len() + scene.variables("john").len(), 0);
    scene.run(&["approve", &digest]).expect(1).says("nothing is held");
}

#[test]
fn an_approval_of_one_set_is_none_of_a_larger_one() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    let digest = held_digest(&scene.pass(3));
    scene.run(&["approve", &digest]).expect(0);
    scene.disconnect("petr", Kind::Crm);
    let held = scene.pass(3);
    assert_ne!(held_digest(&held), digest);
    scene.working_key("eva", Kind::Crm);
    scene.working_key("petr", Kind::Crm);
}

#[test]
fn an_approval_is_good_for_a_day() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    let digest = held_digest(&scene.pass(3));
    scene.run(&["approve", &digest]).expect(0);
    scene.let_pass(DAY + HOUR);
    scene.pass(3);
    scene.working_key("eva", Kind::Crm);
}

#[test]
fn removals_of_the_last_hour_count() {
    let scene = nine_keys();
    disconnect_all(&scene, &["john"]);
    scene.pass(0);
    disconnect_all(&scene, &["eva"]);
    scene.pass(3).says("6 of 9 connections would go");
    scene.working_key("eva", Kind::Crm);
    scene.let_pass(HOUR + 60);
    scene.pass(0);
    assert_eq!(scene.variables("eva").len(), 0);
}

#[test]
fn an_emptied_file_takes_nobodys_keys() {
    let scene = Scene::new();
    for user in ["eva", "john"] {
        scene.connect(user, Kind::Crm);
    }
    scene.pass(0);
    scene.desired("users: {} # all gone\n");
    scene.pass(3).says("nobody would be left");
    scene.working_key("eva", Kind::Crm);
    scene.working_key("john", Kind::Crm);
}

#[test]
fn people_who_are_there_no_longer_are_held_like_any_removal() {
    let scene = nine_keys();
    scene.people("people: {}\n");
    scene.pass(3);
    for user in USERS {
        scene.working_key(user, Kind::Crm);
    }
}

#[test]
fn a_narrower_allow_is_held_like_any_removal() {
    let scene = nine_keys();
    for kind in KINDS {
        scene.entry(kind, "*@your-domain.com", "*@elsewhere.com");
    }
    scene.pass(3);
    for user in USERS {
        scene.working_key(user, Kind::Crm);
    }
}

#[test]
fn the_limits_can_be_set() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    scene.run(&["reconcile", "--guard-at-least", "6"]).expect(0);
    assert_eq!(scene.variables("eva").len(), 0);
}

#[test]
fn what_was_approved_or_held_is_not_a_matter_of_scope() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    scene.pass(3);
    // One user at a time is within the limits, and the hour remembers it.
    scene.run(&["reconcile", "--user", "eva"]).expect(0);
    scene.run(&["reconcile", "--user", "john"]).expect(3);
    scene.working_key("john", Kind::Crm);
    fs::metadata(scene.path("state/state.sqlite3")).unwrap();
}

#[test]
fn a_pass_for_one_user_counts_the_keys_of_all_others() {
    let scene = Scene::new();
    let users: Vec<String> = (0..60).map(|n| format!("user{n}")).collect();
    let wish = |user: &String| format!("  {user}: {{ connections: {{ crm: {{}} }} }}\n");
    scene.desired(&format!("users:\n{}", users.iter().map(wish).collect::<Vec<_>>().concat()));
    scene.pass(0);
    let leave = |user: &String| scene.run(&["disconnect", user, "crm", "--now"]);
    for user in &users[..6] {
        leave(user).expect(0).says("key revoked"); // a tenth of 60
    }
    leave(&users[6]).expect(3).says("7 of 60 connections would go");
    assert_eq!(scene.live(Kind::Crm).len(), 54);
}
