//! The JSON Schemas that `schema` prints: every sample fits them, and what is wrong in its form is
//! refused by them as it is by the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use service_connector::model::desired::{Desired, People};
use service_connector::model::registry::Service;

fn schema(file: &str) -> jsonschema::Validator {
    let binary = env!("CARGO_BIN_EXE_service-connector");
    let output = Command::new(binary).args(["schema", file]).env_clear().output().unwrap();
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
}

fn json(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn samples(dir: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

#[test]
fn every_sample_fits_its_schema() {
    let mut count = 0;
    for (file, paths) in [
        ("desired", vec!["state/desired.yaml".into()]),
        ("people", vec!["state/people.yaml".into()]),
        ("registry", samples("registry")),
    ] {
        let schema = schema(file);
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            let errors: Vec<String> =
                schema.iter_errors(&json(&text)).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 5, "{count} samples");
}

#[test]
fn what_has_every_field_fits() {
    let desired = "version: 1
users:
  john:
    disabled: false
    connections:
      crm: { ttl_days: 365, rotate_after: 2026-11-01T00:00:00Z, paused: true }
      po: { ttl_days: 1, revoke_issued_before: 2026-11-01T00:00:00+02:00 }
  _x.y-z: {}
";
    assert!(Desired::parse(desired).is_ok());
    assert!(schema("desired").is_valid(&json(desired)));
    let config = "version: 1\nuser: service-connector\nstate: a\nhomes: { direct: b, create: false }\nguard: { percent: 5 }\n";
    assert!(schema("config").is_valid(&json(config)));
}

#[test]
fn a_desired_state_of_the_wrong_form_is_refused_by_both() {
    let schema = schema("desired");
    let user = |connections: &str| format!("version: 1\nusers: {{ john: {connections} }}");
    let wrong = [
        "version: 1".to_owned(),
        "users: {}".to_owned(),
        "version: 2\nusers: {}".to_owned(),
        "version: one\nusers: {}".to_owned(),
        "version: 1\nusers: []".to_owned(),
        "version: 1\nusers: ~".to_owned(),
        "version: 1\nusers: {}\nmore: 1".to_owned(),
        "version: 1\nusers: { John: {} }".to_owned(),
        "version: 1\nusers: { a..b: {} }".to_owned(),
        format!("version: 1\nusers: {{ {}: {{}} }}", "a".repeat(33)),
        user("~"),
        user("[]"),
        user("{ disabled: 1 }"),
        user("{ disabled: 'yes' }"),
        user("{ connection: {} }"),
        user("{ connections: ~ }"),
        user("{ connections: [crm] }"),
        user("{ connections: { CRM: {} } }"),
        user("{ connections: { crm: ~ } }"),
        user("{ connections: { crm: { ttl_days: 0 } } }"),
        user("{ connections: { crm: { ttl_days: 366 } } }"),
        user("{ connections: { crm: { ttl_days: 1.5 } } }"),
        user("{ connections: { crm: { ttl_days: thirty } } }"),
        user("{ connections: { crm: { ttl_days: ~ } } }"),
        user("{ connections: { crm: { rotate_after: soon } } }"),
        user("{ connections: { crm: { revoke_issued_before: 7 } } }"),
        user("{ connections: { crm: { paused: ~ } } }"),
        user("{ connections: { crm: { ttl: 30 } } }"),
    ];
    for text in &wrong {
        assert!(Desired::parse(text).is_err(), "the program takes {text}");
        assert!(!schema.is_valid(&json(text)), "the schema takes {text}");
    }
}

#[test]
fn people_of_the_wrong_form_are_refused_by_both() {
    let schema = schema("people");
    let wrong = [
        "version: 1",
        "version: 1\npeople: []",
        "version: 1\npeople: { john: { email: john } }",
        "version: 1\npeople: { john: { email: ~ } }",
        "version: 1\npeople: { john: {} }",
        "version: 1\npeople: { john: { email: j@x.cz, account: Root } }",
        "version: 1\npeople: { john: { email: j@x.cz, account: ~ } }",
        "version: 1\npeople: { john: { email: j@x.cz, home: /root } }",
        "version: 1\npeople: {}\nrules: {}",
        "version: 1\npeople: {}\nrules: [x.cz]",
        "version: 1\npeople: {}\nrules: [{ domain: '*' }]",
    ];
    for text in wrong {
        assert!(People::parse(text).is_err(), "the program takes {text}");
        assert!(!schema.is_valid(&json(text)), "the schema takes {text}");
    }
}

#[test]
fn a_registry_entry_of_the_wrong_form_is_refused_by_both() {
    let schema = schema("registry");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("registry/crm.yaml");
    let right = fs::read_to_string(path).unwrap();
    let parse = |text: &str| Service::parse("crm", text, |_| Ok("# CRM\n".to_owned()));
    assert!(parse(&right).is_ok() && schema.is_valid(&json(&right)));
    let without = |field: &str| {
        let lines = right.lines().filter(|line| !line.starts_with(&format!("{field}:")));
        lines.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
    };
    let with = |field: &str, value: &str| format!("{}{field}: {value}\n", without(field));
    let wrong = [
        without("base_url"),
        without("secret"),
        without("skill"),
        with("id", "CRM"),
        with("contract", "v3"),
        with("secret", "PATH"),
        with("skill", "crm.md"),
        with("ttl_days", "0"),
        with("ttl_days", "366"),
        with("grace_days", "91"),
        with("renew_before_days", "~"),
        with("env_prefix", "crm_"),
        with("limits", "{ concurrency: 0 }"),
        with("limits", "{ per_minute: 60001 }"),
        with("limits", "{ timeout: 5 }"),
        with("allow", "~"),
        with("allow", "{ emails: x }"),
        with("retired", "1"),
        with("colour", "red"),
    ];
    for text in &wrong {
        assert!(parse(text).is_err(), "the program takes {text}");
        assert!(!schema.is_valid(&json(text)), "the schema takes {text}");
    }
}
