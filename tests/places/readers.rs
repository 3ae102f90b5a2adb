//! The portal's user reads the state, whatever the passes do or did, and keeps nobody from it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use crate::server::{PORTAL, RECONCILER, SECRETS, STATE};
use crate::world::{Ran, World, in_a_world};

/// Name, owner and mode of each file of the state.
fn listing() -> Vec<(String, u32, u32, u32)> {
    let mut files: Vec<_> = fs::read_dir(STATE)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().ok()?; // gone meanwhile
            let name = entry.file_name().into_string().unwrap();
            Some((name, meta.uid(), meta.gid(), meta.mode() & 0o7777))
        })
        .collect();
    files.sort();
    files
}

/// What the portal's user may read is the group's to read from its first instant.
fn has_its_modes(world: &World<'_>) {
    let (uid, gid) = world.server.ids(RECONCILER);
    for (name, of, group, mode) in listing() {
        assert_eq!((of, group), (uid, gid), "{name}");
        let expected = if name.starts_with("state.sqlite3") { 0o640 } else { 0o600 };
        assert_eq!(mode, expected, "{name}");
    }
}

fn portal_looks(world: &World<'_>) -> [Ran; 2] {
    [world.run(PORTAL, &["status", "--json"]), world.run(PORTAL, &["plan"])]
}

#[test]
fn the_portal_reads_the_state_before_between_and_after_passes() {
    in_a_world("the_portal_reads_the_state_before_between_and_after_passes", |world| {
        for passer in [RECONCILER, "root"] {
            world.begin_anew();
            for looked in portal_looks(world) {
                looked.expect(1).says("there is no state"); // which is not "nobody"
            }
            assert_eq!(listing(), [], "a reader makes nothing");
            for (turn, edit) in ["connect", "disconnect", "connect"].into_iter().enumerate() {
                world.run(PORTAL, &[edit, "john", "crm"]).expect(0);
                world.run(passer, &["reconcile"]).expect(0);
                has_its_modes(world);
                let before = listing();
                for looked in portal_looks(world) {
                    assert!([Some(0), Some(2), Some(4)].contains(&looked.code), "{looked:?}");
                }
                let status = world.run(PORTAL, &["status", "--json"]).expect(0).stdout;
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                assert_eq!(status["last_pass"]["exit"], 0, "{turn}: {status}");
                assert_eq!(before, listing());
            }
        }
    });
}

#[test]
fn the_portal_reads_the_state_while_passes_run() {
    in_a_world("the_portal_reads_the_state_while_passes_run", |world| {
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        world.run(RECONCILER, &["reconcile"]).expect(0);
        for round in 0..8 {
            world.run(PORTAL, &["rotate", "john", "crm"]).expect(0);
            world.run(PORTAL, &["connect", &format!("user{round}"), "invoicing"]).expect(0);
            let passer = if round % 2 == 0 { RECONCILER } else { "root" };
            let mut pass = world.command(passer, &["reconcile"]);
            let mut pass = pass.stdout(std::process::Stdio::null()).spawn().unwrap();
            let mut looks = 0;
            while pass.try_wait().unwrap().is_none() || looks == 0 {
                world.run(PORTAL, &["status", "--json"]).expect(0);
                looks += 1;
            }
            assert!(pass.wait().unwrap().success());
        }
    });
}

#[test]
fn the_portal_reads_the_state_after_a_pass_was_killed_at_any_instant() {
    in_a_world("the_portal_reads_the_state_after_a_pass_was_killed_at_any_instant", |world| {
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        let begin = Instant::now();
        world.run(RECONCILER, &["reconcile"]).expect(0);
        let whole = begin.elapsed();
        let (mut early, mut late) = (0, 0);
        for round in 0..60 {
            // Half of the kills hit a first pass, which makes the state.
            let is_first = round % 2 == 0;
            if is_first {
                world.begin_anew();
            }
            world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
            world.run(PORTAL, &["connect", &format!("user{round}"), "invoicing"]).expect(0);
            let passer = if round % 4 < 2 { RECONCILER } else { "root" };
            let mut pass = world.command(passer, &["reconcile"]);
            let mut pass = pass.stdout(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole.mul_f64(fastrand::f64() * 1.2));
            pass.kill().unwrap();
            pass.wait().unwrap();
            let before = listing();
            let looked = world.run(PORTAL, &["status", "--json"]);
            if looked.code == Some(0) {
                late += 1;
            } else {
                // Nothing was promised yet; and nobody is told that it is empty.
                assert!(is_first, "{looked:?}");
                looked.expect(1).says("there is no state");
                early += 1;
            }
            assert_eq!(before, listing(), "a reader changes nothing");
            for (name, _, _, mode) in before {
                let is_read = name.starts_with("state.sqlite3");
                assert_eq!(mode, if is_read { 0o640 } else { 0o600 }, "{name}");
            }
            // Nor did it keep the next pass out.
            world.run(passer, &["reconcile", "--retry-now"]).expect(0);
            has_its_modes(world);
            world.run(PORTAL, &["status", "--json"]).expect(0);
        }
        assert!(early > 0 && late > 0, "{early} kills before there was a state, {late} after");
    });
}

#[test]
fn a_state_that_an_earlier_umask_hid_is_shown_by_the_next_pass() {
    in_a_world("a_state_that_an_earlier_umask_hid_is_shown_by_the_next_pass", |world| {
        use std::os::unix::fs::PermissionsExt as _;
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        world.run(RECONCILER, &["reconcile"]).expect(0);
        for name in ["", "-wal", "-shm"] {
            let path = format!("{STATE}/state.sqlite3{name}");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        // Unreadable is an error, and never an empty state.
        for looked in portal_looks(world) {
            looked.expect(1).says("state.sqlite3");
        }
        world.run(RECONCILER, &["reconcile"]).expect(0);
        world.run(PORTAL, &["status"]).expect(0);
    });
}

#[test]
fn the_portal_can_read_no_secret_and_write_no_state() {
    in_a_world("the_portal_can_read_no_secret_and_write_no_state", |world| {
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        world.run(RECONCILER, &["reconcile"]).expect(0);
        world.server.dir("/run/portal", PORTAL, PORTAL, 0o700);
        let before = listing();
        let state = |name: &str| format!("{STATE}/{name}");
        let shell = |line: &str| {
            let mut shell = world.server.run_as(PORTAL, "sh");
            shell.args(["-c", line]).output().unwrap().status.success()
        };
        assert!(shell(&format!("cat {}", state("state.sqlite3"))), "it reads the state");
        for file in ["state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm", ".pass.lock"] {
            assert!(!shell(&format!("echo x >> {}", state(file))), "writes {file}");
            assert!(!shell(&format!("rm -f {0}; ! test -e {0}", state(file))), "removes {file}");
        }
        assert!(!shell(&format!("touch {}", state("new"))));
        assert!(!shell(&format!("cat {}", state("sealing.key"))));
        assert!(!shell(&format!(
            "ln {} /var/lib/service-connector/desired/k",
            state(".pass.lock")
        )));
        // Whoever can open a file can lock it.
        assert!(!shell(&format!("flock --nonblock {} true", state(".pass.lock"))));
        assert!(!shell(&format!("ls {SECRETS}")));
        assert!(!shell(&format!("cat {SECRETS}/SC_SECRET_CRM")));
        assert!(!shell("ls /var/lib/service-connector/homes/john"));
        for line in ["people.yaml", "service-connector.yaml", "registry/crm.yaml", "registry/new"] {
            assert!(!shell(&format!("echo x >> /etc/service-connector/{line}")), "{line}");
        }
        for args in [
            &["reconcile"][..],
            &["reconcile", "--retry-now"],
            &["connect", "eva", "crm", "--now"],
            &["state", "export", "--with-keys", "--out", "/run/portal/export"],
            &["check-service", "crm"],
        ] {
            let ran = world.run(PORTAL, args);
            assert_eq!(ran.code, Some(1), "{args:?}: {ran:?}");
        }
        assert_eq!(before, listing());
        world.run(RECONCILER, &["reconcile"]).expect(0);
    });
}
