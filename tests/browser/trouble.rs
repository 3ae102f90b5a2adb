//! What goes wrong, and what a person is told then.

use serde_json::json;

use crate::chrome::Chrome;
use crate::fake::Portal;

async fn open(portal: &Portal) -> Chrome {
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    chrome
}

#[tokio::test]
async fn a_refusal_is_shown_where_the_click_was_and_the_state_is_corrected() {
    let portal = Portal::start();
    let chrome = open(&portal).await;
    for (status, said, seen) in [
        (403, "CRM is for the sales team.", "CRM is for the sales team."),
        (404, "There is no such service.", "There is no such service."),
        (
            409,
            "desired.yaml cannot be read: ask an admin.",
            "desired.yaml cannot be read: ask an admin.",
        ),
        (412, "It does not match.", "This was changed elsewhere in the meantime."),
        (503, "The state cannot be read. Try again in a minute.", "The state cannot be read."),
    ] {
        portal.world().refusal = Some((status, said));
        chrome.press("Connect CRM").await;
        chrome.reads("crm", seen).await;
        chrome.hears(seen).await;
        chrome.badge("crm", "Not connected").await;
        assert_eq!(chrome.offers("crm").await, ["Connect CRM"], "{status}: it can be tried again");
    }
    portal.world().refusal = None;
    chrome.press("Connect CRM").await;
    chrome.badge("crm", "Connecting").await;
    let card = chrome.card("crm").await;
    assert!(!card.contains("cannot be read"), "an error goes with the next click: {card}");
}

#[tokio::test]
async fn too_many_clicks_wait_and_then_can_be_pressed_again() {
    let portal = Portal::start();
    let chrome = open(&portal).await;
    portal.world().refusal = Some((429, "Too many requests."));
    chrome.press("Connect CRM").await;
    chrome.reads("crm", "Wait 2 seconds").await;
    assert_eq!(chrome.offers("crm").await, Vec::<String>::new());
    portal.world().refusal = None;
    chrome.press("Connect CRM").await; // waits until it can be
    chrome.badge("crm", "Connecting").await;
}

#[tokio::test]
async fn a_session_that_is_over_says_so_and_nothing_can_be_pressed() {
    let portal = Portal::start();
    let chrome = open(&portal).await;
    portal.world().refusal = Some((401, "Not known who asks."));
    portal.world().silence = Some((401, "Not known who asks."));
    chrome.press("Connect CRM").await;
    chrome.reads_anywhere("Your session is over. Sign in again. Reload").await;
    assert_eq!(chrome.offers("crm").await, Vec::<String>::new());
    portal.world().silence = None;
    chrome.press("Reload").await;
    chrome.badge("crm", "Not connected").await;
    chrome.press("Connect CRM").await;
}

#[tokio::test]
async fn a_portal_that_dies_and_comes_back_is_told_and_nothing_is_lost() {
    let mut portal = Portal::start();
    let chrome = open(&portal).await;
    chrome.reads_anywhere("Up to date").await;
    portal.die();
    chrome.reads_anywhere("Reconnecting…").await;
    chrome.badge("crm", "Not connected").await; // what was known stays

    chrome.press("Connect CRM").await;
    chrome.reads("crm", "No answer from the portal.").await;
    chrome.badge("crm", "Not connected").await;

    crate::world::enter(portal.world().service("invoicing"), "connected");
    portal.listen();
    chrome.reads_anywhere("Up to date").await;
    chrome.badge("invoicing", "Connected").await;
    portal.enter("crm", "connecting"); // events are heard again
    chrome.badge("crm", "Connecting").await;
}

#[tokio::test]
async fn without_events_the_card_asks() {
    let portal = Portal::start();
    portal.world().events = false;
    let chrome = open(&portal).await;
    chrome.press("Connect CRM").await;
    chrome.badge("crm", "Connecting").await;
    portal.enter("crm", "connected");
    chrome.badge("crm", "Connected").await;
}

#[tokio::test]
async fn a_notice_about_the_whole_is_shown() {
    let portal = Portal::start();
    portal.world().notice = json!("Nothing can be changed now: desired.yaml is being mended.");
    let chrome = open(&portal).await;
    chrome.reads_anywhere("desired.yaml is being mended.").await;
    portal.change(|world| world.notice = json!(null));
    let hidden = "return document.querySelector('service-connectors').shadowRoot.querySelector('.banner').hidden;";
    chrome.until("the notice goes", hidden, Vec::new(), &json!(true)).await;
}

#[tokio::test]
async fn who_was_offboarded_is_told() {
    let portal = Portal::start();
    portal.world().user["disabled"] = json!(true);
    let chrome = open(&portal).await;
    chrome.reads_anywhere("Your access was closed.").await;
}

#[tokio::test]
async fn a_portal_that_cannot_say_anything_yet_says_why() {
    let portal = Portal::start();
    portal.world().silence = Some((503, "The state cannot be read. Try again in a minute."));
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.reads_anywhere("The state cannot be read.").await;
    portal.world().silence = None;
    chrome.badge("crm", "Not connected").await;
}
