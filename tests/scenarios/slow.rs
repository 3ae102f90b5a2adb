//! Services that are dead or hang delay nobody else.

use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{DAY, Scene, wait_until};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;
const ORDERS: Kind = Kind::PurchaseOrders;

fn is_running(pass: &mut Child) -> bool {
    pass.try_wait().unwrap().is_none()
}

/// Waits until everybody's fast key works, while the pass still waits for the slow service.
fn assert_fast_keys_come_first(scene: &Scene, fast: &[(&str, Kind)]) {
    let mut pass = scene.start(&["reconcile"]);
    for (user, kind) in fast {
        wait_until("a fast key", || scene.key(user, *kind).is_some());
        assert!(is_running(&mut pass), "{user} waited for the slow service");
        scene.working_key(user, *kind);
    }
    scene.wait(pass).expect(4);
}

#[test]
fn a_service_that_hangs_delays_nobodys_other_key() {
    let scene = Scene::new();
    scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 4");
    scene.faults(CRM).always(On::All, Fault::Hang);
    let fast = [("eva", INVOICING), ("john", INVOICING), ("john", ORDERS)];
    for (user, kind) in fast {
        scene.connect(user, kind);
    }
    scene.connect("john", CRM);
    scene.connect("petr", CRM);
    assert_fast_keys_come_first(&scene, &fast);
    assert_eq!(scene.key("john", CRM), None);

    scene.faults(CRM).clear();
    scene.retry(0);
    scene.working_key("john", CRM);
    scene.working_key("john", INVOICING);
    assert_eq!(scene.live(CRM).len(), 2);
}

#[test]
fn a_service_that_hangs_delays_no_revoke_and_no_removal_from_a_home() {
    let scene = Scene::new();
    scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 4");
    for kind in [CRM, INVOICING] {
        scene.connect("john", kind);
    }
    scene.pass(0);
    let (crm, invoicing) = (scene.working_key("john", CRM), scene.working_key("john", INVOICING));
    scene.faults(CRM).always(On::Revoke, Fault::Hang);
    for kind in [CRM, INVOICING] {
        scene.disconnect("john", kind);
    }
    let mut pass = scene.start(&["reconcile"]);
    wait_until("the home is clean", || scene.env_file("john").contains("# end 0 variables"));
    wait_until("the other is revoked", || !scene.works(INVOICING, &invoicing));
    assert!(is_running(&mut pass));
    scene.wait(pass).expect(4);
    assert!(scene.works(CRM, &crm));
}

#[test]
fn a_renewal_at_a_service_that_hangs_delays_nobody() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.let_pass(80 * DAY);
    scene.faults(CRM).always(On::All, Fault::Hang);
    scene.connect("eva", INVOICING);
    let begin = Instant::now();
    let mut pass = scene.start(&["reconcile"]);
    wait_until("a fast key", || scene.key("eva", INVOICING).is_some());
    assert!(begin.elapsed() < Duration::from_secs(6), "what time it is there is not waited for");
    assert!(is_running(&mut pass));
    scene.wait(pass).expect(4);
}

#[test]
fn a_dead_service_delays_nobodys_other_key() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    scene.entry(CRM, &scene.service(CRM).running.base_url(), &dead);
    scene.connect("eva", INVOICING);
    for number in 0..6 {
        scene.connect(&format!("user{number}"), CRM);
    }
    scene.connect("john", CRM);
    scene.connect("john", INVOICING);
    let begin = Instant::now();
    scene.pass(4);
    assert!(begin.elapsed() < Duration::from_secs(5));
    scene.working_key("eva", INVOICING);
    scene.working_key("john", INVOICING);
    scene.pass(4);

    // Mended in the registry: what may be owed at the dead address keeps nobody from a key here.
    scene.reset_entry(CRM);
    scene.retry(4);
    scene.working_key("john", CRM);
    scene.working_key("user5", CRM);
    assert_eq!(scene.live(CRM).len(), 7);
    assert_eq!(scene.status()["debts"].as_array().unwrap().len(), 7);
}

#[test]
fn no_more_calls_are_under_way_and_no_more_are_made_in_a_minute_than_the_registry_allows() {
    let scene = Scene::new();
    scene.entry(CRM, "concurrency: 8, per_minute: 600", "concurrency: 2, per_minute: 600");
    scene.faults(CRM).always(On::Exchange, Fault::Delay { millis: 700 });
    for number in 0..4 {
        scene.connect(&format!("user{number}"), CRM);
    }
    let pass = scene.start(&["reconcile"]);
    wait_until("two are asked for", || scene.calls(CRM).0 == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.calls(CRM).0, 2);
    scene.wait(pass).expect(0);
    assert_eq!(scene.calls(CRM).0, 4);
}
