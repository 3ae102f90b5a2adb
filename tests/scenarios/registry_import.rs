//! Registry entries from another program's `service_connectors.json`.

use std::fs;

use serde_json::{Value, json};
use service_connector::example_service::{Contract, Kind};

use crate::scene::{Ran, Scene};

const CRM: Kind = Kind::Crm;

/// The list of the plan that came before, with the addresses of the scene's services.
fn list(scene: &Scene) -> Value {
    let connector = |kind: Kind, variable: &str| {
        let base = scene.service(kind).running.base_url();
        json!({
            "id": kind.id(),
            "name": kind.name(),
            "description": format!("{}: \"look\" at it", kind.name()),
            "token_exchange_url": format!("{base}/api/internal/token-exchange"),
            "token_revoke_url": format!("{base}/api/internal/token-revoke"),
            "env_var_name": variable,
            "skill_file": format!("sc_{}.md", kind.id()),
            "enabled": true,
        })
    };
    json!([
        connector(Kind::PurchaseOrders, "PO_API_KEY"),
        connector(Kind::Invoicing, "INVOICING_API_KEY"),
        connector(CRM, "CRM_API_KEY"),
    ])
}

fn without_registry() -> Scene {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    for file in fs::read_dir(scene.path("registry")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            fs::remove_file(path).unwrap();
        }
    }
    scene
}

fn import(scene: &Scene, list: &Value, code: i32) -> Ran {
    let path = scene.path("service_connectors.json");
    fs::write(&path, list.to_string()).unwrap();
    let args = ["registry", "import", path.to_str().unwrap(), "--allow", "*@your-domain.com"];
    scene.run(&args).expect(code)
}

#[test]
fn a_list_of_services_becomes_entries_that_work() {
    let scene = without_registry();
    import(&scene, &list(&scene), 0).says("3 entries written");
    scene.run(&["validate"]).expect(0);
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    assert_eq!(scene.variables("john")["CRM_BASE_URL"], scene.service(CRM).running.base_url());
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(!scene.works(CRM, &key));
}

#[test]
fn the_same_list_again_changes_nothing_and_another_one_overwrites_nothing() {
    let scene = without_registry();
    import(&scene, &list(&scene), 0);
    let entries = || {
        let mut files = scene.files();
        files.retain(|path, _| path.starts_with(scene.path("registry")));
        files
    };
    let before = entries();
    import(&scene, &list(&scene), 0).says("0 entries written; all of them were there already");
    assert!(before == entries());
    let mut other = list(&scene);
    other[1]["name"] = json!("Another");
    import(&scene, &other, 1).says("invoicing.yaml is there already, and says something else");
    fs::remove_file(scene.path("registry/crm.yaml")).unwrap();
    import(&scene, &list(&scene), 0).says("1 entries written");
}

#[test]
fn what_is_not_enabled_is_retired_other_paths_are_kept_and_a_missing_skill_is_said() {
    let scene = without_registry();
    let mut list = list(&scene);
    list[0]["enabled"] = json!(false);
    let base = scene.service(Kind::Invoicing).running.base_url();
    list[1]["token_exchange_url"] = json!(format!("{base}/v7/keys"));
    list[2]["skill_file"] = json!("sc_not_there.md");
    let ran = import(&scene, &list, 0);
    ran.says("it was not enabled: retired").says("sc_not_there.md is not there");
    let read = |id| fs::read_to_string(scene.path(&format!("registry/{id}.yaml"))).unwrap();
    assert!(read("purchase_orders").contains("retired: true"));
    assert!(read("invoicing").contains("endpoints: { exchange: \"/v7/keys\" }"));
    scene.run(&["validate"]).expect(1).says("sc_not_there.md");
}

#[test]
fn one_wrong_service_and_no_entry_is_written() {
    let scene = without_registry();
    let with = |field: &str, value: Value| {
        let mut list = list(&scene);
        list[1][field] = value;
        list
    };
    let mut twice = list(&scene);
    twice[1] = twice[0].clone();
    let cases = [
        (json!({}), "invalid type: map, expected a sequence"),
        (twice, "purchase_orders: it stands twice"),
        (with("enabled", json!("yes")), "[1].enabled"),
        (with("id", json!("../crm")), "[1].id"),
        (with("colour", json!("red")), "[1].colour"),
        (with("env_var_name", json!("PATH")), "has no prefix"),
        (with("env_var_name", json!("LD_PRELOAD")), "invoicing: nothing was written"),
        (with("env_var_name", json!("CRM_OTHER")), "nothing was written: the env_prefix CRM_"),
        (with("token_exchange_url", json!("http://po.example.com/x")), "not on one host"),
        (with("token_revoke_url", json!("nothing")), "token_revoke_url"),
        (with("token_revoke_url", json!("https://u:p@example.com/")), "a host and a path"),
        (with("skill_file", json!("../sc_x.md")), "[1].skill_file"),
    ];
    let before = scene.files().len();
    for (list, says) in &cases {
        import(&scene, list, 1).says(says);
        fs::remove_file(scene.path("service_connectors.json")).unwrap();
        assert_eq!(scene.files().len(), before, "{says}");
    }
    let insecure = with("token_exchange_url", json!("http://po.example.com/a")).to_string();
    let insecure = insecure
        .replace(&scene.service(Kind::Invoicing).running.base_url(), "http://po.example.com");
    import(&scene, &serde_json::from_str(&insecure).unwrap(), 1).says("https");
}
