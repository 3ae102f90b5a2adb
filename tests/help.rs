//! The help of each command, as it was read and found good: `UPDATE=1 cargo test --test help`
//! writes what it is now.

use std::fs;
use std::path::Path;
use std::process::Command;

const COMMANDS: [&str; 27] = [
    "",
    "demo",
    "plan",
    "reconcile",
    "serve",
    "approve",
    "status",
    "explain",
    "connect",
    "disconnect",
    "rotate",
    "offboard",
    "forget",
    "health",
    "events",
    "doctor",
    "validate",
    "check-service",
    "registry",
    "registry import",
    "state",
    "state import",
    "state export",
    "laptop-script",
    "schema",
    "completions",
    "man",
];

fn help(command: &str) -> String {
    let mut run = Command::new(env!("CARGO_BIN_EXE_service-connector"));
    run.args(command.split_whitespace());
    let output = run.arg("--help").env_clear().env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{command} --help");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_help_of_each_command_is_as_it_was_found_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for command in COMMANDS {
        let name = if command.is_empty() { "service-connector" } else { command };
        let path = dir.join(format!("{}.txt", name.replace(' ', "-")));
        let is = help(command);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, &is).unwrap();
        }
        let was = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(is, was, "{name} --help changed: look at it, then UPDATE=1");
    }
}

#[test]
fn the_overview_names_every_command() {
    let overview = help("");
    for command in COMMANDS.iter().filter(|c| !c.is_empty() && !c.contains(' ')) {
        assert!(overview.contains(&format!("\n  {command} ")), "{command}");
    }
}
