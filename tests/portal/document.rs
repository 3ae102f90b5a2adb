//! The description of the API, held against its answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::door::{API, Door};
use crate::scene::Scene;

#[test]
fn every_answer_is_as_the_document_says() {
    let scene = Scene::new();
    let door = Door::open(&scene);
    let document = door.ask("GET", &format!("{API}/openapi.json"), &[], "").expect(200).json();
    let mut met = BTreeSet::new();
    let mut hold = |method: &str, path: &str, of: &str, status: u16, body: &Value| {
        let operation = &document["paths"][format!("{API}{of}")][method];
        let responses = &operation["responses"];
        let class = format!("{}XX", status / 100);
        let response = [status.to_string(), class].into_iter().find_map(|key| responses.get(key));
        let response =
            response.unwrap_or_else(|| panic!("{method} {path}: {status} is not described"));
        let content = response["content"].as_object().unwrap().values().next().unwrap();
        let schema = json!({
            "$ref": "#/wanted", "wanted": content["schema"], "components": document["components"],
        });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(body).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{method} {path}: {errors:#?}\n{body:#}");
        met.insert(format!("{method} {API}{of}"));
    };
    for (path, of) in [
        ("", ""),
        ("/health/crm", "/health/{service_id}"),
        ("/fleet", "/fleet"),
        ("/plan", "/plan"),
        ("/fleet?state=connected&per_page=1", "/fleet"),
    ] {
        for user in ["eva", "john"] {
            let answer = door.get(user, &format!("{API}{path}"));
            hold("get", path, of, answer.status, &answer.json());
        }
    }
    for (path, body) in [
        ("/connect", json!({ "service_id": "crm" })),
        ("/connect?wait=20", json!({ "service_id": "invoicing" })),
        ("/connect", json!({ "service_id": "nothing" })),
        ("/rotate?wait=20", json!({ "service_id": "invoicing", "leaked": true })),
        ("/rotate", json!({ "service_id": "nothing" })),
        ("/disconnect?wait=20", json!({ "service_id": "crm" })),
        ("/offboard", json!({ "user": "petr" })),
        ("/offboard", json!({ "user": "No Name" })),
        ("/approve", json!({ "digest": "0".repeat(64) })),
    ] {
        let answer = door.post("eva", path, &body);
        hold("post", path, path.split('?').next().unwrap(), answer.status, &answer.json());
    }
    for path in ["/connect", "/disconnect", "/rotate", "/offboard"] {
        let parameters = &document["paths"][format!("{API}{path}")]["post"]["parameters"];
        let mut parameters = parameters.as_array().unwrap().iter();
        assert!(parameters.any(|one| one["name"] == "If-Match" && one["in"] == "header"), "{path}");
    }
    let card = door.events("eva").next().unwrap();
    hold("get", "/events", "", 200, &card);
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .filter(|operation| !operation.ends_with("/events"))
        .collect();
    assert_eq!(met, described, "every operation was met");
}
