//! Clicks of many at once, while the portal is killed again and again: what was acknowledged stands.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use service_connector::model::desired::Desired;
use service_connector::model::digest::Digest;

use crate::door::Door;
use crate::scene::Scene;

const CLICKS: usize = 10_000;
const CLIENTS: usize = 64;
const KILLS: usize = 20;
const USERS: usize = 1_000;

/// What a user's connection may be: as it was last acknowledged, or as was asked for since.
type May = BTreeMap<String, Vec<bool>>;

#[test]
fn no_acknowledged_click_is_lost_however_often_the_portal_is_killed() {
    let scene = Scene::new();
    scene.pass(0);
    let users: Vec<String> =
        (0..USERS).map(|number| format!("  u{number}:\n    connections: {{}}\n")).collect();
    scene.desired(&format!("# Kept as it is.\nusers:\n{}", users.concat()));
    let door = RwLock::new(Door::open_with(&scene, &[], ""));
    let (clicked, acknowledged) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let may = Mutex::new(May::new());
    thread::scope(|threads| {
        for client in 0..CLIENTS {
            let (door, clicked, acknowledged, may) = (&door, &clicked, &acknowledged, &may);
            threads.spawn(move || {
                // Each has users of its own, so that it knows what they were last.
                for turn in 0.. {
                    while !door.read().unwrap().is_open() {
                        thread::sleep(Duration::from_millis(5));
                    }
                    if clicked.fetch_add(1, Ordering::Relaxed) >= CLICKS {
                        break;
                    }
                    let user =
                        format!("u{}", (client + turn * CLIENTS) % (USERS / CLIENTS * CLIENTS));
                    let connect = (turn / (USERS / CLIENTS)).is_multiple_of(2);
                    may.lock().unwrap().entry(user.clone()).or_insert(vec![false]).push(connect);
                    if click(&door.read().unwrap(), &user, connect) {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        may.lock().unwrap().insert(user, vec![connect]);
                    }
                }
            });
        }
        for kill in 1..=KILLS {
            while clicked.load(Ordering::Relaxed) < CLICKS / (KILLS + 1) * kill {
                thread::sleep(Duration::from_millis(2));
            }
            door.read().unwrap().kill();
            let new = Door::open_with(&scene, &[], "");
            *door.write().unwrap() = new;
        }
    });
    let acknowledged = acknowledged.into_inner();
    assert!(acknowledged > CLICKS / 2, "{acknowledged} of {CLICKS} were acknowledged");
    let text = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    assert!(text.starts_with("version: 1\n# Kept as it is.\nusers:\n  u0:\n"), "other bytes stay");
    let desired = Desired::parse(&text).unwrap();
    assert_eq!(desired.users.len(), USERS);
    for (user, may) in may.into_inner().unwrap() {
        let is = !desired.users[user.as_str()].connections.is_empty();
        assert!(may.contains(&is), "{user} is {is}, and may be {may:?}");
    }
    replay(&scene, &desired, Digest::of(&text));
}

/// True: acknowledged. Whatever else came, nobody knows.
fn click(door: &Door, user: &str, connect: bool) -> bool {
    let bearer = format!("Bearer {}", door.token(user));
    let host = door.host();
    let headers =
        [("Host", &*host), ("Authorization", &*bearer), ("Content-Type", "application/json")];
    let path = if connect { "connect" } else { "disconnect" };
    let body = json!({ "service_id": "crm" }).to_string();
    let answer = door.try_ask("POST", &format!("/api/service-connectors/{path}"), &headers, &body);
    answer.is_some_and(|answer| match answer.status {
        202 => true,
        // Killed between the head and the rest.
        status => panic!("{status}: {}", answer.body),
    })
}

/// The history is a serial order of edits that ends in the file, as far back as it goes.
fn replay(scene: &Scene, desired: &Desired, revision: Digest) {
    let log = fs::read_to_string(scene.path("history/log.jsonl")).unwrap();
    let entries: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = entries.iter().rposition(|entry| entry["revision"] == revision.to_string()).unwrap();
    let mut connected: BTreeMap<String, bool> = BTreeMap::new();
    let (mut before, mut revision) = (connected.clone(), &entries[0]["revision"]);
    for entry in &entries[..=last] {
        if entry["what"] == "an edit before this failed" {
            // It was written down, and the portal was killed before the file was replaced.
            connected.clone_from(&before);
        }
        if entry["revision"] != *revision {
            (before, revision) = (connected.clone(), &entry["revision"]);
        }
        let what: Vec<&str> = entry["what"].as_str().unwrap().split(' ').collect();
        if let ["connect" | "disconnect", user, _] = what[..] {
            let was = connected.insert(user.to_owned(), what[0] == "connect");
            assert_ne!(was, Some(what[0] == "connect"), "an edit that changed nothing: {entry}");
        }
    }
    for (user, is) in connected {
        let found = !desired.users[user.as_str()].connections.is_empty();
        assert_eq!(found, is, "{user} by the history");
    }
}
