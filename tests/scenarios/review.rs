//! What a second look found: things that were lost, kept waiting, or told wrongly.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{DAY, Scene, wait_until};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

fn remove_database(scene: &Scene) {
    for file in ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"] {
        fs::remove_file(scene.path(&format!("state/{file}"))).unwrap();
    }
}

#[test]
fn a_state_that_may_not_be_looked_at_is_never_taken_for_none() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    // Root may look everywhere: here it is a link that leads nowhere that keeps everybody out.
    symlink("loop", scene.path("loop")).unwrap();
    for command in ["plan", "status", "validate"] {
        let looked = scene.run_with(&[command], |command| {
            command.env("SC_STATE", scene.path("loop"));
        });
        looked.expect(1).does_not_say("connecting").does_not_say("issue a key");
    }
}

#[test]
fn a_pass_that_was_ended_early_is_not_called_converged() {
    let scene = Scene::new();
    scene.entry(CRM, "per_minute: 600", "per_minute: 1");
    scene.connect("eva", CRM);
    scene.connect("john", CRM);
    let pass = scene.start(&["reconcile"]);
    wait_until("the service is asked", || scene.calls(CRM).0 == 1);
    kill(Pid::from_raw(i32::try_from(pass.id()).unwrap()), Signal::SIGTERM).unwrap();
    scene.wait(pass).expect(4).says("Ended before all was begun");
    assert_eq!(scene.status()["last_pass"]["exit"], 4);
    scene.reset_entry(CRM);
    scene.pass(0);
    scene.working_key("eva", CRM);
    scene.working_key("john", CRM);
}

#[test]
fn a_key_that_cannot_stand_in_its_variable_is_refused_and_keeps_no_other_key_out() {
    let scene = Scene::new();
    // Room for the sample that templates are checked with, and not for a real key.
    let long = format!("env:\n  CRM_LONG: \"{}{{{{ api_key }}}}\"", "x".repeat(4080));
    scene.entry(CRM, "env:", &long);
    scene.run(&["validate"]).expect(0);
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    scene.pass(4).says("its api_key cannot stand in CRM_LONG");
    scene.working_key("john", INVOICING);
    scene.retry(4);
    assert_eq!(scene.phases("john", CRM)[0], "revoked");
    scene.reset_entry(CRM);
    scene.retry(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.live(CRM).len(), 1);
}

#[test]
fn a_database_that_is_missing_together_with_the_homes_is_never_a_new_one() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    remove_database(&scene);
    fs::rename(scene.path("homes"), scene.path("unmounted")).unwrap();
    let pass = || {
        scene.run_with(&["reconcile"], |command| {
            command.env("SC_HOMES_CREATE", "false");
        })
    };
    pass().expect(1).says("nobody can tell whether it was lost");
    assert!(!scene.path("state/state.sqlite3").exists());
    assert_eq!(scene.calls(CRM), (1, 0));
    fs::rename(scene.path("unmounted"), scene.path("homes")).unwrap();
    pass().expect(1).says("it was lost");
}

#[test]
fn a_database_that_is_missing_where_the_history_tells_of_a_pass_is_an_error() {
    let scene = Scene::new();
    scene.desired("users:\n  john:\n    connections:\n      crm: {}\n");
    scene.pass(0);
    remove_database(&scene);
    fs::remove_dir_all(scene.path("homes")).unwrap();
    scene.pass(1).says("it was lost").says("a pass acted on");
    assert_eq!(scene.calls(CRM), (1, 0));
}

#[test]
fn nothing_but_a_pass_makes_a_database() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    remove_database(&scene);
    let forgotten = ["forget", "john", "crm", "0123", "--reason", "it is gone"];
    scene.run(&forgotten).expect(1).says("there is no state");
    for command in [&["approve", &"0".repeat(64)][..], &["events"], &["explain", "john", "crm"]] {
        scene.run(command);
        assert!(!scene.path("state/state.sqlite3").exists(), "{command:?}");
    }
    scene.pass(1).says("it was lost");
}

#[test]
fn a_failure_under_a_clock_that_ran_ahead_keeps_nobody_waiting_once_it_is_set_right() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.let_pass(400 * DAY);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    scene.let_pass(-400 * DAY);
    scene.pass(0);
    scene.working_key("john", CRM);
}

#[test]
fn a_leaked_key_that_was_issued_under_a_clock_that_ran_ahead_is_revoked() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.let_pass(10 * DAY);
    scene.pass(0);
    let leaked = scene.working_key("john", CRM);
    scene.let_pass(-10 * DAY);
    scene.run(&["rotate", "john", "crm", "--leaked"]).expect(0);
    scene.pass(0);
    assert!(!scene.works(CRM, &leaked));
    assert_ne!(scene.working_key("john", CRM), leaked);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn nobodys_name_looks_like_another_event() {
    let scene = Scene::new();
    let named = scene.run_with(&["connect", "john", "crm", "--json"], |command| {
        command.env("USER", "x\n2026-01-01T00:00:00Z  root  forged\x1b[2K");
    });
    named.expect(0);
    scene.pass(0);
    let events = scene.run(&["events", "--json"]).expect(0).json();
    let count = events["events"].as_array().unwrap().len();
    let shown = scene.run(&["events"]).expect(0);
    assert_eq!(shown.stdout.lines().count(), count, "{}", shown.stdout);
    shown.does_not_say("\x1b");
}

#[test]
fn an_output_that_could_not_be_written_is_an_error() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_service-connector"))
        .args(["plan", "--json"])
        .env_clear()
        .current_dir(scene.root())
        .env("SC_DESIRED", scene.path("desired.yaml"))
        .env("SC_PEOPLE", scene.path("people.yaml"))
        .env("SC_REGISTRY", scene.path("registry"))
        .env("SC_SKILLS", concat!(env!("CARGO_MANIFEST_DIR"), "/skills"))
        .env("SC_STATE", scene.path("state"))
        .env("SC_HOMES", scene.path("homes"))
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("No space left on device"));
}

#[test]
fn a_user_or_service_that_nobody_knows_does_not_look_like_one_in_order() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    for command in ["plan", "reconcile", "status"] {
        let what = scene.run(&[command, "--user", "jhon"]).expect(0);
        what.says("jhon is connected to nothing, and is not to be");
        let what = scene.run(&[command, "--service", "cmr"]).expect(0);
        what.says("cmr is a service that neither the registry nor the state knows");
        let what = scene.run(&[command, "--user", "john", "--service", "crm"]).expect(0);
        what.does_not_say("connected to nothing").does_not_say("neither the registry");
    }
}

#[test]
fn a_desired_state_that_is_a_link_is_refused_in_words_that_say_so() {
    let scene = Scene::new();
    fs::rename(scene.path("desired.yaml"), scene.path("real.yaml")).unwrap();
    symlink("real.yaml", scene.path("desired.yaml")).unwrap();
    scene.pass(1).says("it is a link: name the file itself");
    scene.run(&["connect", "john", "crm"]).expect(1).says("it is a link");
}
