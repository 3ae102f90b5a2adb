//! Taking it down: what is said of keys that still work, and what stays.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::kit::{Root, failure, success};
use crate::server::root_or_say_so;

const STATE: &str = "/var/lib/service-connector/state";
const SECRET: &str = "/etc/service-connector/secrets/SC_SECRET_CRM";

/// A state as passes leave it, with tokens in all their phases.
pub fn state_with_tokens(dir: &Path, uid: u32, gid: u32) {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    fs::write(at("desired.yaml"), "version: 1\nusers: {}\n").unwrap();
    fs::write(at("people.yaml"), "version: 1\npeople: {}\n").unwrap();
    for made in ["registry", "skills", "homes"] {
        fs::create_dir(at(made)).unwrap();
    }
    let mut pass = Command::new(env!("CARGO_BIN_EXE_service-connector"));
    pass.current_dir(scratch.path()).env_clear().arg("reconcile").arg("--state").arg(dir);
    for name in ["desired", "people"] {
        pass.arg(format!("--{name}")).arg(at(&format!("{name}.yaml")));
    }
    for name in ["registry", "skills", "homes"] {
        pass.arg(format!("--{name}")).arg(at(name));
    }
    success(&mut pass);
    let database = rusqlite::Connection::open(dir.join("state.sqlite3")).unwrap();
    database.file_control::<&str>(None, rusqlite::FileControl::PersistWal(&mut 1)).unwrap();
    database.execute("INSERT INTO endpoint (id, body) VALUES (1, '{}')", []).unwrap();
    let now = 1_000_000 * jiff::Timestamp::now().as_second();
    let (ended, future) = (Some(now - 60_000_000), Some(now + 3_600_000_000));
    let tokens = [
        ("crm", "active", future, now),
        ("crm", "retiring", future, now),
        ("crm", "active", ended, now),
        ("invoicing", "revoking", future, now),
        ("invoicing", "issuing", None, now),
        ("invoicing", "issuing", None, now - 8 * 86_400_000_000),
        ("wiki", "lost", None, now),
        ("wiki", "revoked", future, now),
    ];
    for (number, (service, phase, expires, asked)) in tokens.iter().enumerate() {
        let insert = "INSERT INTO token (op, user, service, account, email, endpoint, ttl_days,
            asked_at, phase, since, token_id, expires_at)
            VALUES (?1, 'john', ?2, 'john', 'john@example.com', 1, 7, ?3, ?4, ?3, ?1, ?5)";
        let values = (format!("op{number}"), service, asked, phase, expires);
        database.execute(insert, values).unwrap();
    }
    drop(database);
    for entry in fs::read_dir(dir).unwrap() {
        chown(entry.unwrap().path(), Some(uid), Some(gid)).unwrap();
    }
}

#[test]
fn it_says_how_many_tokens_live_and_keeps_what_knows_them() {
    if !root_or_say_so("it_says_how_many_tokens_live_and_keeps_what_knows_them") {
        return;
    }
    for way in ["--socket", "--sudo"] {
        let root = Root::new();
        root.install(&[way]);
        let (uid, gid) = (root.uid("service-connector"), root.gid("service-connector"));
        state_with_tokens(&root.at(STATE), uid, gid);
        fs::write(root.at(SECRET), "made up").unwrap();
        let before = root_files(&root);
        let said = root.install(&["--uninstall"]);
        assert!(said.contains("5 live tokens remain: crm 2, invoicing 2, wiki 1."), "{said}");
        assert!(said.contains("To revoke them: install again"), "{said}");
        assert!(said.contains("kept: /var/lib/service-connector/"), "{said}");
        let left = root.tree();
        let strangers: Vec<_> = left
            .iter()
            .filter(|(path, found)| {
                let kept = ["/etc/service-connector", "/var/lib/service-connector"];
                let accounts = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"];
                found.text != "directory"
                    && !kept.iter().any(|dir| path.starts_with(dir))
                    && !accounts.contains(&path.as_str())
                    && *path != "/etc/.pwd.lock"
            })
            .collect();
        assert!(strangers.is_empty(), "{strangers:?}");
        assert_eq!(root_files(&root), before, "configuration, secrets and state");
        assert!(root.install(&["--uninstall"]).contains("nothing to do"));
        // And it is all there for one that is set up again.
        root.install(&[way]);
        assert_eq!(root_files(&root), before);
    }
}

/// What must survive: of the database, its main file, as looking at it may touch the others' times.
fn root_files(root: &Root) -> Vec<(String, u32, u32, Vec<u8>)> {
    let files = [
        "/etc/service-connector/service-connector.yaml",
        "/etc/service-connector/people.yaml",
        "/etc/service-connector/helper.conf",
        SECRET,
        "/var/lib/service-connector/desired/desired.yaml",
        "/var/lib/service-connector/state/state.sqlite3",
        "/var/lib/service-connector/state/state.sqlite3-wal",
        "/var/lib/service-connector/state/sealing.key",
    ];
    let facts = |path: &&str| {
        let meta = fs::metadata(root.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        ((*path).to_owned(), meta.uid(), meta.mode(), fs::read(root.at(path)).unwrap())
    };
    files.iter().map(facts).collect()
}

#[test]
fn purge_removes_configuration_secrets_and_state() {
    if !root_or_say_so("purge_removes_configuration_secrets_and_state") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    let (uid, gid) = (root.uid("service-connector"), root.gid("service-connector"));
    state_with_tokens(&root.at(STATE), uid, gid);
    let complaint = failure(&mut root.command(&["--purge"]));
    assert!(complaint.contains("--purge goes with --uninstall"), "{complaint}");
    assert!(root.has(STATE));
    let before = root.tree();
    let complaint = failure(&mut root.command(&["--uninstall", "--purge"]));
    assert!(complaint.contains("keys that nobody can revoke"), "{complaint}");
    assert!(root.tree().keys().eq(before.keys()), "nothing was removed");
    let said = root.install(&["--uninstall", "--purge", "--lose-keys"]);
    assert!(said.contains("5 live tokens remain"), "{said}");
    for gone in ["/etc/service-connector", "/var/lib/service-connector", "/run/service-connector"] {
        assert!(!root.has(gone), "{gone}");
    }
}

#[test]
fn tokens_are_counted_without_sqlites_own_program() {
    if !root_or_say_so("tokens_are_counted_without_sqlites_own_program") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    let (uid, gid) = (root.uid("service-connector"), root.gid("service-connector"));
    state_with_tokens(&root.at(STATE), uid, gid);
    let path = tempfile::tempdir().unwrap();
    fs::set_permissions(path.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for entry in ["/usr/bin", "/usr/sbin"].iter().flat_map(|dir| fs::read_dir(dir).unwrap()) {
        let program = entry.unwrap().path();
        let name = program.file_name().unwrap();
        if name != "sqlite3" {
            // One that is in both is the first.
            drop(symlink(&program, path.path().join(name)));
        }
    }
    let said = success(root.command(&["--uninstall", "--dry-run"]).env("PATH", path.path()));
    assert!(said.contains("5 live tokens remain: crm 2, invoicing 2, wiki 1."), "{said}");
    fs::remove_file(path.path().join("python3")).unwrap();
    let said = success(root.command(&["--uninstall", "--dry-run"]).env("PATH", path.path()));
    assert!(said.contains("could not be counted (neither sqlite3 nor python3"), "{said}");
}

#[test]
fn a_state_that_cannot_be_read_is_not_called_empty() {
    if !root_or_say_so("a_state_that_cannot_be_read_is_not_called_empty") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    fs::write(root.at(STATE).join("state.sqlite3"), "no database").unwrap();
    let said = root.install(&["--uninstall"]);
    assert!(said.contains("could not be counted"), "{said}");
    assert!(!said.contains("o live tokens"), "{said}");
}
