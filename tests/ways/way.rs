//! A scene whose homes are those of real accounts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use service_connector::example_service::Kind;

use crate::scene::{Ran, Scene, wait_until};
use crate::server::{ANALYSTS, RECONCILER, RUN, Server, install as install_program};

const HELPER: &str = "/usr/sbin/install-service-env";
/// A line for each start of the helper.
const STARTS: &str = "/run/service-connector/starts";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Socket,
    Sudo,
    Started,
}

/// The program runs as the reconciler's user, but for [`Way::Started`]: that is root's way.
pub struct World<'a> {
    pub scene: Scene,
    pub server: &'a Server,
    way: Way,
    listener: Option<Child>,
}

impl<'a> World<'a> {
    pub fn new(server: &'a Server, way: Way) -> Self {
        install_program(Path::new(env!("CARGO_BIN_EXE_install-service-env")), "/usr/sbin/helper");
        let counting =
            format!("#!/bin/sh\necho started >> {STARTS}\nexec /usr/sbin/helper \"$@\"\n");
        server.file(HELPER, &counting, "root", "root", 0o755);
        server.root_file(
            "/etc/service-connector/helper.conf",
            &format!("group = {ANALYSTS}\ncallers = {RECONCILER}\n"),
        );
        let rule = format!("{RECONCILER} ALL=(root) NOPASSWD: {HELPER} \"\"\n");
        server.file("/etc/sudoers.d/service-connector", &rule, "root", "root", 0o440);
        let listener = (way == Way::Socket).then(|| listen(server));
        let world = Self { scene: Scene::new(), server, way, listener };
        world.give_to_reconciler();
        world
    }

    /// What the test writes as root into the scene is the reconciler's.
    pub fn give_to_reconciler(&self) {
        let mut give = Command::new("chown");
        give.args(["-R", &format!("{RECONCILER}:{RECONCILER}")]).arg(self.scene.root());
        assert!(give.status().unwrap().success());
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        self.scene.run_with(words, |command| {
            let (uid, gid) = match self.way {
                Way::Started => (0, 0),
                Way::Socket | Way::Sudo => self.server.ids(RECONCILER),
            };
            command.uid(uid).gid(gid).env_remove("SC_HOMES");
            match self.way {
                Way::Socket => command.env("SC_HOMES_SOCKET", format!("{RUN}/install.sock")),
                Way::Sudo => command.env("SC_HOMES_SUDO", HELPER),
                Way::Started => command.env("SC_HOMES_HELPER", HELPER),
            };
        })
    }

    pub fn pass(&self, code: i32) -> Ran {
        self.run(&["reconcile"]).expect(code)
    }

    pub fn connect(&self, user: &str, kind: Kind) {
        self.run(&["connect", user, kind.id()]).expect(0);
    }

    pub fn disconnect(&self, user: &str, kind: Kind) {
        self.run(&["disconnect", user, kind.id()]).expect(0);
    }

    /// The variables in a home, whose file must be its owner's alone.
    pub fn variables(&self, account: &str) -> BTreeMap<String, String> {
        let path = Path::new("/home").join(account).join(".service_env");
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.mode(), meta.uid()), (0o100_600, self.server.ids(account).0));
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub fn key(&self, account: &str, name: &str) -> String {
        self.variables(account).remove(name).unwrap_or_else(|| panic!("{account} has no {name}"))
    }

    /// The skills in a home, whose files must be their owner's alone.
    pub fn skills(&self, account: &str) -> Vec<String> {
        let uid = self.server.ids(account).0;
        let rules = Path::new("/home").join(account).join(".claude_rules");
        let meta = fs::symlink_metadata(&rules).unwrap();
        assert_eq!((meta.mode(), meta.uid()), (0o40_700, uid));
        let entries = fs::read_dir(rules).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<String> = entries
            .map(|entry| {
                let meta = entry.metadata().unwrap();
                assert_eq!((meta.mode(), meta.uid()), (0o100_600, uid));
                entry.file_name().into_string().unwrap()
            })
            .collect();
        names.sort();
        names
    }
}

/// How often the helper was started since this was asked last.
pub fn starts() -> usize {
    let text = fs::read_to_string(STARTS).unwrap_or_default();
    fs::write(STARTS, "").unwrap();
    text.lines().count()
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if let Some(listener) = &mut self.listener {
            // Should it have ended by itself, there is nothing to end.
            listener.kill().ok();
            listener.wait().ok();
        }
    }
}

/// What systemd does for a socket with `Accept=yes`.
fn listen(server: &Server) -> Child {
    let path = format!("{RUN}/install.sock");
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["--accept", "--inetd", "--listen", &path, HELPER]);
    let listener = activate.stderr(Stdio::null()).spawn().unwrap();
    wait_until("the socket is there", || Path::new(&path).exists());
    let (uid, gid) = server.ids(RECONCILER);
    std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    listener
}
