//! The demo's stage: a scratch directory, the three example services, and settings for them.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::example_service::{Config, ExampleService, Kind, Ledger};
use crate::model::secret::Secret;
use crate::store;

use super::super::settings::{Overrides, Settings};
use super::super::{Failure, block_on};

const DESIRED: &str = "\
# Who should be connected to what: written by the portal, the CLI and people.
version: 1
users: {}
";
const PEOPLE: &str = "\
version: 1
people:
  john: { email: john@your-domain.com }
  petr: { email: petr.novak@your-domain.com, account: petr_novak }
  eva: { email: eva@your-domain.com }
";
const CONFIG: &str = "\
version: 1
desired: desired.yaml
people: people.yaml
registry: registry
skills: skills
state: state
homes: { direct: homes }
secrets: secrets
admins: [eva]
";
/// The people above, as the portal's chooser shows them.
pub const PERSONS: [(&str, &str); 3] = [
    ("john", "john@your-domain.com"),
    ("petr", "petr.novak@your-domain.com"),
    ("eva", "eva@your-domain.com"),
];

/// The three services of the mission: id, registry entry, skill, icon.
const SERVICES: [(Kind, &str, &str, &str); 3] = [
    (
        Kind::PurchaseOrders,
        include_str!("../../../registry/purchase_orders.yaml"),
        include_str!("../../../skills/sc_purchase_orders.md"),
        include_str!("../../../registry/purchase_orders.svg"),
    ),
    (
        Kind::Invoicing,
        include_str!("../../../registry/invoicing.yaml"),
        include_str!("../../../skills/sc_invoicing.md"),
        include_str!("../../../registry/invoicing.svg"),
    ),
    (
        Kind::Crm,
        include_str!("../../../registry/crm.yaml"),
        include_str!("../../../skills/sc_crm.md"),
        include_str!("../../../registry/crm.svg"),
    ),
];

/// A service that runs.
pub struct Service {
    id: &'static str,
    /// For people.
    pub name: &'static str,
    /// Where it listens.
    pub base_url: String,
}

/// Everything that the story needs around it.
pub struct Stage {
    dir: PathBuf,
    services: Vec<Service>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Stage {
    pub fn set_up() -> Result<Self, Failure> {
        let name = format!("service-connector-demo-{:08x}", store::random() & 0xffff_ffff);
        let dir = std::env::temp_dir().join(name);
        make_dir(&dir)?;
        for part in ["registry", "skills", "state", "secrets", "homes", "services"] {
            make_dir(&dir.join(part))?;
        }
        write(&dir.join("service-connector.yaml"), CONFIG)?;
        write(&dir.join("people.yaml"), PEOPLE)?;
        write(&dir.join("desired.yaml"), DESIRED)?;
        // It has been there for a while: one that was made by hand is taken up once it is still.
        let a_while_ago = SystemTime::now() - Duration::from_mins(1);
        File::open(dir.join("desired.yaml"))?.set_modified(a_while_ago)?;
        let (services, stop, thread) = start_services(&dir)?;
        for (service, (_, entry, skill, icon)) in services.iter().zip(SERVICES) {
            let id = service.id;
            let entry = with_address(entry, &service.base_url);
            write(&dir.join(format!("registry/{id}.yaml")), &entry)?;
            write(&dir.join(format!("skills/sc_{id}.md")), skill)?;
            write(&dir.join(format!("registry/{id}.svg")), icon)?;
        }
        Ok(Self { dir, services, stop, thread })
    }

    pub fn settings(&self) -> Result<Settings, Failure> {
        let config = Some(self.dir.join("service-connector.yaml"));
        Ok(Settings::find(Overrides { config, ..Overrides::default() })?)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn home(&self, account: &str) -> PathBuf {
        self.dir.join("homes").join(account)
    }

    pub fn services(&self) -> &[Service] {
        &self.services
    }

    pub fn base_url(&self, id: &str) -> &str {
        let service = self.services.iter().find(|service| service.id == id);
        service.map_or("", |service| &service.base_url)
    }

    /// How many keys work, by the service's own ledger.
    pub fn live_tokens(&self, id: &str) -> Result<usize, Failure> {
        let now = Timestamp::now();
        let tokens = Ledger::open(service_dir(&self.dir, id))?.tokens()?;
        Ok(tokens.iter().filter(|token| token.is_live(now)).count())
    }

    /// Stops the services and removes everything.
    pub fn take_down(self) {
        drop(self.stop);
        // A thread that panicked has said so, and what it left is removed all the same.
        drop(self.thread.join());
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            anstream::eprintln!("{} could not be removed: {error}", self.dir.display());
        }
    }
}

type Started = (Vec<Service>, oneshot::Sender<()>, JoinHandle<()>);

/// Starts the services in a thread of their own: they answer while the commands run.
fn start_services(dir: &Path) -> Result<Started, Failure> {
    let mut configs = Vec::new();
    for (kind, ..) in SERVICES {
        let secret = format!("{:032x}", store::random());
        write(&dir.join("secrets").join(kind.secret_variable()), &secret)?;
        configs.push(Config::new(kind, service_dir(dir, kind.id()), Secret::new(secret)));
    }
    let (started, services) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        let result = block_on(serve(configs, &started, stopped));
        if let Err(error) = result {
            anstream::eprintln!("the example services ended: {error}");
        }
    });
    let services = services.recv().map_err(|_| "the example services did not start")??;
    Ok((services, stop, thread))
}

async fn serve(
    configs: Vec<Config>,
    started: &mpsc::Sender<Result<Vec<Service>, String>>,
    stopped: oneshot::Receiver<()>,
) {
    let mut running = Vec::new();
    let mut services = Vec::new();
    for config in configs {
        let kind = config.kind;
        match ExampleService::start(config).await {
            Ok(service) => {
                let base_url = service.base_url();
                services.push(Service { id: kind.id(), name: kind.name(), base_url });
                running.push(service);
            }
            Err(error) => return drop(started.send(Err(error.with_causes()))),
        }
    }
    drop(started.send(Ok(services))); // nobody waits any more: then there is nobody to stop us
    drop(stopped.await); // asked to stop, or the story ended early
    for service in running {
        service.stop().await;
    }
}

fn service_dir(dir: &Path, id: &str) -> PathBuf {
    dir.join("services").join(id)
}

fn with_address(entry: &str, base_url: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("base_url:") {
            format!("base_url: {base_url}")
        } else {
            line.to_owned()
        }
    };
    let lines: Vec<String> = entry.lines().map(line).collect();
    lines.join("\n") + "\n"
}

fn make_dir(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    fs::write(path, text)?; // within a directory that only we may enter
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
