//! The units: that systemd takes them, how much they leave open, and that what they leave open is
//! enough for the programs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service_connector::nudge::nudge;
use service_connector::wire::Said;

use crate::kit::{Root, kit, success};
use crate::server::{ANALYSTS, RECONCILER, STATE, install, on_a_server, root_or_say_so};
use crate::talk::{self, HELPER, files, holds, look_line, put_line};

const PASS: &str = "service-connector-reconcile.service";
const HELPER_UNIT: &str = "service-connector-install@.service";
const WATCH: &str = "service-connector-watch.service";
pub const PORTAL_UNIT: &str = "service-connector-portal.service";

pub fn unit(name: &str) -> String {
    fs::read_to_string(kit().join("systemd").join(name)).unwrap()
}

#[test]
fn systemd_takes_the_units_of_both_ways() {
    if !root_or_say_so("systemd_takes_the_units_of_both_ways") {
        return;
    }
    for way in ["--socket", "--sudo"] {
        let root = Root::new();
        root.install(&[way]);
        let example = kit().join("systemd/credentials.conf.example");
        for unit in [PASS, WATCH] {
            let drop_ins = root.at(&format!("/etc/systemd/system/{unit}.d"));
            fs::create_dir_all(&drop_ins).unwrap();
            fs::copy(&example, drop_ins.join("credentials.conf")).unwrap();
        }
        // Targets and slices that ours stand in.
        let systems = Path::new("/usr/lib/systemd/system");
        let ours = root.at("/usr/lib/systemd/system");
        let mut names: Vec<_> =
            fs::read_dir(&ours).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.len(), if way == "--sudo" { 4 } else { 6 }, "{names:?}");
        for entry in fs::read_dir(systems).unwrap() {
            let path = entry.unwrap().path();
            let is_needed =
                path.extension().is_some_and(|kind| kind == "target" || kind == "slice");
            if is_needed {
                fs::copy(&path, ours.join(path.file_name().unwrap())).unwrap();
            }
        }
        // What the system has of its own.
        fs::create_dir_all(root.at("/bin")).unwrap();
        fs::copy("/bin/kill", root.at("/bin/kill")).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.arg(format!("--root={}", root.at("/").display())).args(["--man=no", "verify"]);
        verify.args(names);
        let output = verify.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!((String::from_utf8_lossy(&said).as_ref(), output.status.code()), ("", Some(0)));
    }
}

/// What `systemd-analyze security` makes of a unit, in tenths.
fn exposure(path: &Path) -> u32 {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--json=off"]).arg(path);
    // The colours and the face are for terminals.
    let said = success(analyze.env_clear().env("PATH", "/usr/bin").env("LC_ALL", "C.UTF-8"));
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let level = line.rsplit(": ").next().unwrap().split(' ').next().unwrap();
    level.replace('.', "").parse().unwrap()
}

#[test]
fn the_units_leave_little_open() {
    if !root_or_say_so("the_units_leave_little_open") {
        return;
    }
    let units = kit().join("systemd");
    let (pass, helper) = (exposure(&units.join(PASS)), exposure(&units.join(HELPER_UNIT)));
    let watch = exposure(&units.join(WATCH));
    assert!(pass <= 15, "the pass: {pass} tenths");
    let portal = exposure(&units.join(PORTAL_UNIT));
    assert!(watch <= 15, "the loop: {watch} tenths");
    assert!(portal <= 15, "the portal: {portal} tenths");
    assert!(helper <= 18, "the helper: {helper} tenths");
}

/// The value of a setting of a unit; of one that is there more than once, all of them.
fn setting<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

#[test]
fn the_drop_in_for_sudo_takes_back_all_that_forbids_new_privileges() {
    // systemd.exec(5), NoNewPrivileges: these imply it for a unit that is not root's.
    const IMPLY: [&str; 13] = [
        "SystemCallFilter",
        "SystemCallArchitectures",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectClock",
        "MemoryDenyWriteExecute",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
    ];
    let drop_in = unit("sudo.conf");
    for passes in [unit(PASS), unit(WATCH)] {
        for name in IMPLY.iter().chain(&["NoNewPrivileges", "ProtectHostname"]) {
            if !setting(&passes, name).is_empty() {
                let taken_back = setting(&drop_in, name);
                assert!(matches!(taken_back[..], ["no" | ""]), "{name}: {taken_back:?}");
            }
        }
    }
    // What sudo starts stays in the same bounds.
    let helper = unit(HELPER_UNIT);
    let bounds = setting(&drop_in, "CapabilityBoundingSet").concat();
    for capability in setting(&helper, "CapabilityBoundingSet")[0].split(' ') {
        assert!(bounds.contains(capability), "{capability}");
    }
}

#[test]
fn the_loop_is_in_the_bounds_of_a_pass() {
    // From the places that are written on; what is above says how each is run.
    let bounds = |name: &str| {
        let text = unit(name);
        let (_, bounds) = text.split_once("\n# Its own: the state").unwrap();
        let (bounds, _) = bounds.split_once("\n[Install]").unwrap_or((bounds, ""));
        let settings = bounds.lines().filter(|line| !line.starts_with('#') && line.contains('='));
        settings.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(bounds(PASS).len() > 20);
    assert_eq!(bounds(PASS), bounds(WATCH));
}

#[test]
fn the_loop_may_take_longer_to_end_than_what_is_under_way() {
    let mut schema = Command::new(env!("CARGO_BIN_EXE_service-connector"));
    let schema = success(schema.args(["schema", "registry"]));
    let (_, limit) = schema.split_once("\"timeout_seconds\"").unwrap();
    let (_, longest) = limit.split_once("\"maximum\": ").unwrap();
    let digits: String = longest.chars().take_while(char::is_ascii_digit).collect();
    let call: u64 = digits.parse().unwrap();
    assert!(call > 60, "{call} s is the longest that a call may take");
    let text = unit(WATCH);
    let minutes = setting(&text, "TimeoutStopSec")[0].strip_suffix("min").unwrap();
    // The helper may be silent for a minute (`installer/session.rs`).
    assert!(60 * minutes.parse::<u64>().unwrap() >= call + 60 + 30);
}

/// What a unit leaves, as setpriv takes it: of settings that add up, the last after an empty one.
pub fn bounding_set(text: &str) -> String {
    let names = *setting(text, "CapabilityBoundingSet").last().unwrap();
    let lower = names.split(' ').filter_map(|name| name.strip_prefix("CAP_"));
    let added: Vec<_> = lower.map(|name| format!(",+{}", name.to_lowercase())).collect();
    format!("-all{}", added.concat())
}

#[test]
fn the_helper_needs_no_more_capabilities_than_its_unit_leaves_it() {
    on_a_server("the_helper_needs_no_more_capabilities_than_its_unit_leaves_it", |server| {
        talk::install(server);
        let home = server.account("alice", 3001, &[ANALYSTS]);
        let set = files(1, &["sc_crm.md"]);
        let with = |bounds: &str| {
            let mut helper = Command::new("setpriv");
            helper.args(["--no-new-privs", &format!("--bounding-set={bounds}"), "--", HELPER]);
            let lines = [put_line(1, "alice", &set), look_line(2, "alice")].concat();
            talk::said(&talk::run(helper, &lines))
        };
        let bounds = bounding_set(&unit(HELPER_UNIT));
        let said = with(&bounds);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|said| matches!(said, Said::Reply(_))), "{said:?}");
        holds(&home, 3001, &set);
        // And no fewer: each is there for a reason. (KILL ends a child that hangs, which is
        // tried where the helper's processes are.)
        fs::remove_file(home.join(".service_env")).unwrap();
        for without in [",+setuid", ",+setgid"] {
            with(&bounds.replace(without, ""));
            assert!(!home.join(".service_env").exists(), "{without}");
        }
    });
}

/// The system calls of a filter, with those of the sets that it names.
pub fn allowed(unit: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for filter in setting(unit, "SystemCallFilter") {
        let (removes, names) = match filter.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, filter),
        };
        for name in names.split(' ') {
            for call in members(name) {
                if removes {
                    calls.remove(&call)
                } else {
                    calls.insert(call)
                };
            }
        }
    }
    assert!(calls.len() > 100, "{calls:?}");
    // What every filter has besides (systemd.exec(5)).
    calls.extend(members("@default"));
    calls
}

fn members(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let said =
        success(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", name]));
    let lines = said.lines().skip(1).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).flat_map(members).collect()
}

/// The system calls that `strace -f -o` wrote down.
pub fn called(trace: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(trace).unwrap();
    let call = |line: &str| {
        let line = line.split_once(' ')?.1.trim_start();
        let name = line.split_once('(')?.0;
        let is_name =
            name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        (is_name && !name.is_empty()).then(|| name.to_owned())
    };
    let calls: BTreeSet<_> = text.lines().filter_map(call).collect();
    assert!(calls.contains("openat") && calls.contains("execve"), "{calls:?}");
    calls
}

#[test]
fn the_programs_call_nothing_that_their_units_filter() {
    on_a_server("the_programs_call_nothing_that_their_units_filter", |server| {
        talk::install(server);
        let home = server.account("alice", 3001, &[ANALYSTS]);
        let set = files(1, &["sc_crm.md"]);
        let mut helper = Command::new("strace");
        helper.args(["-f", "-o", "/run/helper", HELPER]);
        let lines = [put_line(1, "alice", &set), look_line(2, "alice")].concat();
        assert_eq!(talk::said(&talk::run(helper, &lines)).len(), 2);
        holds(&home, 3001, &set);
        let foreign = &called(Path::new("/run/helper")) - &allowed(&unit(HELPER_UNIT));
        assert!(foreign.is_empty(), "the helper: {foreign:?}");

        let binary = "/usr/bin/service-connector";
        install(Path::new(env!("CARGO_BIN_EXE_service-connector")), binary);
        places_of_a_pass(server);
        server.dir("/run/traced", RECONCILER, RECONCILER, 0o700);
        let mut pass = server.run_as(RECONCILER, "strace");
        pass.args(["-f", "-o", "/run/traced/pass", binary, "--config", CONFIG, "reconcile"]);
        success(pass.current_dir("/"));
        let foreign = &called(Path::new("/run/traced/pass")) - &allowed(&unit(PASS));
        assert!(foreign.is_empty(), "the pass: {foreign:?}");

        let trace = Path::new("/run/traced/watch");
        let mut watch = server.run_as(RECONCILER, "strace");
        watch.arg("-f").arg("-o").arg(trace);
        watch.args([binary, "--config", CONFIG, "reconcile", "--watch"]);
        let mut watch = watch.current_dir("/").stdout(Stdio::null()).spawn().unwrap();
        while !nudge(Path::new(STATE)).unwrap() {
            sleep(Duration::from_millis(50));
        }
        // It is heard when the call that waits for it returns.
        while !fs::read_to_string(trace).unwrap_or_default().contains(" accept4(") {
            sleep(Duration::from_millis(50));
        }
        let children = format!("/proc/{0}/task/{0}/children", watch.id());
        let child = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
        assert!(watch.wait().unwrap().success());
        let called = called(trace);
        assert!(called.contains("rename"), "the socket is made: {called:?}");
        let foreign = &called - &allowed(&unit(WATCH));
        assert!(foreign.is_empty(), "the loop: {foreign:?}");
    });
}

pub const CONFIG: &str = "/etc/service-connector/service-connector.yaml";

/// The kit's configuration, with homes of our own.
pub fn places_of_a_pass(server: &crate::server::Server) {
    let text = fs::read_to_string(kit().join("config/service-connector.yaml")).unwrap();
    let lines = text.lines().map(|line| match line.split_once(':') {
        Some(("homes", _)) => "homes: { direct: /var/lib/service-connector/state/homes }",
        _ => line,
    });
    server.root_file(CONFIG, &lines.collect::<Vec<_>>().join("\n"));
    let people = fs::read_to_string(kit().join("config/people.yaml")).unwrap();
    server.root_file("/etc/service-connector/people.yaml", &people);
    let desired = "/var/lib/service-connector/desired/desired.yaml";
    server.file(desired, "version: 1\nusers: {}\n", crate::server::PORTAL, RECONCILER, 0o660);
    let mode = fs::metadata(desired).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}
