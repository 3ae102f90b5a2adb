//! A reverse proxy's header, by itself and among others that a client sent.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use proptest::prelude::*;
use service_connector::identity::{Identity, Peer, Why};

use crate::asked::{configure, headers, said, tcp, who};

const PROXY: Peer = Peer::Unix { uid: 33 };

fn identity() -> Identity {
    configure("header: { name: X-Remote-Email, peers: [33, '1005'] }").unwrap()
}

fn ask(pairs: &[(&str, &str)], peer: Peer) -> String {
    let headers = headers(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
    who(&identity(), &headers, peer, Timestamp::now())
}

#[test]
fn the_proxys_header_is_believed_from_a_listed_peer() {
    let john = [("X-Remote-Email", "John@Your-Domain.com")];
    assert_eq!(ask(&john, PROXY), "john@your-domain.com by Header");
    assert_eq!(ask(&john, Peer::Unix { uid: 1005 }), "john@your-domain.com by Header");
    assert_eq!(ask(&[("x-remote-email", "a@b")], PROXY), "a@b by Header");
    assert_eq!(ask(&[("accept", "a@b")], PROXY), "nobody");
}

#[test]
fn from_any_other_connection_the_header_refuses_the_request() {
    let john = [("X-Remote-Email", "john@your-domain.com")];
    for peer in [tcp(), Peer::Unix { uid: 0 }, Peer::Unix { uid: 1006 }] {
        assert_eq!(ask(&john, peer), said(Why::NotAPeer), "{peer:?}");
        assert_eq!(ask(&[], peer), "nobody", "{peer:?}");
    }
}

#[test]
fn a_value_that_is_not_one_address_is_refused() {
    for value in [
        "",
        "john",
        "a@b,c@d",
        "a@b, c@d",
        "a@b c@d",
        "a@b\tc@d",
        "<a@b>",
        "A B <a@b>",
        "a@b;c@d",
        "a@b@c",
        "j\u{f6}hn@b",
        "\"a\"@b",
        "a@b\u{a0}",
    ] {
        assert_eq!(ask(&[("x-remote-email", value)], PROXY), said(Why::NoAddress), "{value:?}");
    }
}

#[test]
fn a_second_header_or_one_that_looks_like_it_is_refused() {
    let right = ("x-remote-email", "eva@your-domain.com");
    assert_eq!(ask(&[right, right], PROXY), said(Why::HeaderTwice));
    for name in
        ["X_Remote_Email", "x-remote_email", "x.remote.email", "X-REMOTE_EMAIL", "x~remote|email"]
    {
        let forged = (name, "eva@your-domain.com");
        for pairs in [vec![forged], vec![right, forged], vec![forged, right]] {
            assert_eq!(ask(&pairs, PROXY), said(Why::LookAlike), "{pairs:?}");
        }
        assert_eq!(ask(&[forged], tcp()), said(Why::LookAlike), "{name}");
    }
    // Others only begin or end alike.
    for name in ["x-remote-email-id", "xremoteemail", "remote-email"] {
        assert_eq!(ask(&[right, (name, "b@c")], PROXY), "eva@your-domain.com by Header", "{name}");
    }
}

fn name() -> impl Strategy<Value = String> {
    let between = || prop_oneof![6 => Just("-"), 1 => Just("_"), 1 => Just("."), 1 => Just("")];
    let word = |word: &'static str| {
        prop_oneof![
            Just(word.to_owned()),
            Just(word.to_ascii_uppercase()),
            Just(word[..1].to_ascii_uppercase() + &word[1..]),
        ]
    };
    let ours = (word("x"), between(), word("remote"), between(), word("email"))
        .prop_map(|(a, b, c, d, e)| format!("{a}{b}{c}{d}{e}"));
    let others = prop_oneof![
        Just("cookie"),
        Just("x-remote-user"),
        Just("x-forwarded-email"),
        Just("x-remote-emails"),
        Just("authorization")
    ];
    prop_oneof![4 => ours, 1 => others.prop_map(str::to_owned)]
}

fn value() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("eva@your-domain.com"),
        2 => Just("john@your-domain.com"),
        1 => Just("eva@your-domain.com, john@your-domain.com"),
        1 => Just("eva"),
        1 => Just(""),
    ]
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        4 => Just(PROXY),
        1 => Just(Peer::Unix { uid: 1001 }),
        1 => Just(tcp()),
    ]
}

/// What the rules say, put another way: the peer is listed, one header of all folds to the name,
/// it has the very name, and its value is one address.
fn expected(pairs: &[(String, &'static str)], peer: Peer) -> Option<&'static str> {
    let fold = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let like: Vec<_> = pairs.iter().filter(|(name, _)| fold(name) == "x-remote-email").collect();
    let [(name, value)] = like[..] else { return None };
    let is_right = peer == PROXY && name.eq_ignore_ascii_case("x-remote-email");
    (is_right && value.ends_with("@your-domain.com") && !value.contains(',')).then_some(*value)
}

proptest! {
    #[test]
    fn no_combination_of_headers_makes_somebody_of_a_client(
        pairs in proptest::collection::vec((name(), value()), 0..4),
        peer in peer(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_static(value));
        }
        let asker = identity().who(&headers, peer, Timestamp::UNIX_EPOCH).ok();
        let email = asker.as_ref().map(|asker| asker.email.as_str());
        prop_assert_eq!(email, expected(&pairs, peer));
    }
}
