//! The completions and the manual pages, as a shell and a reader take them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_service-connector")).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    output
}

/// The commands, as the overview names them.
fn commands() -> Vec<String> {
    let overview = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let list = overview.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

#[test]
fn bash_takes_its_completions_and_they_name_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("completions.bash");
    let script = run(&["completions", "bash"]).stdout;
    fs::write(&path, &script).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success());
    let script = String::from_utf8(script).unwrap();
    for command in commands() {
        assert!(script.contains(&format!("service__connector,{command})")), "{command}");
    }
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        assert!(script.contains("check-service"), "{shell}");
    }
}

#[test]
fn the_manual_names_every_command_and_each_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    let page = String::from_utf8(run(&["man"]).stdout).unwrap();
    run(&["man", "--dir", pages.to_str().unwrap()]);
    assert_eq!(page, read(&pages, "service-connector.1"), "the main page is the same");
    for command in commands() {
        let name = format!("service-connector-{command}");
        assert!(page.contains(&format!("{}(1)", name.replace('-', "\\-"))), "{command}");
        assert!(read(&pages, &format!("{name}.1")).contains(".SH SYNOPSIS"), "{command}");
    }
    assert!(pages.join("service-connector-events-verify.1").exists());
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
