//! What passes leave to be shown to who may only look: it follows the state, and no secret is in it.

#[path = "support/scene.rs"]
mod scene;
#[path = "support/service.rs"]
mod service;

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use service_connector::example_service::{Contract, Fault, Kind, On};
use service_connector::store::{Shown, Store};

use scene::{DAY, KINDS, Scene};

const CRM: Kind = Kind::Crm;
const ALL: [Shown; 4] = [Shown::Fleet, Shown::Health, Shown::Plan, Shown::PlanOfUsers];

/// The text of a document, read by who may only read.
fn text(scene: &Scene, what: Shown) -> Option<String> {
    let store = Store::open_to_read(&scene.path("state")).unwrap();
    store.shown(what).unwrap().map(|(_, text)| text)
}

fn shown(scene: &Scene, what: Shown) -> Value {
    serde_json::from_str(&text(scene, what).expect("a pass left it")).unwrap()
}

fn rows(scene: &Scene, table: &str) -> u32 {
    let sql = format!("SELECT count(*) FROM {table}");
    scene.database().query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn crm(scene: &Scene) -> Value {
    shown(scene, Shown::Fleet)["services"]["crm"].clone()
}

#[test]
fn the_figures_are_those_of_the_rows() {
    let scene = Scene::new();
    for user in ["eva", "john", "petr"] {
        scene.connect(user, CRM);
    }
    scene.connect("john", Kind::Invoicing);
    scene.pass(0);
    // A revoke that is owed, and a key in grace.
    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    scene.disconnect("eva", CRM);
    scene.rotate("john", CRM);
    scene.pass(4);
    let fleet = shown(&scene, Shown::Fleet);
    let database = scene.database();
    let sql = "SELECT service, phase, count(*) FROM token \
               WHERE phase IN ('issuing', 'active', 'retiring', 'revoking') GROUP BY 1, 2";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?))
    });
    let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
    assert!(rows.len() >= 3, "{rows:?}");
    for (service, phase, count) in &rows {
        assert_eq!(fleet["services"][service]["tokens"][phase], *count, "{service} {phase}");
    }
    let told = fleet["services"].as_object().unwrap().values();
    let told: usize = told.map(|figures| figures["tokens"].as_object().unwrap().len()).sum();
    assert_eq!(told, rows.len(), "nothing that is not there: {fleet}");
}

#[test]
fn a_debt_has_an_age_and_a_backoff_until_it_is_paid() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let expires = scene.issued(CRM)[0].expires_at.to_string();
    assert_eq!(
        crm(&scene)["next_expiry"],
        expires[..].parse::<jiff::Timestamp>().unwrap().to_string()
    );
    assert_eq!(crm(&scene)["oldest_debt"], Value::Null);
    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    scene.disconnect("john", CRM);
    scene.pass(4);
    let since = crm(&scene)["oldest_debt"].clone();
    assert!(since.is_string(), "{}", crm(&scene));
    assert_eq!(crm(&scene)["backoffs"], 1);
    assert_eq!(crm(&scene)["next_expiry"], Value::Null, "no key of it works for anybody");
    // It gets older, not younger, when it is tried again.
    scene.retry(4);
    assert_eq!(crm(&scene)["oldest_debt"], since);
    scene.faults(CRM).clear();
    scene.retry(0);
    let figures = crm(&scene);
    assert!(figures.is_null() || figures["oldest_debt"].is_null(), "{figures}");
}

#[test]
fn what_the_guard_holds_is_counted_until_it_holds_nothing() {
    let scene = Scene::new();
    let users = ["eva", "john", "petr"];
    for (user, kind) in users.iter().flat_map(|user| KINDS.map(|kind| (user, kind))) {
        scene.connect(user, kind);
    }
    scene.pass(0);
    assert_eq!(shown(&scene, Shown::Fleet)["held"], 0);
    for (user, kind) in users[..2].iter().flat_map(|user| KINDS.map(|kind| (user, kind))) {
        scene.disconnect(user, kind);
    }
    scene.pass(3);
    assert_eq!(shown(&scene, Shown::Fleet)["held"], 6);
    let plan = shown(&scene, Shown::Plan);
    assert_eq!(plan["held"].as_array().unwrap().len(), 6);
    assert_eq!(plan["held_digest"], scene.run(&["plan", "--json"]).expect(3).json()["held_digest"]);
    // A pass of one user's did not look at it.
    scene.run(&["connect", "mia", "crm", "--now"]).expect(0);
    assert_eq!(shown(&scene, Shown::Fleet)["held"], 6);
    for (user, kind) in users[..2].iter().flat_map(|user| KINDS.map(|kind| (user, kind))) {
        scene.connect(user, kind);
    }
    scene.pass(0);
    assert_eq!(shown(&scene, Shown::Fleet)["held"], 0);
}

#[test]
fn a_key_of_contract_v1_that_may_exist_counts_as_an_orphan_until_it_ends_by_itself() {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    scene.entry(CRM, "contract: v2", "contract: v1");
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.connect("john", CRM);
    scene.pass(4);
    scene.retry(0);
    assert_eq!(crm(&scene)["possible_orphans"], 1);
    scene.let_pass(91 * DAY);
    scene.run(&["reconcile", "--retry-now"]);
    assert_eq!(crm(&scene)["possible_orphans"], 0);
}

#[test]
fn a_service_in_trouble_is_shown_with_its_kind_and_its_last_call() {
    let scene = Scene::new();
    scene.faults(CRM).always(On::Exchange, Fault::WrongSecret);
    scene.connect("john", CRM);
    scene.connect("eva", Kind::Invoicing);
    scene.pass(4);
    let health = shown(&scene, Shown::Health);
    assert_eq!(health["services"]["crm"]["trouble"]["kind"], "secret_refused");
    assert_eq!(health["services"]["crm"]["last_call"]["result"], "secret_refused");
    assert_eq!(health["services"]["invoicing"]["trouble"], Value::Null);
    assert_eq!(health["services"]["invoicing"]["last_call"]["result"], "ok");
    scene.faults(CRM).clear();
    scene.retry(0);
    assert_eq!(shown(&scene, Shown::Health)["services"]["crm"]["trouble"], Value::Null);
}

#[test]
fn a_plan_of_a_fleet_is_shown_in_part_and_counted_as_a_whole() {
    const USERS: usize = 250;
    let scene = Scene::new();
    let mut users = "users:\n".to_owned();
    for user in 0..USERS {
        writeln!(users, "  u{user}: {{ connections: {{ crm: {{}} }} }}").unwrap();
    }
    scene.desired(&users);
    // It need not get all of them: what is shown is what the pass set out to do.
    let ran = scene.run(&["reconcile"]);
    assert!(ran.code == 0 || ran.code == 4, "{ran:?}");
    let plan = shown(&scene, Shown::Plan);
    let actions = plan["actions"].as_array().unwrap().len();
    assert!(actions <= 200, "{actions} actions");
    assert_eq!(plan["summary"]["issue"], USERS);
}

#[test]
fn every_document_has_a_version_and_none_has_a_secret() {
    let scene = Scene::new();
    let mut keys = Vec::new();
    for user in ["eva", "john"] {
        for kind in KINDS {
            scene.connect(user, kind);
        }
    }
    scene.pass(0);
    for user in ["eva", "john"] {
        keys.extend(KINDS.map(|kind| scene.working_key(user, kind)));
    }
    let mut texts = Vec::new();
    let mut look = |scene: &Scene| texts.extend(ALL.iter().filter_map(|what| text(scene, *what)));
    look(&scene);
    // Plans in which keys stay, get another, and go.
    scene.rotate("john", CRM);
    scene.disconnect("eva", Kind::Invoicing);
    scene.pass(0);
    keys.push(scene.working_key("john", CRM));
    look(&scene);
    scene.faults(CRM).always(On::Exchange, Fault::WrongSecret);
    scene.run(&["connect", "mia", "crm", "--now"]);
    look(&scene);
    keys.push(fs::read_to_string(scene.path("state/sealing.key")).unwrap().trim().to_owned());
    keys.extend(KINDS.map(|kind| scene.service(kind).secret.clone()));
    assert!(texts.len() >= 10, "each pass left some: {}", texts.len());
    for text in texts {
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["version"], 1);
        // Not even this message shows it.
        assert!(!keys.iter().any(|key| text.contains(key.as_str())), "a secret is shown");
    }
}

#[test]
fn a_pass_that_is_killed_leaves_what_the_one_before_it_left() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let before: Vec<_> = ALL.iter().map(|what| text(&scene, *what)).collect();
    scene.faults(CRM).always(On::Exchange, Fault::Hang);
    scene.connect("eva", CRM);
    let mut child = scene.start(&["reconcile"]);
    scene::wait_until("the call", || scene.calls(CRM).0 == 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let after: Vec<_> = ALL.iter().map(|what| text(&scene, *what)).collect();
    assert!(after == before, "what was shown has changed");
}

/// What a laptop's sync leaves in the home.
fn laptop_says(scene: &Scene, account: &str, laptop: &str, text: &str) {
    let dir = scene.path(&format!("homes/{account}/.service_env_seen"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(laptop), text).unwrap();
}

fn laptops(scene: &Scene, user: &str) -> Vec<(String, u64)> {
    let store = Store::open_to_read(&scene.path("state")).unwrap();
    let laptops = store.of_user(&user.parse().unwrap()).unwrap().laptops;
    laptops.iter().map(|seen| (seen.laptop.to_string(), seen.generation)).collect()
}

#[test]
fn which_laptop_holds_what_is_known_to_who_may_not_look_at_homes() {
    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.connect("eva", CRM);
    scene.pass(0);
    assert!(laptops(&scene, "john").is_empty());
    laptop_says(&scene, "john", ONE, "generation 1\n");
    laptop_says(&scene, "john", OTHER, "generation 0\n");
    laptop_says(&scene, "john", "not-a-laptop", "generation 9\n");
    let status = scene.run(&["status"]).expect(0);
    status.says(&format!("laptop {ONE} of john holds generation 1, the newest"));
    status.says(&format!("laptop {OTHER} of john holds generation 0; a newer one is in the home"));
    scene
        .run(&["explain", "john", "crm"])
        .expect(0)
        .says(&format!("{ONE} of john holds generation 1"));
    assert!(laptops(&scene, "john").is_empty(), "who only looks writes nothing down");
    scene.pass(0);
    let known = [(ONE.to_owned(), 1), (OTHER.to_owned(), 0)];
    assert_eq!(laptops(&scene, "john"), known);
    assert!(laptops(&scene, "eva").is_empty());
    let status = scene.status();
    let told = status["laptops"].as_array().unwrap();
    assert_eq!(
        (told.len(), &told[0]["current"], &told[1]["current"]),
        (2, &true.into(), &false.into())
    );
    // The same once more, a little later, is not written down again.
    let before = scene.dump();
    laptop_says(&scene, "john", ONE, "generation 1\n");
    scene.pass(0);
    assert_eq!(scene.dump(), before);
    laptop_says(&scene, "john", OTHER, "generation 1\n");
    fs::remove_file(scene.path(&format!("homes/john/.service_env_seen/{ONE}"))).unwrap();
    scene.pass(0);
    assert_eq!(laptops(&scene, "john"), [(OTHER.to_owned(), 1)]);
}

#[test]
fn a_key_that_should_have_been_renewed_long_ago_counts_however_long_it_lives() {
    let scene = Scene::new();
    let wish = |wish: &str| {
        let users = format!("version: 1\nusers:\n  john: {{ connections: {{ crm: {wish} }} }}\n");
        scene.desired_text(&users);
        scene.pass(0);
        crm(&scene)["renewals_late"].clone()
    };
    assert_eq!(wish("{ ttl_days: 1 }"), 0, "less than a day is left, as it always is");
    scene.let_pass(DAY * 23 / 24);
    assert_eq!(wish("{ ttl_days: 1, paused: true }"), 1);
    assert_eq!(wish("{ ttl_days: 1 }"), 0, "it was renewed");
}

#[test]
fn the_last_call_is_remembered_by_passes_that_make_none() {
    let scene = Scene::new();
    scene.connect("eva", Kind::Invoicing);
    scene.pass(0);
    let call = |kind: &str| shown(&scene, Shown::Health)["services"][kind]["last_call"].clone();
    let first = call("invoicing");
    assert_eq!(first["result"], "ok");
    scene.connect("john", CRM);
    scene.run(&["reconcile", "--user", "john"]).expect(0);
    assert_eq!(call("invoicing"), first);
    assert_eq!(call("crm")["result"], "ok");
    assert_eq!(call("purchase-orders"), Value::Null, "nobody has called it");
}

#[test]
fn what_failed_is_forgotten_once_nobody_wants_it_any_more() {
    let scene = Scene::new();
    scene.faults(CRM).always(On::Exchange, Fault::Status { code: 422 });
    scene.connect("john", CRM);
    scene.pass(4);
    assert_eq!(rows(&scene, "backoff"), 1);
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert_eq!(rows(&scene, "backoff"), 0, "what is owed of it is paid");
    scene.connect("john", CRM);
    scene.pass(4);
    let entry = "version: 1\nusers:\n  john: { connections: { crm: { ttl_days: 30 } } }\n";
    scene.desired_text(entry);
    scene.faults(CRM).clear();
    scene.pass(0);
    assert_eq!(rows(&scene, "backoff"), 0, "it failed with another wish, and succeeds with this");
}

#[test]
fn the_trouble_of_a_service_that_was_retired_is_forgotten_once_nothing_is_owed_to_it() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.faults(CRM).always(On::Revoke, Fault::WrongSecret);
    scene.entry(CRM, "contract: v2", "contract: v2\nretired: true");
    scene.disconnect("john", CRM);
    scene.pass(4);
    let health = || shown(&scene, Shown::Health)["services"].clone();
    assert_eq!(health()["crm"]["trouble"]["kind"], "secret_refused", "a key is owed to it");
    // Somebody ends the key there by hand, and says so.
    let json = scene.run(&["explain", "john", "crm", "--json"]).expect(0).json();
    let op = json["tokens"][0]["op"].as_str().unwrap();
    scene.run(&["forget", "john", "crm", op, "--reason", "ended there by hand"]).expect(0);
    scene.pass(0);
    assert_eq!(health()["crm"], Value::Null);
    assert_eq!(rows(&scene, "trouble"), 0);
}
