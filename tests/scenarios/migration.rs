//! A list of services from before there was a registry becomes its entries.

use std::fs;

use serde_json::{Value, json};
use service_connector::example_service::{Contract, Kind};

use crate::scene::{KINDS, Ran, Scene};

const CRM: Kind = Kind::Crm;
const ALLOW: [&str; 2] = ["--allow", "*@your-domain.com"];

/// Services of contract v1, and no registry entry.
fn unmigrated() -> Scene {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    for kind in KINDS {
        fs::remove_file(scene.path(&format!("registry/{}.yaml", kind.id()))).unwrap();
    }
    scene
}

/// A service as the list has it.
fn service(id: &str, address: &str, variable: &str) -> Value {
    json!({
        "id": id,
        "name": format!("The \"{id}\": #1"),
        "description": "Look up 'things' \\ čaj 🫖\u{2028}: all of them.",
        "token_exchange_url": format!("{address}/api/internal/token-exchange"),
        "token_revoke_url": format!("{address}/api/internal/token-revoke"),
        "env_var_name": variable,
        "skill_file": format!("sc_{id}.md"),
        "enabled": true,
    })
}

/// The three services that run.
fn list(scene: &Scene) -> Vec<Value> {
    let variables = ["PO_API_KEY", "INV_API_KEY", "CRM_API_KEY"];
    let services = KINDS.iter().zip(variables).map(|(kind, variable)| {
        service(kind.id(), &scene.service(*kind).running.base_url(), variable)
    });
    services.collect()
}

/// A list of one service that runs nowhere, with these fields instead.
fn wiki(fields: &Value) -> Vec<Value> {
    let mut service = service("wiki", "https://wiki.internal.example.com", "WIKI_API_KEY");
    for (name, value) in fields.as_object().unwrap() {
        service[name] = value.clone();
    }
    vec![service]
}

fn import_text(scene: &Scene, text: &str, args: &[&str]) -> Ran {
    let file = scene.path("service_connectors.json");
    fs::write(&file, text).unwrap();
    scene.run(&[&["registry", "import", file.to_str().unwrap()], args].concat())
}

fn import(scene: &Scene, list: &[Value], args: &[&str]) -> Ran {
    import_text(scene, &serde_json::to_string_pretty(list).unwrap(), args)
}

fn entry(scene: &Scene, id: &str) -> String {
    fs::read_to_string(scene.path(&format!("registry/{id}.yaml"))).unwrap()
}

/// The names in the registry's directory.
fn registry(scene: &Scene) -> Vec<String> {
    let found = fs::read_dir(scene.path("registry")).unwrap();
    let mut names: Vec<_> =
        found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_imported_list_is_a_registry_that_connects_over_v1() {
    let scene = unmigrated();
    let ran = import(&scene, &list(&scene), &ALLOW).expect(0);
    ran.says("registry/crm.yaml").says("SC_SECRET_PURCHASE_ORDERS").does_not_say("retired");
    ran.does_not_say("cannot be used").does_not_say("Nobody may");
    assert_eq!(registry(&scene), ["crm.yaml", "invoicing.yaml", "purchase_orders.yaml"]);
    scene.run(&["validate"]).expect(0).says("Services: 3");
    for kind in KINDS {
        scene.connect("john", kind);
    }
    scene.pass(0);
    let keys = KINDS.map(|kind| scene.working_key("john", kind));
    let address = scene.service(Kind::PurchaseOrders).running.base_url();
    assert_eq!(scene.variables("john")["PO_BASE_URL"], address);
    let skill = scene.skill("john", CRM);
    assert!(skill.contains("The \"crm\": #1"), "{skill}");
    assert!(skill.contains("Look up 'things' \\ čaj 🫖\u{2028}: all of them."), "{skill}");
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(!scene.works(CRM, &keys[2]));
}

#[test]
fn nobody_is_allowed_until_somebody_says_who() {
    let scene = unmigrated();
    let ran = import(&scene, &list(&scene), &[]).expect(0);
    ran.says("Nobody may be connected yet");
    assert!(entry(&scene, "crm").contains("allow: { emails: [], users: [] }"));
    scene.connect("john", CRM);
    scene.pass(4);
    assert_eq!(scene.calls(CRM), (0, 0));
    scene.entry(CRM, "emails: []", "emails: [\"*@your-domain.com\"]");
    scene.pass(0);
    scene.working_key("john", CRM);
}

#[test]
fn an_import_that_runs_twice_or_was_cut_off_is_harmless() {
    let scene = unmigrated();
    import(&scene, &list(&scene), &ALLOW).expect(0);
    let before = scene.files();
    import(&scene, &list(&scene), &ALLOW).expect(0).says("Already there").does_not_say("Written");
    let files = |scene: &Scene| {
        let mut files = scene.files();
        files.remove(&scene.path("service_connectors.json"));
        files
    };
    let mut expected = before;
    expected.remove(&scene.path("service_connectors.json"));
    assert_eq!(files(&scene), expected);
    // As a process leaves it that is killed while it writes the last one.
    let last = scene.path("registry/crm.yaml");
    let whole = entry(&scene, "crm");
    fs::remove_file(&last).unwrap();
    fs::write(scene.path("registry/.crm.yaml.new"), &whole[..20]).unwrap();
    scene.run(&["validate"]).expect(0);
    let ran = import(&scene, &list(&scene), &ALLOW).expect(0);
    ran.says("Already there").says("Written");
    assert_eq!(entry(&scene, "crm"), whole);
    assert_eq!(registry(&scene), ["crm.yaml", "invoicing.yaml", "purchase_orders.yaml"]);
}

#[test]
fn an_entry_that_is_there_is_not_overwritten_and_nothing_else_is_written() {
    let scene = unmigrated();
    import(&scene, &list(&scene)[2..], &ALLOW).expect(0);
    scene.entry(CRM, "contract: v1", "contract: v2");
    let was = entry(&scene, "crm");
    let ran = import(&scene, &list(&scene), &ALLOW).expect(1);
    ran.says("`crm` is in the registry already").says("nothing is overwritten");
    ran.does_not_say("Written");
    assert_eq!(registry(&scene), ["crm.yaml"]);
    assert_eq!(entry(&scene, "crm"), was);
}

#[test]
fn what_clashes_in_the_list_or_with_the_registry_is_refused() {
    let scene = unmigrated();
    import(&scene, &list(&scene)[2..], &ALLOW).expect(0);
    let refused = |list: &[Value], what: &[&str]| {
        let ran = import(&scene, list, &ALLOW).expect(1);
        for what in what {
            ran.says(what);
        }
        assert_eq!(registry(&scene), ["crm.yaml"]);
    };
    refused(&wiki(&json!({"env_var_name": "CRM_TOKEN"})), &["service 1 (`wiki`)", "CRM_", "`crm`"]);
    refused(&wiki(&json!({"skill_file": "sc_crm.md"})), &["service 1 (`wiki`)", "sc_crm.md"]);
    let twice = [wiki(&json!({})), wiki(&json!({"env_var_name": "W_KEY"}))].concat();
    refused(&twice, &["service 2 (`wiki`), `id`", "service 1"]);
    let both = wiki(&json!({"id": "wiki2", "skill_file": "sc_wiki2.md"}));
    refused(&[wiki(&json!({})), both].concat(), &["service 1 (`wiki`)", "WIKI_", "`wiki2`"]);
    scene.entry(CRM, "contract: v1", "contract: v7");
    refused(&wiki(&json!({})), &["`crm`", "correct it first", "line 5"]);
}

#[test]
fn each_wrong_field_is_named_with_its_service_and_nothing_is_written() {
    let scene = unmigrated();
    let elsewhere = "https://other.internal.example.com/api/internal/token-revoke";
    let wrong = [
        ("id", json!("Wiki"), "service id"),
        ("id", json!("../wiki"), "service id"),
        ("name", json!("two\nlines"), "one line"),
        ("description", json!(""), "one line"),
        ("token_exchange_url", json!("http://wiki.internal.example.com/x"), "https only"),
        ("token_exchange_url", json!("https://u:p@wiki.internal.example.com/x"), "password"),
        ("token_exchange_url", json!("https://wiki.internal.example.com/x?a=b"), "query"),
        ("token_exchange_url", json!("https://wiki.internal.example.com"), "not a path"),
        ("token_revoke_url", json!(elsewhere), "one address for both"),
        ("token_revoke_url", json!("nowhere"), "not an address"),
        ("env_var_name", json!("APIKEY"), "no prefix"),
        ("env_var_name", json!("wiki_key"), "name of a variable"),
        ("env_var_name", json!("WIKI_BASE_URL"), "cannot hold the key"),
        ("env_var_name", json!("LD_PRELOAD"), "steers"),
        ("skill_file", json!("km_wiki.md"), "skill"),
    ];
    for (field, value, why) in wrong {
        let ran = import(&scene, &wiki(&json!({field: value})), &ALLOW).expect(1);
        ran.says("service_connectors.json: service 1 (`").says(&format!("`{field}`: ")).says(why);
        assert_eq!(registry(&scene), Vec::<String>::new());
    }
}

#[test]
fn a_list_of_another_shape_is_refused_with_its_place() {
    let scene = unmigrated();
    let good = serde_json::to_string(&wiki(&json!({}))[0]).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        format!("[{good},{}]", good.replace(from, to))
    };
    let wrong = [
        (changed("\"enabled\":true", "\"enabled\":\"yes\""), "service 2: `enabled`: "),
        (changed("\"enabled\":true", "\"enabled\":true,\"icon\":1"), "service 2: `icon`: unknown"),
        (changed("\"enabled\":true", "\"enabled\":true,\"x\\ny\":1"), "unknown field `x\\ny`"),
        (changed("\"id\":", "\"id\":\"x\",\"id\":"), "service 2: duplicate field `id` at line 1"),
        (changed("\"enabled\":true,", ""), "service 2: missing field `enabled`"),
        (format!("[{good}] true"), "after the list"),
        (format!("[{good}"), "line 1"),
        ("{\"services\":[]}".to_owned(), "expected a sequence"),
    ];
    for (text, place) in wrong {
        let ran = import_text(&scene, &text, &ALLOW).expect(1);
        ran.says("service_connectors.json: ").says(place).does_not_say("x\ny");
        assert_eq!(registry(&scene), Vec::<String>::new());
    }
    import(&scene, &wiki(&json!({})), &["--allow", "your-domain.com"]).expect(1).says("--allow");
    assert_eq!(registry(&scene), Vec::<String>::new());
}

#[test]
fn a_service_that_was_not_enabled_is_retired() {
    let scene = unmigrated();
    let mut list = list(&scene);
    list[2]["enabled"] = json!(false);
    import(&scene, &list, &ALLOW).expect(0).says("crm is retired");
    scene.run(&["validate"]).expect(0);
    scene.connect("john", CRM);
    scene.pass(4).says("the service is retired");
    assert_eq!(scene.calls(CRM), (0, 0));
}

#[test]
fn other_paths_become_endpoints_and_what_stands_before_the_usual_ones_the_address() {
    let scene = unmigrated();
    let at = |path: &str| json!(format!("https://wiki.internal.example.com:8443{path}"));
    let imported = |exchange: &str, revoke: &str| {
        let fields = json!({"token_exchange_url": at(exchange), "token_revoke_url": at(revoke)});
        import(&scene, &wiki(&fields), &ALLOW).expect(0);
        let text = entry(&scene, "wiki");
        fs::remove_file(scene.path("registry/wiki.yaml")).unwrap();
        text
    };
    let (exchange, revoke) = ("/api/internal/token-exchange", "/api/internal/token-revoke");
    let origin = "base_url: \"https://wiki.internal.example.com:8443\"\n";
    let text = imported(exchange, revoke);
    assert!(text.contains(origin) && !text.contains("endpoints:"), "{text}");
    let text = imported(&format!("/w{exchange}"), &format!("/w{revoke}"));
    assert!(text.contains(":8443/w\"\n") && !text.contains("endpoints:"), "{text}");
    let text = imported(&format!("/w{exchange}"), revoke);
    let endpoints = "endpoints:\n  exchange: \"/w/api/internal/token-exchange\"\nsecret:";
    assert!(text.contains(origin) && text.contains(endpoints), "{text}");
    let text = imported("/issue", "/revoke:now");
    let endpoints = "endpoints:\n  exchange: \"/issue\"\n  revoke: \"/revoke:now\"\n";
    assert!(text.contains(origin) && text.contains(endpoints), "{text}");
}

#[test]
fn a_skill_that_is_not_there_is_said_with_what_to_do() {
    let scene = unmigrated();
    fs::create_dir(scene.path("elsewhere")).unwrap();
    let dir = scene.path("elsewhere");
    let args = [&["--dir", dir.to_str().unwrap()], &ALLOW[..]].concat();
    for _ in 0..2 {
        let ran = import(&scene, &wiki(&json!({})), &args).expect(0);
        ran.says("wiki cannot be used yet").says("skills/sc_wiki.md").says("Put it there");
    }
    assert_eq!(registry(&scene), Vec::<String>::new());
    let text = fs::read_to_string(dir.join("wiki.yaml")).unwrap();
    assert!(text.contains("secret: SC_SECRET_WIKI\nenv_prefix: WIKI_\n"), "{text}");
    let args = ["--dir", "nowhere"];
    import(&scene, &wiki(&json!({})), &args).expect(1).says("no directory nowhere");
}
