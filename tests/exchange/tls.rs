//! Whom a service's certificate must come from.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use service_connector::model::registry::{Contract, Endpoint};

use crate::server::*;

/// An authority that was made a moment ago.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, valid until the end of this year.
    fn sign(&self, names: &[&str], until: i32) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        (params.signed_by(&key, &self.issuer).unwrap().into(), key)
    }

    fn file(&self, dir: &Path) -> PathBuf {
        let path = dir.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

/// A TLS server with this certificate. It tells of each request that it can read.
fn start((certificate, key): (CertificateDer<'static>, KeyPair)) -> (u16, Receiver<String>) {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
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
    let (known, stranger) = (Authority::new("known"), Authority::new("stranger"));
    let here = &["127.0.0.1", "localhost"][..];
    let not_trusted = ": TLS: invalid peer certificate: UnknownIssuer";
    let not_here = ": TLS: invalid peer certificate: certificate not valid for name";
    let over = ": TLS: invalid peer certificate: certificate expired";
    let cases = [
        (here, 2119, &known, "rejected", ": 404 Not Found"),
        (here, 2119, &stranger, "unreached", not_trusted),
        (&["other.example.com"], 2119, &known, "unreached", not_here),
        (here, 2020, &known, "unreached", over),
    ];
    for (names, until, signed_by, meaning, said) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (port, heard) = start(signed_by.sign(names, until));
        let endpoint = endpoint_at(port, Some(known.file(dir.path())));
        let (found, message) = in_a_word(issue(&exchange(), &endpoint).await.what);
        assert_eq!(found, meaning, "{said}: {message}");
        assert!(message.contains(said), "{said}: {message}");
        // Names in a certificate are its maker's words.
        assert!(message.len() < 300, "{message}");
        let trusted = heard.try_iter().any(|request| request.contains(SECRET));
        assert_eq!(trusted, meaning == "rejected", "{said}");
    }
}

#[tokio::test]
async fn the_systems_authorities_do_not_vouch_for_a_private_one() {
    let (port, heard) = start(Authority::new("private").sign(&["127.0.0.1"], 2119));
    // A machine without any authorities refuses even earlier.
    let (found, message) = in_a_word(issue(&exchange(), &endpoint_at(port, None)).await.what);
    assert!(found == "unreached" || found == "rejected", "{message}");
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
    let dir = tempfile::tempdir().unwrap();
    let endpoint = endpoint_at(port, Some(Authority::new("private").file(dir.path())));
    let (found, message) = in_a_word(issue(&exchange(), &endpoint).await.what);
    assert_eq!(found, "unreached");
    assert!(message.contains(": TLS: "), "{message}");
    // A reset is as good: then nothing was left to hear.
    let heard = heard.join().unwrap().unwrap_or_default();
    assert!(!String::from_utf8_lossy(&heard).contains(SECRET));
}

#[tokio::test]
async fn an_authority_that_cannot_be_read_is_not_the_systems() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let authority = Authority::new("mended");
    let (port, heard) = start(authority.sign(&["127.0.0.1"], 2119));
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
    authority.file(dir.path());
    let (_, message) = in_a_word(issue(&exchange, &endpoint).await.what);
    assert!(message.contains("404 Not Found"), "{message}");
}
