//! Whom a service's certificate must come from. `tls/README.md` says what the files are.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use service_connector::model::registry::{Contract, Endpoint};

use crate::server::*;

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchange/tls").join(name)
}

/// A TLS server with this certificate. It tells of each request that it can read.
fn start(certificate: &str) -> (u16, Receiver<String>) {
    let chain = vec![CertificateDer::from_pem_file(pem(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            // None comes when the client refuses the certificate.
            if let Some(request) = request(&mut stream) {
                stream.write_all(&json("404 Not Found", "", "{}")).unwrap();
                tell.send(request).unwrap();
            }
        }
    });
    (port, heard)
}

fn endpoint_at(port: u16, ca_file: Option<PathBuf>) -> Endpoint {
    let ca_file = ca_file.map(|path| path.to_str().unwrap().to_owned());
    let exchange_url = format!("https://127.0.0.1:{port}/");
    Endpoint { exchange_url, ca_file, ..endpoint(port, Contract::V2) }
}

#[tokio::test]
async fn only_a_certificate_that_proves_the_service_gets_the_secret() {
    let cases = [
        ("here.pem", "ca.pem", "rejected", ": 404 Not Found"),
        ("here.pem", "stranger.pem", "unknown", ": TLS: invalid peer certificate: UnknownIssuer"),
        (
            "other.pem",
            "ca.pem",
            "unknown",
            ": TLS: invalid peer certificate: certificate not valid for name",
        ),
        ("over.pem", "ca.pem", "unknown", ": TLS: invalid peer certificate: certificate expired"),
    ];
    for (certificate, authority, meaning, said) in cases {
        let (port, heard) = start(certificate);
        let endpoint = endpoint_at(port, Some(pem(authority)));
        let (found, message) = in_a_word(issue(&exchange(), &endpoint).await.what);
        assert_eq!(found, meaning, "{certificate} {authority}: {message}");
        assert!(message.contains(said), "{certificate} {authority}: {message}");
        // Names in a certificate are its maker's words.
        assert!(message.len() < 300, "{message}");
        let trusted = heard.try_iter().any(|request| request.contains(SECRET));
        assert_eq!(trusted, meaning == "rejected", "{certificate} {authority}");
    }
}

#[tokio::test]
async fn the_systems_authorities_do_not_vouch_for_a_private_one() {
    let (port, heard) = start("here.pem");
    // A machine without any authorities refuses even earlier.
    let (found, message) = in_a_word(issue(&exchange(), &endpoint_at(port, None)).await.what);
    assert!(found == "unknown" || found == "rejected", "{message}");
    assert!(!message.contains("404"), "{message}");
    assert_eq!(heard.try_iter().count(), 0);
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_gets_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&json("200 OK", "", "{}")).unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).map(|_| heard)
    });
    let endpoint = endpoint_at(port, Some(pem("ca.pem")));
    let (found, message) = in_a_word(issue(&exchange(), &endpoint).await.what);
    assert_eq!(found, "unknown");
    assert!(message.contains(": TLS: "), "{message}");
    // A reset is as good: then nothing was left to hear.
    let heard = heard.join().unwrap().unwrap_or_default();
    assert!(!String::from_utf8_lossy(&heard).contains(SECRET));
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_not_the_systems() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let (port, heard) = start("here.pem");
    let endpoint = endpoint_at(port, Some(path.clone()));
    let exchange = exchange();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, said) in [
        (None, "No such file"),
        (Some(""), "ca.pem: has no certificate"),
        (Some("-----BEGIN CERTIFICATE-----\n"), "ca.pem: is not PEM"),
        (Some(garbage), "ca.pem: "),
    ] {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let (found, message) = in_a_word(issue(&exchange, &endpoint).await.what);
        assert_eq!(found, "rejected", "{message}");
        assert!(message.contains("not sent: the ca_file ") && message.contains(said), "{message}");
    }
    assert_eq!(heard.try_iter().count(), 0);
    // Mended, it counts at once.
    std::fs::copy(pem("ca.pem"), &path).unwrap();
    let (_, message) = in_a_word(issue(&exchange, &endpoint).await.what);
    assert!(message.contains("404 Not Found"), "{message}");
}
