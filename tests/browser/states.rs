//! Each state of the card, made to happen while somebody looks.

use crate::chrome::Chrome;
use crate::fake::Portal;
use crate::world::{self, STATES};

/// A state, what its badge says, what else is read, and what can be done.
type Look = (&'static str, &'static str, &'static str, &'static [&'static str]);

const LOOKS: [Look; 12] = [
    ("not_connected", "Not connected", "Keys last 90 days", &["Connect CRM"]),
    ("connecting", "Connecting", "Asking for a key", &["Disconnect CRM"]),
    ("connected", "Connected", "On your laptop", &["Disconnect CRM", "My CRM key leaked"]),
    ("renewing", "Renewing", "The present one works", &["Disconnect CRM", "My CRM key leaked"]),
    (
        "expiring_soon",
        "Expiring soon",
        "3 days left",
        &["Renew CRM", "Disconnect CRM", "My CRM key leaked"],
    ),
    ("expired", "Expired", "Ended", &["Try again CRM", "Disconnect CRM"]),
    ("failed", "Failed", "Ask its owner", &["Try again CRM", "Disconnect CRM"]),
    ("service_down", "Service down", "does not answer", &["Disconnect CRM", "My CRM key leaked"]),
    ("not_allowed", "Not available", "Ask them for access", &[]),
    (
        "held",
        "Waits for an admin",
        "Your key works until then",
        &["Disconnect CRM", "My CRM key leaked"],
    ),
    ("disconnecting", "Disconnecting", "taken back", &[]),
    ("blocked", "Needs an admin", "account on the server is missing", &["Disconnect CRM"]),
];

#[test]
fn every_state_of_the_contract_has_a_look() {
    assert_eq!(LOOKS.map(|(state, ..)| state), STATES);
}

async fn each_state_is_shown_without_a_jump(width: u32) {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.look(width, false).await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    let height = chrome.height("crm").await;
    for (state, badge, words, offers) in LOOKS {
        portal.enter("crm", state);
        chrome.badge("crm", badge).await;
        chrome.reads("crm", words).await;
        assert_eq!(chrome.offers("crm").await, offers, "{state}");
        let now = chrome.height("crm").await;
        assert!((now - height).abs() < 0.6, "{state} at {width}: {now} instead of {height}");
        if state != "not_connected" {
            chrome.hears(&format!("CRM: {badge}")).await;
        }
    }
    let overflow = "return document.documentElement.scrollWidth - innerWidth;";
    assert_eq!(chrome.run(overflow, Vec::new()).await, 0);
    assert_eq!(chrome.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn each_state_is_shown_live_and_nothing_jumps_on_a_wide_page() {
    each_state_is_shown_without_a_jump(1280).await;
}

#[tokio::test]
async fn each_state_is_shown_live_and_nothing_jumps_on_a_telephone() {
    each_state_is_shown_without_a_jump(360).await;
}

#[tokio::test]
async fn a_failure_is_tried_again_with_one_click() {
    let portal = Portal::start();
    portal.enter("crm", "failed");
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.reads("crm", "Tried again at").await;
    chrome.press("Try again CRM").await;
    chrome.badge("crm", "Connecting").await;
    assert_eq!(portal.calls()[0].0, "connect");
}

#[tokio::test]
async fn times_are_the_readers_and_a_machine_reads_them_too() {
    let portal = Portal::start();
    portal.enter("crm", "connected");
    portal.change(|world| world.service("crm")["expires_at"] = "2031-02-03T23:30:00Z".into());
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.reads("crm", "Works until 4 Feb 2031").await; // in Prague it is past midnight
    let times = "return [...card('crm').querySelectorAll('time')].map((el) => el.dateTime);";
    let times = chrome.inside(times, Vec::new()).await;
    assert_eq!(times[0], "2031-02-03T23:30:00Z");
}

#[tokio::test]
async fn words_of_a_service_stay_words() {
    let portal = Portal::start();
    let hostile = "<img src=x onerror=document.title='taken'><b>bold</b>";
    portal.change(|world| {
        let service = world.service("crm");
        world::enter(service, "failed");
        service["message"] = hostile.into();
        service["name"] = hostile.into();
        service["description"] = hostile.into();
        service["icon"] = "javascript:document.title='taken'".into();
    });
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.reads("crm", hostile).await;
    assert_eq!(
        chrome.inside("return root.querySelectorAll('b, [onerror]').length;", Vec::new()).await,
        0
    );
    assert_ne!(chrome.client.title().await.unwrap(), "taken");
}

#[tokio::test]
async fn a_service_without_an_icon_has_its_initials() {
    let portal = Portal::start();
    portal.change(|world| {
        world.service("crm")["icon"] = serde_json::Value::Null;
        world.service("invoicing")["icon"] = "/service-connectors/icons/none.svg".into();
    });
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    chrome.reads("crm", "C CRM").await;
    chrome.reads("invoicing", "I Invoicing").await;
    let drawn = "return String(Boolean(card('purchase_orders')?.querySelector('.icon i')));";
    let script = format!(
        "const card = (id) => document.querySelector('service-connectors').shadowRoot.querySelector(`[data-service='${{id}}']`); {drawn}"
    );
    chrome.until("a drawn icon", &script, Vec::new(), &"true".into()).await;
}

#[tokio::test]
async fn services_come_and_go() {
    let portal = Portal::start();
    let chrome = Chrome::start().await;
    chrome.open(&portal.page()).await;
    chrome.badge("crm", "Not connected").await;
    portal.change(|world| {
        world.services.push(world::service("wiki", "Wiki", "A wiki.", "not_connected"));
    });
    chrome.badge("wiki", "Not connected").await;
    portal.change(|world| world.services.clear());
    chrome.reads_anywhere("There are no services yet.").await;
}
