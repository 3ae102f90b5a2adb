//! Two browsers at once.

use std::time::Duration;

use crate::chrome::Chrome;
use crate::fake::Portal;

#[tokio::test]
async fn what_is_clicked_in_one_browser_is_seen_in_the_other() {
    let portal = Portal::start();
    portal.world().then = Some(Duration::from_millis(300));
    let (one, other) = (Chrome::start().await, Chrome::start().await);
    for chrome in [&one, &other] {
        chrome.open(&portal.page()).await;
        chrome.badge("crm", "Not connected").await;
    }
    one.press("Connect CRM").await;
    other.badge("crm", "Connected").await;
    other.hears("CRM: Connected").await;
    other.press("Disconnect CRM").await;
    other.press("Disconnect").await;
    one.badge("crm", "Not connected").await;
}

#[tokio::test]
async fn a_change_comes_by_itself_and_nobody_has_to_ask() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    chrome.reads_anywhere("Up to date").await;
    let asked = portal.world().asked;
    for (state, badge) in
        [("connecting", "Connecting"), ("failed", "Failed"), ("held", "Waits for an admin")]
    {
        portal.enter("crm", state);
        chrome.badge("crm", badge).await;
    }
    assert_eq!(portal.world().asked, asked);
}

#[tokio::test]
async fn a_question_that_the_other_browser_has_answered_is_taken_back() {
    let portal = Portal::start();
    portal.enter("crm", "connected");
    let (one, other) = (Chrome::start().await, Chrome::start().await);
    for chrome in [&one, &other] {
        chrome.open(&portal.page()).await;
        chrome.press("Disconnect CRM").await;
    }
    one.press("Disconnect").await;
    other.badge("crm", "Disconnecting").await;
    assert_eq!(other.dialog().await, "");
    assert_eq!(portal.calls().len(), 1);
}
