//! A fleet in a scratch directory: services, users, and a state in which all is delivered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use service_connector::model::action::{Content, Install, InstallReason, Slot, status_until};
use service_connector::model::actual::Piece;
use service_connector::model::name::{EnvValue, OpId, UserId};
use service_connector::model::outcome::{Change, NewGrant};
use service_connector::model::registry::Registry;
use service_connector::model::token::{Ask, Binding, days, later};
use service_connector::observe::renditions;
use service_connector::store::{Filled, Store, random};
use service_connector::wire::HomeFiles;

/// Users whose changes share a transaction while the fleet is made.
const AT_ONCE: usize = 1000;

/// Writes the registry, skills, people and a desired state in which these users have every
/// service. `addresses` are the services' base URLs.
pub fn write_files(dir: &Path, users: usize, addresses: &[String]) {
    for part in ["registry", "skills", "state"] {
        fs::create_dir(dir.join(part)).unwrap();
    }
    for (number, address) in addresses.iter().enumerate() {
        write_service(dir, &service_id(number), address);
    }
    let mut text = "version: 1\nusers:\n".to_owned();
    for user in 0..users {
        writeln!(text, "  user{user}:\n    connections:").unwrap();
        for number in 0..addresses.len() {
            writeln!(text, "      {}: {{}}", service_id(number)).unwrap();
        }
    }
    fs::write(dir.join("state/desired.yaml"), text).unwrap();
    let people = "version: 1\npeople: {}\nrules: [{ domain: example.com }]\n";
    fs::write(dir.join("state/people.yaml"), people).unwrap();
}

/// The ids of the services.
pub fn service_id(number: usize) -> String {
    format!("service{number}")
}

/// Addresses that nobody answers at.
pub fn unused_addresses() -> Vec<String> {
    (0..5).map(|number| format!("https://service-{number}.example.com")).collect()
}

/// The registry as it was written.
pub fn registry(dir: &Path) -> Registry {
    let loaded =
        service_connector::registry_dir::load(&dir.join("registry"), &dir.join("skills")).unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.registry
}

/// Records every connection as issued and delivered. With `homes`, the files are there, too.
pub fn converge(dir: &Path, users: usize, homes: bool) -> Store {
    let registry = registry(dir);
    let state = dir.join("state");
    let mut store = Store::open(&state, &state.join("sealing.key")).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let users: Vec<UserId> =
        (0..users).map(|user| format!("user{user}").parse().unwrap()).collect();
    for users in users.chunks(AT_ONCE) {
        // A day ago: after a delivery the loop looks for laptops a few times.
        let now = later(Timestamp::now(), -days(1));
        let (installs, changes): (Vec<_>, Vec<_>) =
            users.iter().map(|user| connect(&store, &registry, user, uid, now)).unzip();
        for result in store.record(changes, now).unwrap() {
            result.unwrap();
        }
        let renditions = renditions(&registry);
        let mut delivered = Vec::new();
        for install in installs {
            let filled = store.fill(&install, &renditions).unwrap();
            let Filled::Files { files, generation, .. } = filled else { panic!("nothing to put") };
            if homes {
                write_home(&dir.join("state/homes").join(install.account.as_str()), &files);
            }
            let Install { user, account, .. } = install;
            delivered.push(vec![Change::Delivered {
                user,
                account,
                generation,
                uid,
                leaves: false,
            }]);
        }
        for result in store.record(delivered, now).unwrap() {
            result.unwrap();
        }
    }
    store
}

fn write_service(dir: &Path, id: &str, address: &str) {
    let prefix = id.to_uppercase();
    let entry = format!(
        "id: {id}\nname: {id}\ndescription: A service.\nbase_url: {address}\n\
         secret: SC_SECRET_{prefix}\nenv_prefix: {prefix}_\nenv:\n  {prefix}_KEY: \"{{{{ api_key }}}}\"\n\
         skill: sc_{id}.md\nallow: {{ emails: [\"*@example.com\"], users: [] }}\n\
         limits: {{ concurrency: 16, per_minute: 60000, timeout_seconds: 30 }}\n"
    );
    fs::write(dir.join(format!("registry/{id}.yaml")), entry).unwrap();
    let skill = format!("# {id}\n\n{{{{ status }}}}\n{}", "A line of it.\n".repeat(200));
    fs::write(dir.join(format!("skills/sc_{id}.md")), skill).unwrap();
}

/// All that it takes to connect one user to every service.
fn connect(
    store: &Store,
    registry: &Registry,
    user: &UserId,
    uid: u32,
    now: Timestamp,
) -> (Install, Vec<Change>) {
    let account = user.as_str().parse().unwrap();
    let email = format!("{user}@example.com").parse().unwrap();
    let binding = Binding { account, uid: Some(uid), email };
    let (mut changes, mut slots) = (Vec::new(), BTreeMap::new());
    for service in registry.services() {
        let op = OpId::new(store.instance(), random());
        let expires_at = later(now, days(90));
        let ask = Ask { endpoint: Arc::new(service.endpoint.clone()), ttl_days: 90, at: now };
        let (user, id, binding) = (user.clone(), service.id.clone(), binding.clone());
        changes.push(Change::Begin { op: op.clone(), user, service: id, binding, ask });
        let api_key = EnvValue::parse(&format!("key_{:032x}", random())).unwrap();
        let token_id = format!("tok_{:032x}", random()).parse().unwrap();
        let grant = NewGrant { api_key, token_id, expires_at };
        changes.push(Change::Grant { op: op.clone(), grant });
        let (rendition, status) = (service.rendition.digest(), status_until(expires_at));
        let after = Some(Content::Of(Piece { op: Some(op), rendition, status }));
        slots.insert(service.id.clone(), Slot { before: None, after });
    }
    let (user, account) = (user.clone(), binding.account);
    let why = vec![InstallReason::Changed];
    (Install { user, account, uid: Some(uid), leaves: false, seen: 0, slots, why }, changes)
}

/// As the installer leaves it, without waiting for the disk.
fn write_home(home: &Path, files: &HomeFiles) {
    let rules = home.join(".claude_rules");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&rules).unwrap();
    let write = |path: &Path, text: &str| {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write(&home.join(".service_env"), &files.env);
    for (name, text) in &files.skills {
        write(&rules.join(name.as_str()), text);
    }
}
