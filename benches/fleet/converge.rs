//! Many new connections in one pass of the real binary, installs included.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::{Value, json};
use service_connector::store::random;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::fleet;

/// Services in the registry; each takes 16 at once, so that 64 are under way.
const SERVICES: usize = 4;
/// As the registry of the fleet has it.
const AT_ONCE: u32 = 64;

/// How often each pass is made, each time with a new fleet.
const RUNS: usize = 3;

pub fn run(users: usize) {
    // Removed at the end: a file system is slow to make files where it has just removed many.
    let mut dirs = Vec::new();
    for millis in [50, 0] {
        let delay = Duration::from_millis(millis);
        let mut times: Vec<Duration> = (0..RUNS)
            .map(|_| {
                let (dir, took) = pass(users, delay);
                dirs.push(dir);
                took
            })
            .collect();
        times.sort_unstable();
        let took = times[RUNS / 2];
        let connections = u32::try_from(users * SERVICES).unwrap();
        let a_second = f64::from(connections) / took.as_secs_f64();
        println!(
            "  answers after {millis:2} ms         {took:.2?}, {a_second:.0} exchanges a second"
        );
        if millis > 0 {
            let ideal = delay * connections / AT_ONCE;
            let share = 100.0 * ideal.as_secs_f64() / took.as_secs_f64();
            println!("  ideal                        {ideal:.2?}: {share:.0} %");
        }
    }
}

fn pass(users: usize, delay: Duration) -> (TempDir, Duration) {
    let services = Services::start(SERVICES, delay);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    std::thread::sleep(Duration::from_secs(2)); // until the file counts as still
    let began = Instant::now();
    let mut command = service_connector(dir.path());
    let output = command.arg("reconcile").stdin(Stdio::null()).output().unwrap();
    let took = began.elapsed();
    assert!(output.status.success(), "{output:?}");
    (dir, took)
}

/// The real binary, on this fleet.
pub fn service_connector(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-connector"));
    command.current_dir(dir).env_clear();
    for number in 0..8 {
        let name = format!("SC_SECRET_{}", fleet::service_id(number).to_uppercase());
        command.env(name, "only-this-benchmark");
    }
    command
}

/// Services that answer after a while, and list what they issued: what they cost themselves is
/// small. They run in a thread of their own for as long as the benchmark does.
pub struct Services {
    addresses: Vec<String>,
    ledgers: Vec<Ledger>,
}

/// The entries of a service's list of tokens.
type Ledger = Arc<Mutex<Vec<Value>>>;

impl Services {
    pub fn start(number: usize, delay: Duration) -> Self {
        Self::with_one_that_hangs(number, delay, &Arc::default())
    }

    /// The last of them never answers as long as it is told to.
    pub fn with_one_that_hangs(number: usize, delay: Duration, hangs: &Arc<AtomicBool>) -> Self {
        let hangs = Arc::clone(hangs);
        let (sender, addresses) = mpsc::channel();
        let ledgers: Vec<Ledger> = (0..number).map(|_| Ledger::default()).collect();
        let of_services = ledgers.clone();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for (at, ledger) in (1..).zip(of_services) {
                    let hangs = if at == number { Arc::clone(&hangs) } else { Arc::default() };
                    sender.send(serve(Manner { delay, hangs, ledger }).await).unwrap();
                }
                std::future::pending::<()>().await;
            });
        });
        Self { addresses: addresses.iter().take(number).collect(), ledgers }
    }

    /// Has them list what this state holds, as if they had issued it.
    pub fn issued(&self, dir: &Path) {
        let database = Connection::open(dir.join("state/state.sqlite3")).unwrap();
        for (number, ledger) in self.ledgers.iter().enumerate() {
            let sql = "SELECT op, token_id, email, expires_at FROM token WHERE service = ?1";
            let mut statement = database.prepare(sql).unwrap();
            let rows = statement.query_map([fleet::service_id(number)], |row| {
                let expires_at = Timestamp::from_microsecond(row.get(3)?).unwrap();
                let (op, token_id): (String, String) = (row.get(0)?, row.get(1)?);
                Ok(entry(&op, &token_id, &row.get::<_, String>(2)?, expires_at))
            });
            *ledger.lock().unwrap() = rows.unwrap().map(Result::unwrap).collect();
        }
    }

    /// Their base URLs.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// How a service answers.
#[derive(Clone)]
struct Manner {
    delay: Duration,
    hangs: Arc<AtomicBool>,
    ledger: Ledger,
}

fn entry(client_ref: &str, token_id: &str, email: &str, expires_at: Timestamp) -> Value {
    json!({
        "token_id": token_id,
        "client_ref": client_ref,
        "user_email": email,
        "expires_at": expires_at.to_string(),
    })
}

async fn serve(manner: Manner) -> String {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/api/internal/token-exchange", post(exchange))
        .route("/api/internal/token-revoke", post(|| async { Json(json!({"status": "ok"})) }))
        .route("/api/internal/tokens", get(list))
        .with_state(manner);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

async fn exchange(State(manner): State<Manner>, Json(asked): Json<Value>) -> Json<Value> {
    tokio::time::sleep(manner.delay).await;
    while manner.hangs.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let expires_at = Timestamp::now() + SignedDuration::from_hours(24 * 90);
    let token_id = format!("tok_{:032x}", random());
    let asked = |field: &str| asked[field].as_str().unwrap_or_default();
    let issued = entry(asked("client_ref"), &token_id, asked("user_email"), expires_at);
    manner.ledger.lock().unwrap().push(issued);
    Json(json!({
        "status": "ok",
        "api_key": format!("key_{:032x}", random()),
        "token_id": token_id,
        "expires_at": expires_at.to_string(),
    }))
}

/// So many entries are on a page of a list.
const PAGE: usize = 200;

async fn list(
    State(manner): State<Manner>,
    Query(asked): Query<BTreeMap<String, usize>>,
) -> Json<Value> {
    let ledger = manner.ledger.lock().unwrap();
    let from = asked.get("cursor").copied().unwrap_or(0).min(ledger.len());
    let end = (from + PAGE).min(ledger.len());
    let next = (end < ledger.len()).then(|| end.to_string());
    Json(json!({ "tokens": ledger[from..end], "next": next }))
}
