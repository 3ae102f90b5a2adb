//! A world to run the real program in: example services that answer in this process, and a scratch
//! directory with registry, people, desired state, state and homes.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use service_connector::example_service::{Config, Faults, Kind, Ledger, LedgerToken};
use service_connector::store::Store;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle};

use crate::service::Service;

pub const KINDS: [Kind; 3] = [Kind::PurchaseOrders, Kind::Invoicing, Kind::Crm];
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 24 * HOUR;

/// The registry, the desired state, the state and the homes of a test, with three services.
pub struct Scene {
    dir: TempDir,
    runtime: Handle,
    services: Vec<Service>,
    /// How far the clocks of the program and of the services are ahead, in seconds.
    ahead: Cell<i64>,
    /// Every key that was ever seen in a home.
    keys: RefCell<BTreeSet<String>>,
    /// What a command may take; none: as much as it likes.
    limits: Cell<Option<Limits>>,
}

/// What a command may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Address space, in KiB: beyond it memory is refused, and the program aborts.
    pub memory: u64,
    /// After this it is killed, and its exit code is 137.
    pub seconds: u64,
}

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Scene {
    /// Everybody of your-domain.com has an account, and nobody is connected to anything.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same, with other settings of the services.
    pub fn with(change: impl Fn(&mut Config)) -> Self {
        let runtime = background_runtime();
        let start = |kind| runtime.block_on(Service::start_with(kind, &change));
        let services = KINDS.map(start).into_iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let (ahead, keys, limits) = (Cell::default(), RefCell::default(), Cell::default());
        let scene = Self { dir, runtime, services, ahead, keys, limits };
        for part in ["registry", "state"] {
            fs::create_dir(scene.path(part)).unwrap();
        }
        for kind in KINDS {
            scene.reset_entry(kind);
        }
        scene.people("people: {}\nrules:\n  - { domain: your-domain.com }\n");
        scene.desired("users: {}\n");
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    // The files that people write.

    /// Writes the desired state as a person would who did so a while ago.
    pub fn desired(&self, users: &str) {
        self.desired_text(&format!("version: 1\n{users}"));
    }

    /// The same, whatever the text.
    pub fn desired_text(&self, text: &str) {
        let path = self.path("desired.yaml");
        fs::write(&path, text).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    }

    pub fn people(&self, people: &str) {
        fs::write(self.path("people.yaml"), format!("version: 1\n{people}")).unwrap();
    }

    /// Replaces a part of a service's registry entry.
    pub fn entry(&self, kind: Kind, from: &str, to: &str) {
        let path = self.path(&format!("registry/{}.yaml", kind.id()));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The repository's own registry entry, with the address of the running service.
    pub fn reset_entry(&self, kind: Kind) {
        let original = format!("{}/registry/{}.yaml", env!("CARGO_MANIFEST_DIR"), kind.id());
        let text = fs::read_to_string(original).unwrap();
        let address = self.service(kind).running.base_url();
        let text: String = text
            .lines()
            .map(|line| {
                let is_it = line.starts_with("base_url:");
                if is_it { format!("base_url: {address}\n") } else { format!("{line}\n") }
            })
            .collect();
        fs::write(self.path(&format!("registry/{}.yaml", kind.id())), text).unwrap();
    }

    // The program.

    /// From now on no command may take more than this.
    pub fn limit(&self, limits: Limits) {
        self.limits.set(Some(limits));
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, |_| {})
    }

    /// Runs a command in another environment.
    pub fn run_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Ran {
        self.wait(self.start_with(args, change))
    }

    /// Starts a command and does not wait for it.
    pub fn start(&self, args: &[&str]) -> Child {
        self.start_with(args, |_| {})
    }

    /// The same, in another environment.
    pub fn start_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Child {
        let mut command = self.command(args);
        change(&mut command);
        started(&mut command)
    }

    /// Waits for the end of a command, and holds what it said against every secret there is.
    pub fn wait(&self, child: Child) -> Ran {
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran {
            code: status.code().expect("no signal ends it"),
            stdout: text(stdout),
            stderr: text(stderr),
        };
        self.assert_no_secret_in(&ran);
        ran
    }

    fn command(&self, args: &[&str]) -> Command {
        let binary = env!("CARGO_BIN_EXE_service-connector");
        let (ahead, limits) =
            (self.ahead.get(), self.limits.get().filter(|_| self.ahead.get() == 0));
        let mut command = Command::new(if limits.is_some() { "sh" } else { binary });
        command.env_clear();
        if let Some(Limits { memory, seconds }) = limits {
            let script = "ulimit -v $1 && shift && exec timeout --signal=KILL \"$@\"";
            let (memory, seconds) = (memory.to_string(), seconds.to_string());
            command.args(["-c", script, "sh", &memory, &seconds, binary]);
        }
        if ahead != 0 {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("+{ahead}"));
            // Files keep their times, and timers theirs.
            command.env("NO_FAKE_STAT", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let skills = concat!(env!("CARGO_MANIFEST_DIR"), "/skills");
        command
            .args(args)
            .current_dir(self.root())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("USER", "tester")
            .env("SC_DESIRED", self.path("desired.yaml"))
            .env("SC_PEOPLE", self.path("people.yaml"))
            .env("SC_REGISTRY", self.path("registry"))
            .env("SC_SKILLS", skills)
            .env("SC_STATE", self.path("state"))
            .env("SC_HOMES", self.path("homes"));
        for service in &self.services {
            command.env(service.kind.secret_variable(), &service.secret);
        }
        command
    }

    fn assert_no_secret_in(&self, ran: &Ran) {
        for secret in self.secrets() {
            // Not even this message shows it.
            let shown = ran.stdout.contains(&secret) || ran.stderr.contains(&secret);
            assert!(!shown, "a secret is in what a command said");
        }
    }

    /// Every secret there is: the shared ones, the sealing key, and every key that was seen in a home.
    pub fn secrets(&self) -> Vec<String> {
        let mut keys = self.keys.borrow_mut();
        keys.extend(
            self.homes()
                .iter()
                .flat_map(|account| self.variables(account))
                .filter_map(|(name, value)| name.ends_with("_API_KEY").then_some(value)),
        );
        let sealing_key = fs::read_to_string(self.path("state/sealing.key")).unwrap_or_default();
        let sealing_key = Some(sealing_key.trim_end()).filter(|key| !key.is_empty());
        let shared = self.services.iter().map(|service| service.secret.clone());
        shared.chain(keys.iter().cloned()).chain(sealing_key.map(str::to_owned)).collect()
    }

    /// One pass, which ends with this exit code.
    pub fn pass(&self, code: i32) -> Ran {
        let ran = self.run(&["reconcile"]).expect(code);
        if let Ok(state) = Store::open_to_read(&self.path("state")) {
            assert_eq!(state.faults().unwrap(), Vec::<String>::new());
        }
        ran
    }

    /// One pass that does not wait before it tries again what failed.
    pub fn retry(&self, code: i32) -> Ran {
        self.run(&["reconcile", "--retry-now"]).expect(code)
    }

    /// Edits the desired state, and runs no pass.
    pub fn connect(&self, user: &str, kind: Kind) {
        self.run(&["connect", user, kind.id(), "--json"]).expect(0);
    }

    /// Edits the desired state, and runs no pass.
    pub fn disconnect(&self, user: &str, kind: Kind) {
        self.run(&["disconnect", user, kind.id(), "--json"]).expect(0);
    }

    /// Edits the desired state, and runs no pass.
    pub fn rotate(&self, user: &str, kind: Kind) {
        self.run(&["rotate", user, kind.id(), "--json"]).expect(0);
    }

    pub fn status(&self) -> Value {
        self.run(&["status", "--json"]).expect(0).json()
    }

    /// Moves the clocks of the program and of the services forward.
    pub fn let_pass(&self, seconds: i64) {
        self.ahead.set(self.ahead.get() + seconds);
        for service in &self.services {
            service.faults().set_clock_offset(self.ahead.get());
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::now() + jiff::SignedDuration::from_secs(self.ahead.get())
    }

    // The services.

    pub fn service(&self, kind: Kind) -> &Service {
        self.services.iter().find(|service| service.kind == kind).unwrap()
    }

    /// Starts the service again with another shared secret, and gives the old one back.
    pub fn change_secret(&mut self, kind: Kind, secret: &str) -> String {
        let at = self.services.iter().position(|service| service.kind == kind).unwrap();
        let service = self.services.remove(at);
        let old = service.secret.clone();
        let service = self.runtime.block_on(service.restart_with(secret.to_owned()));
        self.services.push(service);
        old
    }

    pub fn faults(&self, kind: Kind) -> &Faults {
        self.service(kind).faults()
    }

    pub fn ledger(&self, kind: Kind) -> Ledger {
        self.service(kind).ledger()
    }

    /// A key that another program asks for, in the way of the service's contract.
    pub fn exchange_as_another_program(&self, kind: Kind, email: &str) -> Value {
        let service = self.service(kind);
        let path = "/api/internal/token-exchange";
        let client_ref = format!("another:{:x}", fastrand::u64(..));
        let v1 = serde_json::json!({ "user_email": email, "ttl_days": 90 });
        let mut v2 = v1.clone();
        v2["client_ref"] = client_ref.as_str().into();
        let v2 = service.internal(path, &v2).header("idempotency-key", client_ref);
        let sent = [service.internal(path, &v1), v2]
            .map(|request| self.runtime.block_on(Service::send(request)));
        sent.into_iter().find(|answer| answer.status == 200).unwrap().json
    }

    /// A revoke by another program: nobody here knows of it.
    pub fn revoke_as_another_program(&self, kind: Kind, token_id: &str) {
        let body = serde_json::json!({ "token_id": token_id });
        let answer = self.runtime.block_on(self.service(kind).revoke(body));
        assert_eq!(answer.status, 200);
    }

    /// Every token that the service ever issued.
    pub fn issued(&self, kind: Kind) -> Vec<LedgerToken> {
        self.ledger(kind).tokens().unwrap()
    }

    /// The tokens that the service takes now.
    pub fn live(&self, kind: Kind) -> Vec<LedgerToken> {
        let now = self.now();
        self.issued(kind).into_iter().filter(|token| token.is_live(now)).collect()
    }

    /// How often the service was asked to issue and to revoke.
    pub fn calls(&self, kind: Kind) -> (u64, u64) {
        let ledger = self.ledger(kind);
        (ledger.exchange_calls().unwrap(), ledger.revoke_calls().unwrap())
    }

    /// What the business API answers to this key.
    pub fn business_status(&self, kind: Kind, key: &str) -> u16 {
        self.runtime.block_on(self.service(kind).get(key, "/api/v1/me")).status
    }

    pub fn works(&self, kind: Kind, key: &str) -> bool {
        match self.business_status(kind, key) {
            200 => true,
            401 => false,
            status => panic!("the business API answers {status}"),
        }
    }

    // The homes.

    pub fn homes(&self) -> Vec<String> {
        let found = fs::read_dir(self.path("homes")).into_iter().flatten();
        found.map(|home| home.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A file in somebody's home; empty when it is not there.
    pub fn in_home(&self, account: &str, file: &str) -> String {
        fs::read_to_string(self.path(&format!("homes/{account}/{file}"))).unwrap_or_default()
    }

    pub fn env_file(&self, account: &str) -> String {
        self.in_home(account, ".service_env")
    }

    pub fn skill(&self, account: &str, kind: Kind) -> String {
        self.in_home(account, &format!(".claude_rules/sc_{}.md", kind.id()))
    }

    /// The variables in a home.
    pub fn variables(&self, account: &str) -> BTreeMap<String, String> {
        let text = self.env_file(account);
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The key in a home, if one is there.
    pub fn key(&self, account: &str, kind: Kind) -> Option<String> {
        let name = match kind {
            Kind::PurchaseOrders => "PO_API_KEY",
            Kind::Invoicing => "INV_API_KEY",
            Kind::Crm => "CRM_API_KEY",
        };
        self.variables(account).remove(name)
    }

    /// The key in a home, which must be there and work.
    #[track_caller]
    pub fn working_key(&self, account: &str, kind: Kind) -> String {
        let key = self.key(account, kind).unwrap_or_else(|| panic!("{account} has no key"));
        assert!(self.works(kind, &key), "the key of {account} does not work");
        key
    }

    pub fn generation(&self, account: &str) -> u64 {
        let text = self.env_file(account);
        let line = text.lines().find_map(|line| line.strip_prefix("# generation "));
        line.unwrap_or("0").parse().unwrap()
    }

    // The state.

    pub fn database(&self) -> Connection {
        // It is never made here: the first pass does that, and would take it for one that was lost.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        Connection::open_with_flags(self.path("state/state.sqlite3"), flags).unwrap()
    }

    /// Whether a pass has ended here, this one or an earlier one.
    pub fn has_passed(&self) -> bool {
        self.path("state/state.sqlite3").exists()
            && self.database().query_row("SELECT 1 FROM pass", [], |_| Ok(())).is_ok()
    }

    /// The phases of all tokens of a connection, oldest first.
    pub fn phases(&self, user: &str, kind: Kind) -> Vec<String> {
        let sql = "SELECT phase FROM token WHERE user = ?1 AND service = ?2 ORDER BY seq";
        let database = self.database();
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([user, kind.id()], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Every row of every table as text, but for what each pass leaves to be shown.
    pub fn dump(&self) -> String {
        let database = self.database();
        let mut dump = String::new();
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND \
                   name NOT IN ('pass', 'shown', 'kept_back')";
        let mut tables = database.prepare(sql).unwrap();
        for table in tables.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            let table = table.unwrap();
            let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
                writeln!(dump, "{table} {values:?}").unwrap();
            }
        }
        dump
    }

    /// Every file with its bytes, mode and time. SQLite's own are left out: see [`Scene::dump`].
    pub fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, u32, SystemTime)> {
        use std::os::unix::fs::MetadataExt as _;
        let mut found = BTreeMap::new();
        let mut directories = vec![self.root().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    directories.push(path);
                } else if !path.to_string_lossy().contains("state.sqlite3") {
                    let bytes = fs::read(&path).unwrap();
                    let facts = (bytes, metadata.mode(), metadata.modified().unwrap());
                    found.insert(path, facts);
                }
            }
        }
        found
    }
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        let Self { code: found, stdout, stderr } = &self;
        assert_eq!(*found, code, "exit code; stdout:\n{stdout}\nstderr:\n{stderr}");
        self
    }

    /// Both streams.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn says(&self, what: &str) -> &Self {
        assert!(self.text().contains(what), "{what:?} is not in:\n{}", self.text());
        self
    }

    #[track_caller]
    pub fn does_not_say(&self, what: &str) -> &Self {
        assert!(!self.text().contains(what), "{what:?} is in:\n{}", self.text());
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("one JSON document")
    }
}

/// A runtime that a thread of its own drives, while tests wait for the program.
fn background_runtime() -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    // It ends with the process: the services of a test that is over ask for nothing.
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

fn started(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// What has time pass for a program. (Not by the program `faketime`: it does not start where one with
/// the same process id was killed.)
fn faketime() -> String {
    let arch = std::env::consts::ARCH;
    let library = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1");
    assert!(
        Path::new(&library).exists(),
        "{library} is not there: time passes in these tests by it (Debian: apt-get install faketime)"
    );
    library
}

/// Waits until this is so, and fails after ten seconds.
#[track_caller]
pub fn wait_until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}: not within 10 seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}
