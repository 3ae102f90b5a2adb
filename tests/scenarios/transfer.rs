//! Moving over from another program's `connections.json`, and back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use service_connector::example_service::{Contract, Kind};

use serde_json::{Value, json};

use crate::scene::{Scene, wait_until};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

/// What the other program wrote down of a key that it asked for.
fn asked_by_the_other_program(scene: &Scene, kind: Kind, email: &str) -> Value {
    let answer = scene.exchange_as_another_program(kind, email);
    json!({
        "connected": true,
        "api_key": answer["api_key"],
        "token_id": answer["token_id"],
        "connected_at": "2026-10-01T12:00:00Z",
        "expires_at": answer["expires_at"],
    })
}

fn file(scene: &Scene, connections: &Value) -> PathBuf {
    let path = scene.path("connections.json");
    fs::write(&path, connections.to_string()).unwrap();
    path
}

fn import(scene: &Scene, connections: &Value, code: i32) -> crate::scene::Ran {
    let path = file(scene, connections);
    let ran = scene.run(&["state", "import", path.to_str().unwrap()]).expect(code);
    fs::remove_file(path).unwrap();
    ran
}

fn johns_and_evas(scene: &Scene) -> Value {
    json!({
        "john": {
            "crm": asked_by_the_other_program(scene, CRM, "john@your-domain.com"),
            "invoicing": asked_by_the_other_program(scene, INVOICING, "john@your-domain.com"),
        },
        "eva": {
            "crm": asked_by_the_other_program(scene, CRM, "eva@your-domain.com"),
            "invoicing": { "connected": false, "token_id": "tok_gone" },
        },
    })
}

fn v1() -> Scene {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    for kind in [CRM, INVOICING] {
        scene.entry(kind, "contract: v2", "contract: v1");
    }
    scene
}

#[test]
fn keys_of_another_program_are_taken_over_and_nothing_is_issued_or_revoked() {
    for scene in [v1(), Scene::new()] {
        let connections = johns_and_evas(&scene);
        let calls = [scene.calls(CRM), scene.calls(INVOICING)];
        import(&scene, &connections, 0).says("Imported 3 keys").says("1 entries are not connected");
        scene.run(&["plan"]).expect(2).says("0 to issue, 2 to install, 0 to revoke");
        scene.pass(0);
        scene.pass(0).says("Nothing to do");
        assert_eq!([scene.calls(CRM), scene.calls(INVOICING)], calls);
        let key = scene.working_key("john", CRM);
        assert_eq!(connections["john"]["crm"]["api_key"], key.as_str());
        scene.working_key("john", INVOICING);
        scene.working_key("eva", CRM);
        assert_eq!(scene.key("eva", INVOICING), None);
        let told = scene.run(&["events", "--json"]).expect(0).json();
        let kinds = told["events"].as_array().unwrap().iter().map(|event| &event["kind"]);
        assert_eq!(kinds.filter(|kind| *kind == "imported").count(), 3);
        // They are ours now.
        scene.disconnect("john", CRM);
        scene.pass(0);
        assert!(!scene.works(CRM, &key));
        assert_eq!(scene.live(INVOICING).len(), 1);
    }
}

#[test]
fn the_same_import_again_changes_nothing() {
    let scene = Scene::new();
    let connections = johns_and_evas(&scene);
    import(&scene, &connections, 0);
    scene.pass(0);
    let before = (scene.files(), scene.dump());
    import(&scene, &connections, 0).says("Imported 0 keys").says("3 were here already");
    assert!(before == (scene.files(), scene.dump()));
}

#[test]
fn one_wrong_entry_and_nobody_is_imported() {
    let scene = Scene::new();
    let good = johns_and_evas(&scene);
    scene.connect("petr", CRM);
    scene.pass(0);
    let petrs = scene.issued(CRM).last().unwrap().token_id.clone();
    let johns_crm = &good["john"]["crm"];
    let with = |field: &str, value: Value| {
        let mut entry = johns_crm.clone();
        entry[field] = value;
        json!({ "eva": good["eva"], "john": { "crm": entry } })
    };
    let key = johns_crm["api_key"].as_str().unwrap().to_owned();
    let cases = [
        (
            json!({ "eva": good["eva"], "hans@elsewhere": { "crm": johns_crm } }),
            "hans@elsewhere, crm",
        ),
        (
            json!({ "eva": good["eva"], "john": { "wiki": johns_crm } }),
            "john, wiki: the service is not in the registry",
        ),
        (json!({ "eva": good["eva"], "john": { "crm": key } }), "john, crm: is not an object"),
        (json!({ "eva": good["eva"], "john": [johns_crm] }), "john: is not an object of services"),
        (json!([good]), "it is not an object of users"),
        (
            with("api_key", json!(format!("{key}\nX=1"))),
            "john, crm: its api_key cannot stand in an env file",
        ),
        (
            with("api_key", json!(format!("$({key})"))),
            "john, crm: its api_key cannot stand in an env file",
        ),
        (with("api_key", Value::Null), "john, crm: api_key must be a text"),
        (with("token_id", json!("")), "john, crm: its token_id"),
        (
            with("token_id", good["eva"]["crm"]["token_id"].clone()),
            "john, crm: token_id is that of another entry",
        ),
        (with("token_id", json!(petrs)), "john, crm: token_id is that of another connection"),
        (with("connected", json!("yes")), "john, crm: connected must be true or false"),
        (with("connected_at", json!("yesterday")), "john, crm: connected_at is not a time"),
        (
            with("connected_at", json!("2126-10-01T12:00:00Z")),
            "john, crm: connected_at is in the future",
        ),
        (
            with("expires_at", json!("2026-01-01T00:00:00Z")),
            "over, or within 5 minutes; take the entry out",
        ),
        (with("expires_at", json!("9999-01-01T00:00:00Z")), "more than a year"),
        (with("scopes", json!("all")), "john, crm: `scopes` is not a field"),
    ];
    let before = (scene.files(), scene.dump());
    for (connections, says) in &cases {
        import(&scene, connections, 1).says("nothing was imported").says(says).does_not_say(&key);
        assert!(before == (scene.files(), scene.dump()), "{says}");
    }
}

#[test]
fn who_may_not_have_a_key_is_listed_and_nobody_is_imported() {
    let scene = Scene::new();
    let connections = johns_and_evas(&scene);
    scene.people("people: { eva: { email: eva@your-domain.com } }\n");
    import(&scene, &connections, 1)
        .says("john, crm: john is not in people.yaml")
        .says("john, invoicing");
    scene.people("rules: [{ domain: your-domain.com }]\npeople: {}\n");
    scene.run(&["offboard", "eva"]).expect(0);
    import(&scene, &connections, 1).says("eva, crm: the user is disabled");
    scene.desired("users: {}\n");
    scene.entry(CRM, "contract: v2", "contract: v2\nretired: true");
    import(&scene, &connections, 1).says("john, crm: the service is retired");
    scene.reset_entry(CRM);
    scene.entry(CRM, "emails: [\"*@your-domain.com\"]", "emails: [\"eva@your-domain.com\"]");
    import(&scene, &connections, 1)
        .says("john, crm: john@your-domain.com is not covered by `allow`");
    scene.reset_entry(CRM);
    import(&scene, &connections, 0);
}

#[test]
fn what_is_no_json_is_said_with_its_place_and_without_its_contents() {
    let scene = Scene::new();
    for (text, says) in [
        ("", "this is not JSON"),
        ("{\"john\": {\"crm\": {\"api_key\": \"only-here", "line 1, column"),
        ("{\"john\": {},\n\"john\": {\"crm\": \"only-here\"}}", "a name stands twice"),
        ("\"only-here\"", "it is not an object of users"),
    ] {
        let path = scene.path("connections.json");
        fs::write(&path, text).unwrap();
        let ran = scene.run(&["state", "import", path.to_str().unwrap()]).expect(1);
        ran.says(says).does_not_say("only-here");
    }
    scene.run(&["state", "import", "/nowhere.json"]).expect(1).says("cannot be read");
}

#[test]
fn an_import_that_is_killed_half_way_is_finished_before_anything_is_revoked() {
    let scene = Scene::new();
    let connections = johns_and_evas(&scene);
    scene.connect("petr", CRM); // so that there is a lock
    scene.pass(0);
    let calls = [scene.calls(CRM), scene.calls(INVOICING)];
    let lock = fs::File::open(scene.path(".desired.yaml.lock")).unwrap();
    lock.lock().unwrap();
    let path = file(&scene, &connections);
    let mut import = scene.start(&["state", "import", path.to_str().unwrap()]);
    wait_until("the keys are on disk", || scene.phases("john", CRM) == ["active"]);
    import.kill().unwrap();
    import.wait().unwrap();
    fs::remove_file(path).unwrap();
    // Who only looks sees what will be; a pass that cannot finish the import does nothing.
    scene.run(&["plan"]).expect(2).says("0 to issue, 2 to install, 0 to revoke");
    scene.pass(1).says("an import is not finished").says("locked by another writer");
    drop(lock);
    scene.pass(0);
    assert_eq!([scene.calls(CRM), scene.calls(INVOICING)], calls);
    scene.working_key("john", INVOICING);
    scene.working_key("eva", CRM);
    scene.pass(0).says("Nothing to do");
    assert!(fs::read_to_string(scene.path("desired.yaml")).unwrap().contains("eva"));
}

#[test]
fn an_export_has_fingerprints_and_keys_only_into_a_file_of_its_owners() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    let shown = scene.run(&["state", "export"]).expect(0);
    assert_eq!(shown.json()["john"]["crm"]["connected"], true);
    assert_eq!(shown.json()["john"]["crm"]["fingerprint"].as_str().unwrap().len(), 8);
    scene.run(&["state", "export", "--with-keys"]).expect(1).says("--out");
    let out = scene.path("out.json");
    let args = ["state", "export", "--with-keys", "--out", out.to_str().unwrap()];
    scene.run(&args).expect(0).says("1 connections, with their keys");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o7777, 0o600);
    let exported: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(exported["john"]["crm"]["api_key"], key.as_str());
    scene.run(&args).expect(1).says("cannot be made"); // never over another file
    scene.run(&["events"]).expect(0).says("exported").says("1 keys, into");
    scene.run(&["events", "verify"]).expect(0);

    // Into a new state: the key is the same.
    for part in ["state", "homes", "history"] {
        fs::remove_dir_all(scene.path(part)).ok();
    }
    scene.desired("users: {}\n");
    import(&scene, &exported, 0).says("Imported 1 keys");
    scene.pass(0);
    assert_eq!(scene.working_key("john", CRM), key);
    assert_eq!(scene.calls(CRM), (1, 0));
    fs::remove_file(out).unwrap();
}
