//! The whole way: a click, a pass, a sync over real ssh from an account of its own, and the library that
//! people load `.env` with.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use service_connector::example_service::Kind::{self, PurchaseOrders};

use crate::kit::Ran;
use crate::python::python;
use crate::scene::wait_until;
use crate::server::{ANALYSTS, Server, on_a_server};
use crate::way::{Way, World};

const LAPTOP: &str = "laptop";
const PROJECT: &str = "/home/laptop/analysis";

/// What people have: data first, then rules, and in the end our script.
const SYNC_DATA: &str = r#"#!/bin/bash
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p .claude/rules data
scp -q "data-analyst:data/*.csv" data/ 2>/dev/null || echo "no data yet"
scp -rq "data-analyst:~/.claude_rules/*" .claude/rules/ 2>/dev/null || true
# --- Sync service connector credentials ---
./sync_service_env.sh || echo "credentials were not synced"
"#;

/// The server's sshd on loopback, and a laptop that knows it as `data-analyst`.
struct Net<'a> {
    server: &'a Server,
    sshd: Child,
}

impl<'a> Net<'a> {
    fn new(server: &'a Server, account: &str) -> Self {
        fs::create_dir_all("/run/sshd").unwrap();
        let shadow = fs::read_to_string("/etc/shadow").unwrap();
        // No password, but not locked: sshd lets nobody in whose account is.
        fs::write(
            "/etc/shadow",
            shadow.replace(&format!("{account}:!:"), &format!("{account}:*:")),
        )
        .unwrap();
        server.dir("/etc/ssh-test", "root", "root", 0o755);
        key("/etc/ssh-test/host");
        let home = server.account(LAPTOP, 1601, &[]);
        let ssh = home.join(".ssh");
        let (ssh_dir, theirs) = (ssh.to_str().unwrap(), format!("/home/{account}/.ssh"));
        server.dir(ssh_dir, LAPTOP, LAPTOP, 0o700);
        server.dir(&theirs, account, account, 0o700);
        key(&format!("{ssh_dir}/id"));
        let public = fs::read_to_string(ssh.join("id.pub")).unwrap();
        server.file(&format!("{theirs}/authorized_keys"), &public, account, account, 0o600);
        let port = free_port();
        let host_key = fs::read_to_string("/etc/ssh-test/host.pub").unwrap();
        fs::write(ssh.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        fs::write(
            ssh.join("config"),
            format!("Host data-analyst\n  HostName 127.0.0.1\n  Port {port}\n  User {account}\n  IdentityFile ~/.ssh/id\n"),
        )
        .unwrap();
        give(&ssh, 1601);
        fs::write(
            "/etc/ssh-test/config",
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey /etc/ssh-test/host\nUsePAM no\n\
                 PasswordAuthentication no\nPidFile none\nBanner /etc/ssh-test/banner\n\
                 Subsystem sftp internal-sftp\n"
            ),
        )
        .unwrap();
        fs::write("/etc/ssh-test/banner", "Authorized use only.\n").unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", "/etc/ssh-test/config"]).stderr(Stdio::null());
        let net = Self { server, sshd: sshd.spawn().unwrap() };
        wait_until("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        net
    }

    /// Runs something in the project, as the laptop's user.
    fn run(&self, program: &str, words: &[&str]) -> Ran {
        let mut command = self.server.run_as(LAPTOP, program);
        command.args(words).current_dir(PROJECT);
        Ran::of(&command.output().unwrap())
    }
}

impl Drop for Net<'_> {
    fn drop(&mut self) {
        // Should it have ended by itself, there is nothing to end.
        self.sshd.kill().ok();
        self.sshd.wait().ok();
    }
}

fn key(path: &str) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f", path]).status().unwrap();
    assert!(made.success());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn give(dir: &Path, uid: u32) {
    chown(dir, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        chown(entry.unwrap().path(), Some(uid), Some(uid)).unwrap();
    }
}

/// What the plan's own check prints, without the key: whether the variable is set.
fn loads(name: &str) -> String {
    let code = format!(
        "from dotenv import load_dotenv; load_dotenv(); import os; print(os.environ.get('{name}', 'NOT SET'))"
    );
    let mut command = Command::new(python());
    let output =
        command.args(["-c", &code]).current_dir(PROJECT).env_remove(name).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn project(world: &World<'_>, server: &Server) -> PathBuf {
    server.dir(PROJECT, LAPTOP, LAPTOP, 0o755);
    let script = world.run(&["laptop-script"]).expect(0).stdout;
    server.file(&format!("{PROJECT}/sync_service_env.sh"), &script, LAPTOP, LAPTOP, 0o755);
    server.file(&format!("{PROJECT}/sync_data.sh"), SYNC_DATA, LAPTOP, LAPTOP, 0o755);
    server.file(&format!("{PROJECT}/.env"), "DATABASE=mine", LAPTOP, LAPTOP, 0o644);
    PathBuf::from(PROJECT)
}

#[test]
fn connected_a_key_is_in_the_project_after_a_sync_and_disconnected_it_is_gone() {
    on_a_server("connected_a_key_is_in_the_project_after_a_sync", |server| {
        story(server, |net| net.run("./sync_service_env.sh", &[]).expect(0));
    });
}

#[test]
fn the_same_through_the_sync_of_data_that_people_have() {
    on_a_server("the_same_through_the_sync_of_data_that_people_have", |server| {
        story(server, |net| {
            let ran = net.run("./sync_data.sh", &[]).expect(0);
            assert!(!ran.stdout.contains("were not synced"), "{}{}", ran.stdout, ran.stderr);
            ran
        });
    });
}

fn story(server: &Server, sync: impl Fn(&Net<'_>) -> Ran) {
    let world = World::new(server, Way::Started);
    server.account("john", 1501, &[ANALYSTS]);
    let net = Net::new(server, "john");
    let project = project(&world, server);
    assert_eq!(loads("PO_API_KEY"), "NOT SET");
    sync(&net).says("there is no .service_env");
    world.connect("john", PurchaseOrders);
    world.pass(0);
    let ran = sync(&net).says("  + PO_API_KEY");
    let key = world.key("john", "PO_API_KEY");
    assert!(!ran.stdout.contains(&key) && !ran.stderr.contains(&key));
    assert_eq!(loads("PO_API_KEY"), key);
    assert!(world.scene.works(PurchaseOrders, &loads("PO_API_KEY")));
    assert_eq!(loads("DATABASE"), "mine");
    let meta = fs::metadata(project.join(".env")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid()), (0o600, 1601));
    let skill = fs::read(project.join(".claude/rules/sc_purchase_orders.md")).unwrap();
    assert_eq!(skill, fs::read("/home/john/.claude_rules/sc_purchase_orders.md").unwrap());
    sync(&net).says("Nothing to do");
    let seen = format!("of john holds generation {}, the newest", 1);
    world.pass(0);
    world.run(&["status"]).expect(0).says(&seen);

    a_failure_is_no_disconnect(&net, &key);

    world.disconnect("john", PurchaseOrders);
    world.pass(0);
    sync(&net).says("  - PO_API_KEY");
    assert_eq!(loads("PO_API_KEY"), "NOT SET");
    assert_eq!(fs::read_to_string(project.join(".env")).unwrap(), "DATABASE=mine");
    assert!(!project.join(".claude/rules/sc_purchase_orders.md").exists());
    assert!(!world.scene.works(PurchaseOrders, &key));
    assert!(world.scene.live(Kind::PurchaseOrders).is_empty());
}

/// A key that sshd does not take, and a port where nobody listens.
fn a_failure_is_no_disconnect(net: &Net<'_>, key: &str) {
    let keys = "/home/john/.ssh/authorized_keys";
    fs::rename(keys, format!("{keys}.away")).unwrap();
    let ran = net.run("./sync_service_env.sh", &[]).expect(1);
    ran.says("Permission denied").says("Nothing was changed").says("active until");
    fs::rename(format!("{keys}.away"), keys).unwrap();
    net.run("./sync_service_env.sh", &["--host", "nowhere.invalid"]).expect(1);
    assert_eq!(loads("PO_API_KEY"), key);
}
