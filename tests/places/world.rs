//! A server that is set up: the program, its configuration and two services that answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use service_connector::example_service::Kind;
use service_connector::model::digest::Digest;
use tokio::runtime::Builder;

use crate::server::{DESIRED, ETC, RECONCILER, SECRETS, STATE, Server, install, on_a_server};
use crate::service::Service;

pub const CRM: Kind = Kind::Crm;
pub const INVOICING: Kind = Kind::Invoicing;
pub const PROGRAM: &str = "/usr/bin/service-connector";
pub const CONFIG: &str = "/etc/service-connector/service-connector.yaml";
/// The homes: the reconciler's own, so that no helper is needed.
pub const HOMES: &str = "/var/lib/service-connector/homes";

pub struct World<'a> {
    pub server: &'a Server,
    services: Vec<Service>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a test in a world of its own.
pub fn in_a_world(test: &str, story: impl FnOnce(&World<'_>) + Send) {
    on_a_server(test, |server| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        // The services answer beside the test, and end with the process.
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        let start = |kind| handle.block_on(Service::start(kind));
        let services = vec![start(CRM), start(INVOICING)];
        let world = World { server, services };
        world.set_up();
        story(&world);
    });
}

impl World<'_> {
    fn set_up(&self) {
        install(Path::new(env!("CARGO_BIN_EXE_service-connector")), PROGRAM);
        let config = format!(
            "version: 1\nuser: {RECONCILER}\ndesired: {DESIRED}/desired.yaml\n\
             people: {ETC}/people.yaml\nregistry: {ETC}/registry\nskills: {ETC}/skills\n\
             state: {STATE}\nsecrets: {SECRETS}\nhomes: {{ direct: {HOMES}, create: true }}\n"
        );
        self.server.root_file(CONFIG, &config);
        let people = "version: 1\npeople:\n  john: { email: john@your-domain.com }\n\
                      \x20 eva: { email: eva@your-domain.com }\n\
                      rules:\n  - { domain: your-domain.com }\n";
        self.server.root_file(&format!("{ETC}/people.yaml"), people);
        for service in &self.services {
            let id = service.kind.id();
            let entry = repository(&format!("registry/{id}.yaml"));
            let address = service.running.base_url();
            let line = |line: &str| {
                let is_it = line.starts_with("base_url:");
                if is_it { format!("base_url: {address}\n") } else { format!("{line}\n") }
            };
            let entry: String = entry.lines().map(line).collect();
            self.server.root_file(&format!("{ETC}/registry/{id}.yaml"), &entry);
            let skill = format!("skills/sc_{id}.md");
            self.server.root_file(&format!("{ETC}/{skill}"), &repository(&skill));
            self.secret_file(SECRETS, service.kind, &service.secret);
        }
        self.server.dir(HOMES, RECONCILER, RECONCILER, 0o700);
        self.begin_anew();
    }

    /// Makes the file of a shared secret.
    pub fn secret_file(&self, dir: &str, kind: Kind, secret: &str) {
        let path = format!("{dir}/{}", kind.secret_variable());
        self.server.file(&path, secret, RECONCILER, RECONCILER, 0o600);
    }

    /// The places as a first set-up leaves them: nobody is connected, and there is no state.
    pub fn begin_anew(&self) {
        for place in [DESIRED, STATE, HOMES] {
            for entry in fs::read_dir(place).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        }
        let desired = format!("{DESIRED}/desired.yaml");
        let nobody = "version: 1\nusers: {}\n";
        self.server.file(&desired, nobody, crate::server::PORTAL, RECONCILER, 0o660);
        age(&desired);
    }

    pub fn service(&self, kind: Kind) -> &Service {
        self.services.iter().find(|service| service.kind == kind).unwrap()
    }

    /// The program, run by this user with umask 077.
    pub fn command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.server.run_as(user, PROGRAM);
        command.args(args);
        command
    }

    pub fn run(&self, user: &str, args: &[&str]) -> Ran {
        self.ran(self.command(user, args))
    }

    /// Runs it to its end, and holds what it said against the secrets and the keys in homes.
    pub fn ran(&self, mut command: Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) };
        let sealing_key = fs::read_to_string(format!("{STATE}/sealing.key")).unwrap_or_default();
        let mut secrets: Vec<String> = self.services.iter().map(|s| s.secret.clone()).collect();
        secrets.extend(Some(sealing_key.trim().to_owned()).filter(|key| !key.is_empty()));
        secrets.extend(keys().into_iter().map(|(_, key)| key));
        for secret in secrets {
            let shown = ran.stdout.contains(&secret) || ran.stderr.contains(&secret);
            assert!(!shown, "a secret is in what a command said");
        }
        ran
    }

    /// Whose key each home holds, by the services' own books.
    pub fn whose_keys(&self) -> Vec<(String, String)> {
        let mut by_hash = BTreeMap::new();
        for service in &self.services {
            let tokens = service.ledger().tokens().unwrap();
            by_hash.extend(tokens.into_iter().map(|token| (token.key_hash, token.user_email)));
        }
        let whose = |(account, key): (String, String)| {
            (account, by_hash.get(&Digest::of(key)).cloned().unwrap_or_default())
        };
        keys().into_iter().map(whose).collect()
    }
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says(self, what: &str) -> Self {
        let said = self.stdout.contains(what) || self.stderr.contains(what);
        assert!(said, "{what:?} is not in {self:#?}");
        self
    }
}

/// Every key in a home, with the account that it is in.
fn keys() -> Vec<(String, String)> {
    let mut keys = Vec::new();
    for home in fs::read_dir(HOMES).unwrap() {
        let path = home.unwrap().path();
        let account = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path.join(".service_env")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let held = lines.filter(|(name, _)| name.ends_with("_API_KEY"));
        keys.extend(held.map(|(_, key)| (account.clone(), key.to_owned())));
    }
    keys
}

fn repository(file: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// As if the file had been written a while ago.
pub fn age(path: &str) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
}
