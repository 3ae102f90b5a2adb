//! The Debian package: what is in it, and what installing, removing and purging it do.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::kit::{Root, kit, success};
use crate::running::{IDENTITY, SOCKET, TIMER, WATCHER, asked, bare};
use crate::server::{on_a_server, root_or_say_so};
use crate::uninstall::state_with_tokens;
use crate::units::{CONFIG, PORTAL_UNIT};

const PEOPLE: &str = "/etc/service-connector/people.yaml";
const STATE: &str = "/var/lib/service-connector/state";

/// The package, of this build's programs.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    PACKAGE.get_or_init(|| {
        let programs = tempfile::tempdir().unwrap();
        for (name, from) in [
            ("service-connector", env!("CARGO_BIN_EXE_service-connector")),
            ("install-service-env", env!("CARGO_BIN_EXE_install-service-env")),
        ] {
            symlink(from, programs.path().join(name)).unwrap();
        }
        let mut build = Command::new(kit().join("build-deb"));
        let said = success(build.arg("--binaries").arg(programs.path()));
        let path = PathBuf::from(said.trim_end());
        assert!(path.extension().is_some_and(|ending| ending == "deb"), "{said}");
        path
    })
}

/// dpkg for the system below a root, which has no packages yet.
fn dpkg(root: &Root, options: &[&str]) -> String {
    fs::create_dir_all(root.at("/var/lib/dpkg/info")).unwrap();
    fs::create_dir_all(root.at("/var/lib/dpkg/updates")).unwrap();
    let status = root.at("/var/lib/dpkg/status");
    if !status.exists() {
        fs::write(status, "").unwrap();
    }
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.at("/").display()));
    dpkg.args(["--force-script-chrootless", "--force-depends", "--force-confold"]);
    success(dpkg.args(["--log=/dev/null"]).args(options))
}

#[test]
fn the_package_holds_what_the_script_installs() {
    if !root_or_say_so("the_package_holds_what_the_script_installs") {
        return;
    }
    let (by_script, unpacked) = (Root::new(), Root::new());
    by_script.install(&[]);
    success(Command::new("dpkg-deb").arg("-x").arg(package()).arg(unpacked.at("/")));
    let packed = unpacked.tree();
    let mut files = 0;
    for (path, found) in by_script.tree() {
        let is_program = ["/usr/bin/service-connector", "/usr/sbin/install-service-env"];
        // What the script remembers for itself, dpkg does, too.
        let is_file = found.text != "directory" && !path.contains("/shipped/");
        if is_file && (path.starts_with("/usr/") || path.starts_with("/etc/service-connector/")) {
            let other = packed.get(&path).unwrap_or_else(|| panic!("no {path}"));
            assert_eq!((other.uid, other.gid, other.mode), (0, 0, found.mode), "{path}");
            assert!(is_program.contains(&&*path) || other.text == found.text, "{path}");
            files += 1;
        }
    }
    assert!(files >= 12, "{files}");
    // What is not put in place by itself.
    for path in ["sudoers", "sudo.conf", "credentials.conf.example", "deploy.yml"] {
        assert_eq!(packed[&format!("/usr/share/service-connector/{path}")].mode, 0o644);
    }
    assert!(!packed.keys().any(|path| path.starts_with("/etc/sudoers.d")));
    let page = "/usr/share/man/man1/service-connector.1.gz";
    assert!(packed.contains_key(page));
    let conffiles = success(Command::new("dpkg-deb").args(["-I"]).arg(package()).arg("conffiles"));
    let mut conffiles: Vec<_> = conffiles.lines().collect();
    conffiles.sort_unstable();
    let packed = packed.iter().filter(|(_, found)| found.text != "directory");
    let expected = packed.map(|(path, _)| path).filter(|path| path.starts_with("/etc/"));
    assert_eq!(conffiles, expected.collect::<Vec<_>>(), "no edit of what is in /etc is lost");
    assert!(conffiles.len() > 10);
}

#[test]
fn the_package_makes_the_places_and_keeps_what_knows_the_keys() {
    if !root_or_say_so("the_package_makes_the_places_and_keeps_what_knows_the_keys") {
        return;
    }
    let (root, by_script) = (Root::new(), Root::new());
    let package = package().to_str().unwrap();
    dpkg(&root, &["-i", package]);
    by_script.install(&[]);
    let installed = root.tree();
    for (path, found) in by_script.tree() {
        let is_place = ["/etc/service-connector", "/var/lib/service-connector", "/run"];
        if is_place.iter().any(|place| path.starts_with(place)) {
            assert_eq!(installed.get(&path), Some(&found), "{path}");
        }
    }
    let (uid, gid) = (root.uid("service-connector"), root.gid("service-connector"));
    state_with_tokens(&root.at(STATE), uid, gid);
    let secret = "/etc/service-connector/secrets/SC_SECRET_CRM";
    fs::write(root.at(secret), "made up").unwrap();
    let edited = "version: 1\npeople: {}\nrules:\n  - { domain: example.com }\n";
    fs::write(root.at(PEOPLE), edited).unwrap();

    dpkg(&root, &["-i", package]);
    assert_eq!(root.read(PEOPLE), edited);
    let said = dpkg(&root, &["-r", "service-connector"]);
    assert!(said.contains("5 live tokens remain: crm 2, invoicing 2, wiki 1."), "{said}");
    assert!(!root.has("/usr/bin/service-connector") && !root.has("/usr/lib/sysusers.d"));
    assert_eq!(root.read(PEOPLE), edited);
    assert!(root.has(secret) && root.has(STATE));

    let said = dpkg(&root, &["-P", "service-connector"]);
    assert!(said.contains("5 live tokens remain"), "{said}");
    assert!(said.contains("Kept: /var/lib/service-connector."), "{said}");
    assert!(!root.has("/etc/service-connector"));
    assert!(
        root.has(&format!("{STATE}/state.sqlite3")) && root.has(&format!("{STATE}/sealing.key"))
    );
}

#[test]
fn the_package_starts_its_units_and_leaves_off_what_was_turned_off() {
    if !root_or_say_so("the_package_starts_its_units_and_leaves_off_what_was_turned_off") {
        return;
    }
    let package = package();
    on_a_server("the_package_starts_its_units_and_leaves_off_what_was_turned_off", |server| {
        let scratch = tempfile::tempdir().unwrap();
        bare(server, scratch.path());
        let dpkg = |options: &[&str]| {
            let mut dpkg = Command::new("dpkg");
            success(dpkg.args(["--force-depends", "--log=/dev/null"]).args(options))
        };
        let package = package.to_str().unwrap();
        dpkg(&["-i", package]);
        let (enable, restart) = (|unit| format!("enable {unit}"), |unit| format!("restart {unit}"));
        let started = [
            "daemon-reload",
            &enable(SOCKET),
            &restart(SOCKET),
            &enable(WATCHER),
            &restart(WATCHER),
        ];
        assert_eq!(asked(), started);
        let version = Command::new("/usr/bin/service-connector").arg("--version").output().unwrap();
        assert!(version.status.success());
        let mode = fs::metadata(STATE).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2750);
        // The script does not mix with it.
        let install = Command::new(kit().join("install.sh")).output().unwrap();
        let complaint = String::from_utf8_lossy(&install.stderr).into_owned();
        assert!(complaint.contains("the package service-connector is installed"), "{complaint}");

        // As a version before the loop left it, or somebody who prefers the timer.
        let enabled = |unit| format!("/run/systemctl/enabled/{unit}");
        fs::rename(enabled(WATCHER), enabled(TIMER)).unwrap();
        dpkg(&["-i", package]);
        assert_eq!(asked(), ["daemon-reload", &restart(SOCKET), &restart(TIMER)]);
        fs::remove_file(enabled(TIMER)).unwrap();
        dpkg(&["-i", package]);
        assert_eq!(asked(), ["daemon-reload", &restart(SOCKET)]);
        dpkg(&["-r", "service-connector"]);
        let stop = format!(
            "stop {PORTAL_UNIT} {TIMER} {WATCHER} service-connector-reconcile.service {SOCKET}"
        );
        assert_eq!(asked(), [stop.as_str(), "daemon-reload"]);
        dpkg(&["-i", package]);
        assert_eq!(asked(), ["daemon-reload", &restart(SOCKET)]);
        dpkg(&["-P", "service-connector"]);
        assert!(!Path::new("/etc/service-connector").exists());
        asked();

        // A first installation whose configuration was put there before, and says who asks.
        fs::create_dir("/etc/service-connector").unwrap();
        fs::write(CONFIG, format!("version: 1\n{IDENTITY}")).unwrap();
        dpkg(&["--force-confold", "-i", package]);
        let asked = asked();
        assert!(asked.contains(&enable(PORTAL_UNIT)), "{asked:?}");
        assert_eq!(*asked.last().unwrap(), restart(PORTAL_UNIT));
    });
}
