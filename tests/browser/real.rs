//! The real portal, with the loop in its process and the example services behind it.

use std::fs;

use serde_json::json;
use service_connector::example_service::Kind;

use crate::chrome::Chrome;
use crate::clicks::connect_sync_and_disconnect;
use crate::door::{Door, PAGE};
use crate::scene::Scene;

/// The portal, with the registry's pictures.
fn open(scene: &Scene) -> Door {
    for id in ["crm", "invoicing", "purchase_orders"] {
        let picture = format!("{}/registry/{id}.svg", env!("CARGO_MANIFEST_DIR"));
        fs::copy(picture, scene.path(&format!("registry/{id}.svg"))).unwrap();
    }
    Door::open(scene)
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
    let door = open(&scene);
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
    let door = open(&scene);
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
