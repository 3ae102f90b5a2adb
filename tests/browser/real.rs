//! The real portal, with the loop in its process and the example services behind it.

use std::fs;

use serde_json::json;
use service_connector::example_service::{Fault, Kind, On};

use crate::chrome::Chrome;
use crate::clicks::connect_sync_and_disconnect;
use crate::door::{Door, PAGE};
use crate::scene::{DAY, Scene, wait_until};

/// The portal, with the registry's pictures and these arguments.
fn open(scene: &Scene, args: &[&str]) -> Door {
    for id in ["crm", "invoicing", "purchase_orders"] {
        let picture = format!("{}/registry/{id}.svg", env!("CARGO_MANIFEST_DIR"));
        fs::copy(picture, scene.path(&format!("registry/{id}.svg"))).unwrap();
    }
    Door::open_with(scene, args, "")
}

/// A browser in which somebody is signed in.
async fn browser_of(door: &Door, user: &str) -> (Chrome, String) {
    let page = format!("http://{}{PAGE}/", door.host());
    let chrome = Chrome::start().await;
    let cookie =
        json!({ "name": "portal", "value": door.token(user), "url": page, "httpOnly": true });
    chrome.devtools("Network.setCookie", cookie).await;
    (chrome, page)
}

/// The scene has runtimes of its own, and so is made outside of the browser's.
fn in_a_browser(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(story);
}

/// What a laptop's sync leaves behind, and the next pass sees.
fn sync(scene: &Scene) {
    let seen = scene.path("homes/john/.service_env_seen");
    fs::create_dir_all(&seen).unwrap();
    let line = format!("generation {}\n", scene.generation("john"));
    fs::write(seen.join("0123456789abcdef"), line).unwrap();
    scene.pass(0);
}

#[test]
fn a_person_connects_syncs_and_disconnects_at_the_real_portal() {
    let scene = Scene::new();
    let door = open(&scene, &["--reconcile"]);
    in_a_browser(async {
        let (chrome, page) = browser_of(&door, "john").await;
        connect_sync_and_disconnect(&chrome, &page, || {
            assert!(scene.key("john", Kind::Crm).is_some());
            sync(&scene);
        })
        .await;
    });
    assert_eq!(scene.key("john", Kind::Crm), None);
}

#[test]
fn the_real_fleet_is_seen_and_the_script_is_there() {
    let scene = Scene::new();
    let door = open(&scene, &["--reconcile"]);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    in_a_browser(async {
        let (chrome, page) = browser_of(&door, "eva").await;
        chrome.open(&format!("{page}fleet")).await;
        chrome.reads_anywhere("Last pass").await;
        chrome.reads_anywhere("john CRM Connected").await;
        chrome.reads_anywhere("Keys by when they end").await;
        chrome.reads_anywhere("The last plan").await;
        assert_eq!(chrome.complaints().await, Vec::<String>::new());
    });
    let script = door.ask("GET", &format!("{PAGE}/sync_service_env.sh"), &[], "").expect(200);
    assert!(script.body.starts_with("#!/bin/sh"), "{}", script.body);
}

/// Presses a button, and waits until the edit is made: the page shows before what it expects.
async fn edit(scene: &Scene, chrome: &Chrome, button: &str) {
    let text = || fs::read(scene.path("desired.yaml")).unwrap();
    let before = text();
    chrome.press(button).await;
    wait_until("the edit", || text() != before);
}

#[test]
fn each_state_is_made_to_happen_at_the_real_portal_while_somebody_looks() {
    let scene = Scene::new();
    // Passes come when the test wants them: what stands between is seen.
    let door = open(&scene, &[]);
    scene.pass(0);
    in_a_browser(async {
        let (chrome, page) = browser_of(&door, "john").await;
        chrome.open(&page).await;
        chrome.badge("crm", "Not connected").await;
        edit(&scene, &chrome, "Connect CRM").await;
        chrome.badge("crm", "Connecting").await;
        scene.pass(0);
        chrome.badge("crm", "Connected").await;
        scene.rotate("john", Kind::Crm);
        chrome.badge("crm", "Renewing").await;
        scene.pass(0);
        chrome.badge("crm", "Connected").await;

        scene.faults(Kind::Invoicing).always(On::Exchange, Fault::Status { code: 400 });
        edit(&scene, &chrome, "Connect Invoicing").await;
        chrome.badge("invoicing", "Connecting").await;
        scene.pass(4);
        chrome.badge("invoicing", "Failed").await;
        chrome.reads("invoicing", "Tried again at").await;
        scene.faults(Kind::Invoicing).clear();
        edit(&scene, &chrome, "Try again Invoicing").await;
        chrome.badge("invoicing", "Connecting").await;
        scene.pass(0);
        chrome.badge("invoicing", "Connected").await;
        chrome.press("Disconnect Invoicing").await;
        edit(&scene, &chrome, "Disconnect").await;
        chrome.badge("invoicing", "Disconnecting").await;
        scene.pass(0);
        chrome.badge("invoicing", "Not connected").await;

        // So many failures in a row, one of them John's, are the service's.
        scene.faults(Kind::PurchaseOrders).always(On::Exchange, Fault::ServerError);
        let others = ["a", "b", "c", "d", "e", "f", "g"];
        for user in others {
            scene.connect(user, Kind::PurchaseOrders);
        }
        edit(&scene, &chrome, "Connect Purchase Orders").await;
        scene.pass(4);
        chrome.badge("purchase_orders", "Service down").await;
        chrome.reads("purchase_orders", "Tried again at").await;
        scene.faults(Kind::PurchaseOrders).clear();
        scene.retry(0);
        chrome.badge("purchase_orders", "Connected").await;

        scene.entry(Kind::Invoicing, "*@your-domain.com", "*@finance.your-domain.com");
        chrome.badge("invoicing", "Not available").await;
        scene.entry(Kind::Invoicing, "contract: v2", "contract: v9");
        chrome.badge("invoicing", "Needs an admin").await;
        scene.reset_entry(Kind::Invoicing);
        chrome.badge("invoicing", "Not connected").await;

        // Everybody's connections at once: the guard holds them.
        let all = fs::read_to_string(scene.path("desired.yaml")).unwrap();
        scene.desired("users: {}\n");
        scene.pass(3);
        chrome.badge("crm", "Waits for an admin").await;
        scene.desired_text(&all);
        scene.pass(0);
        chrome.badge("crm", "Connected").await;
        assert_eq!(chrome.complaints().await, Vec::<String>::new());
    });
}

#[test]
fn a_key_that_ends_and_is_not_renewed_is_said_to_at_the_real_portal() {
    let scene = Scene::new();
    let connected = |paused: &str| {
        let line = format!("crm: {{ ttl_days: 20{paused} }}");
        scene.desired(&format!("users:\n  john: {{ connections: {{ {line} }} }}\n"));
    };
    connected("");
    scene.pass(0);
    connected(", paused: true");
    for (days, badge) in [(14, "Expiring soon"), (7, "Expired")] {
        scene.let_pass(days * DAY);
        scene.pass(0);
        // Its clock is what it was when it began.
        let door = open(&scene, &[]);
        in_a_browser(async {
            let (chrome, page) = browser_of(&door, "john").await;
            chrome.open(&page).await;
            chrome.badge("crm", badge).await;
        });
    }
}
