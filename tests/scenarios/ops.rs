//! What ops see of the loop: metrics, health, readiness, the log; and what passes leave to be shown.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;
use service_connector::example_service::{Fault, Kind, On};
use service_connector::store::{Shown, Store};

use crate::scene::{Scene, wait_until};
use crate::watch::Watching;

const PREFIX: &str = "service_connector_";

/// The loop with its listener at a socket in the scene.
fn watching(scene: &Scene) -> Watching {
    let watching = Watching::start_with(scene, |command| {
        command.args(["--ops-listen", "unix:ops.sock"]);
    });
    wait_until("the first pass to end", || !get(scene, "/readyz").1.contains("no_pass_yet"));
    watching
}

/// The status and the body of an answer.
fn get(scene: &Scene, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(scene.path("ops.sock")).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: here\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn metrics(scene: &Scene) -> String {
    let (status, text) = get(scene, "/metrics");
    assert_eq!(status, 200);
    text
}

/// The sum of all lines of this name that have all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let of_it = |line: &&str| {
        let rest = line.strip_prefix(PREFIX).and_then(|line| line.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let values = text.lines().filter(of_it).map(|line| line.rsplit_once(' ').unwrap().1);
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

fn codes(answer: &str, of: &str) -> BTreeSet<String> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let reasons = answer[of].as_array().unwrap().iter();
    reasons.map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

fn is_unready(scene: &Scene, code: &str) -> bool {
    let (status, answer) = get(scene, "/readyz");
    let found = codes(&answer, "reasons").contains(code);
    assert!(!found || status == 503, "{status} {answer}");
    found
}

#[test]
fn metrics_follow_what_happens() {
    let scene = Scene::new();
    let _watching = watching(&scene);
    scene.connect("john", Kind::Crm);
    let active = ["service=\"crm\"", "phase=\"active\""];
    wait_until("a key", || value(&metrics(&scene), "tokens", &active) > 0.0);
    let text = metrics(&scene);
    let key = scene.working_key("john", Kind::Crm);
    assert!(!text.contains(&key) && !text.contains("john"), "no key and nobody's name");
    let calls = ["service=\"crm\"", "call=\"issue\"", "result=\"ok\""];
    assert!(value(&text, "exchange_duration_seconds_count", &calls) >= 1.0);
    assert!(value(&text, "next_expiry_timestamp_seconds", &["crm"]) > 1.7e9);
    assert!(value(&text, "last_look_timestamp_seconds", &[]) > 1.7e9);
    assert!(value(&text, "pass_duration_seconds_count", &["all"]) >= 1.0);
    assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");

    // A revoke that fails is a debt.
    scene.faults(Kind::Crm).always(On::Revoke, Fault::ServerError);
    scene.disconnect("john", Kind::Crm);
    let owed = ["service=\"crm\"", "phase=\"revoking\""];
    wait_until("a debt", || value(&metrics(&scene), "tokens", &owed) > 0.0);
    let text = metrics(&scene);
    assert!(value(&text, "oldest_debt_timestamp_seconds", &["crm"]) > 1.7e9);
    assert!(value(&text, "backoffs", &["crm"]) > 0.0);
    assert!(value(&text, "actions_total", &["revoke", "failed"]) >= 1.0);
}

#[test]
fn a_home_that_was_mended_counts() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    fs::write(scene.path("homes/john/.service_env"), "# somebody was here\n").unwrap();
    let _watching = watching(&scene);
    wait_until("the count", || value(&metrics(&scene), "drift_mended_total", &[]) > 0.0);
    scene.working_key("john", Kind::Crm);
}

#[test]
fn it_is_ready_unless_something_keeps_it_from_its_work() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    let _watching = watching(&scene);
    assert_eq!(get(&scene, "/healthz").0, 200);
    assert_eq!(get(&scene, "/nothing").0, 404);
    let (status, answer) = get(&scene, "/readyz");
    assert_eq!((status, codes(&answer, "reasons").len()), (200, 0), "{answer}");

    let good = fs::read(scene.path("desired.yaml")).unwrap();
    fs::write(scene.path("desired.yaml"), "version: 1\nusers: [john]\n").unwrap();
    wait_until("the reason", || is_unready(&scene, "desired_unusable"));
    assert!(!get(&scene, "/readyz").1.contains("john"), "it names nobody");
    fs::write(scene.path("desired.yaml"), good).unwrap();
    wait_until("the end of it", || get(&scene, "/readyz").0 == 200);

    let (key, away) = (scene.path("state/sealing.key"), scene.path("away.key"));
    fs::rename(&key, &away).unwrap();
    scene.connect("john", Kind::Invoicing);
    wait_until("the other reason", || is_unready(&scene, "pass_failed"));
}

#[test]
fn a_clock_that_disagrees_makes_it_unready() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    scene.faults(Kind::Crm).set_clock_offset(3600);
    scene.disconnect("john", Kind::Crm);
    scene.connect("eva", Kind::Crm);
    let _watching = watching(&scene);
    wait_until("the reason", || is_unready(&scene, "clock_skew"));
    assert!(get(&scene, "/readyz").1.contains("crm"));
}

#[test]
fn what_somebody_should_look_at_is_a_warning() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.faults(Kind::Crm).always(On::Exchange, Fault::WrongSecret);
    let _watching = watching(&scene);
    let (status, answer) = get(&scene, "/readyz");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(codes(&answer, "warnings"), BTreeSet::from(["secret_refused".to_owned()]));
    assert!(value(&metrics(&scene), "service_trouble", &["secret_refused"]) > 0.0);
}

#[test]
fn it_listens_on_this_machine_alone() {
    let scene = Scene::new();
    for address in ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"] {
        let ran = scene.run(&["reconcile", "--watch", "--ops-listen", address]).expect(1);
        ran.says("is not on this machine alone");
    }
    scene.run(&["reconcile", "--watch", "--ops-listen", "9464"]).expect(1).says("unix:PATH");
    let watching = watching(&scene);
    let mode = fs::metadata(scene.path("ops.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(watching.end(), Some(0));
    assert!(!scene.path("ops.sock").exists());
}

#[test]
fn the_log_is_json_for_who_wants_it_with_a_span_for_each_pass_and_action() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    let ran = scene.run_with(&["reconcile", "--log-format", "json"], |command| {
        command.env("SC_LOG", "service_connector=debug");
    });
    let lines: Vec<Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let called = lines.iter().find(|line| line["message"] == "called").unwrap();
    let spans: Vec<&str> =
        called["spans"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(spans, ["pass", "issue"]);
    assert_eq!(called["span"]["user"], "john");
    assert_eq!(called["span"]["service"], "crm");
    let puts = lines.iter().filter(|line| line["span"]["name"] == "install").count();
    assert!(puts > 0, "{}", ran.stderr);
}

#[test]
fn each_pass_leaves_figures_health_and_its_plan_to_be_shown() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    let key = scene.working_key("john", Kind::Crm);
    let store = Store::open_to_read(&scene.path("state")).unwrap();
    let shown = |what| {
        let (_, text) = store.shown(what).unwrap().unwrap();
        assert!(!text.contains(&key), "a key is shown");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert_eq!(shown(Shown::Fleet)["services"]["crm"]["tokens"]["active"], 1);
    let health = shown(Shown::Health);
    assert_eq!(health["services"]["crm"]["last_call"]["result"], "ok");
    assert!(health["services"]["invoicing"].is_object(), "nothing is wrong with it");
    let plan = shown(Shown::Plan);
    assert_eq!(plan["actions"][0]["kind"], "issue");
    assert_eq!(plan["summary"]["issue"], 1);
    scene.run(&["connect", "eva", "crm", "--now"]).expect(0);
    assert_eq!(shown(Shown::Fleet)["services"]["crm"]["tokens"]["active"], 2);
    assert_eq!(shown(Shown::PlanOfUsers)["actions"][0]["user"], "eva");
    assert_eq!(shown(Shown::Plan)["actions"][0]["user"], "john");
}

/// Every name of a metric in these texts.
fn named(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = text.match_indices(PREFIX).map(|(at, _)| {
        let rest = &text[at..];
        rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())].to_owned()
    });
    found.collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_there_are() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.connect("petr", Kind::PurchaseOrders);
    scene.connect("eva", Kind::Invoicing);
    scene.faults(Kind::Invoicing).always(On::Exchange, Fault::WrongSecret);
    scene.pass(4);
    scene.faults(Kind::Crm).always(On::Revoke, Fault::ServerError);
    scene.disconnect("john", Kind::Crm);
    let _watching = watching(&scene);
    let there = named(&metrics(&scene));
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/server/ops");
    let dashboard = fs::read_to_string(kit.join("grafana-dashboard.json")).unwrap();
    let parsed: Value = serde_json::from_str(&dashboard).unwrap();
    for panel in parsed["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            assert!(!named(target["expr"].as_str().unwrap()).is_empty(), "{panel}");
        }
    }
    let alerts = fs::read_to_string(kit.join("alerts.yaml")).unwrap();
    let parsed: Value = serde_saphyr::from_str(&alerts).unwrap();
    let rules = parsed["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        assert!(!named(rule["expr"].as_str().unwrap()).is_empty(), "{rule}");
        let says = |what: &str| rule["annotations"][what].as_str().is_some_and(|s| s.len() > 20);
        assert!(says("summary") && says("description"), "{rule}");
    }
    let wanted = named(&(dashboard + &alerts));
    assert!(wanted.len() > 12, "{wanted:?}");
    let missing: Vec<&String> = wanted.difference(&there).collect();
    assert!(missing.is_empty(), "there are no {missing:?} in {there:?}");
}
