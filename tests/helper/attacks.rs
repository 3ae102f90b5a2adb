//! What people can do to their own homes to make the helper touch, read or wait for something
//! else. Each attack is prepared as the attacking user, with the kernel's `protected_*` rules on
//! and off; a tree outside and a neighbour's home must be as before, and nothing may hang.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use service_connector::model::home::{AbsenceKind, HomeLook};
use service_connector::wire::{HomeFiles, PutError};

use crate::server::{ANALYSTS, Server, on_a_server};
use crate::talk::{self, files, holds, random_text};

/// Outside every home, on their file system, so that hard links could reach it.
const OUTSIDE: &str = "/home/outside";
/// Longer than the helper lets one home take.
const HANG: Duration = Duration::from_secs(25);

/// What the put must come to.
#[derive(Clone, Copy, Debug)]
enum Put {
    /// The files are there, private and whole.
    Done,
    /// It says this.
    Refused(&'static str),
}
use Put::{Done, Refused};

/// What the attacking user does in their home: `$S` is the tree outside, `$V` the neighbour's home.
const BY_THE_USER: &[(&str, &str, Put)] = &[
    ("env_link_to_a_secret", "ln -s $S/secret .service_env", Done),
    ("env_link_to_a_readable_file", "ln -s $S/open .service_env", Done),
    ("env_link_to_the_neighbours", "ln -s $V/.service_env .service_env", Done),
    ("env_link_to_nowhere", "ln -s /etc/cron.d/new .service_env", Done),
    ("env_link_to_a_writable_directory", "ln -s $S/writable/new .service_env", Done),
    ("env_link_to_itself", "ln -s .service_env .service_env", Done),
    ("env_magic_link", "ln -s /proc/self/environ .service_env", Done),
    ("rules_link_to_a_directory", "ln -s $S/rules .claude_rules", Refused("a link")),
    ("rules_link_to_a_writable_one", "ln -s $S/writable .claude_rules", Refused("a link")),
    ("rules_link_to_the_neighbours", "ln -s $V/.claude_rules .claude_rules", Refused("a link")),
    ("rules_link_to_etc", "ln -s /etc .claude_rules", Refused("a link")),
    ("rules_link_relative", "ln -s ../outside/rules .claude_rules", Refused("a link")),
    (
        "rules_magic_link",
        "ln -s /proc/self/root/home/outside/rules .claude_rules",
        Refused("a link"),
    ),
    ("rules_link_to_here", "ln -s . .claude_rules", Refused("a link")),
    (
        "skill_link_to_a_secret",
        "mkdir .claude_rules; ln -s $S/secret .claude_rules/sc_crm.md",
        Done,
    ),
    (
        "skill_link_to_a_writable_file",
        "mkdir .claude_rules; ln -s $S/writable/file .claude_rules/sc_crm.md",
        Done,
    ),
    (
        "skill_link_to_a_directory",
        "mkdir .claude_rules; ln -s $S/rules .claude_rules/sc_crm.md",
        Done,
    ),
    (
        "unwanted_skill_link",
        "mkdir .claude_rules; ln -s $S/writable/file .claude_rules/sc_old.md",
        Done,
    ),
    (
        "unwanted_skill_link_to_a_directory",
        "mkdir .claude_rules; ln -s $S/rules .claude_rules/sc_old.md",
        Done,
    ),
    ("seen_link", "ln -s $S/rules .service_env_seen", Done),
    (
        "seen_file_link",
        "mkdir .service_env_seen; ln -s $S/open .service_env_seen/0123456789abcdef",
        Done,
    ),
    ("leftover_link", "ln -s $S/writable/file .service_env.tmp.0123456789abcdef", Done),
    (
        "leftover_skill_link",
        "mkdir .claude_rules; ln -s $S/writable/file .claude_rules/.sc_crm.md.tmp.0123456789abcdef",
        Done,
    ),
    ("leftover_directory", "mkdir -p .service_env.tmp.0123456789abcdef/x", Done),
    ("env_hard_link", "ln $S/writable/file .service_env || ln $S/open .service_env || true", Done),
    ("env_hard_link_to_the_neighbours", "ln $V/.service_env .service_env || true", Done),
    ("env_hard_link_of_ones_own", "echo x > other; ln other .service_env", Done),
    (
        "skill_hard_link",
        "mkdir .claude_rules; ln $S/writable/file .claude_rules/sc_crm.md || true",
        Done,
    ),
    (
        "unwanted_hard_link",
        "mkdir .claude_rules; ln $S/writable/file .claude_rules/sc_old.md || true",
        Done,
    ),
    ("env_fifo", "mkfifo .service_env", Done),
    ("skill_fifo", "mkdir .claude_rules; mkfifo .claude_rules/sc_crm.md", Done),
    ("unwanted_fifo", "mkdir .claude_rules; mkfifo .claude_rules/sc_old.md", Done),
    ("rules_fifo", "mkfifo .claude_rules", Refused("a FIFO")),
    ("seen_fifo", "mkdir .service_env_seen; mkfifo .service_env_seen/0123456789abcdef", Done),
    (
        "env_socket",
        "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \".service_env\", Listen => 1)'",
        Done,
    ),
    ("env_directory", "mkdir -p .service_env/x", Refused("a directory")),
    ("skill_directory", "mkdir -p .claude_rules/sc_crm.md/x", Refused("a directory")),
    ("unwanted_skill_directory", "mkdir -p .claude_rules/sc_old.md/x", Done),
    ("rules_file", "echo x > .claude_rules", Refused("a file")),
    (
        "env_endless",
        "truncate -s 1T .service_env 2>/dev/null || truncate -s 100G .service_env",
        Done,
    ),
    (
        "skills_a_hundred_thousand_names",
        "mkdir .claude_rules; cd .claude_rules; seq -f f%g 100000 | xargs touch",
        Refused("more than"),
    ),
    (
        "skills_too_many_of_ours",
        "mkdir .claude_rules; cd .claude_rules; seq -f sc_%g.md 10100 | xargs touch",
        Refused("more than"),
    ),
    ("home_a_hundred_thousand_names", "seq -f f%g 100100 | xargs touch", Done),
    (
        "odd_names",
        "mkdir .claude_rules; cd .claude_rules; touch -- \"$(printf 'sc_\\n.md')\" \"$(printf 'sc_\\377.md')\" 'sc_..md' 'sc_a b.md' '-sc_x.md' 'sc_$(id).md'",
        Done,
    ),
    ("home_mode_0", "chmod 0 .", Refused("permission denied")),
    ("home_read_only", "chmod 500 .", Refused("permission denied")),
    ("rules_mode_0", "mkdir -m 0 .claude_rules", Refused("permission denied")),
    ("rules_mode_odd", "mkdir .claude_rules; chmod 7777 .claude_rules", Done),
    ("env_mode_0", "touch .service_env; chmod 0 .service_env", Done),
    ("env_mode_odd", "touch .service_env; chmod 7777 .service_env", Done),
    ("default_acl_of_the_home", "setfacl -d -m u:neighbour:rwx,g::rwx,o::rwx,m::rwx .", Done),
    (
        "default_acl_of_the_rules",
        "mkdir .claude_rules; setfacl -d -m u:neighbour:rwx,m::rwx .claude_rules; setfacl -m u:neighbour:rwx .claude_rules",
        Done,
    ),
    ("acl_of_the_env", "touch .service_env; setfacl -m u:neighbour:rw .service_env", Done),
    (
        "home_locked_forever",
        "(flock 9; sleep 60) 9< . > /dev/null 2>&1 & sleep 0.3",
        Refused("lock"),
    ),
    (
        "env_leased_and_locked",
        "touch .service_env; (flock 9; sleep 60) 9< .service_env > /dev/null 2>&1 & sleep 0.3",
        Done,
    ),
    ("sources_of_another_user_in_the_rules", "mkdir -m 777 .claude_rules", Done),
];

/// Makes the home what it is to be.
type Prepare = fn(&Path);

/// What only root could prepare in a home, by mistake.
const BY_ROOT: &[(&str, Prepare, Put)] = &[
    ("env_device", |home| node(&home.join(".service_env"), "1", "5"), Done),
    (
        "skill_device",
        |home| {
            dir(&home.join(".claude_rules"));
            node(&home.join(".claude_rules/sc_crm.md"), "5", "0");
        },
        Done,
    ),
    (
        "rules_somebody_elses",
        |home| fs::create_dir(home.join(".claude_rules")).unwrap(),
        Refused("somebody else's"),
    ),
    ("env_of_roots", |home| fs::write(home.join(".service_env"), "root's").unwrap(), Done),
    (
        "rules_bind_mount",
        |home| {
            dir(&home.join(".claude_rules"));
            bind(&Path::new(OUTSIDE).join("rules"), &home.join(".claude_rules"));
        },
        Refused("a mount"),
    ),
    (
        "env_bind_mount",
        |home| {
            fs::write(home.join(".service_env"), "").unwrap();
            bind(&Path::new(OUTSIDE).join("open"), &home.join(".service_env"));
        },
        Refused("a mount"),
    ),
    (
        "rules_fuse_that_never_answers",
        |home| {
            dir(&home.join(".claude_rules"));
            fuse(&home.join(".claude_rules"));
        },
        Refused("a mount"),
    ),
    (
        "seen_fuse_that_never_answers",
        |home| {
            dir(&home.join(".service_env_seen"));
            fuse(&home.join(".service_env_seen"));
        },
        Done,
    ),
    ("home_fuse_that_never_answers", fuse, Refused("FUSE")),
    (
        "env_immutable",
        |home| {
            fs::write(home.join(".service_env"), "old").unwrap();
            run("chattr", &["+i", home.join(".service_env").to_str().unwrap()]);
        },
        Refused("lsattr"),
    ),
    (
        "rules_immutable",
        |home| {
            dir(&home.join(".claude_rules"));
            run("chattr", &["+i", home.join(".claude_rules").to_str().unwrap()]);
        },
        Refused("lsattr"),
    ),
    (
        "disk_full",
        |home| {
            mount(Some("t"), home, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=700"))
                .unwrap();
            own(home);
            // As much as there is room for.
            drop(fs::write(home.join("filler"), vec![0; 1 << 20]));
        },
        Refused("disk is full"),
    ),
    (
        "home_read_only_file_system",
        |home| {
            mount(Some("t"), home, Some("tmpfs"), MsFlags::empty(), Some("mode=700")).unwrap();
            own(home);
            let again = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, home, None::<&str>, again, None::<&str>).unwrap();
        },
        Refused("read-only"),
    ),
];

/// The attacker's uid, which no other test has: everything that runs as it is ended.
const ATTACKER: u32 = 31_501;

#[test]
fn no_attack_on_a_home_reaches_beyond_it_or_hangs() {
    on_a_server("no_attack_on_a_home_reaches_beyond_it_or_hangs", |server| {
        talk::install(server);
        let neighbour = server.account("neighbour", 1500, &[ANALYSTS]);
        let theirs = files(1, &["sc_crm.md"]);
        talk::put("neighbour", &theirs).unwrap();
        let marker = make_outside();
        let before = (snapshot(Path::new(OUTSIDE)), snapshot(&neighbour));
        let home = server.account("mallory", ATTACKER, &[ANALYSTS]);
        let attack = |name: &str, expected: Put, prepare: &dyn Fn()| {
            fresh(&home);
            prepare();
            let begun = Instant::now();
            attacked(name, &home, expected, &marker);
            assert!(begun.elapsed() < HANG * 3, "{name} took {:?}", begun.elapsed());
            let after = (snapshot(Path::new(OUTSIDE)), snapshot(&neighbour));
            assert!(before == after, "{name} reached beyond the home:\n{before:#?}\n{after:#?}");
        };
        for rules in ["on", "off"] {
            let _rules = Protected::set(rules == "on");
            for (name, script, expected) in BY_THE_USER {
                attack(name, *expected, &|| by_mallory(server, &home, &neighbour, script));
            }
        }
        for (name, prepare, expected) in BY_ROOT {
            attack(name, *expected, &|| prepare(&home));
        }
        fresh(&home);
        holds(&neighbour, 1500, &theirs);
    });
}

/// Puts and looks, twice.
fn attacked(name: &str, home: &Path, expected: Put, marker: &str) {
    let mut last = None;
    for generation in 1..=2 {
        let set = files(generation, &["sc_crm.md"]);
        let put = talk::put("mallory", &set);
        let said = format!("{put:?} {:?}", talk::look("mallory"));
        assert!(!said.contains(marker), "{name}: {said}");
        match (expected, put) {
            (Done, Ok(_)) => last = Some(set),
            (Refused(why), Err(error)) => {
                let text = error.to_string();
                assert!(text.contains(why), "{name}: {text}");
                assert!(!matches!(error, PutError::Absent(_)), "{name}: {error:?}");
            }
            (expected, put) => panic!("{name}: expected {expected:?}, and it was {put:?}"),
        }
    }
    if let Some(set) = last {
        holds(home, ATTACKER, &set);
        is_private(name, home, &set);
        assert!(matches!(talk::look("mallory"), HomeLook::Seen(_)), "{name}");
    }
    assert!(leaked(home, marker).is_empty(), "{name}: a file has what the user may not read");
}

/// No rule beside the mode lets the neighbour read a key.
fn is_private(name: &str, home: &Path, files: &HomeFiles) {
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    let mut neighbour = Command::new("setpriv");
    neighbour.args(["--reuid=1500", "--regid=1500", "--clear-groups", "cat"]);
    neighbour.arg(home.join(".service_env")).arg(home.join(".claude_rules/sc_crm.md"));
    let output = neighbour.output().unwrap();
    assert!(
        output.stdout.is_empty() && !output.status.success(),
        "{name}: {} {output:?}",
        files.env.len()
    );
}

fn by_mallory(server: &Server, home: &Path, neighbour: &Path, script: &str) {
    let mut command = server.run_as("mallory", "sh");
    command.args(["-ec", script]).current_dir(home);
    command.env("S", OUTSIDE).env("V", neighbour);
    let status = command.status().unwrap();
    assert!(status.success(), "{script}");
}

/// An empty home, whatever was in it, and nothing of the user's running.
fn fresh(home: &Path) {
    // Ends only what was started by this uid, which is this test's alone.
    let mut end = Command::new("pkill");
    end.args(["-KILL", "-U", &ATTACKER.to_string()]).output().unwrap();
    let detach = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    // The home's own first: nobody may ask anything of one that is FUSE.
    let names = [".claude_rules", ".service_env", ".service_env_seen"];
    for mounted in [home.to_owned()].into_iter().chain(names.map(|name| home.join(name))) {
        while umount2(&mounted, detach).is_ok() {}
    }
    Command::new("chattr").args(["-R", "-i"]).arg(home).output().unwrap();
    fs::remove_dir_all(home).unwrap();
    fs::create_dir(home).unwrap();
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    own(home);
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(ATTACKER), Some(ATTACKER)).unwrap();
}

fn dir(path: &Path) {
    fs::create_dir(path).unwrap();
    own(path);
}

fn node(path: &Path, major: &str, minor: &str) {
    run("mknod", &["-m", "666", path.to_str().unwrap(), "c", major, minor]);
    own(path);
}

fn bind(what: &Path, at: &Path) {
    mount(Some(what), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// A file system that nobody answers for, mounted as fusermount would for the user.
fn fuse(at: &Path) {
    let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options =
        format!("fd={},rootmode=40000,user_id={ATTACKER},group_id={ATTACKER}", device.as_raw_fd());
    mount(Some("hang"), at, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    // Open as long as the test runs: closed, it would answer everything with an error.
    std::mem::forget(device);
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}");
}

/// Makes the tree outside; gives what is in its secret.
fn make_outside() -> String {
    let outside = Path::new(OUTSIDE);
    let marker = random_text();
    fs::create_dir_all(outside.join("rules")).unwrap();
    fs::create_dir_all(outside.join("writable")).unwrap();
    for (name, mode) in [
        ("secret", 0o600),
        ("open", 0o644),
        ("rules/sc_crm.md", 0o644),
        ("rules/sc_old.md", 0o600),
        ("writable/file", 0o666),
        ("writable/sc_crm.md", 0o666),
    ] {
        fs::write(outside.join(name), &marker).unwrap();
        fs::set_permissions(outside.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(outside.join("writable"), fs::Permissions::from_mode(0o777)).unwrap();
    chown(outside.join("writable/file"), Some(1500), Some(1500)).unwrap();
    marker
}

/// Regular files of the user's own, and no links, that hold the marker.
fn leaked(dir: &Path, marker: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in [".service_env", ".claude_rules/sc_crm.md"] {
        let path = dir.join(name);
        let is_ours = fs::symlink_metadata(&path)
            .is_ok_and(|meta| meta.is_file() && meta.uid() == ATTACKER && meta.len() < 1 << 20);
        if is_ours && fs::read_to_string(&path).is_ok_and(|text| text.contains(marker)) {
            found.push(path);
        }
    }
    found
}

/// Every entry of a tree: name, owner, mode, time, contents. Not the time of the inode's change
/// and its number of names: to link to a file changes these, and is its user's own doing.
fn snapshot(path: &Path) -> Vec<String> {
    let meta = fs::symlink_metadata(path).unwrap();
    let facts = (meta.uid(), meta.gid(), meta.mode(), meta.mtime(), meta.mtime_nsec());
    let contents = fs::read(path).ok();
    let mut entries = vec![format!("{path:?} {facts:?} {contents:?}")];
    if meta.is_dir() {
        let mut children: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        children.sort();
        entries.extend(children.iter().flat_map(|child| snapshot(child)));
    }
    entries
}

/// The kernel's rules about links, FIFOs and files in sticky directories, and how they were.
struct Protected(Vec<(PathBuf, String)>);

impl Protected {
    fn set(on: bool) -> Self {
        let names =
            ["protected_fifos", "protected_hardlinks", "protected_regular", "protected_symlinks"];
        let set = |name| {
            let path = Path::new("/proc/sys/fs").join(name);
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, if on { "1" } else { "0" }).unwrap();
            (path, before)
        };
        Self(names.map(set).into())
    }
}

impl Drop for Protected {
    fn drop(&mut self) {
        for (path, before) in &self.0 {
            fs::write(path, before).unwrap();
        }
    }
}

#[test]
fn a_home_that_is_not_the_accounts_is_not_served() {
    on_a_server("a_home_that_is_not_the_accounts_is_not_served", |server| {
        talk::install(server);
        let home = server.account("mallory", ATTACKER, &[ANALYSTS]);
        let marker = make_outside();
        let before = snapshot(Path::new(OUTSIDE));
        for place in
            ["/", "/etc", OUTSIDE, "/proc/self", "/dev", "relative", "", "/home/mallory/.."]
        {
            move_home(place);
            let look = talk::look("mallory");
            let put = talk::put("mallory", &files(1, &["sc_crm.md"]));
            assert!(put.is_err() && !matches!(look, HomeLook::Seen(_)), "{place}: {look:?}");
            assert!(!format!("{look:?}{put:?}").contains(&marker));
        }
        assert!(before == snapshot(Path::new(OUTSIDE)));
        move_home(OUTSIDE);
        let absence = talk::absence("mallory");
        assert_eq!(absence.kind, AbsenceKind::NotOwned, "{}", absence.why);
        assert_eq!(fs::read_dir(home).unwrap().count(), 0);
    });
}

fn move_home(place: &str) {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("mallory:")).collect();
    let mallory = format!("mallory:x:{ATTACKER}:{ATTACKER}::{place}:/bin/sh\n");
    lines.push(&mallory);
    fs::write("/etc/passwd", lines.join("\n")).unwrap();
}
