//! The fleet, as an admin sees it.

use std::collections::BTreeMap;

use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::chrome::Chrome;
use crate::fake::{Portal, World};
use crate::world;

/// What the portal says of everybody.
pub fn answer(world: &World, query: &str) -> Value {
    let asked: BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let wants = |key: &str| asked.get(key).map_or("", String::as_str);
    let fits = |one: &&Value| {
        ["user", "service"].iter().all(|key| wants(key).is_empty() || one[key] == wants(key))
            && one.to_string().contains(wants("q"))
    };
    let matching: Vec<&Value> = world.fleet.iter().filter(fits).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in &matching {
        *counts.entry(one["state"].as_str().unwrap()).or_default() += 1;
    }
    let state = wants("state");
    let all: Vec<&Value> =
        matching.into_iter().filter(|one| state.is_empty() || one["state"] == state).collect();
    let page: usize = wants("page").parse().unwrap_or(1);
    let per_page: usize = wants("per_page").parse().unwrap_or(100);
    let shown: Vec<&&Value> = all.iter().skip((page - 1) * per_page).take(per_page).collect();
    json!({
        "version": 1, "at": world::hours(0), "revision": "0", "total": all.len(),
        "page": page, "per_page": per_page, "counts": counts,
        "services": [
            { "id": "crm", "name": "CRM", "connections": 30, "health": "ok", "message": "", "possible_orphans": 2 },
            { "id": "invoicing", "name": "Invoicing", "connections": 30, "health": "down",
              "message": "No answer within 10 seconds.", "possible_orphans": 0 },
            { "id": "purchase_orders", "name": "Purchase Orders", "connections": 0, "health": "unknown",
              "message": "", "possible_orphans": 0 },
        ],
        "connections": shown,
        "debts": [{ "user": "eva", "service": "crm", "since": world::hours(-75), "why": "disconnected" }],
        "held": world.held,
        "expiries": expiries(),
        "last_pass": { "at": world::hours(0), "took_ms": 15, "exit": 3, "summary": "1 issued, 30 held." },
    })
}

/// A few keys of each service for each day of the next weeks.
fn expiries() -> Vec<Value> {
    let days = 1..42_i64;
    days.flat_map(|n| {
        let day = world::hours(n * 24);
        world::SERVICES.map(|(service, ..)| {
            let length = i64::try_from(service.len()).unwrap();
            let tokens = (n * n * 7 + length * 5) % 11 + n / 8;
            json!({ "date": day.split_once('T').unwrap().0, "service": service, "tokens": tokens })
        })
    })
    .collect()
}

/// The plan, as last recorded.
pub fn plan() -> Value {
    let held = json!({ "key": "held", "op": "sc1:a:b", "fingerprint": "k:7d31", "rendition": "", "status": null });
    let new =
        json!({ "key": "new", "op": null, "fingerprint": null, "rendition": "", "status": null });
    json!({ "version": 1, "at": world::hours(0), "text": "+ john crm\n- eva crm\n", "plan": {
        "version": 1, "digest": "41".repeat(32), "held_digest": "9f".repeat(32), "at": world::hours(0),
        "actions": [
            { "kind": "issue", "user": "john", "service": "crm", "op": null, "ttl_days": 90,
              "email": "john@your-domain.com", "account": "john",
              "reason": { "code": "connected", "detail": null, "text": "connected in desired.yaml" } },
            { "kind": "install", "user": "john", "account": "john", "leaves": false,
              "slots": { "crm": { "before": null, "after": new, "until_then": null },
                         "invoicing": { "before": held, "after": null, "until_then": null } },
              "reasons": [{ "code": "connected", "detail": null, "text": "a new key" }] },
            { "kind": "revoke", "user": "eva", "service": "crm", "op": "sc1:a:b", "fingerprint": "k:7d31",
              "phase": "active", "after_delivery": true,
              "reason": { "code": "disconnected", "detail": null, "text": "disconnected" } },
        ],
        "held": [{ "user": "nina", "service": "crm", "ops": [], "kind": "removal" }],
        "held_why": ["30 of 60 connections would go."],
        "notes": [{ "user": "hana", "service": null, "kind": "blocked", "until": null, "text": "there is no account" }],
        "summary": { "issue": 1, "install": 1, "revoke": 1, "end": 0, "held": 30, "waiting": 0, "blocked": 1 },
    }})
}

/// A portal with people, and something that the guard holds.
pub fn portal(may_approve: bool) -> Portal {
    let portal = Portal::start();
    portal.change(|world| {
        world.fleet = (0..60)
            .map(|n| {
                let state = ["connected", "connected", "failed"][n % 3];
                let service = ["crm", "invoicing"][n % 2];
                json!({
                    "user": format!("user{:02}", n / 2), "service": service,
                    "state": state, "message": if state == "failed" { "It was refused." } else { "" },
                    "expires_at": world::hours(24 * 30), "connected_at": world::hours(-24),
                })
            })
            .collect();
        world.held = json!({
            "digest": "9f".repeat(32), "connections": 30, "may_approve": may_approve,
            "why": ["30 of 60 connections would go."],
        });
    });
    portal
}

async fn open(portal: &Portal, query: &str) -> Chrome {
    let chrome = Chrome::start().await;
    chrome.open(&format!("{}fleet{query}", portal.page())).await;
    chrome.reads_anywhere("Last pass").await;
    chrome
}

async fn address(chrome: &Chrome) -> String {
    chrome.client.current_url().await.unwrap().query().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_admin_sees_what_is_owed_held_and_planned() {
    let chrome = open(&portal(false), "").await;
    for words in [
        "exit 3. 1 issued, 30 held.",
        "The guard holds 30 connections",
        "30 of 60 connections would go.",
        "service-connector approve 9f9f",
        "Keys by when they end",
        "CRM Healthy 30 connections · 2 keys may be lost",
        "Invoicing Down 30 connections · No answer within 10 seconds.",
        "eva crm 3 days disconnected",
        "1 to 25 of 60",
        "john · crm Asks for a new key, for 90 days connected in desired.yaml",
        "john Writes the home of john: +crm, -invoicing a new key",
        "eva · crm Revokes the key k:7d31, once the new one is in the home disconnected",
        "nina · crm Stays until approved",
        "And 29 more",
        "hana there is no account",
    ] {
        chrome.reads_anywhere(words).await;
    }
    let approve = "return buttons().some((el) => name(el) === 'Look, and approve');";
    assert_eq!(chrome.inside(approve, Vec::new()).await, false, "the portal may not approve");
    assert_eq!(chrome.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_chart_fits_a_narrow_page_and_each_service_keeps_its_colour() {
    let chrome = open(&portal(false), "").await;
    let width = "const svg = document.querySelector('service-connectors-fleet').shadowRoot
                   .querySelector('svg'); return svg.viewBox.baseVal.width < 330;";
    let colours = "return [...root.querySelectorAll('svg rect')].reduce((found, rect) => {
        const service = rect.textContent.replace(/^.* of /, '');
        (found[service] ??= []).includes(rect.style.cssText) || found[service].push(rect.style.cssText);
        return found;
    }, {});";
    let wide = chrome.inside(colours, Vec::new()).await;
    assert!(wide.as_object().unwrap().values().all(|one| one.as_array().unwrap().len() == 1));
    chrome.look(360, false).await;
    chrome.until("a narrow chart", width, Vec::new(), &json!(true)).await;
    assert_eq!(chrome.inside(colours, Vec::new()).await, wide);
    assert_eq!(chrome.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn filters_are_in_the_address_and_the_way_back_works() {
    let portal = portal(false);
    let chrome = open(&portal, "?service=crm").await;
    chrome.reads_anywhere("1 to 25 of 30").await;
    chrome.press("Failed 10").await;
    chrome.reads_anywhere("1 to 10 of 10").await;
    assert_eq!(address(&chrome).await, "service=crm&state=failed");
    chrome.client.back().await.unwrap();
    chrome.reads_anywhere("1 to 25 of 30").await;
    chrome.press("Next").await;
    chrome.reads_anywhere("26 to 30 of 30").await;
    assert_eq!(address(&chrome).await, "service=crm&page=2");

    chrome.inside("root.querySelector('input[name=q]').focus();", Vec::new()).await;
    chrome.types("user07").await;
    chrome.reads_anywhere("1 to 1 of 1").await;
    assert_eq!(address(&chrome).await, "q=user07&service=crm");
    chrome.hears("1 connections.").await;
    chrome.client.refresh().await.unwrap();
    chrome.reads_anywhere("1 to 1 of 1").await;
    let typed = "return root.querySelector('input[name=q]').value;";
    assert_eq!(chrome.inside(typed, Vec::new()).await, "user07");
}

#[tokio::test]
async fn who_leaves_is_offboarded_only_when_the_id_was_typed() {
    let portal = portal(false);
    let chrome = open(&portal, "?user=user03&service=crm").await;
    chrome.press("Offboard user03").await;
    let ready = "return top.querySelector('.danger').ariaDisabled;";
    assert_eq!(chrome.inside(ready, Vec::new()).await, "true");
    chrome.types("user0").await;
    chrome.key(Key::Enter).await;
    assert!(chrome.dialog().await.contains("Not yet the same."));
    assert_eq!(portal.calls(), []);
    chrome.types("3").await;
    chrome.key(Key::Enter).await;
    chrome.hears("Done: offboard.").await;
    assert_eq!(portal.calls(), [("offboard".to_owned(), json!({ "user": "user03" }))]);
}

#[tokio::test]
async fn what_is_held_is_approved_where_the_portal_may() {
    let portal = portal(true);
    let chrome = open(&portal, "").await;
    chrome.press("Look, and approve").await;
    assert!(chrome.dialog().await.contains("30 of 60 connections would go."));
    chrome.press("Approve").await;
    chrome.hears("Done: approve.").await;
    assert_eq!(portal.calls(), [("approve".to_owned(), json!({ "digest": "9f".repeat(32) }))]);
}

#[tokio::test]
async fn who_is_no_admin_is_told_so() {
    let portal = portal(false);
    portal.world().silence = Some((403, "Only admins see the fleet."));
    let chrome = Chrome::start().await;
    chrome.open(&format!("{}fleet", portal.page())).await;
    chrome.reads_anywhere("Only admins see the fleet.").await;
}
