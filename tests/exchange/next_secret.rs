//! A shared secret that changes: `<NAME>_NEXT` is tried when the service refuses the first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service_connector::exchange::{Exchange, RawCall, Secrets, Shown};
use service_connector::model::outcome::{Failure, RevokeAnswer};
use service_connector::model::registry::{Contract, Endpoint};

use crate::server::*;

const OLD: &str = "old-5f1c";
/// The old one is its beginning.
const NEW: &str = "old-5f1c-and-more-9b3e";
const BOTH: [(&str, &str); 2] = [("SC_SECRET_PO", OLD), ("SC_SECRET_PO_NEXT", NEW)];

/// An exchange that finds these files.
fn knowing(files: &[(&str, &str)]) -> Exchange {
    let dir = tempfile::tempdir().unwrap();
    for (name, secret) in files {
        std::fs::write(dir.path().join(name), format!("{secret}\n")).unwrap();
    }
    Exchange::new(Secrets::from_dir(dir.path(), [&"SC_SECRET_PO".parse().unwrap()]))
}

/// A service that takes this secret, and tells everybody else so, with this status and both secrets.
fn that_takes(secret: &'static str, refusal: &'static str) -> Server {
    Server::start(Manner::By(Arc::new(move |request| {
        let detail = format!(r#"{{"title":"no","detail":"it was {OLD}, it is {NEW}!"}}"#);
        let is_it = shown(request) == secret;
        Manner::Keep(if is_it { json("200 OK", "", GRANT) } else { json(refusal, "", &detail) })
    })))
}

const GRANT: &str =
    r#"{"status":"ok","api_key":"pk_1","token_id":"t1","expires_at":"2027-01-01T00:00:00Z"}"#;
const REFUSED: &str = "401 Unauthorized";

fn shown(request: &str) -> &str {
    let mut lines = request.lines();
    lines.find_map(|line| line.strip_prefix("authorization: Bearer ")).expect("a secret is shown")
}

/// The secrets that were shown since it was last asked.
fn shown_to(server: &Server) -> Vec<String> {
    server.heard().iter().map(|request| shown(request).to_owned()).collect()
}

async fn ask(exchange: &Exchange, endpoint: &Endpoint) -> (String, String) {
    in_a_word(issue(exchange, endpoint).await.what)
}

fn revoke_failure(answer: RevokeAnswer) -> Option<Failure> {
    match answer {
        RevokeAnswer::Confirmed => None,
        RevokeAnswer::Failed(failure) => Some(failure),
    }
}

#[tokio::test]
async fn the_next_secret_is_shown_with_the_very_same_call_when_the_first_gets_401() {
    for contract in [Contract::V1, Contract::V2] {
        let server = that_takes(NEW, REFUSED);
        let endpoint = endpoint(server.port, contract);
        assert_eq!(ask(&knowing(&BOTH), &endpoint).await.0, "granted");
        let heard = server.heard();
        assert_eq!(heard.len(), 2);
        assert_eq!((shown(&heard[0]), shown(&heard[1])), (OLD, NEW));
        let without = |request: &str, secret| request.replace(secret, "");
        assert_eq!(without(&heard[0], OLD), without(&heard[1], NEW));
        assert_eq!(heard[0].contains(OP), contract == Contract::V2);
    }
    let server = that_takes(NEW, REFUSED);
    let endpoint = endpoint(server.port, Contract::V2);
    assert!(revoke_failure(revoke(&knowing(&BOTH), &endpoint).await.what).is_none());
    assert_eq!(shown_to(&server), [OLD, NEW]);
}

#[tokio::test]
async fn a_call_of_any_form_shows_the_next_secret_too() {
    let server = that_takes(NEW, REFUSED);
    let endpoint = endpoint(server.port, Contract::V2);
    let (url, shown) = (endpoint.list_url.as_str(), Shown::SharedSecret);
    let call = RawCall { url, body: None, idempotency_key: None, shown };
    let exchange = knowing(&BOTH);
    assert!(exchange.raw(&endpoint, &call).await.is_ok_and(|reply| reply.status == 200));
    assert_eq!(shown_to(&server), [OLD, NEW]);
    // Each whole, though one begins like the other.
    assert_eq!(exchange.without_secrets(&format!("{NEW} {OLD}")), "(secret) (secret)");
}

#[tokio::test]
async fn a_secret_that_was_taken_goes_first_from_then_on() {
    let (changed, behind) = (that_takes(NEW, REFUSED), that_takes(OLD, REFUSED));
    let of = |server: &Server| endpoint(server.port, Contract::V2);
    let exchange = knowing(&BOTH);
    for expected in [&[OLD, NEW][..], &[NEW], &[NEW]] {
        assert_eq!(ask(&exchange, &of(&changed)).await.0, "granted");
        assert_eq!(shown_to(&changed), expected);
    }
    // Another service under the same name, which has not changed yet, is not shut out.
    for expected in [&[NEW, OLD][..], &[OLD]] {
        assert!(revoke_failure(revoke(&exchange, &of(&behind)).await.what).is_none());
        assert_eq!(shown_to(&behind), expected);
    }
}

#[tokio::test]
async fn both_are_refused_by_name_and_neither_is_told() {
    let server = that_takes("another", REFUSED);
    let endpoint = endpoint(server.port, Contract::V2);
    let exchange = knowing(&BOTH);
    let revoked = revoke_failure(revoke(&exchange, &endpoint).await.what).unwrap();
    for (found, message) in [ask(&exchange, &endpoint).await, of_failure(revoked)] {
        assert_eq!(found, "secret refused");
        let expected = ": 401 Unauthorized (both SC_SECRET_PO and SC_SECRET_PO_NEXT are refused): no: \
                        it was (secret), it is (secret)!";
        assert!(message.ends_with(expected), "{message}");
    }
    assert_eq!(shown_to(&server), [OLD, NEW, OLD, NEW]);
}

#[tokio::test]
async fn only_a_401_is_tried_again() {
    let others = ["403 Forbidden", "400 Bad Request", "404 Not Found", "500 Broken", "503 Busy"];
    for status in others {
        let server = that_takes(NEW, status);
        let endpoint = endpoint(server.port, Contract::V2);
        let exchange = knowing(&BOTH);
        let (found, message) = ask(&exchange, &endpoint).await;
        assert_ne!(found, "granted", "{status}");
        assert!(!message.contains("old-5f1c") && !message.contains("and-more"), "{message}");
        assert!(revoke_failure(revoke(&exchange, &endpoint).await.what).is_some(), "{status}");
        assert_eq!(shown_to(&server), [OLD, OLD], "{status}");
    }
}

#[tokio::test]
async fn one_that_is_fit_is_enough_and_is_shown_once() {
    let name = "SC_SECRET_PO".parse().unwrap();
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("SC_SECRET_PO_NEXT", NEW)], NEW),
        (&[("SC_SECRET_PO", "un fit"), ("SC_SECRET_PO_NEXT", NEW)], NEW),
        (&[("SC_SECRET_PO", OLD), ("SC_SECRET_PO_NEXT", "un fit")], OLD),
        (&[("SC_SECRET_PO", OLD), ("SC_SECRET_PO_NEXT", "")], OLD),
        (&[("SC_SECRET_PO", OLD), ("SC_SECRET_PO_NEXT", OLD)], OLD),
    ];
    for (files, expected) in cases {
        let server = that_takes("another", REFUSED);
        let exchange = knowing(files);
        assert!(exchange.lacks_secret(&name).is_none(), "{files:?}");
        let (found, message) = ask(&exchange, &endpoint(server.port, Contract::V2)).await;
        assert_eq!(found, "secret refused", "{files:?}");
        assert!(!message.contains("_NEXT"), "there were no two: {message}");
        assert_eq!(shown_to(&server), [expected], "{files:?}");
    }
    let neither = knowing(&[("SC_SECRET_PO", "un fit"), ("SC_SECRET_PO_NEXT", "un fit")]);
    assert!(neither.lacks_secret(&name).is_some());
}

#[tokio::test]
async fn the_longest_name_has_no_next_one() {
    let name = format!("SC_SECRET_{}", "X".repeat(54)).parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(format!("{name}_NEXT")), NEW).unwrap();
    let exchange = Exchange::new(Secrets::from_dir(dir.path(), [&name]));
    assert!(exchange.lacks_secret(&name).is_some());
}

/// A service whose 401 comes as `refuse` says, and which never answers to the new secret.
fn that_refuses(refuse: impl Fn() -> Manner + Send + Sync + 'static) -> Server {
    Server::start(Manner::By(Arc::new(move |request| {
        if shown(request) == OLD { refuse() } else { Manner::Hang(Vec::new()) }
    })))
}

#[tokio::test]
async fn both_calls_share_one_deadline() {
    let server = that_refuses(|| {
        std::thread::sleep(Duration::from_secs(4));
        // Said, or the next call may come to a connection that ends.
        Manner::Say(json(REFUSED, "Connection: close\r\n", "{}"))
    });
    let endpoint = Endpoint { timeout_seconds: 5, ..endpoint(server.port, Contract::V2) };
    let start = Instant::now();
    let (found, message) = ask(&knowing(&BOTH), &endpoint).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(found, "unknown", "{message}");
    assert!(message.ends_with("timed out after 5 s"), "{message}");
}

#[tokio::test]
async fn a_refusal_that_takes_all_the_time_there_is_is_the_answer() {
    let head = format!("HTTP/1.1 {REFUSED}\r\nContent-Length: 60000\r\n\r\n");
    let server = that_refuses(move || Manner::Drip(head.clone().into_bytes()));
    let endpoint = Endpoint { timeout_seconds: 1, ..endpoint(server.port, Contract::V2) };
    assert_eq!(ask(&knowing(&BOTH), &endpoint).await.0, "secret refused");
    assert_eq!(shown_to(&server), [OLD]);
}
