//! `install.sh` where systemd runs: what it tells it. systemctl is played: it keeps what it is told.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use tempfile::TempDir;

use crate::kit::{kit, success};
use crate::server::{PORTAL, RECONCILER, Server, on_a_server};
use crate::units::{CONFIG, PORTAL_UNIT, bounding_set};

pub const SOCKET: &str = "service-connector-install.socket";
pub const TIMER: &str = "service-connector-reconcile.timer";
pub const WATCHER: &str = "service-connector-watch.service";
/// What the configuration says of a proxy's header.
pub const IDENTITY: &str = "identity: { header: { name: X-Remote-Email, peers: [www-data] } }\n";

/// Enabled units are names in a directory; what was asked for is in a log.
const SYSTEMCTL: &str = r#"#!/bin/bash
state=/run/systemctl
mkdir -p $state/enabled
quiet=
[ "$1" != -q ] || { quiet=1; shift; }
case "$1" in
  is-enabled | is-active)
    [ "$1" = is-active ] && word=active || word=enabled
    [ -e "$state/enabled/$2" ] && { [ "$quiet" ] || echo $word; } ;;
  show) [ -e $state/loaded ] && echo no || echo yes ;;
  daemon-reload) touch $state/loaded; echo "$*" >>$state/log ;;
  enable) [ -e $state/loaded ] && touch "$state/enabled/${@: -1}"; echo "$*" >>$state/log ;;
  disable) rm -f "$state/enabled/${@: -1}"; echo "$*" >>$state/log ;;
  restart | stop) echo "$*" >>$state/log ;;
  *) echo "unexpected: $*" >>$state/log; exit 1 ;;
esac
"#;

/// Makes `/usr` the test's own, too, with systemd running in it, and nothing set up.
pub fn bare(server: &Server, scratch: &Path) {
    let none = None::<&str>;
    mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    for dir in ["upper", "work"] {
        fs::create_dir(scratch.join(dir)).unwrap();
    }
    let at = scratch.display();
    let options = format!("lowerdir=/usr,upperdir={at}/upper,workdir={at}/work");
    mount(Some("overlay"), "/usr", Some("overlay"), MsFlags::empty(), Some(&*options)).unwrap();
    // What dpkg's triggers write to.
    mount(Some("tmpfs"), "/var/cache", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    server.remove_account(RECONCILER);
    server.remove_account(PORTAL);
    for dir in ["/etc/service-connector", "/var/lib/service-connector", "/run/service-connector"] {
        fs::remove_dir_all(dir).unwrap();
    }
    fs::write("/usr/bin/systemctl.new", SYSTEMCTL).unwrap();
    success(Command::new("chmod").args(["755", "/usr/bin/systemctl.new"]));
    fs::rename("/usr/bin/systemctl.new", "/usr/bin/systemctl").unwrap();
    fs::create_dir_all("/run/systemd/system").unwrap();
}

/// What systemctl was asked for since the last time.
pub fn asked() -> Vec<String> {
    let log = "/run/systemctl/log";
    let text = fs::read_to_string(log).unwrap_or_default();
    drop(fs::remove_file(log));
    text.lines().map(str::to_owned).collect()
}

/// The programs of this build.
fn programs() -> TempDir {
    let programs = tempfile::tempdir().unwrap();
    for (name, from) in [
        ("service-connector", env!("CARGO_BIN_EXE_service-connector")),
        ("install-service-env", env!("CARGO_BIN_EXE_install-service-env")),
    ] {
        std::os::unix::fs::symlink(from, programs.path().join(name)).unwrap();
    }
    programs
}

#[test]
fn units_are_started_once_and_stopped_when_they_go() {
    on_a_server("units_are_started_once_and_stopped_when_they_go", |server| {
        let (scratch, programs) = (tempfile::tempdir().unwrap(), programs());
        bare(server, scratch.path());
        let install = |options: &[&str]| {
            let mut command = Command::new(kit().join("install.sh"));
            success(command.args(options).arg("--binaries").arg(programs.path()))
        };
        let enable = |unit| format!("enable --now {unit}");
        let disable = |unit| format!("disable --now {unit}");
        let restart = format!("restart {WATCHER}");
        install(&[]);
        assert_eq!(asked(), ["daemon-reload", &enable(SOCKET), &enable(WATCHER)]);
        assert_eq!(install(&[]), "nothing to do\n");
        assert_eq!(asked(), [""; 0]);
        // One that was cut off before systemd had heard of it.
        fs::remove_file("/run/systemctl/loaded").unwrap();
        install(&[]);
        assert_eq!(asked(), ["daemon-reload", &restart]);
        // Another program: the loop that runs is still the one before.
        fs::write("/usr/bin/service-connector", "another").unwrap();
        install(&[]);
        assert_eq!(asked(), [&*restart]);

        let version = Command::new("/usr/bin/service-connector").arg("--version").output().unwrap();
        assert!(version.status.success());

        install(&["--sudo"]);
        assert_eq!(asked(), [disable(SOCKET), restart]);
        install(&["--uninstall"]);
        assert_eq!(asked(), [disable(WATCHER), "daemon-reload".to_owned()]);
        assert!(!Path::new("/usr/bin/service-connector").exists());
        assert!(Path::new("/var/lib/service-connector/state").exists());
    });
    assert!(!Path::new("/usr/lib/sysusers.d/service-connector.conf").exists());
}

#[test]
fn the_loop_or_the_timer_runs_passes_as_it_was_chosen() {
    on_a_server("the_loop_or_the_timer_runs_passes_as_it_was_chosen", |server| {
        let (scratch, programs) = (tempfile::tempdir().unwrap(), programs());
        bare(server, scratch.path());
        let install = |options: &[&str]| {
            let mut command = Command::new(kit().join("install.sh"));
            success(command.args(options).arg("--binaries").arg(programs.path()))
        };
        let enable = |unit| format!("enable --now {unit}");
        let disable = |unit| format!("disable --now {unit}");
        install(&["--timer"]);
        assert_eq!(asked(), ["daemon-reload", &enable(SOCKET), &enable(TIMER)]);
        // What was chosen once needs no telling again.
        assert_eq!(install(&[]), "nothing to do\n");
        fs::write("/usr/bin/service-connector", "an earlier version").unwrap();
        install(&[]);
        assert_eq!(asked(), [""; 0], "an upgrade leaves it as it is");
        let told = install(&["--watch", "--dry-run"]);
        assert_eq!(asked(), [""; 0]);
        let said = install(&["--watch"]);
        assert_eq!(told, said + "dry run: nothing was changed\n");
        assert_eq!(asked(), [disable(TIMER), enable(WATCHER)]);
        install(&["--timer"]);
        assert_eq!(asked(), [disable(WATCHER), enable(TIMER)]);
        // Who has both has them by choice.
        fs::write(format!("/run/systemctl/enabled/{WATCHER}"), "").unwrap();
        assert_eq!(install(&[]), "nothing to do\n");
        install(&["--uninstall"]);
        let reload = "daemon-reload".to_owned();
        assert_eq!(asked(), [disable(TIMER), disable(WATCHER), disable(SOCKET), reload]);
    });
}

#[test]
fn the_portal_is_started_where_the_configuration_says_who_asks_or_somebody_says_so() {
    let test = "the_portal_is_started_where_the_configuration_says_who_asks_or_somebody_says_so";
    on_a_server(test, |server| {
        let (scratch, programs) = (tempfile::tempdir().unwrap(), programs());
        bare(server, scratch.path());
        let install = |options: &[&str]| {
            let mut command = Command::new(kit().join("install.sh"));
            success(command.args(options).arg("--binaries").arg(programs.path()))
        };
        let (enable, disable) =
            (format!("enable --now {PORTAL_UNIT}"), format!("disable --now {PORTAL_UNIT}"));
        install(&[]);
        assert!(!asked().contains(&enable), "the kit's configuration says nothing of who asks");
        let shipped = fs::read_to_string(CONFIG).unwrap();
        fs::write(CONFIG, format!("{shipped}{IDENTITY}")).unwrap();
        let told = install(&["--dry-run"]);
        assert_eq!(
            told,
            format!("start {PORTAL_UNIT}, now and at each boot\ndry run: nothing was changed\n")
        );
        assert_eq!(asked(), [""; 0]);
        install(&[]);
        assert_eq!(asked(), [&*enable]);
        assert_eq!(install(&[]), "nothing to do\n");
        // Another program: it runs the one before.
        fs::write("/usr/bin/service-connector", "another").unwrap();
        install(&[]);
        assert_eq!(asked(), [format!("restart {WATCHER}"), format!("restart {PORTAL_UNIT}")]);
        // One that is there stays, whatever is said of who asks.
        fs::write(CONFIG, &shipped).unwrap();
        assert_eq!(install(&[]), "nothing to do\n");
        install(&["--uninstall"]);
        assert_eq!(asked()[0], disable);
        assert!(!Path::new("/usr/lib/systemd/system").join(PORTAL_UNIT).exists());
        assert!(!Path::new("/usr/share/service-connector").exists());
        install(&["--portal"]);
        assert!(asked().contains(&enable), "somebody said so");
        // Who masked it has said no.
        fs::remove_file(format!("/run/systemctl/enabled/{PORTAL_UNIT}")).unwrap();
        fs::write(CONFIG, format!("{shipped}{IDENTITY}")).unwrap();
        let mask = Path::new("/etc/systemd/system").join(PORTAL_UNIT);
        std::os::unix::fs::symlink("/dev/null", mask).unwrap();
        assert_eq!(install(&[]), "nothing to do\n");
    });
}

/// What doctor says of this server, called by root, and by a pass's user in the bounds of its unit.
fn all_is_well(bounds: Option<&str>) {
    let (uid, gid) = ids_of(RECONCILER);
    let mut doctor = match bounds {
        None => Command::new("/usr/bin/service-connector"),
        Some(bounds) => {
            let mut bounded = Command::new("setpriv");
            bounded.arg(format!("--bounding-set={bounds}")).args(["--clear-groups"]);
            bounded.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
            bounded.arg("/usr/bin/service-connector");
            bounded
        }
    };
    doctor.arg("doctor").current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin");
    let said = success(&mut doctor);
    let is_well = |line: &&str| line.starts_with("ok  ") || line.starts_with("--  clock: ");
    let wrong: Vec<_> = said.lines().filter(|line| !line.is_empty() && !is_well(line)).collect();
    assert!(wrong.is_empty() && said.lines().count() > 10, "{said}");
    assert!(said.contains("ok  homes: "), "{said}");
}

fn ids_of(name: &str) -> (String, String) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    let fields: Vec<_> = line.split(':').collect();
    (fields[2].to_owned(), fields[3].to_owned())
}

#[test]
fn doctor_finds_nothing_wrong_with_what_was_set_up() {
    on_a_server("doctor_finds_nothing_wrong_with_what_was_set_up", |server| {
        let (scratch, programs) = (tempfile::tempdir().unwrap(), programs());
        bare(server, scratch.path());
        let set_up = |way: &str| {
            let mut install = Command::new(kit().join("install.sh"));
            success(install.arg(way).arg("--binaries").arg(programs.path()));
        };
        set_up("--sudo");
        // Services that are there to be asked are another test's.
        for dir in ["registry", "skills"] {
            let dir = Path::new("/etc/service-connector").join(dir);
            for entry in fs::read_dir(dir).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        let pass = |arguments: &[&str]| {
            let mut command = Command::new("/usr/bin/service-connector");
            success(command.args(arguments).current_dir("/"))
        };
        pass(&["validate"]);
        pass(&["reconcile"]);
        all_is_well(None);
        // sudo needs no capability that its drop-in does not leave.
        let drop_in = fs::read_to_string(kit().join("systemd/sudo.conf")).unwrap();
        all_is_well(Some(&bounding_set(&drop_in)));

        set_up("--socket");
        let socket = "/run/service-connector/install.sock";
        // Should this test fail, it ends with its thread.
        let mut activate = Command::new("setpriv");
        activate.args(["--pdeathsig=KILL", "systemd-socket-activate"]);
        activate.args(["--accept", "--inetd", "--listen", socket, "/usr/sbin/install-service-env"]);
        let mut listener = activate.stderr(Stdio::null()).spawn().unwrap();
        while !Path::new(socket).exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // As the socket's unit says.
        success(Command::new("chown").args([&format!("{RECONCILER}:root"), socket]));
        success(Command::new("chmod").args(["600", socket]));
        all_is_well(None);
        let pass_unit =
            fs::read_to_string(kit().join("systemd/service-connector-reconcile.service"));
        all_is_well(Some(&bounding_set(&pass_unit.unwrap())));
        listener.kill().unwrap();
        listener.wait().unwrap();
    });
}
