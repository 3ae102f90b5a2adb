//! The story proves something only if each look would see: so a marker is put into each place in
//! each form, one after another, and is found there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::places::Canary;
use super::processes::{self, Watch};
use crate::scene::wait_until;

#[test]
fn a_marker_that_is_planted_is_found_in_each_place_and_each_form() {
    let canary = Canary::new();
    canary.run(&["connect", "john", "crm", "--json"]).expect(0);
    canary.retry().expect(0);
    canary.assert_nothing_leaked();
    for (marker, form, text) in [&canary.keys, &canary.secrets]
        .into_iter()
        .flat_map(|marker| marker.forms().iter().map(move |(form, text)| (marker, form, text)))
    {
        let found = marker.found_in(format!("before {text} after").as_bytes());
        assert!(!found.is_empty(), "{form}");
    }
    for place in [
        "tmp/left-over",
        "plan.json",
        "state/journal",
        "history/2026.jsonl",
        "homes/john/.claude_rules/sc_crm.md",
        "homes/john/.profile",
    ] {
        let path = canary.scene.path(place);
        let before = fs::read(&path).ok();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, canary.keys.text()).unwrap();
        assert!(!canary.leaks_anywhere().is_empty(), "{place}");
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    let file = canary.scene.path("homes/john/.service_env");
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    assert!(!canary.leaks_anywhere().is_empty(), "a key that others may read");
    mode(0o600);
    canary.assert_nothing_leaked();
    let database = canary.scene.database();
    database
        .execute("UPDATE event SET detail = ?1 WHERE seq = 1", [canary.secrets.text()])
        .unwrap();
    assert!(!canary.leaks_in_tables().is_empty(), "an event");
    let in_files = canary.leaks_in_files();
    assert!(in_files.iter().any(|leak| leak.contains("state.sqlite3")), "{in_files:#?}");
    let leaks = canary.leaks_in_output(&["status"], b"", canary.keys.text().as_bytes());
    assert_eq!(leaks.len(), 2, "both halves: {leaks:#?}");
    a_process_that_was_given_a_marker_is_found(&canary);
}

fn a_process_that_was_given_a_marker_is_found(canary: &Canary) {
    let markers = [&canary.keys, &canary.secrets];
    let text = canary.keys.text();
    let mut in_environment = Command::new("sleep");
    in_environment.arg("60").env("GIVEN", &text);
    let mut in_arguments = Command::new("sh");
    in_arguments.args(["-c", "sleep 60; : \"$0\"", &text]);
    for mut command in [in_environment, in_arguments] {
        let watch = Watch::begin(&canary.keys, &canary.secrets);
        let mut child = command.spawn().unwrap();
        wait_until("it is seen", || !processes::leaks(&markers).is_empty());
        wait_until("it is seen from the other thread", || !watch.is_clean());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!watch.end().1.is_empty());
    }
}
