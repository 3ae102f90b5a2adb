//! One person's click in a fleet, through the real binary: the edit alone, and the edit with the
//! user's pass (`--now`), until the key is in the home.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::converge::{Services, service_connector};
use crate::fleet::{self, service_id};
use crate::measure::{RUNS, median};

pub fn run(users: usize) {
    let services = Services::start(5, Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, services.addresses());
    drop(fleet::converge(dir.path(), users, false));
    // Until the file counts as still. The first edit reads all of a file that was made by hand.
    std::thread::sleep(Duration::from_secs(2));
    run_command(dir.path(), &["disconnect", "user0", &service_id(0), "--json"]);
    let mut number = 0;
    let mut next = || {
        number += users / RUNS / 3;
        format!("user{number}")
    };
    let edit = median(|| {
        run_command(dir.path(), &["disconnect", &next(), &service_id(0), "--json"]);
    });
    let click = median(|| run_command(dir.path(), &["rotate", &next(), &service_id(1), "--now"]));
    println!("  disconnect: one edit         {edit:.1?}");
    println!("  rotate --now: click to key   {click:.1?}");
}

fn run_command(dir: &Path, args: &[&str]) {
    let output = service_connector(dir).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
