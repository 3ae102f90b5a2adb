//! axe-core looks at everything that is shown, in light and dark, wide and narrow.

use std::fs;

use serde_json::{Value, json};

use crate::chrome::Chrome;
use crate::fake::Portal;
use crate::{fleet, node, world};

/// What keeps people out of what is shown now.
async fn findings(chrome: &Chrome) -> Vec<String> {
    let axe = fs::read_to_string(node::axe().join("axe.min.js")).unwrap();
    chrome.run(&axe, Vec::new()).await;
    let look = "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        arguments[0](violations.flatMap(({ id, impact, nodes }) => nodes.map((node) =>
            `${id} (${impact}): ${node.target.flat().join(' ')}: ${node.failureSummary}`))));";
    let found: Value = chrome.client.execute_async(look, Vec::new()).await.unwrap();
    serde_json::from_value(found).unwrap()
}

async fn nothing_is_found(chrome: &Chrome, what: &str) {
    for (width, dark) in [(1280, false), (1280, true), (360, false), (360, true)] {
        chrome.look(width, dark).await;
        let found = findings(chrome).await;
        assert_eq!(found, Vec::<String>::new(), "{what} at {width}, dark: {dark}");
    }
}

#[tokio::test]
async fn the_card_keeps_nobody_out_in_any_state() {
    let portal = Portal::with(world::one_of_each());
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Connected").await;
    nothing_is_found(&chrome, "every state").await;
    portal.world().refusal = Some((409, "It cannot be changed now."));
    chrome.press("Connect Purchase Orders").await;
    chrome.reads("purchase_orders", "It cannot be changed now.").await;
    nothing_is_found(&chrome, "an error").await;
    portal.change(|world| world.notice = json!("Something about the whole."));
    chrome.reads_anywhere("Something about the whole.").await;
    nothing_is_found(&chrome, "a notice").await;
}

#[tokio::test]
async fn the_dialogs_keep_nobody_out() {
    let portal = Portal::start();
    portal.enter("crm", "connected");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    for name in ["Disconnect CRM", "My CRM key leaked"] {
        chrome.press(name).await;
        nothing_is_found(&chrome, name).await;
        chrome.press("Cancel").await;
    }
}

#[tokio::test]
async fn the_fleet_keeps_nobody_out() {
    for may_approve in [false, true] {
        let portal = fleet::portal(may_approve);
        let chrome = Chrome::start().await;
        chrome.open(&format!("{}fleet", portal.page())).await;
        chrome.reads_anywhere("hana there is no account").await;
        chrome
            .inside(
                "root.querySelectorAll('details').forEach((el) => { el.open = true; });",
                Vec::new(),
            )
            .await;
        nothing_is_found(&chrome, "the fleet").await;
        chrome.press(if may_approve { "Look, and approve" } else { "Offboard user00" }).await;
        nothing_is_found(&chrome, "a dialog of the fleet").await;
    }
}

#[tokio::test]
async fn the_other_pages_keep_nobody_out() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    for page in ["unknown", "unauthenticated", "as/"] {
        chrome.open(&format!("{}{page}", portal.page())).await;
        nothing_is_found(&chrome, page).await;
    }
}
