//! Figures of a fleet: `cargo bench --bench fleet -- USERS` (20,000 without). Five services each.
//!
//! Makes a state with that many users, all converged, and times the parts of a plan with nothing
//! to do, homes not looked at, and one edit. Medians of several runs; see `benches/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service_connector::desired_file::DesiredFile;
use service_connector::model::action::{Content, Install, InstallReason, Slot, status_until};
use service_connector::model::actual::Piece;
use service_connector::model::change::Change;
use service_connector::model::desired::{Desired, People};
use service_connector::model::name::{EnvValue, OpId, ServiceId, UserId};
use service_connector::model::outcome::{Change as StateChange, NewGrant};
use service_connector::model::plan::{Scope, World, plan};
use service_connector::model::registry::Registry;
use service_connector::model::token::{Ask, Binding, days, later};
use service_connector::observe::renditions;
use service_connector::store::{Store, random};

const SERVICES: [&str; 5] = ["alpha", "beta", "gamma", "delta", "omega"];
const RUNS: usize = 7;

fn main() {
    let users = std::env::args().skip(1).find_map(|text| text.parse().ok()).unwrap_or(20_000);
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::make(dir.path(), users);
    println!("{users} users, {} connections", users * SERVICES.len());
    let text = fs::read_to_string(dir.path().join("desired.yaml")).unwrap();
    let parse = median(|| drop(black_box(Desired::parse(&text).unwrap())));
    println!("parse desired.yaml ({} kB): {parse:?}", text.len() / 1000);
    let now = Timestamp::now();
    let load = median(|| drop(black_box(fleet.store.load(now).unwrap())));
    println!("load the state: {load:?}");
    let desired = Desired::parse(&text).unwrap();
    let mut actual = fleet.store.load(now).unwrap();
    look_as_put(&mut actual);
    let (people, registry, scope) = (&fleet.people, &fleet.registry, &Scope::default());
    let (desired, actual) = (&desired, &actual);
    let world = World { desired, people, registry, actual, scope, now };
    assert!(plan(&world).is_empty(), "the fleet is converged");
    let plan = median(|| drop(black_box(plan(&world))));
    println!("plan, nothing to do: {plan:?}");
    println!("in all: {:?}; peak memory {} MB", parse + load + plan, peak_megabytes());
    println!("connect, one edit: {:?}", edits(dir.path(), users));
}

struct Fleet {
    store: Store,
    people: People,
    registry: Registry,
}

impl Fleet {
    fn make(dir: &Path, users: usize) -> Self {
        for part in ["registry", "skills", "state"] {
            fs::create_dir(dir.join(part)).unwrap();
        }
        for service in SERVICES {
            write_service(dir, service);
        }
        let mut text = "version: 1\nusers:\n".to_owned();
        for user in 0..users {
            let _ = writeln!(text, "  user{user}:\n    connections:");
            for service in SERVICES {
                let _ = writeln!(text, "      {service}: {{}}");
            }
        }
        fs::write(dir.join("desired.yaml"), text).unwrap();
        let people = People::parse("version: 1\nrules: [{ domain: example.com }]\n").unwrap();
        let (registry_dir, skills) = (dir.join("registry"), dir.join("skills"));
        let loaded = service_connector::registry_dir::load(&registry_dir, &skills).unwrap();
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let registry = loaded.registry;
        let state = dir.join("state");
        let mut store = Store::open(&state, &state.join("sealing.key")).unwrap();
        for user in 0..users {
            connect(&mut store, &registry, &format!("user{user}").parse().unwrap());
        }
        Self { store, people, registry }
    }
}

fn write_service(dir: &Path, id: &str) {
    let prefix = id.to_uppercase();
    let entry = format!(
        "id: {id}\nname: {id}\ndescription: A service.\nbase_url: https://{id}.example.com\n\
         secret: SC_SECRET_{prefix}\nenv_prefix: {prefix}_\nenv:\n  {prefix}_KEY: \"{{{{ api_key }}}}\"\n\
         skill: sc_{id}.md\nallow: {{ emails: [\"*@example.com\"], users: [] }}\n"
    );
    fs::write(dir.join(format!("registry/{id}.yaml")), entry).unwrap();
    let skill = format!("# {id}\n\n{{{{ status }}}}\n{}", "A line of it.\n".repeat(200));
    fs::write(dir.join(format!("skills/sc_{id}.md")), skill).unwrap();
}

/// All of a user's connections, issued and delivered.
fn connect(store: &mut Store, registry: &Registry, user: &UserId) {
    let now = Timestamp::now();
    let account = user.as_str().parse().unwrap();
    let email = format!("{user}@example.com").parse().unwrap();
    let binding = Binding { account, uid: Some(1000), email };
    let (mut changes, mut slots) = (Vec::new(), BTreeMap::new());
    for service in registry.services() {
        let op = OpId::new(store.instance(), random());
        let expires_at = later(now, days(90));
        let ask = Ask { endpoint: Arc::new(service.endpoint.clone()), ttl_days: 90, at: now };
        let (user, id, binding) = (user.clone(), service.id.clone(), binding.clone());
        changes.push(StateChange::Begin { op: op.clone(), user, service: id, binding, ask });
        let api_key = EnvValue::parse(&format!("key_{:032x}", random())).unwrap();
        let token_id = format!("tok_{:032x}", random()).parse().unwrap();
        let grant = NewGrant { api_key, token_id, expires_at };
        changes.push(StateChange::Grant { op: op.clone(), grant });
        let (rendition, status) = (service.rendition.digest(), status_until(expires_at));
        let after = Some(Content::Of(Piece { op: Some(op), rendition, status }));
        slots.insert(service.id.clone(), Slot { before: None, after });
    }
    store.record(vec![changes], now).unwrap().pop().unwrap().unwrap();
    let (user, account) = (user.clone(), binding.account);
    let why = vec![InstallReason::Changed];
    let install = Install {
        user: user.clone(),
        account: account.clone(),
        uid: Some(1000),
        leaves: false,
        seen: 0,
        slots,
        why,
    };
    store.fill(&install, &renditions(registry)).unwrap();
    let delivered =
        StateChange::Delivered { user, account, generation: 1, uid: 1000, leaves: false };
    store.record(vec![vec![delivered]], now).unwrap().pop().unwrap().unwrap();
}

/// Homes that hold what was put there.
fn look_as_put(actual: &mut service_connector::model::actual::Actual) {
    use service_connector::model::actual::{EnvFacts, FileFacts, HomeFacts, HomeLook};
    let fact = |digest| FileFacts { digest, mode_ok: true };
    for (account, record) in actual.installed.values().flatten() {
        let facts = HomeFacts {
            uid: 1000,
            env: Some(EnvFacts { file: fact(record.env), generation: Some(record.generation) }),
            skills: record
                .skills
                .iter()
                .map(|(file, digest)| (file.clone(), fact(*digest)))
                .collect(),
            rules_mode_ok: true,
            laptops: Vec::new(),
        };
        actual.homes.insert(account.clone(), HomeLook::Seen(facts));
    }
}

/// One edit after another, each by another user.
fn edits(dir: &Path, users: usize) -> Duration {
    let file = DesiredFile::new(dir.join("desired.yaml"));
    let service: ServiceId = SERVICES[0].parse().unwrap();
    let mut user = 0;
    std::thread::sleep(Duration::from_secs(2)); // until the file counts as still
    median(|| {
        user = (user + users / RUNS).min(users - 1);
        let name = format!("user{user}").parse().unwrap();
        let change = Change::Disconnect { user: name, service: service.clone() };
        file.edit(&change, "bench", None, Timestamp::now()).unwrap();
    })
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}
