//! Services that are down, slow, elsewhere or up to no good.

use std::time::{Duration, Instant};

use crate::server::*;
use service_connector::exchange::{Exchange, Secrets};
use service_connector::model::registry::{Contract, Endpoint};

/// What an ask at this endpoint comes to.
async fn ask(endpoint: &Endpoint) -> (String, String) {
    in_a_word(issue(&exchange(), endpoint).await.what)
}

/// What an ask of a server of this manner comes to. It ends within its one second.
async fn ask_one_that(manner: Manner) -> (String, String) {
    let server = Server::start(manner);
    let start = Instant::now();
    let found = ask(&Endpoint { timeout_seconds: 1, ..endpoint(server.port, Contract::V2) }).await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    found
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{\"api_key\":\"pk_1\"";

#[tokio::test]
async fn a_silent_service_is_given_up_at_the_deadline() {
    let (found, message) = ask_one_that(Manner::Hang(Vec::new())).await;
    assert_eq!(found, "unknown");
    assert!(message.ends_with("/api/internal/token-exchange: timed out after 1 s"), "{message}");
}

#[tokio::test]
async fn one_that_stops_in_its_body_is_given_up_at_the_deadline() {
    let (found, message) = ask_one_that(Manner::Hang(HEAD.to_vec())).await;
    assert_eq!(found, "unknown");
    assert!(message.ends_with(": 200 OK, but its body did not end within 1 s"), "{message}");
}

#[tokio::test]
async fn dripping_does_not_move_the_deadline() {
    let (found, message) = ask_one_that(Manner::Drip(HEAD.to_vec())).await;
    assert_eq!(found, "unknown");
    assert!(message.contains("did not end within 1 s"), "{message}");
    let in_head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    let (found, message) = ask_one_that(Manner::Drip(in_head)).await;
    assert_eq!(found, "unknown");
    assert!(message.contains("timed out after 1 s"), "{message}");
}

#[tokio::test]
async fn an_endless_body_is_cut_at_64_kib() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let (found, message) = ask_one_that(Manner::Endless(head)).await;
    assert_eq!(found, "unknown");
    assert!(message.contains("longer than 64 KiB"), "{message}");
    let head = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n".to_vec();
    assert_eq!(ask_one_that(Manner::Endless(head)).await.0, "rejected");
    let head = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    assert_eq!(ask_one_that(Manner::Endless(head)).await.0, "unknown");
}

#[tokio::test]
async fn nobody_there_is_said_in_three_words() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let (found, message) = ask(&endpoint(port, Contract::V2)).await;
    assert_eq!(found, "unreached");
    let url = format!("http://127.0.0.1:{port}/api/internal/token-exchange");
    assert_eq!(message, format!("POST {url}: connection refused"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(Manner::Say(json("200 OK", "", "{}")));
    let away = format!("Location: http://127.0.0.1:{}/\r\n", other.port);
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let server = Server::start(Manner::Say(json(status, &away, "{}")));
        let (found, message) = ask(&endpoint(server.port, Contract::V2)).await;
        assert_eq!(found, "rejected");
        assert!(message.ends_with(" (redirects are not followed)"), "{message}");
        assert_eq!(server.heard().len(), 1);
    }
    assert!(other.heard().is_empty());
}

#[tokio::test]
async fn the_secret_is_not_sent_where_others_can_read_it() {
    let server = Server::start(Manner::Say(Vec::new()));
    let port = server.port;
    let refused = [
        format!("http://po.internal.example.com:{port}/"),
        format!("http://localhost.example.com:{port}/"),
        format!("http://127.0.0.1.example.com:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::]:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("http://john:hunter2@127.0.0.1:{port}/"),
        "unix:/run/x".to_owned(),
        "hunter2".to_owned(),
    ];
    for url in refused {
        let endpoint = Endpoint { exchange_url: url.clone(), ..endpoint(port, Contract::V2) };
        let (found, message) = ask(&endpoint).await;
        assert_eq!(found, "rejected", "{url}");
        assert!(message.contains("not sent") && !message.contains("hunter2"), "{message}");
    }
    assert!(server.heard().is_empty());
    for host in ["localhost", "127.0.0.1", "127.0.0.2", "2130706433"] {
        let exchange_url = format!("http://{host}:{port}/");
        ask(&Endpoint { exchange_url, ..endpoint(port, Contract::V2) }).await;
    }
    // 127.0.0.2 is this machine, though the server does not listen there.
    assert_eq!(server.heard().len(), 3);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_not_asked_with() {
    let server = Server::start(Manner::Say(Vec::new()));
    let exchange = Exchange::new(Secrets::default());
    let endpoint = endpoint(server.port, Contract::V2);
    assert!(exchange.lacks_secret(&endpoint.secret).is_some());
    let (found, message) = in_a_word(issue(&exchange, &endpoint).await.what);
    assert_eq!(found, "secret refused");
    assert!(message.ends_with("the shared secret SC_SECRET_PO is not set"), "{message}");
    assert!(server.heard().is_empty());
}
