//! A TCP server that says what it was told to, and remembers what it heard.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use service_connector::exchange::{Exchange, RevokeBy, Secrets};
use service_connector::model::outcome::{Answer, Failure, FailureKind, IssueAnswer, RevokeAnswer};
use service_connector::model::registry::{Contract, Endpoint};

pub const SECRET: &str = "shared-secret-5f1c";
pub const OP: &str = "sc1:0123456789abcdef:00112233445566778899aabbccddeeff";

/// How the server answers each connection's request.
#[derive(Clone)]
pub enum Manner {
    /// These bytes, then the end of the connection.
    Say(Vec<u8>),
    /// These bytes, then one more every 50 ms.
    Drip(Vec<u8>),
    /// These bytes, then more and more.
    Endless(Vec<u8>),
    /// These bytes, and the connection stays open.
    Hang(Vec<u8>),
    /// The same to every request of a connection that stays open.
    Keep(Vec<u8>),
    /// As this says, having read the request.
    By(Arc<dyn Fn(&str) -> Manner + Send + Sync>),
}

pub struct Server {
    pub port: u16,
    heard: Receiver<String>,
}

impl Server {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, heard) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (manner, tell) = (manner.clone(), tell.clone());
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    while let Some(request) = request(&mut stream) {
                        let chosen = match &manner {
                            Manner::By(choose) => choose(&request),
                            same => same.clone(),
                        };
                        let many = matches!(chosen, Manner::Keep(_));
                        let told = tell.send(request);
                        // The client may be gone by now, and so may the test.
                        if answer(&mut stream, &chosen).is_err() || told.is_err() || !many {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, heard }
    }

    /// The requests so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.try_iter().collect()
    }
}

/// One request: head and body.
pub fn request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    bytes.extend(body);
    Some(String::from_utf8(bytes).unwrap())
}

fn answer(stream: &mut TcpStream, manner: &Manner) -> std::io::Result<()> {
    match manner {
        Manner::By(_) => unreachable!("what it says is said in its place"),
        Manner::Keep(bytes) => stream.write_all(bytes),
        Manner::Say(bytes) => {
            stream.write_all(bytes)?;
            stream.shutdown(Shutdown::Write)
        }
        Manner::Hang(bytes) => {
            stream.write_all(bytes)?;
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Manner::Drip(bytes) => {
            stream.write_all(bytes)?;
            loop {
                stream.write_all(b" ")?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        Manner::Endless(bytes) => {
            stream.write_all(bytes)?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
    }
}

pub fn endpoint(port: u16, contract: Contract) -> Endpoint {
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    Endpoint {
        contract,
        exchange_url: url("/api/internal/token-exchange"),
        revoke_url: url("/api/internal/token-revoke"),
        list_url: url("/api/internal/tokens"),
        health_url: url("/api/health"),
        secret: "SC_SECRET_PO".parse().unwrap(),
        ca_file: None,
        timeout_seconds: 10,
    }
}

/// An exchange that knows [`SECRET`].
pub fn exchange() -> Exchange {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("SC_SECRET_PO"), format!("{SECRET}\n")).unwrap();
    Exchange::new(Secrets::from_dir(dir.path(), [&"SC_SECRET_PO".parse().unwrap()]))
}

pub async fn issue(exchange: &Exchange, endpoint: &Endpoint) -> Answer<IssueAnswer> {
    let email = "john@your-domain.com".parse().unwrap();
    exchange.issue(endpoint, &OP.parse().unwrap(), &email, 90).await
}

pub async fn revoke(exchange: &Exchange, endpoint: &Endpoint) -> Answer<RevokeAnswer> {
    exchange.revoke(endpoint, RevokeBy::Op(OP.parse().unwrap())).await
}

/// What an answer means, in a word, and what it says.
pub fn in_a_word(answer: IssueAnswer) -> (String, String) {
    match answer {
        IssueAnswer::Granted(grant) => {
            let whom = grant.user_email.map_or(String::new(), |email| email.to_string());
            let (key, id, end) = (grant.api_key.expose(), grant.token_id, grant.expires_at);
            ("granted".to_owned(), format!("{key} {id} {end} {whom}").trim_end().to_owned())
        }
        IssueAnswer::Gone => ("gone".to_owned(), String::new()),
        IssueAnswer::Conflict(why) => ("conflict".to_owned(), why),
        IssueAnswer::Failed(failure) => of_failure(failure),
    }
}

pub fn of_failure(failure: Failure) -> (String, String) {
    let kind = match failure.kind {
        FailureKind::Unreached => "unreached",
        FailureKind::Unknown => "unknown",
        FailureKind::Rejected => "rejected",
        FailureKind::SecretRefused => "secret refused",
    };
    let wait = failure.retry_after.map_or(String::new(), |wait| format!(" {}", wait.as_secs()));
    (format!("{kind}{wait}"), failure.message)
}

/// A whole answer with a JSON body.
pub fn json(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}
