//! The JSON Schemas that `schema` prints: every sample fits them, and what is wrong in its form is
//! refused by them as it is by the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use service_connector::identity::IdentityConfig;
use service_connector::model::desired::{Desired, People};
use service_connector::model::registry::Service;
use service_connector::model::yaml;

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
    let config = serde_json::json!({
        "identity": json(IDENTITY),
        "admins": ["john", "_x.y-z"],
        "unknown_person": "Ask Jana.",
        "guard": { "portal_may_approve": true },
    });
    assert!(yaml::read::<IdentityConfig>(IDENTITY).is_ok());
    assert!(schema("config").is_valid(&config));
}

/// The configuration of the kit, with what is commented out in it.
fn whole_configuration() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/server/config");
    let text = fs::read_to_string(path.join("service-connector.yaml")).unwrap();
    let is_yaml = |line: &str| {
        let line = line.trim_start();
        let key = line.split(':').next().unwrap();
        let is_key =
            key.len() < line.len() && key.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
        line.starts_with('#') || is_key
    };
    let lines = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_yaml(line)).unwrap_or(line));
    // Only root becomes another user.
    lines.filter(|line| !line.starts_with("user:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_kits_configuration_proposes_is_taken() {
    let text = whole_configuration();
    let config = json(&text);
    for section in ["identity", "admins", "unknown_person", "guard", "ops_listen"] {
        assert!(!config[section].is_null(), "{section}: {text}");
    }
    let schema = schema("config");
    let errors: Vec<String> = schema.iter_errors(&config).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("service-connector.yaml");
    let is_refused = |text: &str| {
        fs::write(&path, text).unwrap();
        let binary = env!("CARGO_BIN_EXE_service-connector");
        let mut command = Command::new(binary);
        let output =
            command.arg("validate").arg("--config").arg(&path).env_clear().output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains("service-connector.yaml:")
    };
    assert!(!is_refused(&text));
    assert!(is_refused(&text.replace("algorithm: RS256", "algorithm: none")));
    assert!(is_refused(&text.replace("admins: [jana]", "admins: [Jana]")));
    let fits = |hosts: &str| schema.is_valid(&json(&format!("hosts: ['{hosts}']")));
    for host in ["portal.your-domain.com", "localhost", "192.0.2.1", "[2001:db8:0:0:0:0:0:1]"] {
        assert!(fits(host) && !is_refused(&format!("hosts: ['{host}']\n")), "{host}");
    }
    for host in ["https://portal", "portal:443", "portal/x", "a b", "", "portal.", "[::1]:80"] {
        assert!(!fits(host) && is_refused(&format!("hosts: ['{host}']\n")), "{host}");
    }
}

const IDENTITY: &str = "
proxies: [www-data, 33]
header: { name: X-Remote-Email, peers: [www-data, 33] }
flask: { cookie: session, key_file: secret_key, max_age_seconds: 86400, email: [user, email] }
jwt:
  cookie: sso
  bearer: true
  algorithm: ES256
  key_file: issuer.pem
  issuer: https://login.your-domain.com
  audience: portal
  email_claim: mail
  leeway_seconds: 30
";

#[test]
fn an_identity_of_the_wrong_form_is_refused_by_both() {
    let schema = schema("config");
    let flask = |more: &str| format!("flask: {{ key_file: k, {more} }}");
    let jwt = |more: &str| format!("jwt: {{ key_file: k, issuer: i, audience: a, {more} }}");
    let is_taken = |text: &str| yaml::read::<IdentityConfig>(text).is_ok();
    let fits = |text: &str| schema.is_valid(&serde_json::json!({ "identity": json(text) }));
    for text in [
        IDENTITY.to_owned(),
        "{}".to_owned(),
        flask("email: [e]"),
        jwt("bearer: true, algorithm: HS256"),
    ] {
        assert!(is_taken(&text) && fits(&text), "{text}");
    }
    let wrong = [
        "~".to_owned(),
        "[]".to_owned(),
        "header: ~".to_owned(),
        "proxy: {}".to_owned(),
        "proxies: www-data".to_owned(),
        "header: { name: X-Remote-Email }".to_owned(),
        "header: { name: 'X Remote', peers: [0] }".to_owned(),
        "header: { name: X-Remote-Email, peers: www-data }".to_owned(),
        "header: { name: X-Remote-Email, peers: [~] }".to_owned(),
        "header: { name: X-Remote-Email, peers: [0], trust: all }".to_owned(),
        "flask: { email: [e] }".to_owned(),
        flask("email: e"),
        flask("email: ~"),
        flask("email: [e], cookie: 'a=b'"),
        flask("email: [e], cookie: ~"),
        flask("email: [e], max_age_seconds: 0"),
        flask("email: [e], salt: x"),
        jwt("bearer: true"),
        jwt("bearer: true, algorithm: none"),
        jwt("bearer: true, algorithm: [HS256]"),
        jwt("bearer: 1, algorithm: HS256"),
        jwt("cookie: ~, algorithm: HS256"),
        jwt("cookie: '', algorithm: HS256"),
        jwt("bearer: true, algorithm: HS256, leeway_seconds: 301"),
        jwt("bearer: true, algorithm: HS256, leeway_seconds: -1"),
        "jwt: { bearer: true, algorithm: HS256, key_file: k, issuer: i }".to_owned(),
    ];
    for text in &wrong {
        assert!(!is_taken(text), "the program takes {text}");
        assert!(!fits(text), "the schema takes {text}");
    }
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
