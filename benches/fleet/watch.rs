//! The loop in a fleet: from its start to ready, a change of one user's, what it costs while nothing
//! changes; and what a service that hangs costs the others.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service_connector::desired_file::DesiredFile;
use service_connector::model::change::Change;

use crate::converge::{Services, service_connector};
use crate::fleet::{self, service_id};
use crate::measure::RUNS;

/// How long the loop is left alone.
const IDLE: Duration = Duration::from_mins(1);
/// The kernel counts processor time in these (`sysconf(_SC_CLK_TCK)` on Linux).
const TICK: Duration = Duration::from_millis(10);

pub fn run(users: usize) {
    let services = Services::start(5, Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    drop(fleet::converge(dir.path(), users, true));
    services.issued(dir.path());
    thread::sleep(Duration::from_secs(2)); // until the file counts as still
    let began = Instant::now();
    let watching = Watching::start(dir.path());
    println!("  start to ready               {:.1?}", began.elapsed());
    watching.is_quiet();
    println!("  memory after the first pass  {} MB", watching.megabytes());
    let cpu = watching.cpu();
    thread::sleep(IDLE);
    let share = 100.0 * watching.cpu().saturating_sub(cpu).as_secs_f64() / IDLE.as_secs_f64();
    println!("  processor while idle         {share:.2} %");
    let mut changes: Vec<Duration> = (0..RUNS)
        .map(|number| {
            let clicked = click(dir.path(), number * (users / RUNS), 1);
            wait_for(|| clicked.has_come());
            watching.wait("A pass ended");
            let took = clicked.at.elapsed();
            watching.is_quiet();
            took
        })
        .collect();
    changes.sort_unstable();
    println!("  one user's change to the end {:.1?}", changes[RUNS / 2]);
    println!("  memory in the end            {} MB", watching.megabytes());
}

/// Eight services; one of them hangs half of the time.
pub fn isolation(users: usize) {
    let hangs = Arc::new(AtomicBool::new(false));
    let services = Services::with_one_that_hangs(8, Duration::from_millis(50), &hangs);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    drop(fleet::converge(dir.path(), users, true));
    services.issued(dir.path());
    thread::sleep(Duration::from_secs(2));
    let watching = Watching::start(dir.path());
    watching.is_quiet();
    for hanging in [false, true] {
        hangs.store(hanging, Ordering::Relaxed);
        let mut times = clicks(dir.path(), users, if hanging { users / 2 } else { 0 });
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
        let what = if hanging { "one of eight hangs" } else { "all are well" };
        println!("  {what:<20} {} clicks: median {:.1?}, p99 {:.1?}", times.len(), at(50), at(99));
    }
}

/// Ten clicks a second, each of another user's; how long those at the services that do not hang took
/// until the key was in the home.
fn clicks(dir: &Path, users: usize, first: usize) -> Vec<Duration> {
    let mut waiting = Vec::new();
    for number in 0..users / 2 {
        let clicked = click(dir, first + number, number % 8);
        if number % 8 != 7 {
            waiting.push(thread::spawn(move || {
                wait_for(|| clicked.has_come());
                clicked.at.elapsed()
            }));
        }
        thread::sleep(Duration::from_millis(100));
    }
    waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// A click, and where its key will be.
struct Clicked {
    at: Instant,
    file: PathBuf,
    before: String,
    line: String,
}

impl Clicked {
    fn has_come(&self) -> bool {
        let text = fs::read_to_string(&self.file).unwrap();
        let line = text.lines().find(|line| line.starts_with(&self.line));
        line.is_some_and(|line| line != self.before)
    }
}

fn click(dir: &Path, user: usize, service: usize) -> Clicked {
    let file = dir.join(format!("state/homes/user{user}/.service_env"));
    let line = format!("{}_KEY=", service_id(service).to_uppercase());
    let text = fs::read_to_string(&file).unwrap();
    let before = text.lines().find(|text| text.starts_with(&line)).unwrap().to_owned();
    let (user, service) = (format!("user{user}"), service_id(service));
    let (user, service) = (user.parse().unwrap(), service.parse().unwrap());
    let at = Timestamp::now();
    let change = Change::Rotate { user, service, at, leaked: false };
    let desired = DesiredFile::new(dir.join("state/desired.yaml"));
    desired.edit(&change, "benchmark", None, at).unwrap();
    Clicked { at: Instant::now(), file, before, line }
}

fn wait_for(mut fits: impl FnMut() -> bool) {
    while !fits() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// `reconcile --watch`, the real binary.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Returns when it says that it is ready.
    fn start(dir: &Path) -> Self {
        let mut command = service_connector(dir);
        let command = command.args(["reconcile", "--watch"]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let watching = Self { child, lines };
        watching.wait("Watching");
        watching
    }

    fn wait(&self, start: &str) {
        while !self.lines.recv().unwrap().starts_with(start) {}
    }

    /// Until it has used no processor time for a second.
    fn is_quiet(&self) {
        loop {
            let before = self.cpu();
            thread::sleep(Duration::from_secs(1));
            if self.cpu() == before {
                return;
            }
        }
    }

    /// `proc_pid_stat(5)`: utime and stime are the 14th and 15th field.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
        TICK * ticks
    }

    fn megabytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
