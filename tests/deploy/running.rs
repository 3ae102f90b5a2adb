//! `install.sh` where systemd runs: what it tells it. systemctl is played: it keeps what it is told.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use crate::kit::{kit, success};
use crate::server::{PORTAL, RECONCILER, Server, on_a_server};

/// Enabled units are names in a directory; what was asked for is in a log.
const SYSTEMCTL: &str = r#"#!/bin/bash
state=/run/systemctl
mkdir -p $state/enabled
[ "$1" != -q ] || shift
case "$1" in
  is-enabled | is-active) [ -e "$state/enabled/$2" ] ;;
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

#[test]
fn units_are_started_once_and_stopped_when_they_go() {
    on_a_server("units_are_started_once_and_stopped_when_they_go", |server| {
        let (scratch, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        bare(server, scratch.path());
        for (name, from) in [
            ("service-connector", env!("CARGO_BIN_EXE_service-connector")),
            ("install-service-env", env!("CARGO_BIN_EXE_install-service-env")),
        ] {
            std::os::unix::fs::symlink(from, programs.path().join(name)).unwrap();
        }
        let install = |options: &[&str]| {
            let mut command = Command::new(kit().join("install.sh"));
            success(command.args(options).arg("--binaries").arg(programs.path()))
        };
        let (socket, timer) =
            ("service-connector-install.socket", "service-connector-reconcile.timer");
        install(&[]);
        let enable = |unit| format!("enable --now {unit}");
        assert_eq!(asked(), ["daemon-reload", &enable(socket), &enable(timer)]);
        assert_eq!(install(&[]), "nothing to do\n");
        assert_eq!(asked(), [""; 0]);
        // One that was cut off before systemd had heard of it.
        fs::remove_file("/run/systemctl/loaded").unwrap();
        install(&[]);
        assert_eq!(asked(), ["daemon-reload"]);

        let version = Command::new("/usr/bin/service-connector").arg("--version").output().unwrap();
        assert!(version.status.success());

        install(&["--sudo"]);
        assert_eq!(asked(), [format!("disable --now {socket}")]);
        install(&["--uninstall"]);
        assert_eq!(asked(), [format!("disable --now {timer}"), "daemon-reload".to_owned()]);
        assert!(!Path::new("/usr/bin/service-connector").exists());
        assert!(Path::new("/var/lib/service-connector/state").exists());
    });
    assert!(!Path::new("/usr/lib/sysusers.d/service-connector.conf").exists());
}
