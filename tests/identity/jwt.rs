//! JSON Web Tokens: those of a real issuer, and those that somebody makes up.

use std::path::Path;

use axum::http::HeaderMap;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use service_connector::identity::{Identity, Why};

use crate::asked::{Keys, configure, headers, said, tcp, who};

const EVA: &str = "eva@your-domain.com by Bearer";

pub fn config(algorithm: &str, key_file: &Path, place: &str) -> String {
    format!(
        "jwt: {{ {place}, algorithm: {algorithm}, key_file: {}, \
         issuer: 'https://login.your-domain.com', audience: portal }}",
        key_file.display()
    )
}

/// An issuer, and a portal that trusts it.
struct Issuer {
    _keys: Keys,
    algorithm: Algorithm,
    key: EncodingKey,
    /// What the portal has: the secret, or the public key.
    public: Vec<u8>,
    identity: Identity,
    now: i64,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let (key, public) = match algorithm {
            Algorithm::HS256 => {
                let secret = format!("{:032x}", fastrand::u128(..)).into_bytes();
                (EncodingKey::from_secret(&secret), secret)
            }
            Algorithm::RS256 => {
                let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
                let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
                (key, pair.public_key_pem().into_bytes())
            }
            _ => {
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
                let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
                (key, pair.public_key_pem().into_bytes())
            }
        };
        let keys = Keys::new();
        let mode = if algorithm == Algorithm::HS256 { 0o600 } else { 0o644 };
        let path = keys.put("key", &public, mode);
        let config = config(&format!("{algorithm:?}"), &path, "bearer: true");
        let identity = configure(&config).unwrap();
        let now = Timestamp::now().as_second();
        Self { _keys: keys, algorithm, key, public, identity, now }
    }

    fn all() -> [Self; 3] {
        [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256].map(Self::new)
    }

    fn claims(&self) -> Value {
        json!({
            "iss": "https://login.your-domain.com",
            "aud": "portal",
            "exp": self.now + 600,
            "email": "Eva@Your-Domain.com",
        })
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.key).unwrap()
    }

    /// The right claims, but for these: null takes one away.
    fn with(&self, changes: &Value) -> String {
        let mut claims = self.claims();
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.sign(&claims)
    }

    fn ask(&self, token: &str) -> String {
        who(&self.identity, &bearer(token), tcp(), Timestamp::from_second(self.now).unwrap())
    }
}

fn bearer(token: &str) -> HeaderMap {
    headers([("authorization", format!("Bearer {token}").as_bytes())])
}

fn part(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

#[test]
fn a_token_of_the_issuers_says_who_asks() {
    for issuer in Issuer::all() {
        for changes in [
            json!({}),
            json!({ "aud": ["portal"] }),
            json!({ "aud": ["other", "portal"] }),
            json!({ "nbf": issuer.now, "iat": issuer.now, "email_verified": true }),
            json!({ "email_verified": "true" }),
            // Clocks differ by up to a minute.
            json!({ "exp": issuer.now - 59 }),
            json!({ "nbf": issuer.now + 60 }),
        ] {
            let token = issuer.with(&changes);
            assert_eq!(issuer.ask(&token), EVA, "{:?} {changes}", issuer.algorithm);
        }
    }
}

#[test]
fn a_token_that_is_not_for_us_or_not_for_now_is_refused() {
    for issuer in Issuer::all() {
        for (changes, why) in [
            (json!({ "iss": "https://evil.example" }), Why::Issuer),
            (json!({ "iss": "https://login.your-domain.com/" }), Why::Issuer),
            (json!({ "iss": null }), Why::Malformed),
            (json!({ "iss": 7 }), Why::Malformed),
            (json!({ "aud": "other" }), Why::Audience),
            (json!({ "aud": ["other", "portal2"] }), Why::Audience),
            (json!({ "aud": [] }), Why::Audience),
            (json!({ "aud": null }), Why::Malformed),
            (json!({ "exp": issuer.now - 60 }), Why::Ended),
            (json!({ "exp": 0 }), Why::Ended),
            (json!({ "exp": null }), Why::Malformed),
            (json!({ "exp": "soon" }), Why::Malformed),
            (json!({ "exp": (issuer.now + 600).to_string() }), Why::Malformed),
            (json!({ "exp": -1 }), Why::Malformed),
            (json!({ "nbf": issuer.now + 61 }), Why::FromTheFuture),
            (json!({ "nbf": "later" }), Why::Malformed),
            (json!({ "email": null }), Why::NoAddress),
            (json!({ "email": "eva" }), Why::NoAddress),
            (json!({ "email": ["eva@your-domain.com"] }), Why::NoAddress),
            (json!({ "email_verified": false }), Why::NotVerified),
            (json!({ "email_verified": "false" }), Why::NotVerified),
            (json!({ "email_verified": 1 }), Why::NotVerified),
        ] {
            let token = issuer.with(&changes);
            assert_eq!(issuer.ask(&token), said(why), "{:?} {changes}", issuer.algorithm);
        }
    }
}

#[test]
fn a_token_that_another_signed_is_refused() {
    for issuer in Issuer::all() {
        let token = Issuer::new(issuer.algorithm).sign(&issuer.claims());
        assert_eq!(issuer.ask(&token), said(Why::Signature), "{:?}", issuer.algorithm);
    }
}

#[test]
fn a_token_with_another_algorithm_is_refused() {
    for issuer in Issuer::all() {
        // The public key, which everybody may know, as if it were a secret.
        let confused = EncodingKey::from_secret(&issuer.public);
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let token = encode(&Header::new(algorithm), &issuer.claims(), &confused).unwrap();
            if algorithm != issuer.algorithm {
                assert_eq!(issuer.ask(&token), said(Why::Algorithm), "{:?}", issuer.algorithm);
            }
        }
        let claims = part(&issuer.claims());
        for algorithm in ["none", "None", "NONE", ""] {
            let header = part(&json!({ "alg": algorithm, "typ": "JWT" }));
            for signature in ["", "AAAA"] {
                let token = format!("{header}.{claims}.{signature}");
                assert_eq!(issuer.ask(&token), said(Why::Malformed), "{algorithm:?}");
            }
        }
        // The issuer's own signature under another header.
        let token = issuer.sign(&issuer.claims());
        let (_, rest) = token.split_once('.').unwrap();
        let header = part(&json!({ "alg": "ES384" }));
        assert_eq!(issuer.ask(&format!("{header}.{rest}")), said(Why::Algorithm));
    }
}

#[test]
fn a_token_with_an_extension_that_must_be_known_is_refused() {
    for issuer in Issuer::all() {
        let mut header = Header::new(issuer.algorithm);
        header.crit = Some(vec!["exp".to_owned()]);
        let token = encode(&header, &issuer.claims(), &issuer.key).unwrap();
        assert_eq!(issuer.ask(&token), said(Why::Malformed));
    }
}

#[test]
fn a_token_with_any_byte_changed_is_refused() {
    for issuer in Issuer::all() {
        let token = issuer.sign(&issuer.claims());
        for place in 0..token.len() {
            let (before, after) = (&token[..place], &token[place + 1..]);
            let others = "Ag9_.".chars().filter(|other| !token[place..].starts_with(*other));
            for other in others {
                let changed = format!("{before}{other}{after}");
                assert!(!issuer.ask(&changed).contains('@'), "{changed}");
            }
            assert!(!issuer.ask(&format!("{before}{after}")).contains('@'));
        }
    }
}

#[test]
fn what_is_no_token_at_all_is_refused() {
    let issuer = Issuer::new(Algorithm::ES256);
    for token in ["", ".", "..", "...", "a.b.c", "\u{e9}.b.c", "a b"] {
        assert_eq!(issuer.ask(token), said(Why::Malformed), "{token:?}");
    }
    assert_eq!(issuer.ask(&"a".repeat(4097)), said(Why::TooLong));
}

#[test]
fn a_bearer_token_is_looked_for_where_it_belongs() {
    let issuer = Issuer::new(Algorithm::ES256);
    let token = issuer.sign(&issuer.claims());
    let now = Timestamp::from_second(issuer.now).unwrap();
    let ask = |lines: &[&str]| {
        let headers = headers(lines.iter().map(|line| ("authorization", line.as_bytes())));
        who(&issuer.identity, &headers, tcp(), now)
    };
    let right = format!("Bearer {token}");
    assert_eq!(ask(&[&format!("bearer {token}")]), EVA);
    assert_eq!(ask(&[]), "nobody");
    assert_eq!(ask(&["Basic ZXZhOmV2YQ=="]), "nobody");
    assert_eq!(ask(&["Bearer"]), said(Why::Malformed));
    assert_eq!(ask(&[&right, &right]), said(Why::HeaderTwice));
    assert_eq!(ask(&[&right, "Basic ZXZhOmV2YQ=="]), said(Why::HeaderTwice));
    // Not as a cookie, which is not configured.
    let line = format!("token={token}");
    let cookie = headers([("cookie", line.as_bytes())]);
    assert_eq!(who(&issuer.identity, &cookie, tcp(), now), "nobody");
}

#[test]
fn a_key_that_is_not_fit_is_refused_at_start() {
    let keys = Keys::new();
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let both = rsa.public_key_pem() + &rsa.serialize_pem();
    let two = rsa.public_key_pem() + &p256.public_key_pem();
    for (algorithm, key, says) in [
        ("RS256", rsa.serialize_pem(), "it holds a private key"),
        ("RS256", both, "it holds a private key"),
        ("RS256", two, "it is not one public key"),
        ("RS256", p256.public_key_pem(), "it is not an RSA public key of 2048 to 8192 bits"),
        ("RS256", SHORT_RSA.to_owned(), "it is not an RSA public key of 2048 to 8192 bits"),
        ("RS256", String::new(), "it is not one public key"),
        ("RS256", "s".repeat(64), "it is not one public key"),
        ("ES256", p256.serialize_pem(), "it holds a private key"),
        ("ES256", rsa.public_key_pem(), "it is not a public key on P-256"),
        ("ES256", p384.public_key_pem(), "it is not a public key on P-256"),
        ("HS256", "s".repeat(31), "the secret has fewer than 32 bytes"),
        ("HS256", "s".repeat(31) + "\n", "the secret has fewer than 32 bytes"),
        ("HS256", String::new(), "the secret has fewer than 32 bytes"),
        ("HS256", rsa.public_key_pem(), "this is a PEM file"),
    ] {
        let path = keys.put("key", key.as_bytes(), 0o600);
        let error = configure(&config(algorithm, &path, "bearer: true")).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says), "{algorithm} {key}: {error:?}");
        assert!(key.is_empty() || !error.contains(&key), "{error:?}");
    }
    for (algorithm, key) in [
        ("RS256", rsa.public_key_pem()),
        ("ES256", p256.public_key_pem()),
        ("HS256", "s".repeat(32) + "\n"),
    ] {
        let path = keys.put("key", key.as_bytes(), 0o600);
        assert!(configure(&config(algorithm, &path, "bearer: true")).is_ok(), "{algorithm}");
    }
}

/// 1024 bits. Its private key is nowhere.
const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDKi76Xkia10SgK/sYw9fuuEMta
dAxrFuQevdaUJvllaHicPzn45xwpUeOLAMjOonPLgAPPG12cY6D8IWTpwU0N1+Ky
oBLWuTXAIK8+7dN9iLiteNoGJJaqwuLQGzLItpN+s/vrycLK5L5yebe0UANJ0Dcc
9lJnSAlY9DjPz02U1QIDAQAB
-----END PUBLIC KEY-----
";
