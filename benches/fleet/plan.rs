//! A plan with nothing to do, homes not looked at: what it costs, and how much of that is what.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::Timestamp;
use service_connector::model::actual::Actual;
use service_connector::model::desired::{Desired, People};
use service_connector::model::home::{EnvFacts, FileFacts, HomeFacts, HomeLook};
use service_connector::model::plan::{Scope, World, plan};
use service_connector::store::Store;

use crate::converge::service_connector;
use crate::fleet;
use crate::measure::{median, peak_megabytes};

/// How this program is told to measure in a process of its own: memory that the making of the
/// fleet took is not the plan's.
pub const CHILD: &str = "plan-of";

pub fn run(users: usize) {
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, &fleet::unused_addresses());
    drop(fleet::converge(dir.path(), users, true));
    let whole = median(|| {
        let output =
            service_connector(dir.path()).arg("plan").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    });
    println!("  the command, homes and all   {whole:.1?}");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.arg(CHILD).arg(dir.path()).status().unwrap();
    assert!(status.success());
}

pub fn measured_alone(dir: &Path) {
    let now = Timestamp::now();
    let store = Store::open_to_read(&dir.join("state")).unwrap();
    let people = fs::read_to_string(dir.join("state/people.yaml")).unwrap();
    let people = &People::parse(&people).unwrap();
    let text = fs::read_to_string(dir.join("state/desired.yaml")).unwrap();
    let (desired, registry) = (&Desired::parse(&text).unwrap(), &fleet::registry(dir));
    let mut actual = store.load(now, None).unwrap();
    look_as_put(&mut actual);
    let (actual, scope) = (&actual, &Scope::default());
    let world = World { desired, people, registry, actual, scope, now };
    assert!(plan(&world).is_empty(), "the fleet is converged");
    // Before anything is done twice.
    let peak = peak_megabytes();
    let parse = median(|| drop(black_box(Desired::parse(&text).unwrap())));
    let load = median(|| drop(black_box(store.load(now, None).unwrap())));
    let both = median(|| {
        std::thread::scope(|threads| {
            let parsed = threads.spawn(|| Desired::parse(&text).unwrap());
            drop(black_box((store.load(now, None).unwrap(), parsed.join().unwrap())));
        });
    });
    let plan = median(|| drop(black_box(plan(&world))));
    println!("  parse desired.yaml ({} kB)  {parse:.1?}", text.len() / 1000);
    println!("  load the state               {load:.1?}");
    println!("  plan                         {plan:.1?}");
    println!("  parse and load at once       {both:.1?}");
    println!("  in all, homes not looked at  {:.1?}, {peak} MB", both + plan);
}

/// Homes that hold what was put there.
fn look_as_put(actual: &mut Actual) {
    let fact = |digest| FileFacts { digest, mode_ok: true };
    for (account, record) in actual.installed.values().flatten() {
        let facts = HomeFacts {
            uid: rustix::process::geteuid().as_raw(),
            env: Some(EnvFacts { file: fact(record.env), generation: Some(record.generation) }),
            skills: record.skills.iter().map(|(file, d)| (file.clone(), fact(*d))).collect(),
            rules_mode_ok: true,
            in_the_way: None,
            laptops: Vec::new(),
        };
        actual.homes.insert(account.clone(), HomeLook::Seen(facts));
    }
}
