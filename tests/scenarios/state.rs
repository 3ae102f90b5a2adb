//! The state: lost, locked, from another time, or sealed with another key.

use std::fs;
use std::time::{Duration, Instant};

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{Scene, wait_until};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

fn connected() -> (Scene, String) {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    (scene, key)
}

fn lose_database(scene: &Scene) {
    for file in ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm"] {
        fs::remove_file(scene.path(&format!("state/{file}"))).unwrap();
    }
}

#[test]
fn a_missing_sealing_key_is_an_error_and_never_a_new_key() {
    let (scene, key) = connected();
    fs::remove_file(scene.path("state/sealing.key")).unwrap();
    scene.disconnect("john", CRM);
    let before = (scene.files(), scene.dump());
    scene.pass(1).says("sealing.key is missing");
    assert!(before == (scene.files(), scene.dump()), "nothing was changed");
    assert!(scene.works(CRM, &key));
    scene.run(&["plan"]).expect(2);
    scene.run(&["status"]).expect(0);
}

#[test]
fn a_wrong_sealing_key_is_an_error() {
    let (scene, key) = connected();
    fs::write(scene.path("state/sealing.key"), format!("{}\n", "0a".repeat(32))).unwrap();
    scene.disconnect("john", CRM);
    let before = (scene.files(), scene.dump());
    scene.pass(1).says("is another one than the state was sealed with");
    assert!(before == (scene.files(), scene.dump()), "nothing was changed");
    assert!(scene.works(CRM, &key));
    fs::write(scene.path("state/sealing.key"), "short\n").unwrap();
    scene.pass(1).says("is not 64 hex digits");
}

#[test]
fn the_sealing_key_and_the_database_are_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let (scene, _) = connected();
    let mode = |file: &str| fs::metadata(scene.path(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state/sealing.key"), 0o600);
    assert_eq!(mode("state/state.sqlite3"), 0o640);
    assert_eq!(mode("homes/john/.service_env"), 0o600);
}

#[test]
fn no_key_is_in_the_database_or_the_desired_state() {
    let (scene, key) = connected();
    scene.rotate("john", CRM);
    scene.pass(0);
    for (path, (bytes, ..)) in scene.files() {
        let holds = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!holds, "{}", path.display());
    }
    for file in ["state.sqlite3", "state.sqlite3-wal"] {
        let bytes = fs::read(scene.path(&format!("state/{file}"))).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{file}");
    }
}

#[test]
fn a_key_that_cannot_be_unsealed_is_renewed() {
    let (scene, old) = connected();
    let database = scene.database();
    let sealed: Vec<u8> =
        database.query_row("SELECT sealed FROM token", [], |row| row.get(0)).unwrap();
    let mut flipped = sealed;
    flipped[20] ^= 1;
    database.execute("UPDATE token SET sealed = ?1", [flipped]).unwrap();
    scene.pass(0).says("Nothing to do");
    assert_eq!(scene.working_key("john", CRM), old, "it is still where it was put");

    // It is needed only once the home is written again.
    scene.connect("john", INVOICING);
    scene.pass(4).says("the stored key of crm cannot be unsealed");
    // The home is tried once more before the new key is there.
    scene.pass(4).says("john crm: key issued");
    assert_ne!(scene.working_key("john", CRM), old);
    scene.working_key("john", INVOICING);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_second_pass_waits_for_the_first() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::Delay { millis: 1500 }, 1);
    let first = scene.start(&["reconcile"]);
    wait_until("the service is asked", || scene.calls(CRM).0 == 1);
    let second = scene.run(&["reconcile"]).expect(0);
    second.says("Another pass is under way; waiting for it.").says("Nothing to do");
    scene.wait(first).expect(0).says("key issued");
    assert_eq!(scene.calls(CRM), (1, 0));
    scene.working_key("john", CRM);
}

#[test]
fn a_plan_reads_beside_a_pass_and_beside_a_writer() {
    let (scene, _) = connected();
    let mut writer = scene.database();
    let transaction =
        writer.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    transaction.execute("DELETE FROM token", []).unwrap();
    let begin = Instant::now();
    scene.run(&["plan"]).expect(0);
    scene.run(&["status"]).expect(0).says("connected");
    assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits for the writer");
    drop(transaction);

    scene.connect("eva", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::Delay { millis: 1500 }, 1);
    let pass = scene.start(&["reconcile"]);
    wait_until("the service is asked", || scene.calls(CRM).0 == 2);
    scene.run(&["plan"]).expect(2).says("eva");
    scene.wait(pass).expect(0);
}

#[test]
fn a_plan_and_a_status_write_nothing() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let before = scene.files();
    scene.run(&["plan"]).expect(2);
    scene.run(&["plan", "--json"]).expect(2);
    scene.run(&["reconcile", "--plan"]).expect(2);
    scene.run(&["status"]).expect(0);
    scene.run(&["validate"]).expect(0);
    assert!(scene.files() == before, "a file was written");
    assert!(!scene.path("state/state.sqlite3").exists());
    assert_eq!(scene.calls(CRM), (0, 0));
}

#[test]
fn a_database_that_is_missing_where_homes_hold_our_files_is_an_error() {
    let (scene, key) = connected();
    lose_database(&scene);
    let before = scene.files();
    scene.pass(1).says("it was lost. Restore it from a backup");
    assert!(scene.files() == before, "nothing was changed");
    assert!(!scene.path("state/state.sqlite3").exists());
    assert!(scene.works(CRM, &key));
    assert_eq!(scene.calls(CRM), (1, 0));
}

#[test]
fn a_database_that_is_missing_is_an_error_whatever_is_desired_now() {
    let (scene, _) = connected();
    lose_database(&scene);
    scene.desired("users: {}\n");
    scene.pass(1).says("it was lost");
    scene.desired_text("version: 1\nuser: {}\n");
    scene.pass(1).says("desired.yaml:2:1");
    assert!(!scene.path("state/state.sqlite3").exists(), "the next pass would find a new one");
    scene.desired("users:\n  john:\n    connections: { crm: {} }\n");
    scene.pass(1).says("it was lost");
}

#[test]
fn a_database_that_was_emptied_is_as_good_as_missing() {
    let (scene, _) = connected();
    lose_database(&scene);
    fs::write(scene.path("state/state.sqlite3"), "").unwrap();
    scene.pass(1).says("it was lost");
    assert_eq!(fs::metadata(scene.path("state/state.sqlite3")).unwrap().len(), 0);
}

#[test]
fn a_file_that_is_no_database_is_never_taken_for_nobody() {
    let (scene, key) = connected();
    lose_database(&scene);
    fs::write(scene.path("state/state.sqlite3"), "no database at all, but long enough").unwrap();
    scene.disconnect("john", CRM);
    scene.pass(1);
    scene.run(&["plan"]).expect(1);
    scene.run(&["status"]).expect(1);
    assert!(scene.works(CRM, &key));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (scene, key) = connected();
    let pragma = "SELECT user_version FROM pragma_user_version";
    let known: i64 = scene.database().query_row(pragma, [], |row| row.get(0)).unwrap();
    scene.database().pragma_update(None, "user_version", 99).unwrap();
    scene.disconnect("john", CRM);
    let before = (scene.files(), scene.dump());
    for command in ["plan", "status", "reconcile"] {
        scene.run(&[command]).expect(1).says(&format!("has schema 99; this program knows {known}"));
    }
    assert!(before == (scene.files(), scene.dump()), "nothing was changed");
    assert!(scene.works(CRM, &key));
}

#[test]
fn an_older_schema_is_brought_up_to_date_by_a_pass_and_by_no_reader() {
    let (scene, key) = connected();
    let database = scene.database();
    database
        .execute_batch(
            "DROP INDEX token_expiry; DROP INDEX token_debt; DROP TABLE tally; DROP TABLE connected; \
             DROP TRIGGER token_begins; DROP TRIGGER token_moves; DROP TRIGGER user_connects; \
             DROP TRIGGER user_disconnects; DROP TABLE shown; DROP TABLE laptop; \
             DROP TABLE kept_back; DROP TABLE sweep; DROP TABLE stray; DROP TABLE stray_removal; \
             DROP TABLE missing; DROP TABLE reissue; PRAGMA user_version = 1",
        )
        .unwrap();
    scene.run(&["plan"]).expect(1).says("is an earlier version's: the next pass");
    scene.pass(0);
    assert!(scene.works(CRM, &key));
    scene.run(&["plan", "--user", "john"]).expect(0);
}

#[test]
fn a_pass_that_is_ended_politely_finishes_what_is_under_way() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::Delay { millis: 1000 }, 1);
    let pass = scene.start(&["reconcile"]);
    wait_until("the service is asked", || scene.calls(CRM).0 == 1);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pass.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    scene.wait(pass);
    assert_eq!(scene.phases("john", CRM), ["active"], "the answer is on disk");
    scene.pass(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.calls(CRM), (1, 0));
}
