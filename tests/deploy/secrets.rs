//! `put-secret`, and the workflow that calls it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::kit::{kit, success};
use crate::server::root_or_say_so;

const OWNER: u32 = 4242;

fn secrets_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(OWNER), Some(OWNER)).unwrap();
    dir
}

fn put(dir: &Path, name: &str, secret: &[u8]) -> Output {
    let mut command = Command::new(kit().join("put-secret"));
    command.arg("--dir").arg(dir).arg(name);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that refuses the name reads nothing.
    drop(child.stdin.take().unwrap().write_all(secret));
    child.wait_with_output().unwrap()
}

/// What was said does not hold the secret.
fn silent(output: &Output, secret: &str) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(secret), "it was said");
    said
}

fn made_up() -> String {
    format!("{:032x}", fastrand::u128(..))
}

#[test]
fn a_secret_is_its_directorys_owners_alone() {
    if !root_or_say_so("a_secret_is_its_directorys_owners_alone") {
        return;
    }
    let dir = secrets_dir();
    let file = dir.path().join("SC_SECRET_CRM");
    for secret in [made_up(), made_up()] {
        let line = format!("{secret}\n");
        let output = put(dir.path(), "SC_SECRET_CRM", line.as_bytes());
        assert_eq!(silent(&output, &secret), "SC_SECRET_CRM: written\n");
        let meta = fs::symlink_metadata(&file).unwrap();
        assert_eq!((meta.mode(), meta.uid(), meta.gid()), (0o100_600, OWNER, OWNER));
        assert!(fs::read_to_string(&file).unwrap() == line);
        let again = put(dir.path(), "SC_SECRET_CRM", line.as_bytes());
        assert_eq!(silent(&again, &secret), "SC_SECRET_CRM: was so already\n");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn what_is_no_secret_changes_nothing() {
    if !root_or_say_so("what_is_no_secret_changes_nothing") {
        return;
    }
    let dir = secrets_dir();
    let good = made_up();
    assert!(put(dir.path(), "SC_SECRET_CRM", good.as_bytes()).status.success());
    let long = "x".repeat(4097);
    for bad in ["", "\n", "two words", "two\nlines\n", "a\0b", "end\n\n", "\nx", "\u{e9}", &long] {
        let output = put(dir.path(), "SC_SECRET_CRM", bad.as_bytes());
        assert!(!output.status.success(), "{bad:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was changed"));
        assert!(fs::read_to_string(dir.path().join("SC_SECRET_CRM")).unwrap() == good);
    }
    for ok in [format!("{}\r\n", "x".repeat(4096)), "!~".to_owned()] {
        assert!(put(dir.path(), "SC_SECRET_CRM", ok.as_bytes()).status.success());
    }
    for name in
        ["../x", "SC_SECRET_", "SC_SECRET_crm", "PATH", "SC_SECRET_A/B", "SC_SECRET_A\nB", ""]
    {
        assert!(!put(dir.path(), name, good.as_bytes()).status.success(), "{name:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_its_owner_put_in_the_way_leads_nowhere() {
    if !root_or_say_so("what_its_owner_put_in_the_way_leads_nowhere") {
        return;
    }
    let (dir, outside) = (secrets_dir(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    fs::write(&target, "root's").unwrap();
    for name in ["SC_SECRET_CRM", ".SC_SECRET_CRM.new"] {
        std::os::unix::fs::symlink(&target, dir.path().join(name)).unwrap();
    }
    assert!(put(dir.path(), "SC_SECRET_CRM", made_up().as_bytes()).status.success());
    assert_eq!(fs::read_to_string(&target).unwrap(), "root's");
    assert_eq!(fs::metadata(&target).unwrap().uid(), 0);
    let meta = fs::symlink_metadata(dir.path().join("SC_SECRET_CRM")).unwrap();
    assert_eq!((meta.mode(), meta.uid()), (0o100_600, OWNER));
}

/// The script of a step of the workflow.
fn step(name: &str) -> String {
    let text = fs::read_to_string(kit().join("examples/deploy.yml")).unwrap();
    let step = text.split("      - name: ").find(|step| step.starts_with(name)).unwrap();
    let script = step.split("        run: |\n").nth(1).unwrap();
    let lines = script.lines().map(|line| line.strip_prefix("          ").unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Stands for ssh and the server's sudo; keeps its arguments, and those of everybody.
const SSH: &str = r#"#!/bin/bash
for list in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$list"; echo; done >>"$SEEN" 2>/dev/null
while [ "$1" != sudo ]; do shift; done
exec "$KIT/put-secret" --dir "$DIR" "${@: -1}"
"#;

#[test]
fn the_workflow_hands_secrets_over_in_no_argument_list() {
    if !root_or_say_so("the_workflow_hands_secrets_over_in_no_argument_list") {
        return;
    }
    let (dir, tools) = (secrets_dir(), tempfile::tempdir().unwrap());
    let (ssh, seen) = (tools.path().join("ssh"), tools.path().join("seen"));
    fs::write(&ssh, SSH).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let names = ["SC_SECRET_CRM", "SC_SECRET_INVOICING", "SC_SECRET_PURCHASE_ORDERS"];
    let secrets = names.map(|name| (name, made_up()));
    let mut command = Command::new("bash");
    // As the runner does it (GitHub's docs, `defaults.run.shell`).
    command.args(["-e", "-c", &step("Hand over the shared secrets")]).env_clear();
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display()));
    command.env("HOME", tools.path()).env("DEPLOY_TARGET", "deploy@server");
    command.env("SEEN", &seen).env("KIT", kit()).env("DIR", dir.path());
    command.envs(secrets.iter().map(|(name, secret)| (name, secret)));
    success(&mut command);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("put-secret SC_SECRET_CRM"), "somebody's arguments were seen");
    for (name, secret) in secrets {
        assert!(!seen.contains(&secret), "{name} is in an argument list");
        assert!(fs::read_to_string(dir.path().join(name)).unwrap().trim_end() == secret);
    }
}
