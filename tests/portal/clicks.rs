//! What somebody clicks is done, or refused with a reason.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use service_connector::example_service::{Fault, Kind, On};

use crate::door::{API, Door, PAGE};
use crate::scene::{Scene, wait_until};

#[test]
fn a_click_brings_a_key_and_another_takes_it_back() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let crm = door.service("john", "crm");
    assert_eq!((&crm["state"], &crm["can"]), (&json!("not_connected"), &json!(["connect"])));
    let done = door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let tag = done.header("etag").unwrap().to_owned();
    let done = done.json();
    assert_eq!((&done["ok"], &done["state"]), (&json!(true), &json!("connected")));
    assert_eq!(tag, format!("\"{}\"", done["revision"].as_str().unwrap()));
    let key = scene.working_key("john", Kind::Crm);
    let crm = door.service("john", "crm");
    assert_eq!((&crm["state"], &crm["connected"]), (&json!("connected"), &json!(true)));
    assert_eq!(crm["can"], json!(["disconnect", "rotate"]));
    assert_eq!(crm["variables"], json!(["CRM_API_KEY", "CRM_BASE_URL"]));
    assert!(crm["expires_at"].is_string() && crm["connected_at"].is_string(), "{crm}");

    let done = door.post("john", "/disconnect?wait=20", &json!({ "service_id": "crm" }));
    assert_eq!(done.expect(200).json()["state"], "not_connected");
    assert!(!scene.works(Kind::Crm, &key));
    assert_eq!(scene.key("john", Kind::Crm), None);
    assert_eq!(door.close(), 0);
}

#[test]
fn who_clicked_stands_in_the_history_and_the_next_pass_acts_where_no_loop_runs() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let done = door.post("john", "/connect", &json!({ "service_id": "crm", "ttl_days": 30 }));
    assert_eq!(done.expect(202).json()["state"], "connecting");
    let history = fs::read_to_string(scene.path("history/log.jsonl")).unwrap();
    let last: Value = serde_json::from_str(history.lines().last().unwrap()).unwrap();
    assert_eq!(last["who"], "john (portal)");
    assert_eq!(last["what"], "connect john crm ttl_days 30");
    assert_eq!(door.service("john", "crm")["state"], "connecting");
    scene.pass(0);
    let crm = door.service("john", "crm");
    assert_eq!((&crm["state"], &crm["ttl_days"]), (&json!("connected"), &json!(30)));
}

#[test]
fn a_rotation_keeps_the_old_key_for_its_grace_and_a_leak_does_not() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let first = scene.working_key("john", Kind::Crm);
    door.post("john", "/rotate?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let second = scene.working_key("john", Kind::Crm);
    assert!(first != second, "the key is another one");
    assert!(scene.works(Kind::Crm, &first), "the old key lives for its grace");
    assert!(door.service("john", "crm")["old_key_until"].is_string());
    let leaked = json!({ "service_id": "crm", "leaked": true });
    door.post("john", "/rotate?wait=20", &leaked).expect(200);
    let third = scene.working_key("john", Kind::Crm);
    assert!(third != second, "the key is another one");
    wait_until("the leaked key's end", || !scene.works(Kind::Crm, &second));
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason_and_changes_nothing() {
    let scene = Scene::new();
    scene.pass(0);
    scene.entry(Kind::Invoicing, "emails: [\"*@your-domain.com\"]", "emails: []");
    let door = Door::open_with(&scene, &[], "");
    let before = fs::read(scene.path("desired.yaml")).unwrap();
    let post = |path: &str, body: Value| door.post("john", path, &body);
    post("/connect", json!({ "service_id": "nothing" })).problem(404);
    post("/disconnect", json!({ "service_id": "nothing" })).problem(404);
    let refused = post("/connect", json!({ "service_id": "invoicing" })).problem(403);
    assert!(refused.contains("Invoicing"), "{refused}");
    post("/rotate", json!({ "service_id": "crm" })).problem(409);
    post("/connect", json!({ "service_id": "crm", "ttl_days": 0 })).problem(422);
    post("/connect", json!({ "service_id": "crm", "ttl_days": "many" })).problem(422);
    post("/connect", json!({ "service": "crm" })).problem(422);
    post("/connect", json!({ "service_id": "Not An Id" })).problem(422);
    post("/connect?wait=soon", json!({ "service_id": "crm" })).problem(400);
    post("/nothing", json!({})).problem(404);
    let stale = [("If-Match", "\"not a revision\"")];
    door.post_with("john", "/connect", &stale, &json!({ "service_id": "crm" })).problem(412);
    let bearer = format!("Bearer {}", door.token("john"));
    let ask = |method: &str, kind: &str, body: &str| {
        let headers = [("Authorization", &*bearer), ("Content-Type", kind)];
        door.ask(method, &format!("{API}/connect"), &headers, body)
    };
    ask("POST", "application/json", "{\"service_id\": ").problem(400);
    ask("POST", "text/plain", "{\"service_id\": \"crm\"}").problem(415);
    ask("POST", "application/json", &format!("\"{}\"", "x".repeat(5000))).problem(413);
    let by_place = ask("POST", "application/json", "[\"crm\"]").problem(422);
    assert!(by_place.contains("an object"), "{by_place}");
    ask("POST", "application/json", "[\"crm\"").problem(400);
    ask("PUT", "application/json", "{}").problem(405);
    ask("GET", "application/json", "").problem(405);
    assert_eq!(fs::read(scene.path("desired.yaml")).unwrap(), before);
}

#[test]
fn a_change_of_a_revision_that_is_no_more_is_refused() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let seen = door.get("john", API).expect(200).header("etag").unwrap().to_owned();
    let body = json!({ "service_id": "crm" });
    door.post("eva", "/connect", &body).expect(202);
    let expected = [("If-Match", &*seen)];
    door.post_with("john", "/connect", &expected, &body).problem(412);
    assert_eq!(door.service("john", "crm")["state"], "not_connected");
    let seen = door.get("john", API).expect(200).header("etag").unwrap().to_owned();
    door.post_with("john", "/connect", &[("If-Match", &*seen)], &body).expect(202);
}

#[test]
fn what_somebody_writes_while_a_click_waits_for_its_turn_is_shown_and_stays() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    door.post("john", "/connect", &json!({ "service_id": "crm" })).expect(202);
    assert_eq!(door.service("eva", "crm")["state"], "not_connected");
    let turn = fs::File::open(scene.path(".desired.yaml.lock")).unwrap();
    turn.lock().unwrap();
    thread::scope(|threads| {
        let click = || door.post("john", "/connect", &json!({ "service_id": "invoicing" }));
        let click = threads.spawn(click);
        thread::sleep(Duration::from_millis(300));
        scene.desired("users:\n  eva: { connections: { crm: {} } }\n");
        turn.unlock().unwrap();
        click.join().unwrap().expect(202);
    });
    assert_eq!(door.service("eva", "crm")["state"], "connecting");
    assert_eq!(door.service("john", "invoicing")["state"], "connecting");
    assert_eq!(door.service("john", "crm")["state"], "not_connected");
}

#[test]
fn who_clicks_without_end_is_asked_to_wait_and_others_are_not() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let body = json!({ "service_id": "crm" });
    let answers: Vec<_> = (0..60).map(|_| door.post("john", "/connect", &body)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("too many");
    assert!(refused.header("retry-after").is_some());
    door.post("eva", "/connect", &body).expect(202);
}

#[test]
fn an_offboarded_person_gets_nothing_more_and_only_admins_offboard() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let key = scene.working_key("john", Kind::Crm);
    door.post("petr", "/offboard", &json!({ "user": "john" })).problem(403);
    door.post("john", "/offboard", &json!({ "user": "eva" })).problem(403);
    let nothing = door.post("eva", "/offboard", &json!({ "user": "jhon" })).expect(202).json();
    assert_eq!(nothing["message"], "jhon is offboarded, and had no connection.");
    door.post("eva", "/offboard", &json!({ "user": "john" })).expect(202);
    wait_until("the end of the key", || !scene.works(Kind::Crm, &key));
    let refused = door.post("john", "/connect", &json!({ "service_id": "crm" })).problem(403);
    assert!(refused.contains("You are offboarded"), "{refused}");
    assert_eq!(door.card("john")["user"]["disabled"], true);
    assert_eq!(door.service("john", "invoicing")["state"], "not_allowed");
}

#[test]
fn nobody_is_offboarded_whom_nobody_knows() {
    let scene = Scene::new();
    scene.people("people: { eva: { email: eva@your-domain.com } }\n");
    let door = Door::open(&scene);
    let refused = door.post("eva", "/offboard", &json!({ "user": "jhon" })).problem(404);
    assert_eq!(refused, "There is nobody `jhon` here.");
    let file = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    assert!(!file.contains("jhon"), "{file}");
}

#[test]
fn a_file_that_was_edited_wrongly_by_hand_refuses_clicks_and_still_shows_the_card() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let good = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    scene.desired_text(&good.replace("users:", "usres:"));
    let body = json!({ "service_id": "invoicing" });
    let refused = door.post("john", "/connect", &body).problem(409);
    assert!(refused.contains("by hand"), "{refused}");
    let card = door.card("john");
    assert!(
        card["notice"].as_str().is_some_and(|text| text.contains("cannot be used as it is")),
        "{card}"
    );
    assert_eq!(door.service("john", "crm")["state"], "connected");
    scene.desired_text(&good);
    door.post("john", "/connect?wait=20", &body).expect(200);
    assert_eq!(door.card("john")["notice"], Value::Null);
    fs::remove_file(scene.path("desired.yaml")).unwrap();
    let refused = door.post("john", "/disconnect", &body).problem(503);
    assert!(refused.contains("not there"), "{refused}");
}

#[test]
fn what_is_said_of_a_click_is_how_things_stand_after_it() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let said = |path: &str, body: Value| {
        let answer = door.post("john", path, &body);
        (answer.status, answer.json()["message"].as_str().unwrap().to_owned())
    };
    let crm = || json!({ "service_id": "crm" });
    let says = |status: u16, text: &str| (status, text.to_owned());
    assert_eq!(said("/disconnect", crm()), says(202, "CRM is disconnected."));
    assert_eq!(said("/connect", crm()), says(202, "Connecting to CRM."));
    wait_until("the key", || door.service("john", "crm")["state"] == "connected");
    assert_eq!(said("/connect", crm()), says(202, "CRM is connected."));
    assert_eq!(said("/rotate?wait=20", crm()), says(200, "CRM has a new key."));
    assert_eq!(said("/disconnect?wait=20", crm()), says(200, "CRM is disconnected."));
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Status { code: 400 });
    said("/connect?wait=20", crm());
    assert_eq!(said("/rotate", crm()), says(202, "A key to CRM is on its way."));
}

#[test]
fn where_renewal_is_switched_off_no_new_key_is_promised() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let key = scene.working_key("john", Kind::Crm);
    scene.desired("users: { john: { connections: { crm: { paused: true } } } }\n");
    wait_until("the notice", || door.service("john", "crm")["can"] == json!(["disconnect"]));
    let refused = door.post("john", "/rotate", &json!({ "service_id": "crm" })).problem(409);
    assert!(refused.contains("switched off"), "{refused}");
    let leaked = json!({ "service_id": "crm", "leaked": true });
    let done = door.post("john", "/rotate?wait=20", &leaked).expect(202).json();
    let message = done["message"].as_str().unwrap();
    assert!(message.contains("No new one comes"), "{message}");
    wait_until("the end of the key", || !scene.works(Kind::Crm, &key));
}

#[test]
fn a_service_that_nobody_can_have_any_more_is_disconnected_once_nothing_of_it_is_left() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    scene.entry(Kind::Crm, "contract: v2", "contract: v2\nretired: true");
    let done = door.post("john", "/disconnect?wait=20", &json!({ "service_id": "crm" }));
    let done = done.expect(200).json();
    assert_eq!(done["message"], "CRM is disconnected.");
    assert!(scene.live(Kind::Crm).is_empty());
}

#[test]
fn what_follows_from_a_click_has_not_come_before_a_pass_has_seen_the_click() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    door.post("john", "/connect", &json!({ "service_id": "crm" })).expect(202);
    // No pass has seen either: there is no key, and one may be on its way all the same.
    let done = door.post("john", "/disconnect?wait=1", &json!({ "service_id": "crm" }));
    assert_eq!(done.expect(202).json()["message"], "Disconnecting from CRM.");
    scene.pass(0);
    let done = door.post("john", "/disconnect?wait=1", &json!({ "service_id": "crm" }));
    assert_eq!(done.expect(200).json()["message"], "CRM is disconnected.");
}

#[test]
fn a_service_whose_entry_is_broken_says_no_more_than_that_and_offers_what_works() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    scene.entry(Kind::Crm, "contract: v2", "contract: v2\nnonsense: true");
    wait_until("the notice", || door.service("john", "crm")["can"] == json!(["disconnect"]));
    scene.run(&["reconcile"]);
    let crm = door.service("john", "crm");
    let message = crm["message"].as_str().unwrap();
    assert!(message.starts_with("The key works.") && !message.contains("yaml"), "{message}");
    door.post("john", "/disconnect?wait=20", &json!({ "service_id": "crm" })).expect(200);
}

#[test]
fn fewer_days_have_come_only_with_the_key_that_has_them() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let days = |days: u16| json!({ "service_id": "crm", "ttl_days": days });
    door.post("john", "/connect?wait=20", &days(60)).expect(200);
    let first = scene.working_key("john", Kind::Crm);
    door.post("john", "/connect?wait=20", &days(5)).expect(200);
    assert!(scene.working_key("john", Kind::Crm) != first, "the key is another one");
    // More days are those of the next key, and nothing is to be waited for.
    door.post("john", "/connect?wait=20", &days(90)).expect(200);
}

#[test]
fn who_begins_a_body_and_goes_away_keeps_no_place() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let bearer = format!("Bearer {}", door.token("john"));
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
        ("Content-Length", "100"),
    ];
    door.ask("POST", &format!("{API}/connect"), &headers, "").problem(408);
    let headers = [headers[0], headers[1], ("Content-Length", "100000000")];
    door.ask("POST", &format!("{API}/connect"), &headers, "").problem(413);
}

#[test]
fn what_is_held_waits_for_an_approval_that_the_portal_may_give_only_where_it_is_told_to() {
    let scene = Scene::new();
    let all = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for user in all {
        scene.connect(user, Kind::Crm);
    }
    scene.pass(0);
    scene.desired("users: {}\n");
    scene.pass(3);
    let digest = {
        let door = Door::open_with(&scene, &[], "");
        let fleet = door.get("eva", &format!("{API}/fleet")).expect(200).json();
        assert_eq!(fleet["counts"]["held"], all.len());
        assert_eq!(fleet["held"]["may_approve"], false);
        assert_eq!(door.service("a", "crm")["state"], "held");
        let digest = fleet["held"]["digest"].as_str().unwrap().to_owned();
        door.post("eva", "/approve", &json!({ "digest": digest })).problem(403);
        digest
    };
    let door = Door::open_with(&scene, &["--reconcile"], "guard: { portal_may_approve: true }\n");
    door.post("john", "/approve", &json!({ "digest": digest })).problem(403);
    door.post("eva", "/approve", &json!({ "digest": "0".repeat(64) })).problem(409);
    assert_eq!(scene.live(Kind::Crm).len(), all.len());
    door.post("eva", "/approve", &json!({ "digest": digest })).expect(202);
    wait_until("the end of all keys", || scene.live(Kind::Crm).is_empty());
    let events = scene.run(&["events", "--json"]).expect(0).stdout;
    assert!(events.contains("eva (portal, admin)"), "the approval is an event");
}

#[test]
fn a_letter_in_the_approvals_that_nobody_may_send_is_not_taken_up() {
    let scene = Scene::new();
    for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        scene.connect(user, Kind::Crm);
    }
    scene.pass(0);
    scene.desired("users: {}\n");
    let digest = scene.run(&["plan", "--json"]).expect(3).json()["held_digest"].clone();
    fs::create_dir(scene.path("approvals")).unwrap();
    let letter = json!({ "who": "anybody", "at": scene.now() }).to_string();
    fs::write(scene.path("approvals").join(digest.as_str().unwrap()), letter).unwrap();
    scene.pass(3);
    assert_eq!(scene.live(Kind::Crm).len(), 8);
}

#[test]
fn what_failed_is_tried_again_at_once_by_another_click() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Status { code: 400 });
    door.post("john", "/connect?wait=10", &json!({ "service_id": "crm" })).expect(202);
    let failed = |door: &Door| door.service("john", "crm");
    wait_until("the failure", || failed(&door)["state"] == "failed");
    let crm = failed(&door);
    assert_eq!(crm["can"], json!(["disconnect", "retry"]));
    assert!(crm["retry_at"].is_string(), "{crm}");
    scene.faults(Kind::Crm).clear();
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    scene.working_key("john", Kind::Crm);
}

#[test]
fn the_page_is_led_to_from_its_name_without_the_slash() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let led = door.get("john", PAGE).expect(308);
    assert_eq!(led.header("location"), Some("/service-connectors/"));
}

#[test]
fn on_a_host_of_its_own_the_portal_is_at_the_root() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &["--base-path", "/"], "");
    let page = door.get("john", "/").expect(200);
    assert!(page.body.contains("src=\"/card.js\""), "{}", page.body);
    door.get("john", "/card.js").expect(200);
    let card = door.get("john", "/api").expect(200).json();
    assert_eq!(card["user"]["id"], "john");
}
