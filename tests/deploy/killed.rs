//! An `install.sh` that is killed, wherever it is.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use crate::kit::Root;
use crate::server::root_or_say_so;

/// Kills the script before its n-th command.
const STOP: &str =
    "n=0; set -T; trap 'n=$((n + 1)); [ $n -lt \"$STOP_AT\" ] || kill -KILL $$' DEBUG\n";
/// Between the points that are tried: all of them are some 600.
const STEP: usize = 97;

#[test]
fn a_set_up_that_was_killed_anywhere_is_finished_by_the_next() {
    if !root_or_say_so("a_set_up_that_was_killed_anywhere_is_finished_by_the_next") {
        return;
    }
    let whole = Root::new();
    whole.install(&["--sudo"]);
    let expected = whole.tree();
    let scratch = tempfile::tempdir().unwrap();
    let stop = scratch.path().join("stop");
    fs::write(&stop, STOP).unwrap();
    let stride = if std::env::var_os("SC_TESTS_FULL").is_some() { 1 } else { STEP };
    let mut points = 0;
    for at in (1..).step_by(stride) {
        let root = Root::new();
        let mut command = root.command(&["--sudo"]);
        // What it does not live to tidy away.
        command.env("TMPDIR", scratch.path());
        command.env("BASH_ENV", &stop).env("STOP_AT", at.to_string());
        let output = command.output().unwrap();
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.signal(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
        points += 1;
        root.install(&["--sudo"]);
        assert_eq!(root.tree(), expected, "killed before command {at}");
        assert_eq!(root.install(&["--sudo"]), "nothing to do\n");
    }
    assert!(points > 8, "{points} points");
}
