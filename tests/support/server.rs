//! A server of its own for a test: real accounts, and the places with their owners and modes.
//!
//! It is a mount namespace of one thread. `/etc`, `/run`, `/var/lib`, `/usr/bin` and `/usr/sbin`
//! are overlays whose upper halves are a file system in memory, `/home` is empty: what is made
//! there is seen by this thread, by what it starts, and by nobody else, and goes with it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Whom the passes run as; also the group that reads the state.
pub const RECONCILER: &str = "service-connector";
/// Whom the portal runs as.
pub const PORTAL: &str = "sc-portal";
/// The group of the people whose homes get files.
pub const ANALYSTS: &str = "analysts";

/// Configuration, registry, skills, people: root's.
pub const ETC: &str = "/etc/service-connector";
/// One file for each shared secret: the reconciler's alone.
pub const SECRETS: &str = "/etc/service-connector/secrets";
/// `desired.yaml`, its lock and its history: whoever edits.
pub const DESIRED: &str = "/var/lib/service-connector/desired";
/// The database: the reconciler writes, its group reads.
pub const STATE: &str = "/var/lib/service-connector/state";
/// Where the helper's socket is.
pub const RUN: &str = "/run/service-connector";

/// Directories that are private to the server, but begin as they are on this machine.
const PRIVATE: [&str; 5] = ["/etc", "/run", "/var/lib", "/usr/bin", "/usr/sbin"];
/// Ids of system users: above those that a Debian gives by itself on a machine for tests.
const FIRST_SYSTEM_ID: u32 = 700;

/// The server, as the test sees it.
pub struct Server {
    groups: RefCell<Vec<Group>>,
    users: RefCell<Vec<User>>,
}

#[derive(Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Runs a test on a server of its own. Needs root: without it, it says so loudly, and fails where
/// the test must run.
pub fn on_a_server(test: &str, story: impl FnOnce(&Server) + Send) {
    if !root_or_say_so(test) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    // A thread of its own: the namespace ends with it, and no other test ever sees it.
    let ended = std::thread::scope(|scope| scope.spawn(|| story(&Server::new(&scratch))).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Whether a test that needs root can run; says so loudly if not, and fails where it must run.
pub fn root_or_say_so(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI must run it");
        eprintln!("!!!! NOT TESTED: {test} needs root");
    }
    is_root
}

impl Server {
    /// Leaves the calling thread in a mount namespace of its own.
    fn new(scratch: &TempDir) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("root may have a mount namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        in_memory(scratch.path());
        in_memory(Path::new("/home"));
        for dir in PRIVATE {
            overlay(Path::new(dir), scratch.path());
        }
        let groups = Group::read_all().into();
        let server = Self { groups, users: RefCell::default() };
        server.users.borrow_mut().push(User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            home: "/root".into(),
        });
        // Nobody but the files is asked, whatever runs on this machine.
        let switch = "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files\n";
        fs::write("/etc/nsswitch.conf", switch).unwrap();
        server.group(ANALYSTS, FIRST_SYSTEM_ID - 1);
        server.system_user(RECONCILER, &[]);
        server.system_user(PORTAL, &[RECONCILER]);
        server.places();
        server
    }

    fn places(&self) {
        for dir in [ETC, "/etc/service-connector/registry", "/etc/service-connector/skills", RUN] {
            self.dir(dir, "root", "root", 0o755);
        }
        self.dir("/var/lib/service-connector", "root", "root", 0o755);
        self.dir(SECRETS, RECONCILER, RECONCILER, 0o700);
        self.dir(DESIRED, PORTAL, RECONCILER, 0o2770);
        self.dir(STATE, RECONCILER, RECONCILER, 0o2750);
    }

    /// Makes an account with a group of its own, of the same number, and a home, 0700.
    pub fn account(&self, name: &str, uid: u32, groups: &[&str]) -> PathBuf {
        self.add(name, uid, Path::new("/home"), "/bin/bash", groups);
        let home = Path::new("/home").join(name);
        DirBuilder::new().mode(0o700).create(&home).unwrap();
        chown(&home, Some(uid), Some(uid)).unwrap();
        home
    }

    /// Makes a system user with a group of its own, and nowhere to log in.
    pub fn system_user(&self, name: &str, groups: &[&str]) {
        let uid = FIRST_SYSTEM_ID + u32::try_from(self.users.borrow().len()).unwrap();
        self.add(name, uid, Path::new("/var/lib"), "/usr/sbin/nologin", groups);
    }

    /// Makes a group.
    pub fn group(&self, name: &str, gid: u32) {
        self.groups.borrow_mut().push(Group { name: name.to_owned(), gid, members: Vec::new() });
        append("/etc/gshadow", &format!("{name}:!::\n"));
        self.write_groups();
    }

    fn add(&self, name: &str, uid: u32, homes: &Path, shell: &str, groups: &[&str]) {
        let home = homes.join(name);
        let line = format!("{name}:x:{uid}:{uid}::{}:{shell}\n", home.display());
        append("/etc/passwd", &line);
        append("/etc/shadow", &format!("{name}:!:20000:0:99999:7:::\n"));
        append("/etc/gshadow", &format!("{name}:!::\n"));
        self.users.borrow_mut().push(User { name: name.to_owned(), uid, gid: uid, home });
        let own = Group { name: name.to_owned(), gid: uid, members: Vec::new() };
        self.groups.borrow_mut().push(own);
        for group in self.groups.borrow_mut().iter_mut() {
            if groups.contains(&group.name.as_str()) {
                group.members.push(name.to_owned());
            }
        }
        self.write_groups();
    }

    /// Takes a user out of a group.
    pub fn leaves(&self, name: &str, group: &str) {
        let mut groups = self.groups.borrow_mut();
        let group = groups.iter_mut().find(|known| known.name == group).unwrap();
        group.members.retain(|member| member != name);
        drop(groups);
        self.write_groups();
    }

    /// Removes an account; its home stays.
    pub fn remove_account(&self, name: &str) {
        self.users.borrow_mut().retain(|user| user.name != name);
        let mut groups = self.groups.borrow_mut();
        groups.retain(|group| group.name != name);
        groups.iter_mut().for_each(|group| group.members.retain(|member| member != name));
        drop(groups);
        self.write_groups();
        for file in ["/etc/passwd", "/etc/shadow", "/etc/gshadow"] {
            let text = fs::read_to_string(file).unwrap();
            let others = text.lines().filter(|line| line.split(':').next() != Some(name));
            let others: Vec<_> = others.map(|line| format!("{line}\n")).collect();
            fs::write(file, others.concat()).unwrap();
        }
    }

    fn write_groups(&self) {
        let mut text = String::new();
        for Group { name, gid, members } in &*self.groups.borrow() {
            writeln!(text, "{name}:x:{gid}:{}", members.join(",")).unwrap();
        }
        fs::write("/etc/group", text).unwrap();
    }

    fn user(&self, name: &str) -> User {
        let users = self.users.borrow();
        users.iter().find(|user| user.name == name).expect("the test made this user").clone()
    }

    /// The uid and the gid of a user.
    pub fn ids(&self, name: &str) -> (u32, u32) {
        let user = self.user(name);
        (user.uid, user.gid)
    }

    /// A program run by this user, with their groups, an environment of their own and umask 077.
    /// It is the very process that is started: a signal to it reaches the program.
    pub fn run_as(&self, name: &str, program: &str) -> Command {
        let user = self.user(name);
        let mut groups = vec![user.gid];
        let is_member = |group: &&Group| group.members.iter().any(|member| member == name);
        groups.extend(self.groups.borrow().iter().filter(is_member).map(|group| group.gid));
        let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg(format!("--groups={}", groups.join(",")))
            .args(["sh", "-c", "umask 077; exec \"$@\"", "sh", program])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &user.home)
            .env("USER", name)
            .env("LOGNAME", name);
        command
    }

    /// Makes a directory.
    pub fn dir(&self, path: &str, user: &str, group: &str, mode: u32) {
        fs::create_dir_all(path).unwrap();
        self.give(path, user, group, mode);
    }

    /// Makes or replaces a file.
    pub fn file(&self, path: &str, text: &str, user: &str, group: &str, mode: u32) {
        fs::write(path, text).unwrap();
        self.give(path, user, group, mode);
    }

    /// A file of root's that everybody reads.
    pub fn root_file(&self, path: &str, text: &str) {
        self.file(path, text, "root", "root", 0o644);
    }

    fn give(&self, path: &str, user: &str, group: &str, mode: u32) {
        let groups = self.groups.borrow();
        let gid = groups.iter().find(|known| known.name == group).expect("a group").gid;
        chown(path, Some(self.user(user).uid), Some(gid)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Group {
    fn read_all() -> Vec<Self> {
        let text = fs::read_to_string("/etc/group").unwrap();
        let group = |line: &str| {
            let mut fields = line.split(':');
            let (name, gid) = (fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?);
            let members = fields.next()?.split(',').filter(|member| !member.is_empty());
            Some(Self { name, gid, members: members.map(str::to_owned).collect() })
        };
        text.lines().filter_map(group).collect()
    }
}

fn in_memory(at: &Path) {
    let none = None::<&str>;
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    // What happens to it elsewhere is not seen here, and the other way round.
    mount(none, at, none, MsFlags::MS_PRIVATE, none).unwrap();
}

fn overlay(dir: &Path, scratch: &Path) {
    let part = |what| scratch.join(what).join(dir.strip_prefix("/").unwrap());
    let (upper, work) = (part("upper"), part("work"));
    for made in [&upper, &work] {
        fs::create_dir_all(made).unwrap();
        fs::set_permissions(made, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        dir.display(),
        upper.display(),
        work.display()
    );
    let mounted =
        mount(Some("overlay"), dir, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
    mounted.unwrap_or_else(|error| panic!("an overlay over {}: {error}", dir.display()));
}

fn append(path: &str, line: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

/// Puts a program of this build where a package would, 0755 and root's.
pub fn install(from: &Path, to: &str) {
    // By a process of its own: a program that this one has open to write, as also every child of
    // another test has for a moment, cannot be run.
    let status = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status().unwrap();
    assert!(status.success(), "{to} cannot be installed");
}
