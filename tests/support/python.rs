//! A Python with python-dotenv, to run what the skills show.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A Python 3 that can import python-dotenv: the machine's, or one of a virtual environment made
/// once under `target/tmp`. Fails, and says what is missing, where neither can be had.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let machines = PathBuf::from("python3");
        let version = Command::new(&machines).arg("--version").output();
        assert!(
            version.is_ok_and(|output| output.status.success()),
            "python3 is not there: the skills are run with it (Debian: apt-get install python3 \
             python3-venv)"
        );
        if has_dotenv(&machines) { machines } else { python_with_dotenv(&machines) }
    })
}

fn has_dotenv(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "from dotenv import load_dotenv"]);
    command.output().is_ok_and(|output| output.status.success())
}

fn python_with_dotenv(machines: &Path) -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(scratch).unwrap();
    // Other test binaries may want the same one at the same time.
    let lock = File::create(scratch.join("python.lock")).unwrap();
    lock.lock().unwrap();
    let environment = scratch.join("python");
    let python = environment.join("bin/python3");
    if !has_dotenv(&python) {
        run(Command::new(machines).args(["-m", "venv", "--clear"]).arg(&environment));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "python-dotenv"]));
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed (is python3-venv there?): {errors}");
}
