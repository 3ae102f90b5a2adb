//! `identity:` as people write it: what is not safe does not start.

use std::fs;
use std::path::Path;

use service_connector::identity::IdentityConfig;
use service_connector::model::yaml;

use crate::asked::{Keys, configure};

fn error(text: &str) -> String {
    let error = configure(text).err();
    error.map_or_else(|| panic!("this starts: {text}"), |error| error.to_string())
}

fn flask(key_file: &Path, more: &str) -> String {
    format!("flask: {{ key_file: {}, email: [email]{more} }}", key_file.display())
}

#[test]
fn a_proxys_users_must_be_there() {
    let by_name = "header: { name: X-Remote-Email, peers: [root] }";
    assert!(configure(by_name).unwrap().is_configured());
    let error_of =
        |peers: &str| error(&format!("header: {{ name: X-Remote-Email, peers: {peers} }}"));
    assert!(error_of("[]").contains("peers is empty"));
    assert!(error_of("[no-such-user]").contains("header.peers: there is no user `no-such-user`"));
    let said = error("proxies: [no-such-user]");
    assert!(said.contains("proxies: there is no user `no-such-user`"), "{said}");
    for name in ["Authorization", "cookie", "Host", "Origin", "Forwarded"] {
        let error = error(&format!("header: {{ name: {name}, peers: [0] }}"));
        assert!(error.contains("has a meaning of its own"), "{error}");
    }
}

#[test]
fn a_secret_that_others_may_read_or_change_is_refused() {
    let keys = Keys::new();
    for (mode, says) in [
        (0o644, "others may read it (mode 644)"),
        (0o604, "others may read it (mode 604)"),
        (0o660, "others may write it (mode 660)"),
        (0o602, "others may write it (mode 602)"),
    ] {
        let path = keys.put("key", &[b'k'; 32], mode);
        let said = error(&flask(&path, ""));
        assert!(said.contains(says) && said.contains("`chmod "), "{said}");
        let said = error(&crate::jwt::config("HS256", &path, "bearer: true"));
        assert!(said.contains(says), "{said}");
    }
    // A public key is anybody's to read, and nobody's to change.
    let path = keys.put("key", &[b'k'; 32], 0o664);
    let said = error(&crate::jwt::config("ES256", &path, "bearer: true"));
    assert!(said.contains("others may write it"), "{said}");
    for mode in [0o400, 0o600, 0o640] {
        assert!(configure(&flask(&keys.put("key", &[b'k'; 32], mode), "")).is_ok());
    }
}

#[test]
fn a_key_that_is_no_key_is_refused() {
    let keys = Keys::new();
    for key in ["", "\n", "   \n", "dev", "fifteen bytes..\n"] {
        let said = error(&flask(&keys.put("key", key.as_bytes(), 0o600), ""));
        assert!(said.contains("fewer than 16 bytes"), "{said}");
    }
    let said = error(&flask(&keys.put("key", &vec![b'k'; 20_000], 0o600), ""));
    assert!(said.contains("longer than any key"), "{said}");
    assert!(error(&flask(keys.dir(), "")).contains("key file"));
    let missing = keys.dir().join("missing");
    assert!(error(&flask(&missing, "")).contains("cannot be read"));
    let fifo = keys.dir().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    assert!(error(&flask(&fifo, "")).contains("it is not a file"));
}

#[test]
fn what_says_nothing_or_too_much_is_refused() {
    let keys = Keys::new();
    let path = keys.put("key", &[b'k'; 32], 0o600);
    let key_file = path.display();
    assert!(
        error(&format!("flask: {{ key_file: {key_file}, email: [] }}"))
            .contains("flask.email is empty")
    );
    let jwt = |place: &str| crate::jwt::config("HS256", &path, place);
    assert!(error(&jwt("bearer: false")).contains("looked for nowhere"));
    assert!(error(&jwt("bearer: true").replace("portal", "''")).contains("jwt.audience is empty"));
    let both = format!("{}\n{}", flask(&path, ""), jwt("cookie: session"));
    assert!(error(&both).contains("the same cookie, `session`"));
    let both = format!("{}\n{}", flask(&path, ", cookie: portal"), jwt("cookie: session"));
    assert!(configure(&both).is_ok());
}

#[test]
fn what_is_misspelt_is_refused_with_its_place() {
    for (text, says) in [
        ("heather: {}", "heather"),
        ("header: ~", "header"),
        ("header: { name: 'X Remote', peers: [0] }", "not the name of a header"),
        ("header: { name: X-Remote-Email, peers: [0], trust: all }", "trust"),
        ("flask: { key_file: k, email: [e], cookie: 'a=b' }", "not the name of a cookie"),
        ("flask: { key_file: k, email: [e], max_age_seconds: 0 }", "max_age_seconds"),
        ("flask: { key_file: k, email: e }", "a list"),
        ("flask: { email: [e] }", "key_file"),
        ("jwt: { bearer: true, algorithm: none, key_file: k, issuer: i, audience: a }", "none"),
        ("jwt: { bearer: true, algorithm: HS256, key_file: k, audience: a }", "issuer"),
        ("jwt: { bearer: true, algorithm: HS256, key_file: k, issuer: i }", "audience"),
        (
            "jwt: { bearer: true, algorithm: HS256, key_file: k, issuer: i, audience: a, leeway_seconds: 301 }",
            "out of range",
        ),
    ] {
        let error = yaml::read::<IdentityConfig>(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn key_files_are_meant_from_where_the_configuration_is() {
    let keys = Keys::new();
    keys.put("key", &[b'k'; 32], 0o600);
    let text = "flask: { key_file: key, email: [email] }";
    let config: IdentityConfig = yaml::read(text).unwrap();
    let moved = config.from(keys.dir());
    assert_eq!(moved.flask.unwrap().key_file, fs::canonicalize(keys.dir()).unwrap().join("key"));
}
