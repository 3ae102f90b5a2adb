//! What a portal knows of one person, as its API says it: each state can be made.

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

/// Every state of a connection.
pub const STATES: [&str; 12] = [
    "not_connected",
    "connecting",
    "connected",
    "renewing",
    "expiring_soon",
    "expired",
    "failed",
    "service_down",
    "not_allowed",
    "held",
    "disconnecting",
    "blocked",
];

/// The services that each portal has, and their names.
pub const SERVICES: [(&str, &str, &str); 3] = [
    ("purchase_orders", "Purchase Orders", "Look up and approve purchase orders."),
    ("invoicing", "Invoicing", "Draft invoices and send them to customers."),
    ("crm", "CRM", "Look up deals and move them through the pipeline."),
];

/// A time so many hours from now.
pub fn hours(from_now: i64) -> String {
    let time = Timestamp::now().checked_add(from_now.hours()).unwrap();
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A service in a state.
pub fn service(id: &str, name: &str, description: &str, state: &str) -> Value {
    let known = SERVICES.iter().any(|(known, ..)| *known == id);
    let mut service = json!({
        "id": id, "name": name, "description": description,
        "icon": known.then(|| format!("/service-connectors/icons/{id}.svg")),
        "state": "", "connected": false, "wanted": true, "message": "",
        "connected_at": null, "expires_at": null, "retry_at": null, "old_key_until": null,
        "ttl_days": 90, "variables": [], "skill": format!("sc_{id}.md"),
        "generation": null, "laptops": 0, "can": [],
    });
    let prefix = id.to_uppercase();
    service["variables"] = json!([format!("{prefix}_API_KEY"), format!("{prefix}_BASE_URL")]);
    enter(&mut service, state);
    service
}

/// Puts a service into a state, with all that belongs to it.
pub fn enter(service: &mut Value, state: &str) {
    let works =
        matches!(state, "connected" | "renewing" | "expiring_soon" | "held" | "service_down");
    service["state"] = json!(state);
    service["connected"] = json!(works);
    service["wanted"] = json!(!matches!(state, "not_connected" | "not_allowed" | "disconnecting"));
    service["message"] = json!(message(state));
    service["can"] = can(state);
    service["generation"] = if works { json!(7) } else { json!(null) };
    service["laptops"] = json!(i32::from(works));
    service["expires_at"] = match state {
        "expiring_soon" => json!(hours(80)),
        "expired" => json!(hours(-30)),
        _ if works => json!(hours(83 * 24 + 5)),
        _ => json!(null),
    };
    service["retry_at"] = if state == "failed" { json!(hours(1)) } else { json!(null) };
}

fn can(state: &str) -> Value {
    match state {
        "not_connected" => json!(["connect"]),
        "connecting" | "blocked" => json!(["disconnect"]),
        "expired" | "failed" => json!(["retry", "disconnect"]),
        "not_allowed" | "disconnecting" => json!([]),
        _ => json!(["disconnect", "rotate"]),
    }
}

fn message(state: &str) -> &'static str {
    match state {
        "connecting" => "Asking for a key.",
        "renewing" => "A new key is being asked for. The present one works.",
        "expiring_soon" => "Renewal is paused by an admin. Renew it by hand.",
        "expired" => "The key ended by itself. Try again to get a new one.",
        "failed" => "The service does not know your address. Ask its owner, then try again.",
        "service_down" => "It does not answer. It is tried again by itself.",
        "not_allowed" => "This one is for the finance team. Ask them for access.",
        "held" => "An admin has to look at this first. Your key works until then.",
        "disconnecting" => "The key is being taken back.",
        "blocked" => "Your account on the server is missing. Ask an admin.",
        _ => "",
    }
}

/// One service for each state.
pub fn one_of_each() -> Vec<Value> {
    let each = STATES.iter().enumerate();
    each.map(|(n, state)| {
        let (id, name, about) = SERVICES[n % 3];
        let (id, name) = if n < 3 {
            (id.into(), name.into())
        } else {
            (format!("s_{n}"), format!("{name} {n}"))
        };
        service(&id, &name, about, state)
    })
    .collect()
}
