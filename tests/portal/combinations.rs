//! Every combination of who asks, from where, with what: no wrong edit is made, no right one refused.

use std::fs;

use serde_json::json;
use service_connector::model::desired::Desired;

use crate::door::{API, Door};
use crate::scene::Scene;

/// What a request says, and whether that alone is right.
type Part = (Vec<(&'static str, String)>, bool);

#[test]
fn over_tcp_an_edit_needs_the_name_a_proof_our_own_page_and_json() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let host = door.host();
    let hosts = [
        (vec![host.clone()], 0),
        (vec!["evil.example.com".into()], 421),
        (vec![], 400),
        (vec![host.clone(), host.clone()], 400),
    ];
    let origins: [Part; 6] = [
        (vec![], true),
        (vec![("Origin", format!("http://{host}"))], true),
        (vec![("Origin", format!("https://{host}"))], true),
        (vec![("Origin", "https://evil.example.com".into())], false),
        (vec![("Origin", "null".into())], false),
        (
            vec![
                ("Origin", format!("http://{host}")),
                ("Origin", "https://evil.example.com".into()),
            ],
            false,
        ),
    ];
    let sites: [Part; 5] = [
        (vec![], true),
        (vec![("Sec-Fetch-Site", "same-origin".into())], true),
        (vec![("Sec-Fetch-Site", "same-site".into())], false),
        (vec![("Sec-Fetch-Site", "cross-site".into())], false),
        (vec![("Sec-Fetch-Site", "none".into())], false),
    ];
    let types = [
        ("application/json", true),
        ("application/json; charset=utf-8", true),
        ("text/plain", false),
        ("application/x-www-form-urlencoded", false),
        ("", false),
    ];
    let proofs = ["nothing", "bearer", "cookie", "both", "two people", "garbage"];
    let (mut number, mut right) = (0, 0);
    for (hosts, of_host) in &hosts {
        for proof in proofs {
            for (origin, origin_is_right) in &origins {
                for (site, site_is_right) in &sites {
                    for (kind, kind_is_right) in types {
                        number += 1;
                        let user = format!("u{number}");
                        let is_proven = ["bearer", "cookie", "both"].contains(&proof);
                        // Of two proofs the one that a browser sends by itself counts.
                        let is_ambient = proof != "bearer";
                        let is_told = !origin.is_empty() || !site.is_empty();
                        let is_meant = *origin_is_right && *site_is_right;
                        let expected = match () {
                            () if *of_host > 0 => *of_host,
                            () if !is_proven => 401,
                            () if !is_meant || (is_ambient && !is_told) => 403,
                            () if !kind_is_right => 415,
                            () => 202,
                        };
                        right += usize::from(expected == 202);
                        let mut headers: Vec<(&str, String)> =
                            hosts.iter().map(|host| ("Host", host.clone())).collect();
                        headers.extend(proven(&door, proof, &user));
                        headers.extend(origin.iter().cloned());
                        headers.extend(site.iter().cloned());
                        if !kind.is_empty() {
                            headers.push(("Content-Type", kind.to_owned()));
                        }
                        let status = connect(&door, &headers);
                        assert_eq!(status, expected, "{proof} {headers:?}");
                        check(&scene, &user, expected == 202);
                    }
                }
            }
        }
    }
    assert!(number >= 3000 && right >= 30, "{number} combinations, {right} of them right");
}

fn proven(door: &Door, proof: &str, user: &str) -> Vec<(&'static str, String)> {
    let (bearer, cookie) = (
        ("Authorization", format!("Bearer {}", door.token(user))),
        ("Cookie", format!("a=b; portal={}", door.token(user))),
    );
    match proof {
        "bearer" => vec![bearer],
        "cookie" => vec![cookie],
        "both" => vec![bearer, cookie],
        "two people" => vec![bearer, ("Cookie", format!("portal={}", door.token("eva")))],
        "garbage" => vec![("Authorization", format!("Bearer {}x", door.token(user)))],
        _ => vec![("X-Remote-Email", format!("{user}@your-domain.com"))],
    }
}

fn connect(door: &Door, headers: &[(&str, String)]) -> u16 {
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, &**value)).collect();
    let body = json!({ "service_id": "crm" }).to_string();
    door.ask_bare("POST", &format!("{API}/connect"), &headers, &body).status
}

fn check(scene: &Scene, user: &str, is_connected: bool) {
    let text = fs::read_to_string(scene.path("desired.yaml")).unwrap();
    let desired = Desired::parse(&text).unwrap();
    let found = desired.users.keys().any(|id| id.as_str() == user);
    assert_eq!(found, is_connected, "{user}");
}

#[test]
fn over_the_socket_a_listed_proxys_header_is_believed_in_one_form_only() {
    let uid = nix::unistd::getuid().as_raw();
    let scene = Scene::new();
    scene.pass(0);
    for (peers, is_listed) in [(uid, true), (uid + 1, false)] {
        let config = format!("  header: {{ name: X-Remote-Email, peers: [{peers}] }}\n");
        let door = open_with_header(&scene, &config);
        let john = "john@your-domain.com".to_owned();
        let forms: [(Vec<(&str, String)>, bool); 9] = [
            (vec![("X-Remote-Email", john.clone())], true),
            (vec![("x-remote-email", john.to_uppercase())], true),
            (vec![], false),
            (vec![("X-Remote-Email", john.clone()), ("X-Remote-Email", john.clone())], false),
            (
                vec![
                    ("X-Remote-Email", john.clone()),
                    ("X_Remote_Email", "eva@your-domain.com".into()),
                ],
                false,
            ),
            (vec![("X_Remote_Email", john.clone())], false),
            (vec![("X-Remote-Email", format!("{john}, eva@your-domain.com"))], false),
            (vec![("X-Remote-Email", "john".into())], false),
            (vec![("X-Remote-Email", String::new())], false),
        ];
        for (form, is_right) in forms {
            let mut headers = vec![("Host", "portal.example.com".to_owned())];
            headers.extend(form.iter().cloned());
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, &**v)).collect();
            let status = door.ask_bare("GET", API, &headers, "").status;
            let expected = if is_listed && is_right { 200 } else { 401 };
            assert_eq!(status, expected, "{form:?}");
        }
    }
}

/// The usual configuration with another way to say who asks, over a socket.
fn open_with_header(scene: &Scene, header: &str) -> Door {
    let address = format!("unix:{}", scene.path("portal.sock").display());
    Door::open_as(scene, &["--listen", &address], &format!("version: 1\nidentity:\n{header}"))
}
