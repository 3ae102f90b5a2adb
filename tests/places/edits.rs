//! Whoever edits, the others can read and edit next.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use service_connector::model::digest::Digest;

use crate::server::{DESIRED, PORTAL, RECONCILER};
use crate::world::{World, age, in_a_world};

const EDITORS: [&str; 3] = [PORTAL, RECONCILER, "root"];

fn owner_and_mode(name: &str) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(format!("{DESIRED}/{name}")).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

fn all_read(world: &World<'_>, expected: &[String]) {
    for reader in EDITORS {
        world.run(reader, &["validate"]).expect(0);
        for file in ["desired.yaml", "history/log.jsonl"] {
            let mut cat = world.server.run_as(reader, "cat");
            let output = cat.arg(format!("{DESIRED}/{file}")).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            for user in expected {
                assert!(text.contains(user.as_str()), "{reader} misses {user} in {file}: {text}");
            }
        }
    }
}

#[test]
fn the_portal_the_reconciler_and_root_edit_in_turn_and_each_reads_the_others() {
    let test = "the_portal_the_reconciler_and_root_edit_in_turn_and_each_reads_the_others";
    in_a_world(test, |world| {
        let (reconciler, group) = world.server.ids(RECONCILER);
        let (portal, _) = world.server.ids(PORTAL);
        // Each of them is once the first, who makes the lock and the history.
        for first in 0..EDITORS.len() {
            world.begin_anew();
            let mut connected = Vec::new();
            for turn in 0..6 {
                let editor = EDITORS[(first + turn) % EDITORS.len()];
                let user = format!("user{turn}");
                let mut edit = world.command(editor, &["connect", &user, "crm"]);
                edit.env("SUDO_USER", "jane");
                world.ran(edit).expect(0);
                connected.push(user);
                all_read(world, &connected);
                // Root is the reconciler in all that it makes, and jane in what is told.
                let owner = if editor == PORTAL { portal } else { reconciler };
                assert_eq!(owner_and_mode("desired.yaml"), (owner, group, 0o660), "{editor}");
                assert_eq!(owner_and_mode(".desired.yaml.lock").1, group);
                assert_eq!(owner_and_mode(".desired.yaml.lock").2, 0o660);
                assert_eq!(owner_and_mode("history").2, 0o2770);
                for copy in fs::read_dir(format!("{DESIRED}/history")).unwrap() {
                    let name = copy.unwrap().file_name().into_string().unwrap();
                    let (_, gid, mode) = owner_and_mode(&format!("history/{name}"));
                    assert_eq!((gid, mode), (group, 0o660), "{name} after {editor}");
                }
            }
            let log = fs::read_to_string(format!("{DESIRED}/history/log.jsonl")).unwrap();
            assert!(log.contains("\"jane\"") && !log.contains("\"root\""), "{log}");
        }
    });
}

#[test]
fn an_editor_that_is_killed_at_any_instant_locks_nobody_out() {
    in_a_world("an_editor_that_is_killed_at_any_instant_locks_nobody_out", |world| {
        for round in 0..45 {
            if round % 3 == 0 {
                world.begin_anew(); // the lock and the history are made again
            }
            let killed = EDITORS[round % 3];
            let user = format!("killed{round}");
            let mut edit = world.command(killed, &["connect", &user, "crm"]);
            edit.stdout(Stdio::null()).stderr(Stdio::null());
            let mut edit = edit.spawn().unwrap();
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..40_000)));
            edit.kill().unwrap();
            edit.wait().unwrap();
            for editor in EDITORS {
                let user = format!("{}{round}", editor.replace('-', "_"));
                world.run(editor, &["connect", &user, "crm"]).expect(0);
            }
        }
    });
}

/// What the portal's user can put where we write, as shell.
const TRAPS: [&str; 7] = [
    "rm -rf history && ln -s /var/lib/service-connector/state history",
    "rm -rf history && mkdir history && ln -s ../../state/sealing.key history/log.jsonl",
    "rm -rf history && mkdir history && ln -s ../../state/state.sqlite3 history/log.jsonl",
    "rm -rf history && mkdir history && mkfifo history/log.jsonl",
    "rm -rf history && mkfifo history",
    "rm -rf history .desired.yaml.lock && ln -s ../state/sealing.key .desired.yaml.lock",
    "rm -f desired.yaml && ln -s ../state/sealing.key desired.yaml",
];

fn state_files() -> Vec<(String, u32, u64, Digest)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(crate::server::STATE).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        // A pass writes the database; the key, and what there is, stay.
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = if name == "sealing.key" { fs::read(&path).unwrap() } else { Vec::new() };
        files.push((name, meta.mode(), meta.nlink(), Digest::of(bytes)));
    }
    files.sort();
    files
}

#[test]
fn no_trap_of_the_portals_user_has_anything_of_the_reconcilers_read_or_written() {
    let test = "no_trap_of_the_portals_user_has_anything_of_the_reconcilers_read_or_written";
    in_a_world(test, |world| {
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        world.run(RECONCILER, &["reconcile"]).expect(0);
        let before = state_files();
        let trapped = |trap: &str| {
            for command in [&["connect", "eva", "crm"][..], &["reconcile"]] {
                for user in [RECONCILER, "root"] {
                    // Nothing hangs: what waits for the lock gives up after ten seconds.
                    let mut run = world.server.run_as(user, "timeout");
                    run.args(["--signal=KILL", "60", crate::world::PROGRAM]).args(command);
                    let ran = world.ran(run);
                    assert!(ran.code.is_some_and(|code| code < 128), "{trap}: {ran:?}");
                    assert_eq!(before, state_files(), "{trap}: {command:?} by {user}");
                }
            }
        };
        for trap in TRAPS {
            let mut set = world.server.run_as(PORTAL, "sh");
            assert!(set.current_dir(DESIRED).args(["-c", trap]).status().unwrap().success());
            trapped(trap);
            let clean = "rm -rf history .desired.yaml.lock; rm -f desired.yaml; \
                         printf 'version: 1\\nusers: { john: { connections: { crm: {} } } }\\n' \
                         >desired.yaml; chmod 660 desired.yaml";
            let mut mend = world.server.run_as(PORTAL, "sh");
            assert!(mend.current_dir(DESIRED).args(["-c", clean]).status().unwrap().success());
            age(&format!("{DESIRED}/desired.yaml"));
            world.run(RECONCILER, &["reconcile"]).expect(0);
        }
        // A name elsewhere for something of the reconciler's: the kernel forbids it to the
        // portal's user where it protects hard links; here it does not.
        fs::hard_link(
            format!("{}/sealing.key", crate::server::STATE),
            format!("{DESIRED}/.desired.yaml.lock.other"),
        )
        .unwrap();
        let before = state_files();
        fs::rename(
            format!("{DESIRED}/.desired.yaml.lock.other"),
            format!("{DESIRED}/.desired.yaml.lock"),
        )
        .unwrap();
        world.run(RECONCILER, &["connect", "eva", "crm"]);
        assert_eq!(before, state_files(), "a second name of the sealing key");
    });
}

#[test]
fn a_process_of_roots_is_wholly_the_reconciler() {
    in_a_world("a_process_of_roots_is_wholly_the_reconciler", |world| {
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        let (uid, gid) = world.server.ids(RECONCILER);
        // It waits for the lock, and can be looked at.
        let lock = fs::File::open(format!("{DESIRED}/.desired.yaml.lock")).unwrap();
        lock.lock().unwrap();
        let mut edit = world.command("root", &["connect", "eva", "crm"]);
        edit.env("SUDO_USER", "jane").stdout(Stdio::null());
        let mut edit = edit.spawn().unwrap();
        let pid = edit.id();
        let waits = || {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            let mut links = fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
            links.any(|link| link.ends_with(".desired.yaml.lock"))
        };
        while !waits() {
            assert_eq!(edit.try_wait().unwrap(), None, "it has not waited");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = fs::read_to_string(format!("/proc/{}/status", edit.id())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), vec![uid.to_string(); 4]);
        assert_eq!(field("Gid:"), vec![gid.to_string(); 4]);
        assert_eq!(field("Groups:"), [gid.to_string()]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        drop(OwnedFd::from(lock));
        assert!(edit.wait().unwrap().success());
    });
}
