//! A Python with the packages that tests need.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python 3 that can import python-dotenv.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| python_with("dotenv", "python-dotenv==1.2.1"))
}

/// A Python 3 that can import Flask.
pub fn python_with_flask() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| python_with("flask", "flask"))
}

/// The machine's Python, or one of a virtual environment made once under `target/tmp`. Fails, and
/// says what is missing, where neither can be had.
fn python_with(module: &str, package: &str) -> PathBuf {
    let machines = PathBuf::from("python3");
    let version = Command::new(&machines).arg("--version").output();
    assert!(
        version.is_ok_and(|output| output.status.success()),
        "python3 is not there: examples are run with it (Debian: apt-get install python3 \
         python3-venv)"
    );
    if has(&machines, module) { machines } else { environment_with(&machines, module, package) }
}

fn has(python: &Path, module: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}")]);
    command.output().is_ok_and(|output| output.status.success())
}

/// A virtual environment with a package, made once under `target/tmp`.
pub fn environment_with(machines: &Path, module: &str, package: &str) -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(scratch).unwrap();
    // Other test binaries may want the same one at the same time.
    let lock = File::create(scratch.join(format!("{package}.lock"))).unwrap();
    lock.lock().unwrap();
    let environment = scratch.join(package.replace("==", "-"));
    let python = environment.join("bin/python3");
    if !has(&python, module) {
        run(Command::new(machines).args(["-m", "venv", "--clear"]).arg(&environment));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package]));
    }
    python
}

/// Runs it to its end, which must be a good one.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed (is python3-venv there?): {errors}");
}
