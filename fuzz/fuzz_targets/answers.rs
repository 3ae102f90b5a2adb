//! What services answer, to the last byte, over a real socket: it means one of the things that the
//! contract knows, and neither the shared secret nor a key gets into what is said of it.
#![no_main]

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use service_connector::exchange::{Exchange, RevokeBy, Secrets};
use service_connector::model::name::{Email, EnvName, OpId};
use service_connector::model::outcome::{Failure, IssueAnswer, RevokeAnswer};
use service_connector::model::registry::{Contract, Endpoint};
use tokio::runtime::{Builder, Runtime};

const SECRET_NAME: &str = "SC_SECRET_FUZZED";
const OP: &str = "sc1:0123456789abcdef:00112233445566778899aabbccddeeff";

struct World {
    runtime: Runtime,
    exchange: Exchange,
    secret: String,
    port: u16,
    answer: Arc<Mutex<Vec<u8>>>,
}

static WORLD: OnceLock<World> = OnceLock::new();

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

fuzz_target!(|bytes: &[u8]| {
    let world = WORLD.get_or_init(World::new);
    bytes.clone_into(&mut world.answer.lock().expect("nobody panics with it"));
    world.issue(Contract::V1);
    world.revoke();
});

impl World {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("fuzz-answers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        let made = Timestamp::now().as_nanosecond();
        let secret = format!("shared-{made:x}");
        std::fs::write(dir.join(SECRET_NAME), &secret).expect("written");
        let secrets = Secrets::from_dir(&dir, [&name()]);
        std::fs::remove_dir_all(&dir).expect("removed");
        let answer = Arc::new(Mutex::new(Vec::new()));
        Self {
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            exchange: Exchange::new(secrets),
            secret,
            port: serve(Arc::clone(&answer)),
            answer,
        }
    }

    /// At another loopback address each time: so many connections to one would leave no port.
    fn endpoint(&self, contract: Contract) -> Endpoint {
        let calls = CALLS.replace(CALLS.get().wrapping_add(1));
        let [_, a, b, c] = (calls % 0x00ff_0000 + 1).to_be_bytes();
        let url = format!("http://127.{a}.{b}.{c}:{}/", self.port);
        Endpoint {
            contract,
            exchange_url: url.clone(),
            revoke_url: url.clone(),
            list_url: url.clone(),
            health_url: url,
            secret: name(),
            ca_file: None,
            timeout_seconds: 1,
        }
    }

    fn issue(&self, contract: Contract) {
        let (op, email) = (op(), email());
        let endpoint = self.endpoint(contract);
        let answer = self.runtime.block_on(self.exchange.issue(&endpoint, &op, &email, 90));
        match answer.what {
            IssueAnswer::Granted(grant) => {
                let key = grant.api_key.expose();
                match grant.judge(&email, Timestamp::now()) {
                    Ok(taken) => assert_eq!(taken.api_key.expose(), key),
                    Err(why) => {
                        self.check(&why);
                        assert!(key.len() < 16 || !why.contains(key), "a key is shown");
                    }
                }
            }
            IssueAnswer::Gone => {}
            IssueAnswer::Conflict(why) => self.check(&why),
            IssueAnswer::Failed(failure) => self.check_failure(&failure),
        }
    }

    fn revoke(&self) {
        let endpoint = self.endpoint(Contract::V2);
        let answer = self.runtime.block_on(self.exchange.revoke(&endpoint, RevokeBy::Op(op())));
        match answer.what {
            RevokeAnswer::Confirmed => {
                // Only these bytes can say so.
                let bytes = self.answer.lock().expect("nobody panics with it");
                let text = String::from_utf8_lossy(&bytes);
                assert!(text.contains("200"), "confirmed without a 200");
            }
            RevokeAnswer::Failed(failure) => self.check_failure(&failure),
        }
    }

    fn check_failure(&self, failure: &Failure) {
        self.check(&failure.message);
        assert!(failure.retry_after.is_none_or(|wait| !wait.is_negative()));
    }

    fn check(&self, message: &str) {
        assert!(!message.is_empty() && message.len() < 4096, "{message}");
        assert!(!message.contains(&self.secret), "the shared secret is shown");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

fn name() -> EnvName {
    SECRET_NAME.parse().expect("a name")
}

fn op() -> OpId {
    OP.parse().expect("an op id")
}

fn email() -> Email {
    "john@your-domain.com".parse().expect("an address")
}

/// Answers every request with the same bytes, and ends the connection.
fn serve(answer: Arc<Mutex<Vec<u8>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            let mut part = [0; 4096];
            // The body is the last that comes, and ends with its brace.
            while !request.ends_with(b"}") {
                match stream.read(&mut part) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => request.extend_from_slice(&part[..length]),
                }
            }
            let bytes = answer.lock().expect("nobody panics with it").clone();
            // The client may have heard enough.
            stream.write_all(&bytes).ok();
        }
    });
    port
}
