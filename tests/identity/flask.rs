//! Flask's session cookie, as the real Flask sets it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use axum::http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use service_connector::identity::{Identity, Why};

use crate::asked::{Keys, configure, headers, said, tcp, who};
use crate::python::python_with_flask;

/// Reads a list of orders, writes the cookie of each. An order without `signer` is an answer of a
/// real application to a real request.
const MAKE: &str = r#"
import base64, datetime, hashlib, json, sys, uuid, zlib
from unittest import mock
import flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer, TimestampSigner
from markupsafe import Markup

def python(value):
    if isinstance(value, dict) and list(value) == ["!"]:
        return eval(value["!"])
    if isinstance(value, dict):
        return {key: python(inner) for key, inner in value.items()}
    return value

def answered(order, key):
    app = flask.Flask("portal")
    app.secret_key = key
    @app.post("/login")
    def login():
        flask.session.update(python(order["session"]))
        return "in"
    with app.test_client() as client:
        client.post("/login")
        return client.get_cookie("session").value

def signed(order, key):
    with_ = {"salt": "cookie-session", "digest": "sha1", "derivation": "hmac", **order["signer"]}
    serializer = SecureCookieSessionInterface.serializer
    kwargs = {"key_derivation": with_["derivation"], "digest_method": getattr(hashlib, with_["digest"])}
    if "raw" in with_:
        raw = with_["raw"].encode()
        if with_.get("packed"):
            raw = zlib.compress(raw * with_["packed"])
        text = base64.urlsafe_b64encode(raw).rstrip(b"=")
        text = (b"." if with_.get("packed") else b"") + text
        return TimestampSigner(key, salt=with_["salt"], **kwargs).sign(text).decode()
    timed = URLSafeTimedSerializer(key, salt=with_["salt"], serializer=serializer, signer_kwargs=kwargs)
    return timed.dumps(python(order["session"]))

cookies = []
for order in json.load(sys.stdin):
    key = bytes.fromhex(order["key"])
    with mock.patch("itsdangerous.timed.time.time", lambda: order["at"]):
        cookies.append(signed(order, key) if "signer" in order else answered(order, key))
json.dump(cookies, sys.stdout)
"#;

const DAY: i64 = 86_400;

fn flasks_cookies(orders: &[Value]) -> Vec<String> {
    let mut child = Command::new(python_with_flask())
        .args(["-c", MAKE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!(orders).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Portal {
    keys: Keys,
    key: Vec<u8>,
    identity: Identity,
    now: Timestamp,
}

impl Portal {
    fn new() -> Self {
        let keys = Keys::new();
        let key = format!("{:032x}", fastrand::u128(..)).into_bytes();
        let path = keys.put("secret_key", &key, 0o640);
        let identity = configure(&config(&path)).unwrap();
        // Whole seconds: Flask's are.
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        Self { keys, key, identity, now }
    }

    fn order(&self, session: &Value) -> Value {
        self.order_at(session, self.now)
    }

    fn order_at(&self, session: &Value, at: Timestamp) -> Value {
        json!({ "key": hex(&self.key), "at": at.as_second(), "session": session })
    }

    /// As the real Flask would not do it.
    fn forge(&self, signer: Value) -> Value {
        let mut order = self.order(&eva());
        order["signer"] = signer;
        order
    }

    fn ask(&self, cookie: &str) -> String {
        who(&self.identity, &session(cookie), tcp(), self.now)
    }
}

fn config(key_file: &Path) -> String {
    format!("flask: {{ key_file: {}, email: [user, email] }}", key_file.display())
}

fn hex(key: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(key)
}

fn session(cookie: &str) -> HeaderMap {
    let line = format!("lang=cs; session={cookie}; theme=dark");
    headers([("cookie", line.as_bytes())])
}

fn eva() -> Value {
    json!({ "user": { "email": "Eva@Your-Domain.com" } })
}

const EVA: &str = "eva@your-domain.com by Cookie";

#[test]
fn a_session_of_the_real_flask_says_who_asks() {
    let portal = Portal::new();
    let wide: Vec<Value> = (0..200).map(|number| json!({ "page": number })).collect();
    let sessions = [
        eva(),
        json!({ "_permanent": true, "user": { "name": "Eva Č. 🦊", "email": "eva@your-domain.com" } }),
        // Long and uniform: Flask packs it.
        json!({ "notes": "again and ".repeat(500), "user": { "email": "eva@your-domain.com" } }),
        json!({ "pages": wide, "user": { "email": "eva@your-domain.com", "roles": ["a", "b"] } }),
        // Values of types that JSON has not.
        json!({
            "user": { "email": { "!": "Markup('eva@your-domain.com')" } },
            "when": { "!": "datetime.datetime.now(datetime.timezone.utc)" },
            "id": { "!": "uuid.uuid4()" },
            "raw": { "!": "b'\\x00\\xff'" },
            "pair": { "!": "(1, 2)" },
        }),
    ];
    let orders: Vec<Value> = sessions.iter().map(|session| portal.order(session)).collect();
    let cookies = flasks_cookies(&orders);
    for (cookie, order) in cookies.iter().zip(&orders) {
        assert_eq!(portal.ask(cookie), EVA, "{order}");
    }
    assert!(cookies[2].starts_with('.') && cookies[3].starts_with('.'), "Flask packed two");
}

#[test]
fn a_session_of_somebody_who_is_not_logged_in_is_nobodys() {
    let portal = Portal::new();
    let nobody = [
        json!({ "csrf_token": "x" }),
        json!({ "user": {} }),
        json!({ "user": null }),
        json!({ "user": { "email": null } }),
        json!({ "email": "eva@your-domain.com" }),
        // A tuple, which Flask writes as a map with a tag.
        json!({ "user": { "!": "('email', 'eva@your-domain.com')" } }),
    ];
    let no_address = [
        json!({ "user": { "email": "eva" } }),
        json!({ "user": { "email": 7 } }),
        json!({ "user": { "email": ["eva@your-domain.com"] } }),
        json!({ "user": { "email": { "!": "b'eva@your-domain.com'" } } }),
        json!({ "user": { "email": "eva@your-domain.com\njohn@your-domain.com" } }),
        json!({ "user": { "email": "évà@your-domain.com" } }),
    ];
    let orders: Vec<Value> =
        nobody.iter().chain(&no_address).map(|session| portal.order(session)).collect();
    for (place, cookie) in flasks_cookies(&orders).iter().enumerate() {
        let expected =
            if place < nobody.len() { "nobody".to_owned() } else { said(Why::NoAddress) };
        assert_eq!(portal.ask(cookie), expected, "{}", orders[place]["session"]);
    }
    assert_eq!(who(&portal.identity, &HeaderMap::new(), tcp(), portal.now), "nobody");
}

#[test]
fn a_session_ends_and_none_is_from_the_future() {
    let portal = Portal::new();
    let cases = [
        (-DAY, EVA.to_owned()),
        (-DAY - 1, said(Why::Ended)),
        (-400 * DAY, said(Why::Ended)),
        (60, EVA.to_owned()),
        (61, said(Why::FromTheFuture)),
        (400 * DAY, said(Why::FromTheFuture)),
    ];
    let at = |offset| portal.now + SignedDuration::from_secs(offset);
    let orders: Vec<Value> =
        cases.iter().map(|(offset, _)| portal.order_at(&eva(), at(*offset))).collect();
    for (cookie, (offset, expected)) in flasks_cookies(&orders).iter().zip(&cases) {
        assert_eq!(portal.ask(cookie), *expected, "{offset} s");
    }
}

#[test]
fn a_session_that_another_signed_is_refused() {
    let portal = Portal::new();
    let mut of_another_key = portal.order(&eva());
    of_another_key["key"] = hex(&[7; 32]).into();
    let mut orders = vec![of_another_key];
    for signer in [
        json!({ "salt": "itsdangerous" }),
        json!({ "salt": "cookie-sessio" }),
        json!({ "digest": "sha256" }),
        json!({ "derivation": "django-concat" }),
        json!({ "derivation": "none" }),
    ] {
        orders.push(portal.forge(signer));
    }
    // The forger's own way is right where nothing is changed.
    orders.push(portal.forge(json!({})));
    let cookies = flasks_cookies(&orders);
    for (cookie, order) in cookies.iter().zip(&orders).take(6) {
        assert_eq!(portal.ask(cookie), said(Why::Signature), "{order}");
    }
    assert_eq!(portal.ask(&cookies[6]), EVA);
}

#[test]
fn a_session_that_is_signed_and_unusable_is_refused() {
    let portal = Portal::new();
    let orders: Vec<Value> = [
        json!({ "raw": "not json" }),
        json!({ "raw": "" }),
        json!({ "raw": "[".repeat(2000) }),
        // 4 MB in a cookie of 4 kB.
        json!({ "raw": "a".repeat(1000), "packed": 2000 }),
    ]
    .into_iter()
    .map(|signer| portal.forge(signer))
    .collect();
    for cookie in flasks_cookies(&orders) {
        assert!(cookie.len() <= 4096);
        assert_eq!(portal.ask(&cookie), said(Why::Malformed), "{cookie}");
    }
    for cookie in ["", ".", "..", "...", "a", "a.b", "a.b.c", "!.!.!"] {
        let refused = portal.ask(cookie);
        assert!(refused == said(Why::Malformed) || refused == said(Why::Signature), "{cookie}");
    }
    assert_eq!(portal.ask(&"a".repeat(4097)), said(Why::TooLong));
}

#[test]
fn a_session_with_any_byte_changed_is_refused() {
    let portal = Portal::new();
    let packed = json!({ "n": "x".repeat(300), "user": { "email": "eva@your-domain.com" } });
    for cookie in flasks_cookies(&[portal.order(&eva()), portal.order(&packed)]) {
        assert_eq!(portal.ask(&cookie), EVA);
        for place in 0..cookie.len() {
            let (before, after) = (&cookie[..place], &cookie[place + 1..]);
            for other in
                "AQgwz09-_.=+;".chars().filter(|other| !cookie[place..].starts_with(*other))
            {
                let changed = format!("{before}{other}{after}");
                assert!(!portal.ask(&changed).contains('@'), "{changed}");
                let longer = format!("{before}{other}{}", &cookie[place..]);
                assert!(!portal.ask(&longer).contains('@'), "{longer}");
            }
            assert!(!portal.ask(&format!("{before}{after}")).contains('@'));
            assert!(!portal.ask(before).contains('@'));
        }
    }
}

#[test]
fn two_cookies_of_one_name_are_refused() {
    let portal = Portal::new();
    let cookie = &flasks_cookies(&[portal.order(&eva())])[0];
    let pair = format!("session={cookie}");
    for lines in [
        vec![format!("{pair}; {pair}")],
        vec![format!("{pair}; session=")],
        vec![format!("session =x;{pair}")],
        vec![pair.clone(), pair.clone()],
        vec!["session=x".to_owned(), pair.clone()],
    ] {
        let headers = headers(lines.iter().map(|line| ("cookie", line.as_bytes())));
        let refused = who(&portal.identity, &headers, tcp(), portal.now);
        assert_eq!(refused, said(Why::CookieTwice), "{lines:?}");
    }
    // Others of another name, in other letters and other bytes, are none of ours.
    let line = format!("Session=x; xsession=y; n=\u{e9}; {pair}; session_id=z; session");
    let found = who(&portal.identity, &headers([("cookie", line.as_bytes())]), tcp(), portal.now);
    assert_eq!(found, EVA);
}

#[test]
fn a_line_end_in_the_key_file_is_part_of_the_key_or_not() {
    let portal = Portal::new();
    for end in ["\n", "\r\n"] {
        let with_end = [&portal.key, end.as_bytes()].concat();
        portal.keys.put("secret_key", &with_end, 0o600);
        let mut order = portal.order(&eva());
        order["key"] = hex(&with_end).into();
        for cookie in flasks_cookies(&[portal.order(&eva()), order]) {
            assert_eq!(portal.ask(&cookie), EVA, "{end:?}");
        }
    }
}

#[test]
fn a_new_key_counts_at_once_and_a_lost_one_lets_nobody_in() {
    let portal = Portal::new();
    let cookie = &flasks_cookies(&[portal.order(&eva())])[0];
    assert_eq!(portal.ask(cookie), EVA);
    let path = portal.keys.put("secret_key", &[b'k'; 32], 0o600);
    assert_eq!(portal.ask(cookie), said(Why::Signature));
    portal.keys.put("secret_key", &portal.key, 0o644);
    assert!(portal.ask(cookie).contains("others may read it"), "{}", portal.ask(cookie));
    fs::remove_file(&path).unwrap();
    assert_eq!(portal.ask(cookie), format!("the key file {} cannot be read", path.display()));
}
