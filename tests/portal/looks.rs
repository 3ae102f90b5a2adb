//! What somebody sees, and what nobody does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Value, json};
use service_connector::example_service::{Fault, Kind, On};

use crate::door::{API, Door, PAGE};
use crate::scene::{Scene, wait_until};

#[test]
fn a_page_that_is_open_shows_what_happens_as_it_happens() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let (mut johns, mut evas) = (door.events("john"), door.events("eva"));
    johns.until("crm", "not_connected");
    evas.until("crm", "not_connected");
    door.post("john", "/connect", &json!({ "service_id": "crm" })).expect(202);
    johns.until("crm", "connected");
    door.post("eva", "/connect", &json!({ "service_id": "crm" })).expect(202);
    // The first that eva is told is of herself: what john does is none of it.
    let next = evas.next().unwrap();
    let crm = next["services"].as_array().unwrap().iter().find(|s| s["id"] == "crm").unwrap();
    assert_eq!(crm["wanted"], true, "{crm}");
    assert_eq!(door.close(), 0);
    while johns.next().is_some() {}
}

#[test]
fn a_page_that_is_open_shows_an_edit_by_hand_once_it_is_believed() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let mut johns = door.events("john");
    johns.until("crm", "not_connected");
    let text = "version: 1\nusers: { john: { connections: { crm: {} } } }\n";
    fs::write(scene.path("desired.yaml"), text).unwrap();
    johns.until("crm", "connecting");
}

#[test]
fn who_can_let_nobody_in_says_so() {
    let scene = Scene::new();
    scene.pass(0);
    let header = "identity: { header: { name: X-Remote-Email, peers: [root] } }\n";
    let door = Door::open_as(&scene, &[], header);
    assert!(door.said().contains("Nobody is let in"), "{}", door.said());
}

#[test]
fn nobody_is_let_in_without_a_proof_and_nobody_sees_another() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.post("john", "/connect?wait=20", &json!({ "service_id": "crm" })).expect(200);
    let own = ["", "/events", "/health/crm", "/fleet", "/plan"];
    for path in own {
        door.ask("GET", &format!("{API}{path}"), &[], "").problem(401);
    }
    for path in ["/connect", "/disconnect", "/rotate", "/offboard", "/approve"] {
        let headers = [("Content-Type", "application/json")];
        door.ask("POST", &format!("{API}{path}"), &headers, "{}").problem(401);
    }
    for path in ["/fleet", "/plan"] {
        door.get("john", &format!("{API}{path}")).problem(403);
    }
    door.ask("GET", &format!("{PAGE}/"), &[], "").expect(401);
    door.get("john", &format!("{PAGE}/fleet")).expect(403);
    let page = door.get("eva", &format!("{PAGE}/fleet")).expect(200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let evas = door.card("eva").to_string();
    assert!(!evas.contains("john"), "{evas}");
    assert_eq!(door.service("eva", "crm")["state"], "not_connected");
    // A name that is not our own.
    let bearer = format!("Bearer {}", door.token("john"));
    let headers = [("Host", "evil.example.com"), ("Authorization", &*bearer)];
    door.ask_bare("GET", API, &headers, "").problem(421);
}

#[test]
fn somebody_who_is_not_among_the_people_is_told_whom_to_ask() {
    let scene = Scene::new();
    let door = Door::open_with(&scene, &["--reconcile"], "unknown_person: Ask Eva in room 7.\n");
    let exp = jiff::Timestamp::now().as_second() + 60;
    let token = door.token_of(&json!({
        "iss": "the portal", "aud": "service-connector", "exp": exp, "email": "x@elsewhere.com",
    }));
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer)];
    let told = door.ask("GET", API, &headers, "").problem(403);
    assert!(told.contains("Ask Eva in room 7."), "{told}");
    let page = door.ask("GET", &format!("{PAGE}/"), &headers, "").expect(403).body;
    assert!(page.contains("Ask Eva in room 7.") && page.contains("x@elsewhere.com"), "{page}");
}

#[test]
fn without_an_identity_nobody_is_anybody() {
    let scene = Scene::new();
    scene.pass(0);
    let socket = scene.path("portal.sock");
    let address = format!("unix:{}", socket.display());
    let door = Door::open_as(&scene, &["--listen", &address], "version: 1\n");
    let header = [("X-Remote-Email", "john@your-domain.com")];
    door.ask("GET", API, &header, "").problem(401);
    assert!(door.said().contains("Nobody is let in"), "{}", door.said());
    assert_eq!(door.close(), 0);
    assert!(!socket.exists(), "the socket goes with it");
}

const JWT: &str = "jwt: { bearer: true, algorithm: HS256, key_file: portal.key, issuer: the portal, \
                   audience: service-connector }";

#[test]
fn one_account_cannot_take_all_the_places_of_the_socket() {
    let scene = Scene::new();
    scene.pass(0);
    let socket = scene.path("portal.sock");
    let address = format!("unix:{}", socket.display());
    let header = "header: { name: X-Remote-Email, peers: [daemon] }";
    for (proxies, is_full) in [("", false), (header, true), ("proxies: [daemon]", true)] {
        let config = format!("version: 1\nidentity:\n  {JWT}\n  {proxies}\n");
        let door = Door::open_as(&scene, &["--listen", &address], &config);
        let held: Vec<_> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let bearer = format!("Bearer {}", door.token("john"));
        let headers = [("Host", "portal.example.com"), ("Authorization", &*bearer)];
        let ask = || door.try_ask("GET", API, &headers, "").map(|answer| answer.status);
        if is_full {
            wait_until("the end of the places", || ask().is_none());
        } else {
            // This account may be the proxy's: nobody said whose that is.
            assert_eq!(ask(), Some(200));
        }
        drop(held);
        wait_until("a free place", || ask() == Some(200));
        assert_eq!(door.close(), 0);
    }
}

#[test]
fn an_offboarded_admin_is_none_any_more() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    door.get("eva", &format!("{API}/fleet")).expect(200);
    door.get("eva", &format!("{PAGE}/fleet")).expect(200);
    scene.run(&["offboard", "eva", "--json"]).expect(0);
    let page = door.get("eva", &format!("{PAGE}/fleet")).expect(403);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.body.contains("This page is for administrators"), "{}", page.body);
    door.get("eva", &format!("{API}/fleet")).problem(403);
    door.post("eva", "/offboard", &json!({ "user": "john" })).problem(403);
    assert_eq!(door.card("eva")["user"]["admin"], false);
}

#[test]
fn admins_see_the_fleet_page_by_page_and_find_whom_they_look_for() {
    let scene = Scene::new();
    let users: Vec<String> = (0..9).map(|number| format!("u{number}")).collect();
    for user in &users {
        scene.connect(user, Kind::Crm);
    }
    scene.connect("u0", Kind::Invoicing);
    scene.pass(0);
    scene.connect("u9", Kind::Invoicing);
    let door = Door::open_with(&scene, &[], "");
    let fleet = |query: &str| door.get("eva", &format!("{API}/fleet{query}")).expect(200).json();
    let all = fleet("");
    assert_eq!(
        (&all["total"], &all["counts"]),
        (&json!(11), &json!({ "connected": 10, "connecting": 1 }))
    );
    let mut seen = BTreeSet::new();
    for page in 1..=3 {
        let found = fleet(&format!("?per_page=4&page={page}"));
        for row in found["connections"].as_array().unwrap() {
            seen.insert(format!("{} {}", row["user"], row["service"]));
        }
    }
    assert_eq!(seen.len(), 11);
    assert_eq!(fleet("?user=u0")["total"], 2);
    assert_eq!(fleet("?service=invoicing&state=connecting")["connections"][0]["user"], "u9");
    assert_eq!(fleet("?q=u3")["total"], 1);
    assert_eq!(fleet("?q=Invoicing&user=U")["total"], 2, "a name as people write it");
    assert_eq!(fleet("?q=your+key+is+on")["total"], 1, "what the page says of it");
    assert_eq!(fleet("?user=&service=&state=&q=")["total"], 11, "nothing is asked for");
    assert_eq!(all["last_pass"]["exit"], 0);
    let days: u64 =
        all["expiries"].as_array().unwrap().iter().map(|d| d["tokens"].as_u64().unwrap()).sum();
    assert_eq!(days, 10);
    door.get("eva", &format!("{API}/fleet?state=nonsense")).problem(400);
    let plan = door.get("eva", &format!("{API}/plan")).expect(200).json();
    assert_eq!(plan["plan"]["version"], 1);
}

#[test]
fn a_service_that_is_down_is_said_to_be_and_its_card_says_when_it_is_tried_again() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let health = || door.get("a", &format!("{API}/health/crm")).expect(200).json();
    wait_until("a pass", || scene.has_passed());
    assert_eq!(health()["status"], "unknown", "nobody has called it");
    // So slow that all are asked for in one pass.
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Delay { millis: 1000 });
    scene.faults(Kind::Crm).always(On::Exchange, Fault::ServerError);
    for user in ["a", "b", "c", "d", "e", "f"] {
        door.post(user, "/connect", &json!({ "service_id": "crm" })).expect(202);
    }
    let state = |user: &str| door.service(user, "crm")["state"].clone();
    wait_until("the trouble", || state("a") == "service_down");
    assert!(door.service("a", "crm")["retry_at"].is_string());
    wait_until("the health", || health()["status"] == "down");
    door.get("a", &format!("{API}/health/nothing")).problem(404);
    for bad in [format!("{API}/health/%ff"), format!("{PAGE}/icons/%ff"), format!("{PAGE}/as/%ff")]
    {
        door.get("a", &bad).problem(400);
    }
}

#[test]
fn a_state_that_cannot_be_read_is_never_shown_as_an_empty_one() {
    let scene = Scene::new();
    let door = Door::open_with(&scene, &[], "");
    let answer = door.get("john", API).expect(503);
    assert!(answer.header("retry-after").is_some());
    fs::write(scene.path("people.yaml"), "nothing that is any good").unwrap();
    let page = door.get("john", &format!("{PAGE}/")).expect(503);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("retry-after").is_some() && page.body.contains("Not now"), "{}", page.body);
    scene.people("people: {}\nrules:\n  - { domain: your-domain.com }\n");
    // The edit is one of a file, and stands.
    let done = door.post("john", "/connect", &json!({ "service_id": "crm" })).expect(202).json();
    assert_eq!((&done["ok"], &done["state"]), (&json!(true), &Value::Null));
    scene.pass(0);
    assert_eq!(door.service("john", "crm")["state"], "connected");
}

#[test]
fn a_damaged_row_of_one_person_is_nobody_elses_trouble() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.connect("eva", Kind::Crm);
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let damage = "UPDATE installed SET env = 'no digest' WHERE user = 'eva'";
    scene.database().execute(damage, []).unwrap();
    // Many at once, so that they are read about together.
    let look = |user: &str, status: u16| {
        (0..40).for_each(|_| drop(door.get(user, API).expect(status)));
    };
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| look("john", 200));
            threads.spawn(|| look("eva", 503));
        }
    });
}

#[test]
fn the_portal_hands_out_the_laptops_script_as_the_command_prints_it() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let script = door.ask("GET", &format!("{PAGE}/sync_service_env.sh"), &[], "").expect(200);
    let kept = "attachment; filename=\"sync_service_env.sh\"";
    assert_eq!(script.header("content-disposition"), Some(kept));
    assert_eq!(script.body, scene.run(&["laptop-script"]).expect(0).stdout);
}

#[test]
fn no_key_and_no_secret_is_in_any_page_or_answer() {
    let scene = Scene::new();
    let icon = concat!(env!("CARGO_MANIFEST_DIR"), "/registry/crm.svg");
    std::fs::copy(icon, scene.path("registry/crm.svg")).unwrap();
    let door = Door::open(&scene);
    let mut seen = String::new();
    for kind in ["crm", "invoicing", "purchase_orders"] {
        let body = json!({ "service_id": kind });
        seen += &door.post("john", "/connect?wait=20", &body).expect(200).body;
        seen += &door.post("john", "/rotate?wait=20", &body).expect(200).body;
    }
    for path in ["", "/health/crm", "/fleet", "/plan", "/openapi.json"] {
        seen += &door.get("eva", &format!("{API}{path}")).expect(200).body;
    }
    seen += &door.get("john", API).expect(200).body;
    seen += &door.events("john").next().unwrap().to_string();
    for path in ["/", "/fleet", "/card.js", "/page.js", "/page.css", "/icons/crm.svg"] {
        seen += &door.get("eva", &format!("{PAGE}{path}")).expect(200).body;
    }
    seen += &door.said();
    let secrets = scene.secrets();
    assert!(secrets.len() >= 7, "three keys, three shared secrets, the sealing key");
    for secret in secrets {
        // Not even this message shows it.
        assert!(!seen.contains(&secret), "a secret is in what the portal said");
    }
}
