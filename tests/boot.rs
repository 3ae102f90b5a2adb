//! The kit on a system that is booted for it: systemd itself, as the first process of namespaces of
//! its own, with the real units, accounts, socket and sudo rule.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer than a boot and the story take on a slow machine, in seconds.
const PATIENCE: &str = "240";

#[test]
fn a_server_set_up_by_the_kit_hands_out_keys_and_takes_them_back_by_the_socket() {
    boot("socket");
}

#[test]
fn a_server_set_up_by_the_kit_hands_out_keys_and_takes_them_back_by_sudo() {
    boot("sudo");
}

fn boot(way: &str) {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").is_err(), "booting needs root, and CI must do it");
        return eprintln!("!!!! NOT TESTED: booting the kit ({way}) needs root");
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_service-connector"));
    let bin = scratch.path().join("bin");
    let kit = scratch.path().join("kit");
    for made in [&bin, &kit] {
        fs::create_dir(made).unwrap();
    }
    for program in ["service-connector", "install-service-env", "examples/crm"] {
        run(Command::new("cp").arg(programs.with_file_name(program)).arg(&bin));
    }
    for part in ["deploy", "registry", "skills", "tests/boot"] {
        let to = kit.join(part);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run(Command::new("cp").arg("-a").arg(source.join(part)).arg(to));
    }
    let mut boot = Command::new("timeout");
    boot.args(["--signal=KILL", PATIENCE, "unshare", "--mount", "bash"]);
    boot.arg(kit.join("tests/boot/enclose.sh"));
    let booted = boot.arg(scratch.path()).arg(way).output().unwrap();
    let said = fs::read_to_string(scratch.path().join("out")).unwrap_or_default();
    assert!(
        said.ends_with("The story held.\n"),
        "{said}\n{}{}",
        String::from_utf8_lossy(&booted.stdout),
        String::from_utf8_lossy(&booted.stderr)
    );
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}");
}
