//! What is around: secrets, services, clocks, homes, and what runs passes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use service_connector::example_service::{Fault, On};

use super::{CRM, Installation, edit, set_mode, wrap};
use crate::scene::Ran;

#[test]
fn a_shared_secret_that_cannot_be_used_is_named_and_not_shown() {
    let installation = Installation::sound();
    let path = installation.path("secrets/SC_SECRET_CRM");
    let right = fs::read(&path).unwrap();
    let unfit = format!("{:032x} {:032x}", fastrand::u128(..), fastrand::u128(..));
    fs::write(&path, &unfit).unwrap();
    let ran = installation.run(&["doctor"], |_| {}).expect(1);
    assert!(!ran.text().contains(unfit.split_once(' ').unwrap().0), "a secret is shown");
    installation.one_wrong("secrets").says("crm: the shared secret SC_SECRET_CRM is not 1 to 4096");
    fs::remove_file(&path).unwrap();
    let wrong =
        installation.one_wrong("secrets").says("crm: the shared secret SC_SECRET_CRM is not set");
    wrong.mended_by(path.to_str().unwrap());
    fs::write(&path, right).unwrap();
    set_mode(&path, 0o600);
    installation.is_sound();
}

#[test]
fn a_secret_that_is_to_follow_is_enough_and_is_looked_at_like_the_first() {
    let installation = Installation::sound();
    let path = installation.path("secrets/SC_SECRET_CRM");
    let next = installation.path("secrets/SC_SECRET_CRM_NEXT");
    fs::copy(&path, &next).unwrap();
    installation.is_sound();
    fs::write(&next, "un fit").unwrap();
    let wrong = installation.one_wrong("secrets");
    wrong
        .says("crm: the shared secret SC_SECRET_CRM_NEXT is not 1 to 4096")
        .mended_by(next.to_str().unwrap());
    fs::rename(&path, &next).unwrap();
    installation.is_sound();
}

#[test]
fn a_directory_of_secrets_that_is_not_there_is_told() {
    let installation = Installation::sound();
    fs::rename(installation.path("secrets"), installation.path("away")).unwrap();
    let wrong = installation.wrong();
    assert_eq!(wrong.len(), 4, "it, and three secrets: {wrong:#?}");
    let dir = wrong.into_iter().find(|wrong| wrong.mend.starts_with("mkdir ")).unwrap();
    dir.names(&installation.path("secrets")).obey();
    assert_eq!(super::mode(&installation.path("secrets")), 0o700);
    assert_eq!(installation.wrong().len(), 3);
}

#[test]
fn secrets_in_the_environment_are_as_good() {
    let installation = Installation::sound();
    fs::write(installation.path("config.yaml"), "version: 1\n").unwrap();
    assert_eq!(installation.wrong().len(), 3);
    let wrong = installation.wrong_with(|command| {
        for kind in crate::scene::KINDS.iter().filter(|kind| **kind != CRM) {
            command.env(kind.secret_variable(), &installation.scene.service(*kind).secret);
        }
    });
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].mend.contains("set the variable SC_SECRET_CRM"), "{wrong:#?}");
}

#[test]
fn a_service_that_is_ill_is_told_apart_from_one_that_is_not_reached_and_one_without_tls() {
    let installation = Installation::sound();
    let entry = installation.path("registry/crm.yaml");
    installation.scene.faults(CRM).always(On::Health, Fault::ServerError);
    let wrong = installation.one_wrong("services").says("crm: GET ").says("500");
    wrong.mended_by("see its log");
    installation.scene.faults(CRM).clear();
    installation.is_sound();

    let address = installation.scene.service(CRM).running.base_url();
    edit(&entry, &address, "http://127.0.0.1:1");
    let wrong = installation.one_wrong("services").says("connection refused");
    wrong.mended_by("`base_url` in ").mended_by(entry.to_str().unwrap());

    let key = KeyPair::generate().unwrap();
    let authority = CertificateParams::default().self_signed(&key).unwrap().pem();
    fs::write(installation.path("registry/ca.pem"), authority).unwrap();
    set_mode(&installation.path("registry/ca.pem"), 0o644);
    let tls = format!("{}\nca_file: ca.pem", address.replace("http:", "https:"));
    edit(&entry, "http://127.0.0.1:1", &tls);
    installation.one_wrong("services").says("TLS: ").mended_by("certificate");
    fs::remove_file(installation.path("registry/ca.pem")).unwrap();
    installation.one_wrong("services").says("ca.pem").mended_by("`ca_file` in ");
}

#[test]
fn a_clock_that_is_off_is_told_and_one_that_is_not_told_is_not_checked() {
    let installation = Installation::sound();
    installation.scene.faults(CRM).set_clock_offset(-1200);
    let wrong = installation.one_wrong("clock").says("crm: its clock is").says("minutes behind");
    wrong.mended_by("timedatectl");
    installation.scene.faults(CRM).set_clock_offset(0);
    installation.is_sound();
    installation.scene.faults(CRM).always(On::Health, Fault::DropAnswer);
    installation.one_wrong("services").says("crm: GET ");
    let said = installation.said_of("clock");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, "not_checked", "{said:?}");
}

#[test]
fn homes_that_are_not_there_and_are_not_made_are_told() {
    let installation = Installation::sound();
    let dir = installation.path("other");
    let there = |command: &mut Command| {
        command.env("SC_HOMES", &dir);
    };
    assert_eq!(installation.wrong_with(there).len(), 0, "the first put makes it");
    let not_made = |command: &mut Command| {
        command.env("SC_HOMES", &dir).env("SC_HOMES_CREATE", "false");
    };
    let mut wrong = installation.wrong_with(not_made);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    wrong.remove(0).names(&dir).mended_by("mkdir ").obey();
    assert_eq!(installation.wrong_with(not_made).len(), 0);
}

const WATCHER: &str = "service-connector-watch.service";
const TIMER: &str = "service-connector-reconcile.timer";
const PORTAL: &str = "service-connector-portal.service";

/// What doctor says of what runs passes, where systemctl says these words of the loop and of the timer:
/// whether it is enabled, and whether it is active.
fn said_of_runners(watcher: [&str; 2], timer: [&str; 2]) -> String {
    let ran = said_under_systemd("", &[(WATCHER, watcher), (TIMER, timer)]);
    let said = line_of(&ran, "timer");
    assert_eq!(ran.code, i32::from(said.starts_with("!!")), "{said}");
    said
}

/// The same of the portal, where this stands in the configuration.
fn said_of_portal(config: &str, words: [&str; 2]) -> String {
    let units = [(WATCHER, ["enabled", "active"]), (TIMER, ["", ""]), (PORTAL, words)];
    let ran = said_under_systemd(config, &units);
    let said = line_of(&ran, "portal");
    assert_eq!(ran.code, i32::from(said.starts_with("!!")), "{said}");
    said
}

fn line_of(ran: &Ran, area: &str) -> String {
    let area = format!("  {area}: ");
    let lines: Vec<_> = ran.stdout.lines().filter(|line| line.contains(&area)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].to_owned()
}

fn said_under_systemd(config: &str, units: &[(&str, [&str; 2])]) -> Ran {
    let installation = Installation::sound();
    let file = installation.path("config.yaml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + config).unwrap();
    let bin = installation.path("bin");
    fs::create_dir(&bin).unwrap();
    for (unit, words) in units {
        for (question, word) in ["is-enabled", "is-active"].iter().zip(words) {
            fs::write(installation.path(&format!("{question} {unit}")), word).unwrap();
        }
    }
    let script = "#!/bin/sh\nenv >> said\ncat \"$*\"\n";
    fs::write(bin.join("systemctl"), script).unwrap();
    fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let ran: Ran = installation.run(&["doctor"], |command| under_systemd(command, &bin));
    let said = fs::read_to_string(installation.path("said")).unwrap();
    assert!(!said.contains("SC_"), "what we were given is not handed on");
    ran
}

#[test]
fn where_systemd_runs_a_loop_or_a_timer_must_be_on() {
    let (on, off) = (["enabled", "active"], ["disabled", "inactive"]);
    let loops = said_of_runners(on, off);
    assert_eq!(loops, format!("ok  timer: {WATCHER} is enabled and active"));
    let ticks = said_of_runners(off, on);
    assert_eq!(ticks, format!("ok  timer: {TIMER} is enabled and active"));
    let both = said_of_runners(on, on);
    assert!(both.starts_with("ok  ") && both.ends_with("one is enough"), "{both}");

    let neither = said_of_runners(off, off);
    assert!(neither.starts_with("!!  timer: nothing runs passes: "), "{neither}");
    assert!(neither.ends_with(&format!("to mend: systemctl enable --now {WATCHER}")), "{neither}");
    let masked = said_of_runners(["masked", "inactive"], off);
    assert!(masked.contains(&format!("systemctl unmask {WATCHER}")), "{masked}");
    // Until the next boot.
    let once = said_of_runners(["disabled", "active"], off);
    assert!(once.starts_with("!!  timer: "), "{once}");
    let stopped = said_of_runners(off, ["enabled", "inactive"]);
    assert!(stopped.ends_with(&format!("to mend: systemctl enable --now {TIMER}")), "{stopped}");
    let earlier = said_of_runners(["not-found", "inactive"], off);
    assert!(earlier.ends_with(&format!("to mend: systemctl enable --now {TIMER}")), "{earlier}");
    let absent = said_of_runners(["not-found", "inactive"], ["not-found", "inactive"]);
    assert!(absent.starts_with("--  timer: not checked: ") && absent.contains("installed"));
}

#[test]
fn a_loop_that_does_not_come_up_is_named_whatever_the_timer_does() {
    for (active, timer) in
        [("failed", ["disabled", "inactive"]), ("activating", ["enabled", "active"])]
    {
        let said = said_of_runners(["enabled", active], timer);
        assert!(
            said.starts_with(&format!("!!  timer: {WATCHER} is enabled and {active}")),
            "{said}"
        );
        assert!(said.contains(&format!("journalctl -u {WATCHER}")), "{said}");
    }
}

const IDENTITY: &str = "identity: { header: { name: X-Remote-Email, peers: [0] } }\n";

#[test]
fn a_portal_that_is_enabled_must_run_and_let_somebody_in() {
    let on = ["enabled", "active"];
    let said = said_of_portal(IDENTITY, on);
    assert_eq!(said, format!("ok  portal: {PORTAL} is enabled and active"));
    for active in ["failed", "activating", "inactive"] {
        let said = said_of_portal(IDENTITY, ["enabled", active]);
        assert!(said.starts_with(&format!("!!  portal: {PORTAL} is enabled and {active}")));
        assert!(said.contains(&format!("to mend: journalctl -u {PORTAL}")), "{said}");
    }
    let said = said_of_portal("", on);
    assert!(said.starts_with("!!  portal: ") && said.contains("lets nobody in"), "{said}");
    assert!(said.contains("to mend: say who is asking, under `identity:`"), "{said}");
}

#[test]
fn no_portal_is_no_trouble_and_one_that_is_served_in_another_way_is_not_checked() {
    for words in [["disabled", "inactive"], ["not-found", "inactive"]] {
        let said = said_of_portal("", words);
        assert!(said.starts_with("ok  portal: not set up"), "{said}");
        let said = said_of_portal(IDENTITY, words);
        assert!(said.starts_with("--  portal: not checked: "), "{said}");
    }
    let said = said_of_portal(IDENTITY, ["disabled", "inactive"]);
    assert!(said.ends_with(&format!("systemctl enable --now {PORTAL}")), "{said}");
}

#[test]
fn where_systemd_does_not_run_that_is_said_and_is_not_wrong() {
    let installation = Installation::sound();
    let ran = installation.run(&["doctor"], |command| {
        in_its_own_run(command, "");
    });
    let ran = ran.expect(0);
    ran.says("--  timer: not checked: systemd does not run here");
    ran.says("ok  portal: not set up");
    edit(&installation.path("config.yaml"), "version: 1\n", &format!("version: 1\n{IDENTITY}"));
    let ran = installation.run(&["doctor"], |command| {
        in_its_own_run(command, "");
    });
    ran.expect(0).says("--  portal: not checked: systemd does not run here");
}

/// As it is where systemd runs, with this directory's `systemctl`, and with a secret around.
fn under_systemd(command: &mut Command, bin: &std::path::Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display())).env("SC_SECRET_OTHER", "x");
    in_its_own_run(command, "mkdir -p /run/systemd/system &&");
}

/// Runs it with an empty `/run`, prepared by this.
fn in_its_own_run(command: &mut Command, prepare: &str) {
    let script = format!("mount -t tmpfs tmpfs /run && {prepare} exec \"$@\"");
    let is_root = rustix::process::geteuid().is_root();
    let as_user: &[&str] = if is_root { &[] } else { &["--map-current-user", "--keep-caps"] };
    let args = [as_user, &["--mount", "sh", "-c", &script, "sh"]].concat();
    wrap(command, "unshare", &args, None);
}
