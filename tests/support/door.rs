//! The portal of a scene, started as its operator would, and a client that sends exactly what it is told.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::scene::{Scene, wait_until};

pub const API: &str = "/api/service-connectors";
pub const PAGE: &str = "/service-connectors";

/// What stands in the configuration of these portals, beside who may ask.
const CONFIG: &str = "\
version: 1
identity:
  jwt: { bearer: true, cookie: portal, algorithm: HS256, key_file: portal.key, issuer: the portal,
         audience: service-connector }
admins: [eva]
";

/// A portal that answers.
pub struct Door {
    child: Child,
    socket: Socket,
    key: Vec<u8>,
    said: Arc<Mutex<String>>,
}

#[derive(Clone)]
enum Socket {
    Port(u16),
    Path(PathBuf),
}

/// An answer, as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Door {
    /// With a loop in the same process.
    pub fn open(scene: &Scene) -> Self {
        Self::open_with(scene, &["--reconcile"], "")
    }

    /// With these arguments, and this behind the usual configuration.
    pub fn open_with(scene: &Scene, args: &[&str], config: &str) -> Self {
        Self::open_as(scene, args, &format!("{CONFIG}{config}"))
    }

    /// With these arguments and this configuration.
    pub fn open_as(scene: &Scene, args: &[&str], config: &str) -> Self {
        let key_file = scene.path("portal.key");
        if !key_file.exists() {
            let mut random = [0; 48];
            fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
            fs::write(&key_file, data_encoding::HEXLOWER.encode(&random)).unwrap();
            fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let file = scene.path("service-connector.yaml");
        fs::write(&file, config).unwrap();
        let mut all = vec!["--config", file.to_str().unwrap(), "serve"];
        if !args.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(args);
        // A group of its own: what moves its clock runs it as a child.
        let mut child = scene.start_with(&all, |command| {
            command.process_group(0);
        });
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    said.lock().unwrap().push_str(&(line + "\n"));
                }
            });
        }
        let place = || {
            let said = said.lock().unwrap().clone();
            Some(said.split_once("The portal is at ")?.1.lines().next()?.to_owned())
        };
        wait_until("the portal", || place().is_some());
        let place = place().unwrap();
        let socket = match place.strip_prefix("http://127.0.0.1:") {
            Some(rest) => Socket::Port(rest.split('/').next().unwrap().parse().unwrap()),
            None => Socket::Path(
                place.strip_prefix("unix:").unwrap().split(" (").next().unwrap().into(),
            ),
        };
        let door = Self { child, socket, key: fs::read(&key_file).unwrap(), said };
        if args.contains(&"--reconcile") {
            wait_until("the first pass", || scene.has_passed());
        }
        door
    }

    /// Of a process that answers there already, and lets nobody in by a token.
    pub fn at(port: u16, child: Child) -> Self {
        let (socket, said) = (Socket::Port(port), Arc::default());
        Self { child, socket, key: Vec::new(), said }
    }

    /// What the process said so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The name under which it is reached.
    pub fn host(&self) -> String {
        match &self.socket {
            Socket::Port(port) => format!("127.0.0.1:{port}"),
            Socket::Path(_) => "portal.example.com".to_owned(),
        }
    }

    /// A proof that somebody is who they say, also once a test has moved the portal's clock on by
    /// some weeks.
    pub fn token(&self, user: &str) -> String {
        let exp = jiff::Timestamp::now().as_second() + 90 * 24 * 3600;
        self.token_of(&json!({
            "iss": "the portal", "aud": "service-connector", "exp": exp,
            "email": format!("{user}@your-domain.com"),
        }))
    }

    pub fn token_of(&self, claims: &Value) -> String {
        let key = EncodingKey::from_secret(&self.key);
        encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    }

    /// Asks as a program does: with a bearer token.
    pub fn get(&self, user: &str, path: &str) -> Answer {
        self.ask("GET", path, &[("Authorization", &self.bearer(user))], "")
    }

    /// Changes something as a program does.
    pub fn post(&self, user: &str, path: &str, body: &Value) -> Answer {
        self.post_with(user, path, &[], body)
    }

    pub fn post_with(
        &self,
        user: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let bearer = self.bearer(user);
        let mut all = vec![("Authorization", &*bearer), ("Content-Type", "application/json")];
        all.extend(headers);
        self.ask("POST", &format!("{API}{path}"), &all, &body.to_string())
    }

    fn bearer(&self, user: &str) -> String {
        format!("Bearer {}", self.token(user))
    }

    /// Asks with the right name and these headers.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let host = self.host();
        let mut all = vec![("Host", &*host)];
        all.extend(headers);
        self.ask_bare(method, path, &all, body)
    }

    /// Asks with these headers and no others.
    pub fn ask_bare(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_ask(method, path, headers, body).expect("an answer")
    }

    /// The same; none: it went away before it had answered.
    pub fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut stream = self.connect()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        request.push_str("\r\n");
        request.push_str(body);
        // An answer may come before all is sent.
        stream.write_all(request.as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        Answer::parse(&answer)
    }

    /// Whether somebody listens.
    pub fn is_open(&self) -> bool {
        self.connect().is_some()
    }

    fn connect(&self) -> Option<Box<dyn ReadWrite>> {
        Some(match &self.socket {
            Socket::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).ok()?;
                stream.set_read_timeout(Some(Duration::from_mins(2))).ok()?;
                Box::new(stream)
            }
            Socket::Path(path) => Box::new(UnixStream::connect(path).ok()?),
        })
    }

    /// One's card.
    pub fn card(&self, user: &str) -> Value {
        self.get(user, API).expect(200).json()
    }

    /// How one is connected to a service.
    pub fn service(&self, user: &str, id: &str) -> Value {
        let card = self.card(user);
        let services = card["services"].as_array().unwrap().clone();
        services.into_iter().find(|service| service["id"] == id).expect("the service")
    }

    /// One's card as it changes.
    pub fn events(&self, user: &str) -> Events {
        let mut stream = self.connect().unwrap();
        let (host, bearer) = (self.host(), self.bearer(user));
        let head =
            format!("GET {API}/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Events(BufReader::new(stream))
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Ends it politely.
    pub fn close(mut self) -> i32 {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code().expect("no signal ends it")
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            killpg(self.pid(), Signal::SIGKILL).ok(); // not each is a group
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

pub trait ReadWrite: Read + std::io::Write + Send {}
impl<S: Read + std::io::Write + Send> ReadWrite for S {}

/// A stream of events.
pub struct Events(BufReader<Box<dyn ReadWrite>>);

impl Events {
    /// The next card; none: the stream has ended.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data.trim_end()).ok();
            }
        }
    }

    /// Reads on until the connection to a service has this state.
    pub fn until(&mut self, service: &str, state: &str) -> Value {
        loop {
            let card = self.next().expect("the stream goes on");
            let services = card["services"].as_array().unwrap();
            let found = services.iter().find(|found| found["id"] == service).unwrap();
            if found["state"] == state {
                return found.clone();
            }
        }
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}:")))?;
        Some(line.trim())
    }

    /// An error of this status, with a text for people.
    #[track_caller]
    pub fn problem(self, status: u16) -> String {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let body = answer.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["error"], body["detail"]);
        body["error"].as_str().unwrap().to_owned()
    }
}
