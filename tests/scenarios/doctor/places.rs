//! Owners and modes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::process::Command;

use super::{Installation, set_mode, wrap};

/// Each place, the area that it is told in, and a mode that it must not have.
const OPEN: [(&str, &str, u32); 19] = [
    ("config.yaml", "configuration", 0o664),
    ("people.yaml", "people", 0o646),
    ("desired.yaml", "desired", 0o666),
    (".desired.yaml.lock", "desired", 0o666),
    ("history", "desired", 0o757),
    ("history/log.jsonl", "desired", 0o646),
    ("registry", "registry", 0o775),
    ("registry/crm.yaml", "registry", 0o664),
    ("skills", "skills", 0o777),
    ("skills/sc_crm.md", "skills", 0o646),
    ("state", "state", 0o775),
    ("state/state.sqlite3", "state", 0o644),
    ("state/state.sqlite3-wal", "state", 0o660),
    ("state/state.sqlite3-shm", "state", 0o642),
    ("state/.pass.lock", "state", 0o666),
    ("state/sealing.key", "sealing_key", 0o640),
    ("secrets", "secrets", 0o711),
    ("secrets/SC_SECRET_CRM", "secrets", 0o604),
    ("homes", "homes", 0o770),
];

#[test]
fn a_place_that_others_may_use_is_named_with_the_command_that_closes_it() {
    let installation = Installation::sound();
    installation.is_sound();
    // SQLite gives an empty WAL the mode of its database: this one has something in it.
    let database = installation.scene.database();
    database.execute("UPDATE pass SET id = 1", []).unwrap();
    for (name, area, open) in OPEN {
        let path = installation.path(name);
        set_mode(&path, open);
        let wrong: Vec<_> =
            installation.wrong().into_iter().filter(|wrong| wrong.mend.contains("chmod")).collect();
        let [wrong] = <[_; 1]>::try_from(wrong).unwrap();
        assert_eq!(wrong.area, area);
        let wrong = wrong.names(&path).says(&format!("mode {open:04o}"));
        assert!(wrong.mend.starts_with("chmod "), "{wrong:?}");
        wrong.obey();
        installation.is_sound();
    }
}

#[test]
fn what_the_group_shares_must_be_the_groups_to_write() {
    let installation = Installation::sound();
    let desired = installation.path("desired");
    fs::create_dir(&desired).unwrap();
    set_mode(&desired, 0o2770);
    fs::copy(installation.path("desired.yaml"), desired.join("desired.yaml")).unwrap();
    set_mode(&desired.join("desired.yaml"), 0o660);
    let there = |command: &mut Command| {
        command.env("SC_DESIRED", desired.join("desired.yaml"));
    };
    installation.run(&["connect", "eva", "crm"], there).expect(0);
    fs::create_dir(desired.join("approvals")).unwrap();
    set_mode(&desired.join("approvals"), 0o2770);
    assert_eq!(installation.wrong_with(there).len(), 0);
    for (name, narrow) in [
        ("", 0o770),
        ("desired.yaml", 0o640),
        (".desired.yaml.lock", 0o600),
        ("history", 0o2750),
        ("history/log.jsonl", 0o600),
        ("approvals", 0o2700),
    ] {
        let path = desired.join(name);
        set_mode(&path, narrow);
        let mut wrong = installation.wrong_with(there);
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        let wrong = wrong.remove(0).says("its group").mended_by("chmod ");
        assert!(wrong.what.contains(desired.to_str().unwrap()), "{wrong:?}");
        wrong.obey();
        assert_eq!(installation.wrong_with(there).len(), 0, "{name}");
    }
}

#[test]
fn a_place_that_is_somebody_elses_is_named_with_both_owners() {
    if !is_root_or_say_so("a_place_that_is_somebody_elses_is_named_with_both_owners") {
        return;
    }
    let installation = Installation::sound();
    for (name, area) in [
        ("people.yaml", "people"),
        ("registry/crm.yaml", "registry"),
        ("skills", "skills"),
        ("state/.pass.lock", "state"),
        ("state/sealing.key", "sealing_key"),
        ("secrets/SC_SECRET_CRM", "secrets"),
        ("homes", "homes"),
    ] {
        let path = installation.path(name);
        chown(&path, Some(65534), None).unwrap();
        let wrong =
            installation.one_wrong(area).names(&path).says("nobody's, and should be root's");
        wrong.mended_by("chown root ").obey();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
        installation.is_sound();
    }
    // Such a configuration is not even read, and the way out is the same.
    let config = installation.path("config.yaml");
    chown(&config, Some(65534), None).unwrap();
    let mut found = installation.wrong();
    found.pop().unwrap().names(&config).mended_by("chown root ").obey();
    installation.is_sound();
    // The portal's, when its group is one of ours; else not.
    let desired = installation.path("desired.yaml");
    chown(&desired, Some(65534), Some(0)).unwrap();
    installation.is_sound();
    chown(&desired, Some(65534), Some(65534)).unwrap();
    installation.one_wrong("desired").names(&desired).mended_by("chown root ").obey();
    installation.is_sound();
}

#[test]
fn what_passes_cannot_use_is_named_with_the_command_that_lets_them() {
    let installation = Installation::sound();
    for (name, area, closed) in [
        ("state", "state", 0o500),
        ("state/state.sqlite3", "state", 0o400),
        ("secrets/SC_SECRET_CRM", "secrets", 0o200),
        ("registry/crm.yaml", "registry", 0o200),
        ("homes", "homes", 0o500),
        ("desired.yaml", "desired", 0o200),
    ] {
        let path = installation.path(name);
        set_mode(&path, closed);
        let wrong = installation.wrong_with(without_privileges).into_iter();
        let mut wrong = wrong.filter(|wrong| wrong.mend.starts_with("chmod u+"));
        let wrong = wrong.next().unwrap_or_else(|| panic!("nothing is said of {name}"));
        assert_eq!(wrong.area, area);
        wrong.names(&path).says("Permission denied").obey();
        assert_eq!(installation.wrong_with(without_privileges).len(), 0, "{name}");
    }
}

#[test]
fn the_layout_of_a_server_is_sound_to_who_runs_passes() {
    if !is_root_or_say_so("the_layout_of_a_server_is_sound_to_who_runs_passes") {
        return;
    }
    let (reconciler, portal) = (Some(65532), Some(65533));
    let installation = Installation::sound();
    let path = |name: &str| installation.path(name);
    fs::create_dir(path("desired")).unwrap();
    fs::rename(path("desired.yaml"), path("desired/desired.yaml")).unwrap();
    fs::rename(path(".desired.yaml.lock"), path("desired/.desired.yaml.lock")).unwrap();
    fs::rename(path("history"), path("desired/history")).unwrap();
    // The same place of the program may be closed to others.
    let binary = env!("CARGO_BIN_EXE_service-connector");
    fs::hard_link(binary, path("program"))
        .or_else(|_| fs::copy(binary, path("program")).map(drop))
        .unwrap();
    for (name, owner, mode) in [
        ("", Some(0), 0o755),
        ("desired", portal, 0o2770),
        ("desired/desired.yaml", portal, 0o660),
        ("desired/.desired.yaml.lock", portal, 0o660),
        ("desired/history", portal, 0o2770),
        ("desired/history/log.jsonl", portal, 0o660),
        ("state", reconciler, 0o2750),
        ("state/state.sqlite3", reconciler, 0o640),
        ("state/state.sqlite3-wal", reconciler, 0o640),
        ("state/state.sqlite3-shm", reconciler, 0o640),
        ("state/.pass.lock", reconciler, 0o640),
        ("state/sealing.key", reconciler, 0o600),
        ("secrets", reconciler, 0o700),
        ("secrets/SC_SECRET_CRM", reconciler, 0o600),
        ("secrets/SC_SECRET_INVOICING", reconciler, 0o600),
        ("secrets/SC_SECRET_PURCHASE_ORDERS", reconciler, 0o600),
        ("homes", reconciler, 0o700),
    ] {
        chown(path(name), owner, if owner == Some(0) { None } else { reconciler }).unwrap();
        set_mode(&path(name), mode);
    }
    for entry in fs::read_dir(path("desired/history")).unwrap() {
        chown(entry.unwrap().path(), portal, reconciler).unwrap();
    }
    let as_reconciler = |command: &mut Command| {
        let ids = ["--reuid=65532", "--regid=65532", "--clear-groups"];
        wrap(command, "setpriv", &ids, Some(&path("program")));
        command.env("SC_DESIRED", path("desired/desired.yaml"));
    };
    let wrong = installation.wrong_with(as_reconciler);
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What was right for root alone is not right for it.
    chown(path("secrets/SC_SECRET_CRM"), Some(0), Some(0)).unwrap();
    let wrong = installation.wrong_with(as_reconciler);
    assert!(wrong.iter().all(|wrong| wrong.what.contains("SC_SECRET_CRM")), "{wrong:#?}");
    assert!(wrong.iter().any(|wrong| wrong.mend.starts_with("chown 65532 ")), "{wrong:#?}");
}

/// Root may read and write everything, but for these two privileges.
fn without_privileges(command: &mut Command) {
    if rustix::process::geteuid().is_root() {
        let privileges = ["--bounding-set", "-dac_override,-dac_read_search"];
        wrap(command, "setpriv", &privileges, None);
    }
}

fn is_root_or_say_so(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI must run it");
        eprintln!("!!!! NOT TESTED: {test} needs root");
    }
    is_root
}

#[test]
fn a_place_of_another_kind_is_named() {
    let installation = Installation::sound();
    fs::remove_dir_all(installation.path("homes")).unwrap();
    fs::write(installation.path("homes"), "").unwrap();
    set_mode(&installation.path("homes"), 0o600);
    let wrong = installation.one_wrong("homes").names(&installation.path("homes"));
    wrong.says("is not a directory").mended_by("mv ").obey();
    installation.is_sound();
}
