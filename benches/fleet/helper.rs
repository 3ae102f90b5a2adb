//! The first install into homes of real accounts, and a look over them, by each way to the helper;
//! beside it one start by sudo for each account, and the same files written without any helper.
//! As root, in a mount namespace with accounts of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use service_connector::installer::{Installer, Reach};
use service_connector::model::home::HomeLook;
use service_connector::model::name::AccountName;
use service_connector::wire::{Asked, HomeFiles, Request, line};

use crate::server::{ANALYSTS, RECONCILER, RUN, Server, install as install_program, on_a_server};

const HELPER: &str = "/usr/sbin/install-service-env";
/// Puts at once, as in a pass.
const PUTS: usize = 16;
const FIRST_UID: u32 = 10_000;

pub fn run(accounts: usize) {
    let scratch = tempfile::tempdir().unwrap();
    on_a_server("the figures of the helper", |server| {
        let names: Vec<String> = (0..accounts).map(|n| format!("user{n}")).collect();
        for (uid, name) in (FIRST_UID..).zip(&names) {
            server.account(name, uid, &[]);
        }
        join_group(&names);
        set_up(server);
        let accounts: Vec<AccountName> = names.iter().map(|name| name.parse().unwrap()).collect();
        println!("  homes in memory: what is left is the helper's");
        measure(&accounts);
        // The same accounts, with their homes on the disk.
        mount(Some(scratch.path()), "/home", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        println!("  homes on the disk");
        measure(&accounts);
    });
}

fn set_up(server: &Server) {
    install_program(Path::new(env!("CARGO_BIN_EXE_install-service-env")), HELPER);
    server.root_file(
        "/etc/service-connector/helper.conf",
        &format!("group = {ANALYSTS}\ncallers = {RECONCILER}\n"),
    );
    server.file("/etc/sudoers", "root ALL=(ALL) NOPASSWD: ALL\n", "root", "root", 0o440);
}

/// All of them at once: a line of `/etc/group` for each would take long.
fn join_group(names: &[String]) {
    let text = std::fs::read_to_string("/etc/group").unwrap();
    let joined = |line: &str| {
        let is_it = line.starts_with(&format!("{ANALYSTS}:"));
        if is_it { format!("{line}{}\n", names.join(",")) } else { format!("{line}\n") }
    };
    let lines: Vec<String> = text.lines().map(joined).collect();
    std::fs::write("/etc/group", lines.concat()).unwrap();
}

fn measure(accounts: &[AccountName]) {
    let bare = timed(
        accounts,
        |accounts| {
            let installer = Installer::direct("/home".into(), false);
            put_all(&installer, accounts);
            installer
        },
        0,
    );
    said("no helper, root's own homes", accounts, bare, bare.0);
    let ways = [
        ("socket", Reach::Socket(format!("{RUN}/install.sock").into())),
        ("sudo", Reach::Sudo(HELPER.into())),
        ("started by root", Reach::Started(HELPER.into())),
    ];
    for (name, reach) in ways {
        let mut listener = matches!(reach, Reach::Socket(_)).then(listen);
        let times = timed(
            accounts,
            |accounts| {
                let installer = Installer::helper(reach.clone());
                put_all(&installer, accounts);
                installer
            },
            FIRST_UID,
        );
        said(name, accounts, times, bare.0);
        if let Some(listener) = &mut listener {
            listener.kill().unwrap();
            listener.wait().unwrap();
            std::fs::remove_file(format!("{RUN}/install.sock")).unwrap();
        }
    }
    one_by_one(accounts, bare.0);
}

fn said(name: &str, accounts: &[AccountName], (put, look): (Duration, Duration), bare: Duration) {
    let count = u32::try_from(accounts.len()).unwrap();
    let beyond = put.saturating_sub(bare) / count;
    println!(
        "    {name:<28} install {put:>8.2?} ({beyond:>8.2?} an account beyond the files)  look {look:>8.2?}"
    );
}

/// The time of the first install, and of a look afterwards.
fn timed(
    accounts: &[AccountName],
    install: impl Fn(&[AccountName]) -> Installer,
    owner: u32,
) -> (Duration, Duration) {
    make_homes(accounts, owner);
    let begun = Instant::now();
    let installer = install(accounts);
    let put = begun.elapsed();
    let asked: Vec<&AccountName> = accounts.iter().collect();
    let begun = Instant::now();
    let looks = installer.look(&asked);
    let look = begun.elapsed();
    let is_there = |look: &HomeLook| matches!(look, HomeLook::Seen(facts) if facts.env.is_some());
    assert!(looks.len() == accounts.len() && looks.values().all(is_there));
    (put, look)
}

fn make_homes(accounts: &[AccountName], owner: u32) {
    for (n, account) in (0..).zip(accounts) {
        let home = Path::new("/home").join(account.as_str());
        drop(std::fs::remove_dir_all(&home));
        std::fs::create_dir(&home).unwrap();
        let uid = if owner == 0 { 0 } else { owner + n };
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
    }
    rustix::fs::sync();
}

fn put_all(installer: &Installer, accounts: &[AccountName]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PUTS {
            scope.spawn(|| {
                while let Some(account) = accounts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    installer.put(account, None, &files()).unwrap();
                }
            });
        }
    });
}

/// A key, an address, and two skills of a usual length.
fn files() -> HomeFiles {
    let skill = "A line of a skill, as long as such lines are, more or less.\n".repeat(100);
    let skills =
        ["sc_crm.md", "sc_invoicing.md"].map(|name| (name.parse().unwrap(), skill.clone()));
    let env = "# generation 1\nPO_API_KEY=made_up_for_the_figures\n".to_owned();
    HomeFiles { env: env.into(), skills: skills.into() }
}

/// What each account would cost without a message form: sudo, for one account.
fn one_by_one(accounts: &[AccountName], bare: Duration) {
    let some = &accounts[..accounts.len().min(200)];
    make_homes(some, FIRST_UID);
    let begun = Instant::now();
    for account in some {
        let files = files();
        let what = Asked::Put { uid: None, files: &files };
        let request = line(&Request { id: 1, account: account.clone(), what }).unwrap();
        let mut sudo = Command::new("/usr/bin/sudo");
        sudo.args(["-n", "--", HELPER]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut sudo = sudo.spawn().unwrap();
        sudo.stdin.take().unwrap().write_all(&request).unwrap();
        assert!(sudo.wait().unwrap().success());
    }
    let of_all = begun.elapsed() / u32::try_from(some.len()).unwrap()
        * u32::try_from(accounts.len()).unwrap();
    let beyond = of_all.saturating_sub(bare) / u32::try_from(accounts.len()).unwrap();
    println!(
        "    one sudo for each account    install {of_all:>8.2?} ({beyond:>8.2?} an account beyond the files; of {} measured)",
        some.len()
    );
}

/// What systemd does for a socket with `Accept=yes`.
fn listen() -> Child {
    let path = format!("{RUN}/install.sock");
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["--accept", "--inetd", "--listen", &path, HELPER]);
    let listener = activate.stderr(Stdio::null()).spawn().unwrap();
    while !Path::new(&path).exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    listener
}
