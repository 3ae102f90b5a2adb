//! The portal as a user of its own, with umask 077: whom it believes, and how it and the passes share
//! what is desired.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, ChildStdout, Stdio};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::nudges::{Loop, wait_until};
use crate::server::{ANALYSTS, DESIRED, ETC, PORTAL, RECONCILER};
use crate::world::{CONFIG, World, in_a_world};

/// Whom the reverse proxy runs as.
const PROXY: &str = "proxy-for-test";
const SOCKET: &str = "unix:/run/service-connector-portal/portal.sock";
const API: &str = "/api/service-connectors";

/// The portal, run by its user. It is killed with the test.
struct Portal {
    child: Child,
    /// What curl is to be told.
    way: Vec<String>,
    url: String,
    _said: BufReader<ChildStdout>,
}

impl Portal {
    fn open(world: &World<'_>, listen: &str) -> Self {
        let mut serve = world.command(PORTAL, &["serve", "--listen", listen]);
        let mut child = serve.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("The portal is at ") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it did not come up");
        }
        let (way, host) = if let Some(path) = listen.strip_prefix("unix:") {
            (vec!["--unix-socket".to_owned(), path.to_owned()], "portal.your-domain.com")
        } else {
            let (_, address) = line.split_once("http://").unwrap();
            (Vec::new(), address.split('/').next().unwrap())
        };
        let url = format!("http://{host}");
        Self { child, way, url, _said: said }
    }

    /// What it answers an account of the server that says to be somebody.
    fn ask(
        &self,
        world: &World<'_>,
        account: &str,
        email: Option<&str>,
        path: &str,
        body: Option<&str>,
    ) -> (u16, String) {
        let mut curl = world.server.run_as(account, "curl");
        curl.args(["-s", "--max-time", "60", "-w", "\n%{http_code}"]).args(&self.way);
        curl.args(["-H", "Sec-Fetch-Site: same-origin"]);
        if let Some(email) = email {
            curl.args(["-H", &format!("X-Remote-Email: {email}")]);
        }
        if let Some(body) = body {
            curl.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let output = curl.arg(format!("{}{API}{path}", self.url)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// What it answers somebody who comes through the proxy.
    fn click(&self, world: &World<'_>, who: &str, path: &str, body: &str) -> (u16, Value) {
        let email = format!("{who}@your-domain.com");
        let body = Some(body).filter(|body| !body.is_empty());
        let (status, body) = self.ask(world, PROXY, Some(&email), path, body);
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Ends it politely; its exit code.
    fn close(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The accounts and the configuration of a portal behind a proxy.
fn behind_a_proxy(world: &World<'_>, more: &str) {
    world.server.system_user(PROXY, &[]);
    world.server.account("john", 3001, &[ANALYSTS]);
    world.server.dir("/run/service-connector-portal", PORTAL, PORTAL, 0o755);
    let identity = format!("identity: {{ header: {{ name: X-Remote-Email, peers: [{PROXY}] }} }}");
    let config = fs::read_to_string(CONFIG).unwrap();
    world.server.root_file(CONFIG, &format!("{config}{identity}\nadmins: [eva]\n{more}"));
}

fn desired() -> String {
    fs::read_to_string(format!("{DESIRED}/desired.yaml")).unwrap()
}

#[test]
fn nobody_with_an_account_of_their_own_is_believed_over_socket_or_loopback() {
    in_a_world(
        "nobody_with_an_account_of_their_own_is_believed_over_socket_or_loopback",
        |world| {
            behind_a_proxy(world, "");
            world.run(RECONCILER, &["reconcile"]).expect(0);
            let [socket, loopback] = [SOCKET, "127.0.0.1:0"].map(|at| Portal::open(world, at));
            let mode = fs::metadata("/run/service-connector-portal/portal.sock").unwrap().mode();
            assert_eq!(mode & 0o777, 0o666, "whoever wants to may ask");
            let before = desired();
            let john = Some("john@your-domain.com");
            let mut refused = 0;
            for (portal, accounts) in [
                (&socket, &["john", RECONCILER, PORTAL, "root"][..]),
                (&loopback, &["john", RECONCILER, PORTAL, "root", PROXY]),
            ] {
                for account in accounts {
                    for email in [None, john, Some("eva@your-domain.com")] {
                        for (path, body) in [
                            ("", None),
                            ("/events", None),
                            ("/fleet", None),
                            ("/connect", Some(r#"{"service_id":"crm"}"#)),
                            ("/offboard", Some(r#"{"user":"john"}"#)),
                        ] {
                            let (status, said) = portal.ask(world, account, email, path, body);
                            assert_eq!(status, 401, "{account} as {email:?} at {path}: {said}");
                            refused += 1;
                        }
                    }
                }
            }
            assert_eq!((refused, desired()), (135, before));
            // The proxy itself is believed, but for who it says nothing of.
            assert_eq!(socket.ask(world, PROXY, None, "", None).0, 401);
            assert_eq!(socket.ask(world, PROXY, john, "", None).0, 200);
            assert_eq!((socket.close(), loopback.close()), (Some(0), Some(0)));
            assert!(!fs::exists("/run/service-connector-portal/portal.sock").unwrap());
        },
    );
}

#[test]
fn a_click_is_done_by_the_passes_of_another_user_and_all_go_on_editing() {
    in_a_world("a_click_is_done_by_the_passes_of_another_user_and_all_go_on_editing", |world| {
        behind_a_proxy(world, "");
        let _loop = Loop::start(world);
        let portal = Portal::open(world, SOCKET);
        let crm = r#"{"service_id":"crm"}"#;
        for round in 0..3 {
            let (status, done) = portal.click(world, "john", "/connect?wait=30", crm);
            assert_eq!((status, &done["state"]), (200, &"connected".into()), "{round}: {done}");
            let held = ("john".to_owned(), "john@your-domain.com".to_owned());
            assert_eq!(world.whose_keys(), [held]);
            let (status, done) = portal.click(world, "john", "/disconnect?wait=30", crm);
            assert_eq!((status, &done["state"]), (200, &"not_connected".into()), "{done}");
            // Whoever edits next can, and the portal sees it.
            for editor in [RECONCILER, "root", PORTAL] {
                let meta = fs::metadata(format!("{DESIRED}/desired.yaml")).unwrap();
                let (_, group) = world.server.ids(RECONCILER);
                assert_eq!((meta.gid(), meta.mode() & 0o7777), (group, 0o660));
                world.run(editor, &["connect", "eva", "invoicing"]).expect(0);
                let connected = || {
                    let (status, card) = portal.click(world, "eva", "", "");
                    assert_eq!(status, 200, "{card}");
                    let services = card["services"].as_array().unwrap();
                    services.iter().any(|of| of["id"] == "invoicing" && of["state"] == "connected")
                };
                wait_until("the other's edit", connected);
                world.run(editor, &["disconnect", "eva", "invoicing"]).expect(0);
            }
            wait_until("the end of the other's key", || world.whose_keys().is_empty());
        }
        assert_eq!(portal.close(), Some(0));
    });
}

#[test]
fn an_approval_of_the_portals_is_taken_up_by_the_passes_where_they_are_told_to() {
    let test = "an_approval_of_the_portals_is_taken_up_by_the_passes_where_they_are_told_to";
    in_a_world(test, |world| {
        behind_a_proxy(world, "");
        for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            world.run(PORTAL, &["connect", user, "crm"]).expect(0);
        }
        world.run(RECONCILER, &["reconcile"]).expect(0);
        assert_eq!(world.whose_keys().len(), 8);
        for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            world.run(PORTAL, &["disconnect", user, "crm"]).expect(0);
        }
        world.run(RECONCILER, &["reconcile"]).expect(3);
        let portal = Portal::open(world, SOCKET);
        let (_, fleet) = portal.click(world, "eva", "/fleet", "");
        let digest = fleet["held"]["digest"].as_str().unwrap().to_owned();
        let approve = format!(r#"{{"digest":"{digest}"}}"#);
        assert_eq!(portal.click(world, "eva", "/approve", &approve).0, 403);
        assert!(!fs::exists(format!("{DESIRED}/approvals")).unwrap());
        portal.close();

        let config = fs::read_to_string(CONFIG).unwrap();
        let more = "guard: { portal_may_approve: true }\n";
        world.server.root_file(CONFIG, &format!("{config}{more}"));
        let portal = Portal::open(world, SOCKET);
        assert_eq!(portal.click(world, "john", "/approve", &approve).0, 403);
        assert_eq!(portal.click(world, "eva", "/approve", &approve).0, 202);
        let (letter, (owner, _)) =
            (format!("{DESIRED}/approvals/{digest}"), world.server.ids(PORTAL));
        let meta = fs::metadata(&letter).unwrap();
        let (_, group) = world.server.ids(RECONCILER);
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner, group, 0o640));
        let dir = fs::metadata(format!("{DESIRED}/approvals")).unwrap();
        assert_eq!((dir.uid(), dir.gid(), dir.mode() & 0o7777), (owner, group, 0o2770));
        world.run(RECONCILER, &["reconcile"]).expect(0);
        assert_eq!(world.whose_keys(), []);
        assert_eq!(fs::read_dir(format!("{DESIRED}/approvals")).unwrap().count(), 0);
        let events = world.run(RECONCILER, &["events", "--json"]).expect(0).stdout;
        assert!(events.contains("eva (portal, admin)"), "who approved is an event");
    });
}

#[test]
fn a_session_is_checked_with_a_key_that_the_portals_group_reads_and_nobody_else() {
    let test = "a_session_is_checked_with_a_key_that_the_portals_group_reads_and_nobody_else";
    in_a_world(test, |world| {
        world.server.account("john", 3001, &[ANALYSTS]);
        let (key, file) = (format!("{:064x}", fastrand::u128(..)), format!("{ETC}/portal.key"));
        world.server.file(&file, &key, "root", PORTAL, 0o640);
        let config = fs::read_to_string(CONFIG).unwrap();
        let jwt = format!(
            "identity: {{ jwt: {{ bearer: true, algorithm: HS256, key_file: {file}, \
             issuer: the dashboard, audience: service-connector }} }}\n"
        );
        world.server.root_file(CONFIG, &format!("{config}{jwt}"));
        world.run(RECONCILER, &["reconcile"]).expect(0);
        let portal = Portal::open(world, "127.0.0.1:0");
        let claims = json!({
            "iss": "the dashboard", "aud": "service-connector", "email": "john@your-domain.com",
            "exp": jiff::Timestamp::now().as_second() + 3600,
        });
        let signing = EncodingKey::from_secret(key.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &signing).unwrap();
        let header = format!("Authorization: Bearer {token}");
        world.server.file("/home/john/header", &header, "john", "john", 0o600);
        let mut curl = world.server.run_as("john", "curl");
        curl.args(["-sf", "--max-time", "60", "-H", "@/home/john/header"]);
        let said = curl.arg(format!("{}{API}", portal.url)).output().unwrap();
        assert!(said.status.success());
        assert!(String::from_utf8(said.stdout).unwrap().contains("john@your-domain.com"));
        assert_eq!(portal.ask(world, "john", None, "", None).0, 401);
        for user in ["john", RECONCILER] {
            let read = world.server.run_as(user, "cat").arg(&file).output().unwrap();
            assert!(!read.status.success(), "{user} could sign for anybody");
        }
    });
}
