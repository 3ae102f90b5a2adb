//! Setting up: what is there afterwards, and what a second run makes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::kit::{Root, failure, kit, success};
use crate::server::root_or_say_so;

/// The places that the docs name: owner, group, mode.
const PLACES: &[(&str, &str, &str, u32)] = &[
    ("/etc/service-connector", "root", "root", 0o755),
    ("/etc/service-connector/service-connector.yaml", "root", "root", 0o644),
    ("/etc/service-connector/people.yaml", "root", "root", 0o644),
    ("/etc/service-connector/helper.conf", "root", "root", 0o644),
    ("/etc/service-connector/registry", "root", "root", 0o755),
    ("/etc/service-connector/skills", "root", "root", 0o755),
    ("/etc/service-connector/secrets", "service-connector", "service-connector", 0o700),
    ("/var/lib/service-connector", "root", "root", 0o755),
    ("/var/lib/service-connector/desired", "sc-portal", "service-connector", 0o2770),
    ("/var/lib/service-connector/desired/desired.yaml", "sc-portal", "service-connector", 0o660),
    ("/var/lib/service-connector/desired/history", "sc-portal", "service-connector", 0o2770),
    ("/var/lib/service-connector/desired/approvals", "sc-portal", "service-connector", 0o2770),
    ("/var/lib/service-connector/state", "service-connector", "service-connector", 0o2750),
    ("/run/service-connector", "root", "root", 0o755),
    ("/usr/bin/service-connector", "root", "root", 0o755),
    ("/usr/sbin/install-service-env", "root", "root", 0o755),
    ("/usr/lib/systemd/system/service-connector-install.socket", "root", "root", 0o644),
    ("/usr/lib/systemd/system/service-connector-install@.service", "root", "root", 0o644),
    ("/usr/lib/systemd/system/service-connector-reconcile.service", "root", "root", 0o644),
    ("/usr/lib/systemd/system/service-connector-reconcile.timer", "root", "root", 0o644),
    ("/usr/lib/systemd/system/service-connector-watch.service", "root", "root", 0o644),
    ("/usr/lib/systemd/system/service-connector-portal.service", "root", "root", 0o644),
    ("/usr/share/service-connector/nginx.conf", "root", "root", 0o644),
    ("/usr/share/service-connector/flask_card.py", "root", "root", 0o644),
];

const CONFIG: &str = "/etc/service-connector/service-connector.yaml";
const HELPER_CONF: &str = "/etc/service-connector/helper.conf";
const SUDOERS: &str = "/etc/sudoers.d/service-connector";
const DROP_INS: [&str; 2] = [
    "/etc/systemd/system/service-connector-reconcile.service.d/sudo.conf",
    "/etc/systemd/system/service-connector-watch.service.d/sudo.conf",
];
const SOCKET: &str = "/usr/lib/systemd/system/service-connector-install.socket";

#[test]
fn every_place_has_its_owner_and_mode() {
    if !root_or_say_so("every_place_has_its_owner_and_mode") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    let tree = root.tree();
    for (path, user, group, mode) in PLACES {
        let found = tree.get(*path).unwrap_or_else(|| panic!("no {path}"));
        let expected = (root.uid(user), root.gid(group), *mode);
        assert_eq!((found.uid, found.gid, found.mode), expected, "{path}: uid, gid, mode");
    }
    assert_eq!(
        root.read("/var/lib/service-connector/desired/desired.yaml"),
        "version: 1\nusers: {}\n"
    );
    let passwd = root.read("/etc/passwd");
    let shells = passwd.lines().filter(|line| line.ends_with(":/usr/sbin/nologin"));
    assert_eq!(shells.count(), 2, "{passwd}");
    let members = format!("service-connector:x:{}:sc-portal", root.gid("service-connector"));
    assert!(root.read("/etc/group").lines().any(|line| line == members));
    assert!(root.gid("analysts") > 0);
    let dropped = DROP_INS.iter().any(|path| root.has(path));
    assert!(!root.has(SUDOERS) && !dropped, "the socket needs no sudo");
}

#[test]
fn a_second_run_finds_nothing_to_do_and_clean_roots_become_alike() {
    if !root_or_say_so("a_second_run_finds_nothing_to_do_and_clean_roots_become_alike") {
        return;
    }
    for way in [&["--socket"][..], &["--sudo"], &["--analysts-group", "people"]] {
        let (root, other) = (Root::new(), Root::new());
        let said = root.install(way);
        assert!(said.lines().count() > 20 && !said.contains("nothing to do"), "{said}");
        let first = root.tree();
        assert_eq!(root.install(way), "nothing to do\n");
        // What was chosen once needs no telling again.
        assert_eq!(root.install(&[]), "nothing to do\n");
        assert_eq!(root.tree(), first);
        assert_eq!(other.install(way), said);
        assert_eq!(other.tree(), first);
    }
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    if !root_or_say_so("a_dry_run_says_the_same_and_changes_nothing") {
        return;
    }
    let root = Root::new();
    let told = |options: &[&str]| {
        let before = root.tree();
        let foretold = root.install(&[options, &["--dry-run"]].concat());
        assert_eq!(root.tree(), before, "{options:?}");
        foretold.strip_suffix("dry run: nothing was changed\n").unwrap().to_owned()
    };
    for options in [&[][..], &[], &["--sudo"], &["--uninstall"], &["--uninstall", "--purge"]] {
        let foretold = told(options);
        assert_eq!(foretold, root.install(options), "{options:?}");
    }
}

#[test]
fn an_edited_configuration_stays_and_the_new_one_goes_beside_it() {
    if !root_or_say_so("an_edited_configuration_stays_and_the_new_one_goes_beside_it") {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    success(Command::new("cp").arg("-a").arg(kit()).arg(copy.path().join("kit")));
    let mut root = Root::new();
    root.kit = copy.path().join("kit");
    root.install(&[]);
    let people = "/etc/service-connector/people.yaml";
    let edited = "version: 1\npeople: {}\nrules:\n  - { domain: example.com }\n";
    fs::write(root.at(people), edited).unwrap();
    fs::write(root.at(CONFIG), "version: 1\n").unwrap();
    assert_eq!(root.install(&[]), "nothing to do\n", "ours are what they were");
    let newer = root.read(HELPER_CONF) + "# newer\n";
    for name in ["people.yaml", "helper.conf"] {
        fs::write(root.kit.join("config").join(name), &newer).unwrap();
    }
    let said = root.install(&[]);
    assert!(said.contains("people.yaml was edited, and stays"), "{said}");
    assert_eq!(root.read(people), edited);
    assert_eq!(root.read(CONFIG), "version: 1\n");
    assert_eq!(root.read(&format!("{people}.new")), newer);
    assert_eq!(root.read(HELPER_CONF), newer, "that one was not edited");
    assert!(!root.has(&format!("{HELPER_CONF}.new")));
    fs::remove_file(root.at(&format!("{people}.new"))).unwrap();
    assert_eq!(root.install(&[]), "nothing to do\n");
    // Edits of desired.yaml are the very point of it.
    let desired = "/var/lib/service-connector/desired/desired.yaml";
    fs::write(root.at(desired), edited).unwrap();
    assert_eq!(root.install(&[]), "nothing to do\n");
    assert_eq!(root.read(desired), edited);
}

#[test]
fn the_registry_and_the_skills_of_the_checkout_are_put_there() {
    if !root_or_say_so("the_registry_and_the_skills_of_the_checkout_are_put_there") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    for file in ["registry/crm.yaml", "registry/crm.svg", "skills/sc_crm.md"] {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let there = format!("/etc/service-connector/{file}");
        assert_eq!(root.read(&there), fs::read_to_string(ours).unwrap());
    }
    // What was removed or edited there stays so.
    fs::remove_file(root.at("/etc/service-connector/registry/crm.yaml")).unwrap();
    fs::write(root.at("/etc/service-connector/skills/sc_crm.md"), "another").unwrap();
    assert_eq!(root.install(&[]), "nothing to do\n");
    assert!(!root.has("/etc/service-connector/registry/crm.yaml"));
    assert_eq!(root.read("/etc/service-connector/skills/sc_crm.md"), "another");
}

#[test]
fn what_was_spoiled_is_mended() {
    if !root_or_say_so("what_was_spoiled_is_mended") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    let before = root.tree();
    let spoil = |path: &str, mode| {
        fs::set_permissions(root.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    spoil("/etc/service-connector/secrets", 0o755);
    spoil("/var/lib/service-connector/state", 0o777);
    spoil("/usr/sbin/install-service-env", 0o777);
    fs::write(root.at(SOCKET), "[Socket]\nSocketMode=0666\n").unwrap();
    let said = root.install(&[]);
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(root.tree(), before);
}

#[test]
fn the_group_of_the_analysts_may_have_another_name() {
    if !root_or_say_so("the_group_of_the_analysts_may_have_another_name") {
        return;
    }
    let root = Root::new();
    root.install(&["--analysts-group", "people"]);
    assert!(root.read(HELPER_CONF).lines().any(|line| line == "group = people"));
    assert!(root.gid("people") > 0);
    assert!(!root.read("/etc/group").contains("analysts"));
    let complaint = failure(&mut root.command(&["--analysts-group", "a b"]));
    assert!(complaint.contains("not the name of a group"), "{complaint}");
}

#[test]
fn the_way_to_the_helper_can_be_changed_and_changed_back() {
    if !root_or_say_so("the_way_to_the_helper_can_be_changed_and_changed_back") {
        return;
    }
    let root = Root::new();
    root.install(&[]);
    let by_socket = root.tree();
    assert!(root.read(CONFIG).contains("\nhomes: { socket: /run/service-connector/install.sock }"));
    root.install(&["--sudo"]);
    assert!(root.read(CONFIG).contains("\nhomes: { sudo: /usr/sbin/install-service-env }"));
    assert!(!root.has(SOCKET) && DROP_INS.iter().all(|path| root.has(path)));
    assert_eq!(fs::metadata(root.at(SUDOERS)).unwrap().permissions().mode() & 0o7777, 0o440);
    success(Command::new("visudo").arg("-cf").arg(root.at(SUDOERS)));
    root.install(&["--socket"]);
    let mut again = root.tree();
    // A directory that is nobody's but sudo's.
    again.retain(|path, _| {
        !matches!(path.as_str(), "/etc/sudoers.d" | "/etc/systemd" | "/etc/systemd/system")
    });
    assert_eq!(again, by_socket);
}

/// Plays cargo: makes the programs where it would.
const CARGO: &str = r#"#!/bin/bash
case "$*" in
  "build --release --locked") path=target/release/service-connector ;;
  "build --release --locked --no-default-features --bin install-service-env --target-dir target/helper")
    path=target/helper/release/install-service-env ;;
  *) exit 1 ;;
esac
install -D /dev/stdin $path <<<"built: $*"
"#;

#[test]
fn without_programs_it_builds_both_each_by_itself() {
    if !root_or_say_so("without_programs_it_builds_both_each_by_itself") {
        return;
    }
    let (copy, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(copy.path().join("deploy")).unwrap();
    success(Command::new("cp").arg("-a").arg(kit()).arg(copy.path().join("deploy")));
    let cargo = tools.path().join("cargo");
    fs::write(&cargo, CARGO).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let root = Root::new();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
    let mut install = Command::new(copy.path().join("deploy/server/install.sh"));
    success(install.arg("--root").arg(root.at("/")).env("PATH", path));
    assert_eq!(root.read("/usr/bin/service-connector"), "built: build --release --locked\n");
    assert!(root.read("/usr/sbin/install-service-env").contains(" --no-default-features "));
}

#[test]
fn a_broken_sudoers_rule_is_never_put_in_place() {
    if !root_or_say_so("a_broken_sudoers_rule_is_never_put_in_place") {
        return;
    }
    let copy = tempfile::tempdir().unwrap();
    success(Command::new("cp").arg("-a").arg(kit()).arg(copy.path()));
    let mut root = Root::new();
    root.kit = copy.path().join("server");
    fs::write(
        root.kit.join("sudoers.d/service-connector"),
        "service-connector ALL=(root NOPASSWD\n",
    )
    .unwrap();
    let complaint = failure(&mut root.command(&["--sudo"]));
    assert!(complaint.contains("visudo refuses it"), "{complaint}");
    assert_eq!(fs::read_dir(root.at("/etc/sudoers.d")).unwrap().count(), 0);
    // The one that was good before stays.
    root.kit = kit();
    root.install(&["--sudo"]);
    let good = root.read(SUDOERS);
    root.kit = copy.path().join("server");
    failure(&mut root.command(&["--sudo"]));
    assert_eq!(root.read(SUDOERS), good);
    assert_eq!(fs::read_dir(root.at("/etc/sudoers.d")).unwrap().count(), 1);
}

#[test]
fn the_sudoers_rule_is_one_command_without_arguments() {
    let text = fs::read_to_string(kit().join("sudoers.d/service-connector")).unwrap();
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let rule = "service-connector ALL=(root) NOPASSWD: /usr/sbin/install-service-env \"\"";
    assert_eq!(rules, [rule]);
}
