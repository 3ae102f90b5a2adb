//! What is sent.

use crate::server::*;
use service_connector::exchange::RevokeBy;
use service_connector::model::registry::Contract;

const HEADERS: &str = "accept: application/json\r\n\
    accept-encoding: identity\r\n\
    content-type: application/json\r\n\
    authorization: Bearer shared-secret-5f1c\r\n";

const AGENT: &str = concat!("user-agent: service-connector/", env!("CARGO_PKG_VERSION"), "\r\n");

/// Exactly what a POST looks like.
fn post(path: &str, more: &str, port: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\n{HEADERS}{more}{AGENT}host: 127.0.0.1:{port}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

fn server() -> Server {
    Server::start(Manner::Say(json("404 Not Found", "Connection: close\r\n", "{}")))
}

#[tokio::test]
async fn a_v2_ask_carries_its_op_id_in_body_and_header() {
    let server = server();
    issue(&exchange(), &endpoint(server.port, Contract::V2)).await;
    let body =
        format!(r#"{{"user_email":"john@your-domain.com","ttl_days":90,"client_ref":"{OP}"}}"#);
    let key = format!("idempotency-key: {OP}\r\n");
    let expected = post("/api/internal/token-exchange", &key, server.port, &body);
    assert_eq!(server.heard(), [expected]);
}

#[tokio::test]
async fn a_v1_ask_knows_no_op_ids() {
    let server = server();
    issue(&exchange(), &endpoint(server.port, Contract::V1)).await;
    let body = r#"{"user_email":"john@your-domain.com","ttl_days":90}"#;
    let expected = post("/api/internal/token-exchange", "", server.port, body);
    assert_eq!(server.heard(), [expected]);
}

#[tokio::test]
async fn a_revoke_names_the_token_one_way() {
    let server = server();
    let exchange = exchange();
    let by_id = || RevokeBy::TokenId("t1".parse().unwrap());
    exchange.revoke(&endpoint(server.port, Contract::V1), by_id()).await;
    exchange.revoke(&endpoint(server.port, Contract::V2), by_id()).await;
    revoke(&exchange, &endpoint(server.port, Contract::V2)).await;
    let path = "/api/internal/token-revoke";
    let id = post(path, "", server.port, r#"{"token_id":"t1"}"#);
    let op = post(path, "", server.port, &format!(r#"{{"client_ref":"{OP}"}}"#));
    assert_eq!(server.heard(), [id.clone(), id, op]);
}

#[tokio::test]
async fn a_v1_service_is_never_sent_an_op_id_to_revoke() {
    let server = server();
    let answer = revoke(&exchange(), &endpoint(server.port, Contract::V1)).await;
    let service_connector::model::outcome::RevokeAnswer::Failed(failure) = answer.what else {
        panic!("nothing was asked, nothing can be confirmed")
    };
    assert_eq!(of_failure(failure).0, "rejected");
    assert!(server.heard().is_empty());
}

#[tokio::test]
async fn health_is_asked_without_the_secret() {
    let server = server();
    assert!(exchange().health(&endpoint(server.port, Contract::V2)).await.what.is_err());
    let expected = format!(
        "GET /api/health HTTP/1.1\r\naccept: application/json\r\naccept-encoding: identity\r\n\
         {AGENT}host: 127.0.0.1:{}\r\n\r\n",
        server.port
    );
    assert_eq!(server.heard(), [expected]);
}

#[tokio::test]
async fn a_connection_is_used_again_save_with_v1() {
    // This server would answer a second connection too: it is the reuse that is counted.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Server::start(Manner::Keep(json("200 OK", "", r#"{"status":"ok"}"#)));
    let accepted = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = accepted.clone();
    let behind = kept.port;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut there = std::net::TcpStream::connect(("127.0.0.1", behind)).unwrap();
            let mut here = stream.unwrap();
            let (mut back, mut forth) = (there.try_clone().unwrap(), here.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut here, &mut there));
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
        }
    });
    let exchange = exchange();
    for _ in 0..3 {
        revoke(&exchange, &endpoint(port, Contract::V2)).await;
    }
    assert_eq!(kept.heard().len(), 3);
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
    for _ in 0..2 {
        issue(&exchange, &endpoint(port, Contract::V1)).await;
    }
    assert_eq!(accepted.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn calls_may_be_made_from_any_thread() {
    fn sendable<T: Send>(_: &T) {}
    let (exchange, endpoint) = (exchange(), endpoint(1, Contract::V2));
    sendable(&issue(&exchange, &endpoint));
    sendable(&revoke(&exchange, &endpoint));
    sendable(&exchange.health(&endpoint));
}
