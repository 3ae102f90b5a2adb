//! The whole path of clicks.

use std::time::Duration;

use serde_json::json;

use crate::chrome::Chrome;
use crate::fake::Portal;

/// A portal that gives a key shortly after it was asked.
fn portal() -> Portal {
    let portal = Portal::start();
    portal.world().then = Some(Duration::from_millis(300));
    portal
}

/// The whole path, on any portal where CRM can be connected: `sync` is what a laptop's sync does.
pub async fn connect_sync_and_disconnect(chrome: &Chrome, page: &str, sync: impl FnOnce()) {
    chrome.open(page).await;
    chrome.badge("crm", "Not connected").await;

    chrome.press("Connect CRM").await;
    chrome.badge("crm", "Connected").await;
    chrome.reads("crm", "Works until").await;
    chrome.hears("CRM: Connected").await;
    chrome.reads("crm", "One thing left: sync your laptop").await;
    chrome.reads_anywhere("Run this there, and it has the key of CRM.").await;
    chrome.reads_anywhere("sh sync_service_env.sh").await;
    let script = "return root.querySelector('a[download]').pathname;";
    let script = chrome.inside(script, Vec::new()).await;
    assert_eq!(script, "/service-connectors/sync_service_env.sh");

    sync();
    chrome.reads("crm", "On your laptop since").await;
    chrome.hears("CRM: it is on your laptop now.").await;
    chrome.reads_anywhere("Your laptop is up to date").await;

    chrome.press("Disconnect CRM").await;
    let dialog = chrome.dialog().await;
    for word in ["Disconnect CRM?", "no longer use CRM", "CRM_API_KEY", "CRM_BASE_URL", "sc_crm.md"]
    {
        assert!(dialog.contains(word), "{word}: {dialog}");
    }
    chrome.press("Cancel").await;
    assert_eq!(chrome.dialog().await, "");
    chrome.badge("crm", "Connected").await;

    chrome.press("Disconnect CRM").await;
    chrome.press("Disconnect").await;
    chrome.badge("crm", "Not connected").await;
    assert_eq!(chrome.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_person_connects_syncs_and_disconnects() {
    let portal = portal();
    let chrome = Chrome::start().await;
    let sync = || portal.change(|world| world.service("crm")["laptops"] = json!(1));
    connect_sync_and_disconnect(&chrome, &portal.page(), sync).await;
    let calls = portal.calls();
    let words: Vec<&str> = calls.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(words, ["connect", "disconnect"], "what was cancelled was not sent");
    assert!(calls.iter().all(|(_, body)| *body == json!({ "service_id": "crm" })));
}

#[tokio::test]
async fn a_leaked_key_is_replaced_by_a_dialog_that_says_what_happens() {
    let portal = portal();
    portal.enter("invoicing", "connected");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.press("My Invoicing key leaked").await;
    let dialog = chrome.dialog().await;
    for word in
        ["old key dies at once", "A new key", "with the next sync", "sh sync_service_env.sh"]
    {
        assert!(dialog.contains(word), "{word}: {dialog}");
    }
    chrome.press("Replace it now").await;
    chrome.badge("invoicing", "Connecting").await;
    chrome.badge("invoicing", "Connected").await;
    chrome.reads("invoicing", "One thing left").await;
    let body = json!({ "service_id": "invoicing", "leaked": true });
    assert_eq!(portal.calls(), [("rotate".to_owned(), body)]);
}

#[tokio::test]
async fn what_expires_soon_is_renewed_with_one_click() {
    let portal = portal();
    portal.enter("crm", "expiring_soon");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.reads("crm", "3 days left").await;
    chrome.press("Renew CRM").await;
    chrome.badge("crm", "Renewing").await;
    chrome.badge("crm", "Connected").await;
    let body = json!({ "service_id": "crm", "leaked": false });
    assert_eq!(portal.calls(), [("rotate".to_owned(), body)]);
}

#[tokio::test]
async fn a_click_shows_at_once_and_is_sent_once() {
    let portal = Portal::start();
    portal.world().delay = Duration::from_secs(2);
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.press("Connect CRM").await;
    chrome.badge("crm", "Connecting").await;
    assert_eq!(chrome.offers("crm").await, Vec::<String>::new(), "while the call is under way");
    // A double click, and the Enter key of the impatient.
    let click =
        "card('crm').querySelector('button').click(); card('crm').querySelector('button').click();";
    chrome.inside(click, Vec::new()).await;
    assert_eq!(chrome.offers("invoicing").await, ["Connect Invoicing"], "others can be pressed");
    chrome.press("Disconnect CRM").await;
    assert_eq!(portal.calls().len(), 1);
}

#[tokio::test]
async fn a_key_that_comes_with_the_answer_is_told_like_any_other() {
    let portal = Portal::start();
    portal.world().instant = true;
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.press("Connect CRM").await;
    chrome.badge("crm", "Connected").await;
    chrome.hears("CRM: Connected until").await;
}

#[tokio::test]
async fn the_command_is_copied() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    let permission = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    chrome.devtools("Browser.grantPermissions", permission).await;
    chrome.press("Copy the command").await;
    chrome.hears("Copied.").await;
    let copied = chrome
        .client
        .execute_async(
            "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))",
            Vec::new(),
        )
        .await
        .unwrap();
    assert_eq!(copied, "sh sync_service_env.sh");
}
