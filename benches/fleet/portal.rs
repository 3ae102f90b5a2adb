//! The portal: many who click at once, one who clicks in a fleet, and the way from a click to the key.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::converge::{Services, service_connector};
use crate::fleet::{self, service_id};

const API: &str = "/api/service-connectors";
const CONFIG: &str = "\
version: 1
identity:
  jwt: { bearer: true, algorithm: HS256, key_file: portal.key, issuer: bench, audience: bench }
";
const CLIENTS: u32 = 64;
const CLICKS: usize = 10_000;
/// How often each of them clicks where they do not click on and on: 1,000 clicks a second in all.
const PACE: Duration = Duration::from_millis(64);

/// Clicks of many at once, beside what the disk takes to make a file and its name durable.
pub fn clicks(users: usize) {
    let services = Services::start(5, Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    drop(fleet::converge(dir.path(), users, false));
    thread::sleep(Duration::from_secs(2)); // until the file counts as still
    let portal = Portal::open(dir.path(), users, &[]);
    portal.visit().click("disconnect", 0, 0); // the first reads all of a file that was made by hand
    for pace in [None, Some(PACE)] {
        let before = fsync_pair(dir.path());
        let (mut times, took) = many_click(&portal, users, pace);
        let rate = CLICKS as u128 * 1000 / took.as_millis();
        let pair = (before + fsync_pair(dir.path())) / 2; // the disk is not always as quick
        times.sort_unstable();
        let p99 = at(&times, 99);
        let pairs = p99.as_secs_f64() / pair.as_secs_f64();
        let what = match pace {
            None => format!("{CLIENTS} clients, on and on"),
            Some(pace) => format!("the same, each {pace:?}"),
        };
        println!(
            "  {what:<28} {rate} acknowledged edits/s, median {:.1?}, p99 {p99:.1?}, \
             {pairs:.0} times the {pair:.0?} in which a file and its name are durable",
            at(&times, 50)
        );
    }
}

/// How long each click took and all together, once all of them are connected and have looked. With a pace, each client clicks once in so long, whether the click before
/// was answered in time or not: what it waits for that counts, too.
fn many_click(portal: &Portal, users: usize, pace: Option<Duration>) -> (Vec<Duration>, Duration) {
    let (next, ready) = (AtomicUsize::new(0), Barrier::new(CLIENTS as usize + 1));
    let (next, ready) = (&next, &ready);
    let client = |number: u32| {
        move || {
            let mut visit = portal.visit();
            visit.look(number as usize % users);
            ready.wait();
            let mut times = Vec::new();
            let mut due = pace.map(|pace| Instant::now() + pace * number / CLIENTS);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CLICKS {
                    return times;
                }
                let what =
                    if (number / users).is_multiple_of(2) { "disconnect" } else { "connect" };
                let late = due.map_or(Duration::ZERO, |due| {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due.elapsed()
                });
                times.push(late + visit.click(what, number % users, 1));
                due = due.zip(pace).map(|(due, pace)| due + pace);
            }
        }
    };
    thread::scope(|threads| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| threads.spawn(client(number))).collect();
        ready.wait();
        let began = Instant::now();
        let times = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (times, began.elapsed())
    })
}

/// One who clicks, and one who looks, in a fleet; then the way from the click to the key.
pub fn run(users: usize) {
    let services = Services::start(5, Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    drop(fleet::converge(dir.path(), users, true));
    services.issued(dir.path());
    thread::sleep(Duration::from_secs(2)); // until the file counts as still
    {
        let portal = Portal::open(dir.path(), users, &[]);
        let mut visit = portal.visit();
        visit.click("disconnect", 0, 0);
        let step = users / 200;
        let edits = (1..100).map(|n| visit.click("disconnect", n * step, 0));
        show("edit", edits.collect());
        visit.look(0);
        show("the card's data", (0..1000).map(|n| visit.look(n * 7 % users)).collect());
        println!("  memory                       {} MB", portal.megabytes());
    }
    let portal = Portal::open(dir.path(), users, &["--reconcile"]);
    let mut visit = portal.visit();
    let step = users / 200;
    let mut times = Vec::new();
    for number in 100..150 {
        let user = number * step;
        let file = dir.path().join(format!("state/homes/user{user}/.service_env"));
        let line = format!("{}_KEY=", service_id(1).to_uppercase());
        let key = || {
            let text = fs::read_to_string(&file).unwrap();
            text.lines().find(|text| text.starts_with(&line)).map(str::to_owned)
        };
        let (before, began) = (key(), Instant::now());
        visit.click("rotate", user, 1);
        while key() == before {
            thread::sleep(Duration::from_millis(1));
        }
        times.push(began.elapsed());
        thread::sleep(Duration::from_millis(200));
    }
    show("click to key", times);
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!("  {what:<28} median {:.1?}, p99 {:.1?}", at(&times, 50), at(&times, 99));
}

/// What it takes to write a small file, and to make it and its name durable.
fn fsync_pair(dir: &Path) -> Duration {
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            let mut file = File::create(dir.join("probe")).unwrap();
            file.write_all(&[0; 4096]).unwrap();
            file.sync_all().unwrap();
            File::open(dir).unwrap().sync_all().unwrap();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    at(&times, 50)
}

/// What a user is believed by.
fn token(user: usize, key: &EncodingKey) -> String {
    let claims = json!({
        "iss": "bench", "aud": "bench", "exp": Timestamp::now().as_second() + 3600,
        "email": format!("user{user}@example.com"),
    });
    encode(&Header::default(), &claims, key).unwrap()
}

/// `serve`, the real binary.
struct Portal {
    child: Child,
    port: u16,
    /// Of each user, made before anything is measured.
    tokens: Vec<String>,
}

impl Portal {
    fn open(dir: &Path, users: usize, args: &[&str]) -> Self {
        let key = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        fs::write(dir.join("portal.key"), &key).unwrap();
        fs::set_permissions(dir.join("portal.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(dir.join("portal.yaml"), CONFIG).unwrap();
        let mut command = service_connector(dir);
        let config = dir.join("portal.yaml");
        command.arg("--config").arg(config).args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("127.0.0.1:")?.1.split('/').next()?.parse().ok()
        });
        if args.contains(&"--reconcile") {
            // The first look at everything, and the first sweep.
            thread::sleep(Duration::from_secs(8));
        }
        thread::spawn(move || lines.for_each(drop));
        let key = EncodingKey::from_secret(key.as_bytes());
        let tokens = (0..users).map(|user| token(user, &key)).collect();
        Self { child, port: port.unwrap(), tokens }
    }

    fn visit(&self) -> Visit<'_> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Visit { portal: self, stream: BufReader::new(stream) }
    }

    fn megabytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A connection that stays open.
struct Visit<'p> {
    portal: &'p Portal,
    stream: BufReader<TcpStream>,
}

impl Visit<'_> {
    fn click(&mut self, what: &str, user: usize, service: usize) -> Duration {
        let body = json!({ "service_id": service_id(service) }).to_string();
        self.ask("POST", &format!("/{what}"), user, &body)
    }

    fn look(&mut self, user: usize) -> Duration {
        self.ask("GET", "", user, "")
    }

    fn ask(&mut self, method: &str, path: &str, user: usize, body: &str) -> Duration {
        let token = &self.portal.tokens[user];
        let request = format!(
            "{method} {API}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut length, mut line) = (0, String::new());
        self.stream.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 ") || line.contains(" 202 "), "{line}");
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).unwrap();
        began.elapsed()
    }
}
