//! A world in a scratch directory with a real service beside it, both of which can be put back to
//! what they were.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use service_connector::example_service::{
    Config, ExampleService, Faults, Kind, Ledger, LedgerToken,
};
use service_connector::model::secret::Secret;
use tempfile::TempDir;
use tokio::sync::oneshot;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Petr is there before anybody is killed, and nothing of his may change.
const DESIRED: &str = "\
# Who should be connected to what.
version: 1
users:
  petr:
    connections:
      purchase_orders: {}
";

pub struct Scene {
    directory: TempDir,
    /// Open from the first to the last, so that the service keeps its address.
    listener: TcpListener,
    server: Option<Server>,
}

struct Server {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    faults: Arc<Faults>,
}

impl Scene {
    pub fn new(grace_days: u32) -> Self {
        let directory = scratch();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut scene = Self { directory, listener, server: None };
        scene.make_world(grace_days);
        scene.start();
        scene
    }

    fn make_world(&self, grace_days: u32) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let world = self.world();
        for directory in ["desired", "registry", "skills", "state"] {
            fs::create_dir_all(world.join(directory)).unwrap();
        }
        let copy = |name: &str| fs::copy(source.join(name), world.join(name)).unwrap();
        copy("registry/purchase_orders.svg");
        copy("skills/sc_purchase_orders.md");
        fs::copy(source.join("state/people.yaml"), world.join("people.yaml")).unwrap();
        let entry = fs::read_to_string(source.join("registry/purchase_orders.yaml")).unwrap();
        let address = format!("http://{}", self.listener.local_addr().unwrap());
        let entry = entry
            .replace("https://po.internal.example.com", &address)
            .replace("grace_days: 7", &format!("grace_days: {grace_days}"));
        assert!(entry.contains(&address) && entry.contains(&format!("grace_days: {grace_days}")));
        fs::write(world.join("registry/purchase_orders.yaml"), entry).unwrap();
        let desired = world.join("desired/desired.yaml");
        fs::write(&desired, DESIRED).unwrap();
        // What was made by hand is taken up when it has been still for a while.
        let file = fs::File::options().write(true).open(&desired).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
    }

    pub fn world(&self) -> PathBuf {
        self.directory.path().join("world")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.world().join(name)
    }

    fn service(&self) -> PathBuf {
        self.directory.path().join("service")
    }

    fn saved(&self) -> PathBuf {
        self.directory.path().join("saved")
    }

    /// Remembers world and service as they are now.
    pub fn save(&mut self) {
        self.stop();
        fs::create_dir(self.saved()).unwrap();
        copy_all(&[self.world(), self.service()], &self.saved());
        self.start();
    }

    /// Puts world and service back to what was saved.
    pub fn restore(&mut self) {
        self.stop();
        for directory in [self.world(), self.service()] {
            fs::remove_dir_all(directory).unwrap();
        }
        let saved = self.saved();
        copy_all(&[saved.join("world"), saved.join("service")], self.directory.path());
        self.start();
    }

    fn start(&mut self) {
        let secret = Secret::new(SECRET.to_owned());
        let config = Config::new(Kind::PurchaseOrders, self.service(), secret);
        let service = ExampleService::open(config).unwrap();
        let faults = service.faults();
        let listener = self.listener.try_clone().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let shutdown = async { stopped.await.unwrap_or(()) };
                service.serve(listener, shutdown).await.unwrap();
            });
        });
        self.server = Some(Server { stop, thread, faults });
    }

    fn stop(&mut self) {
        if let Some(Server { stop, thread, .. }) = self.server.take() {
            stop.send(()).unwrap();
            thread.join().unwrap();
        }
    }

    pub fn faults(&self) -> &Faults {
        &self.server.as_ref().unwrap().faults
    }

    /// The real binary in this world.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_service-connector"));
        command.args(args).current_dir(self.world()).env_clear().envs([
            ("PATH", "/usr/bin:/bin"),
            ("USER", "tester"),
            ("SC_DESIRED", "desired/desired.yaml"),
            ("SC_PEOPLE", "people.yaml"),
            ("SC_REGISTRY", "registry"),
            ("SC_SKILLS", "skills"),
            ("SC_STATE", "state"),
            ("SC_HOMES", "homes"),
            ("SC_SECRET_PURCHASE_ORDERS", SECRET),
        ]);
        command
    }

    /// Runs it to its end; its exit code, and what it said.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn must(&self, args: &[&str]) {
        let (code, said) = self.run(args);
        assert_eq!(code, Some(0), "{args:?} said: {said}");
    }

    /// What the service's business API answers to this key.
    pub fn status_of(&self, key: &str) -> u16 {
        let mut stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!(
            "GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Everything that the service ever issued to this address.
    pub fn issued(&self, email: &str) -> Vec<LedgerToken> {
        let tokens = Ledger::open(self.service()).unwrap().tokens().unwrap();
        tokens.into_iter().filter(|token| token.user_email == email).collect()
    }

    /// A copy of the state, to look into without mending what a crash left in it.
    pub fn copy_of_state(&self) -> TempDir {
        let copy = scratch();
        copy_all(&[self.file("state")], copy.path());
        copy
    }

    /// The names of everything below a directory of the world, with their modes.
    pub fn modes(&self, below: &str) -> BTreeSet<(String, u32)> {
        let mut found = BTreeSet::new();
        walk(&self.world(), &self.file(below), &mut found);
        found
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// In memory where there is some: processes are killed here, not machines, so the disk itself has
/// no say, and waiting for it would be most of the time.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copy_all(from: &[PathBuf], to: &Path) {
    let copied = Command::new("cp").arg("-a").args(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn walk(world: &Path, directory: &Path, found: &mut BTreeSet<(String, u32)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
        let name = path.strip_prefix(world).unwrap().to_str().unwrap().to_owned();
        found.insert((name, mode));
        if path.is_dir() {
            walk(world, &path, found);
        }
    }
}
