//! No way, several ways at once, and the demo's.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use service_connector::identity::{By, DEMO_COOKIE, Identity, IdentityConfig, Peer, Why};
use service_connector::model::name::Email;

use crate::asked::{Keys, configure, headers, said, tcp, who};

const PROXY: Peer = Peer::Unix { uid: 33 };

/// A portal that takes a header, a token in a cookie, and a bearer token.
struct Portal {
    _keys: Keys,
    key: EncodingKey,
    identity: Identity,
    now: Timestamp,
}

impl Portal {
    fn new() -> Self {
        let keys = Keys::new();
        let secret = format!("{:032x}", fastrand::u128(..));
        let path = keys.put("key", secret.as_bytes(), 0o600);
        let jwt = crate::jwt::config("HS256", &path, "cookie: sso, bearer: true");
        let header = "header: { name: X-Remote-Email, peers: [33] }";
        let identity = configure(&format!("{header}\n{jwt}\n")).unwrap();
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { _keys: keys, key, identity, now: Timestamp::now() }
    }

    fn token(&self, email: &str, lasts: i64) -> String {
        let claims = json!({
            "iss": "https://login.your-domain.com",
            "aud": "portal",
            "exp": self.now.as_second() + lasts,
            "email": email,
        });
        encode(&Header::default(), &claims, &self.key).unwrap()
    }

    fn ask(&self, header: Option<&str>, cookie: Option<&str>, bearer: Option<&str>) -> String {
        let lines = [
            ("x-remote-email", header.map(str::to_owned)),
            ("cookie", cookie.map(|token| format!("sso={token}"))),
            ("authorization", bearer.map(|token| format!("Bearer {token}"))),
        ];
        let there =
            lines.iter().filter_map(|(name, line)| Some((*name, line.as_ref()?.as_bytes())));
        who(&self.identity, &headers(there), PROXY, self.now)
    }
}

#[test]
fn where_nothing_is_configured_nobody_is_anybody() {
    for text in ["{}", ""] {
        let identity = if text.is_empty() {
            Identity::new(&IdentityConfig::default()).unwrap()
        } else {
            configure(text).unwrap()
        };
        assert!(!identity.is_configured());
        let all = headers([
            ("x-remote-email", b"eva@your-domain.com".as_slice()),
            ("cookie", b"session=x; sc_demo=eva@your-domain.com"),
            ("authorization", b"Bearer x.y.z"),
        ]);
        for peer in [PROXY, tcp(), Peer::Unix { uid: 0 }] {
            assert_eq!(who(&identity, &all, peer, Timestamp::now()), "nobody");
        }
    }
}

#[test]
fn ways_that_agree_are_one_person_and_the_first_says_how() {
    let portal = Portal::new();
    let eva = portal.token("eva@your-domain.com", 600);
    let (header, token) = (Some("EVA@your-domain.com"), Some(eva.as_str()));
    for (asked, by) in [
        (portal.ask(header, None, None), By::Header),
        (portal.ask(header, token, token), By::Header),
        (portal.ask(None, token, token), By::Cookie),
        (portal.ask(None, token, None), By::Cookie),
        (portal.ask(None, None, token), By::Bearer),
    ] {
        assert_eq!(asked, format!("eva@your-domain.com by {by:?}"));
    }
    assert!(By::Header.is_ambient() && By::Cookie.is_ambient() && !By::Bearer.is_ambient());
}

#[test]
fn ways_that_name_two_people_are_refused() {
    let portal = Portal::new();
    let (eva, john) = (portal.token("eva@x.cz", 600), portal.token("john@x.cz", 600));
    let (eva, john) = (Some(eva.as_str()), Some(john.as_str()));
    for asked in [
        portal.ask(Some("eva@x.cz"), john, None),
        portal.ask(Some("eva@x.cz"), None, john),
        portal.ask(Some("eva@x.cz"), eva, john),
        portal.ask(None, eva, john),
    ] {
        assert_eq!(asked, said(Why::TwoPeople));
    }
}

#[test]
fn what_is_wrong_refuses_what_is_right_beside_it_unless_it_merely_ended() {
    let portal = Portal::new();
    let (eva, ended) = (portal.token("eva@x.cz", 600), portal.token("john@x.cz", -600));
    let forged = Portal::new().token("eva@x.cz", 600);
    let (eva, ended, forged) = (Some(eva.as_str()), Some(ended.as_str()), Some(forged.as_str()));
    assert_eq!(portal.ask(Some("eva@x.cz"), forged, None), said(Why::Signature));
    assert_eq!(portal.ask(None, forged, eva), said(Why::Signature));
    assert_eq!(portal.ask(None, eva, forged), said(Why::Signature));
    assert_eq!(portal.ask(Some("no address"), eva, None), said(Why::NoAddress));
    assert_eq!(portal.ask(Some("eva@x.cz"), ended, None), "eva@x.cz by Header");
    assert_eq!(portal.ask(None, ended, eva), "eva@x.cz by Bearer");
    assert_eq!(portal.ask(None, ended, None), said(Why::Ended));
}

fn demo(cookie: &str, peer: Peer) -> String {
    let people: Vec<Email> =
        ["john@your-domain.com", "eva@your-domain.com"].map(|email| email.parse().unwrap()).into();
    let line = format!("{DEMO_COOKIE}={cookie}");
    let headers = headers([("cookie", line.as_bytes())]);
    who(&Identity::demo(people), &headers, peer, Timestamp::now())
}

#[test]
fn the_demos_cookie_counts_for_its_people_over_loopback_alone() {
    let from = |address: &str| Peer::Tcp(address.parse::<SocketAddr>().unwrap());
    for peer in [tcp(), from("127.9.9.9:1"), from("[::1]:1"), from("[::ffff:127.0.0.1]:1")] {
        assert_eq!(demo("eva@your-domain.com", peer), "eva@your-domain.com by Cookie");
        assert_eq!(demo("root@your-domain.com", peer), said(Why::NotOfDemo));
        assert_eq!(demo("", peer), said(Why::NotOfDemo));
    }
    for peer in [from("192.0.2.1:1"), from("[2001:db8::1]:1"), from("0.0.0.0:1"), PROXY] {
        assert_eq!(demo("eva@your-domain.com", peer), said(Why::NotLoopback));
    }
    let identity = Identity::demo(vec!["eva@your-domain.com".parse().unwrap()]);
    assert_eq!(who(&identity, &HeaderMap::new(), tcp(), Timestamp::now()), "nobody");
}
