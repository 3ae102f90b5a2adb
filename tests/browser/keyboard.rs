//! Everything with the keyboard alone, and the focus is never lost.

use std::time::Duration;

use fantoccini::key::Key;

use crate::chrome::Chrome;
use crate::fake::Portal;

#[tokio::test]
async fn a_person_without_a_mouse_connects_and_disconnects() {
    let portal = Portal::start();
    portal.world().then = Some(Duration::from_millis(300));
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;

    chrome.tab_to("Connect CRM").await;
    chrome.key(Key::Enter).await;
    chrome.badge("crm", "Connected").await;
    assert_eq!(chrome.focus().await, "Disconnect CRM", "the focus stays where it was");

    chrome.key(Key::Enter).await;
    assert!(chrome.dialog().await.contains("Disconnect CRM?"));
    chrome.key(Key::Escape).await;
    assert_eq!(chrome.dialog().await, "");
    assert_eq!(chrome.focus().await, "Disconnect CRM", "the focus returns after a dialog");
    assert_eq!(portal.calls().len(), 1, "Escape changes nothing");

    chrome.key(Key::Enter).await;
    chrome.tab_to("Disconnect").await;
    chrome.key(Key::Enter).await;
    chrome.badge("crm", "Not connected").await;
    assert_eq!(chrome.focus().await, "Connect CRM");
}

#[tokio::test]
async fn the_focus_is_kept_while_everything_around_it_changes() {
    let portal = Portal::start();
    portal.enter("crm", "connected");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Connected").await;
    chrome.tab_to("My CRM key leaked").await;
    for state in ["connected", "failed", "held"] {
        portal.enter("invoicing", state);
    }
    portal.change(|world| world.services.rotate_left(1));
    chrome.badge("invoicing", "Waits for an admin").await;
    assert_eq!(chrome.focus().await, "My CRM key leaked");

    // What had the focus can no longer be pressed: the next thing of the same card has it.
    portal.enter("crm", "failed");
    chrome.badge("crm", "Failed").await;
    assert_eq!(chrome.focus().await, "Try again CRM");
    portal.enter("crm", "not_allowed");
    chrome.badge("crm", "Not available").await;
    assert_eq!(chrome.focus().await, "CRM");
}

#[tokio::test]
async fn a_link_leads_over_the_head_of_the_page() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    chrome.key(Key::Tab).await;
    assert_eq!(chrome.focus().await, "To the services");
    chrome.key(Key::Enter).await;
    chrome.key(Key::Tab).await;
    assert_eq!(chrome.focus().await, "Copy the command");
}
