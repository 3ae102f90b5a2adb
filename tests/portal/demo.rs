//! The demo's portal: whoever sits at this machine is whom they choose to be, and nowhere else.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::door::{API, Answer, Door, PAGE};
use crate::scene::Scene;

#[test]
fn in_the_demo_one_chooses_whom_to_be_and_connects_them() {
    let scene = Scene::new();
    let mut demo = scene.start_with(&["demo"], |command| {
        command.stdin(Stdio::null());
    });
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let place = lines.find_map(|line| {
        Some(line.split_once("http://127.0.0.1:")?.1.to_owned())
            .filter(|place| place.ends_with(&format!("{PAGE}/")))
    });
    let port: u16 = place.expect("a portal").split('/').next().unwrap().parse().unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let door = Door::at(port, demo);
    let page = |cookie: &str| door.ask("GET", &format!("{PAGE}/"), &[("Cookie", cookie)], "");
    let chooser = page("a=b").expect(200).body;
    for person in ["john", "petr", "eva"] {
        assert!(chooser.contains(&format!("{PAGE}/as/{person}")), "{chooser}");
    }
    door.ask("GET", API, &[("Cookie", "a=b")], "").problem(401);
    door.ask("GET", &format!("{PAGE}/as/somebody"), &[], "").problem(404);
    let chosen = door.ask("GET", &format!("{PAGE}/as/eva"), &[], "").expect(303);
    let cookie = cookie_of(&chosen);
    assert!(page(&cookie).expect(200).body.contains("eva@your-domain.com"));
    let headers = [
        ("Cookie", &*cookie),
        ("Content-Type", "application/json"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let body = r#"{ "service_id": "invoicing" }"#;
    door.ask("POST", &format!("{API}/connect?wait=20"), &headers, body).expect(200);
    // Another page, which the browser was led to, cannot do so in eva's name.
    let headers = [("Cookie", &*cookie), ("Content-Type", "application/json")];
    door.ask("POST", &format!("{API}/disconnect"), &headers, body).problem(403);
    door.ask("GET", &format!("{API}/fleet"), &[("Cookie", &cookie)], "").expect(200);
    assert_eq!(door.close(), 0);
}

#[test]
fn the_demos_cookie_is_nothing_anywhere_else() {
    let scene = Scene::new();
    scene.pass(0);
    let door = Door::open_with(&scene, &[], "");
    let cookie = [("Cookie", "sc_demo=john@your-domain.com")];
    door.ask("GET", API, &cookie, "").problem(401);
    door.ask("GET", &format!("{PAGE}/as/john"), &[], "").problem(404);
    door.ask("GET", &format!("{PAGE}/as/"), &[], "").problem(404);
}

fn cookie_of(answer: &Answer) -> String {
    let set = answer.header("set-cookie").expect("a cookie");
    assert!(set.contains("httponly") && set.contains("samesite=strict"), "{set}");
    set.split(';').next().unwrap().to_owned()
}
