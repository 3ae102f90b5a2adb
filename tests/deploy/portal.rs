//! The portal in the bounds of its unit.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kit::{kit, success};
use crate::server::{DESIRED, PORTAL, RECONCILER, install, on_a_server};
use crate::units::{CONFIG, PORTAL_UNIT, allowed, called, places_of_a_pass, unit};

#[test]
fn the_portal_calls_nothing_that_its_unit_filters() {
    on_a_server("the_portal_calls_nothing_that_its_unit_filters", |server| {
        let binary = "/usr/bin/service-connector";
        install(Path::new(env!("CARGO_BIN_EXE_service-connector")), binary);
        places_of_a_pass(server);
        // As tmpfiles.d makes them: a unit may set no set-group-id bit.
        for dir in ["history", "approvals"] {
            server.dir(&format!("{DESIRED}/{dir}"), PORTAL, RECONCILER, 0o2770);
        }
        let mut pass = server.run_as(RECONCILER, binary);
        success(pass.args(["--config", CONFIG, "reconcile"]).current_dir("/"));
        let people = "version: 1\npeople:\n  alice: { email: alice@your-domain.com }\n";
        server.root_file("/etc/service-connector/people.yaml", people);
        for file in ["registry/crm.yaml", "skills/sc_crm.md"] {
            let ours = fs::read_to_string(kit().join("../..").join(file)).unwrap();
            server.root_file(&format!("/etc/service-connector/{file}"), &ours);
        }
        let config = fs::read_to_string(CONFIG).unwrap();
        let identity = "identity: { header: { name: X-Remote-Email, peers: [root] } }";
        server.root_file(CONFIG, &format!("{config}\n{identity}\n"));
        server.dir("/run/traced", PORTAL, PORTAL, 0o755);

        let (trace, socket) = (Path::new("/run/traced/portal"), "/run/traced/portal.sock");
        let mut portal = server.run_as(PORTAL, "strace");
        portal.arg("-f").arg("-o").arg(trace).args([binary, "--config", CONFIG, "serve"]);
        portal.arg("--listen").arg(format!("unix:{socket}"));
        let mut portal = portal.current_dir("/").stdout(Stdio::null()).spawn().unwrap();
        while !Path::new(socket).exists() {
            sleep(Duration::from_millis(50));
        }
        let ask = |path: &str, more: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sf", "--max-time", "60", "--unix-socket", socket]).args(more);
            curl.args(["-H", "X-Remote-Email: alice@your-domain.com"]);
            success(curl.arg(format!("http://portal/api/service-connectors{path}")))
        };
        assert!(ask("", &[]).contains("not_connected"));
        let json = ["-H", "Content-Type: application/json", "-H", "Sec-Fetch-Site: same-origin"];
        let click = [&json[..], &["-d", r#"{"service_id":"crm"}"#]].concat();
        assert!(ask("/connect", &click).contains("connecting"));
        let children = format!("/proc/{0}/task/{0}/children", portal.id());
        let child = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
        assert!(portal.wait().unwrap().success());
        let called = called(trace);
        assert!(called.contains("rename") && called.contains("fsync"), "it edits: {called:?}");
        let foreign = &called - &allowed(&unit(PORTAL_UNIT));
        assert!(foreign.is_empty(), "the portal: {foreign:?}");
        let text = fs::read_to_string(trace).unwrap();
        let sets_id = |line: &&str| line.contains("chmod") && line.contains(", 02");
        assert_eq!(text.lines().find(sets_id), None);
    });
}
