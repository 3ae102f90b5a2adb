//! A look at every home, beside `find -printf` over the same files.

use std::hint::black_box;
use std::process::{Command, Stdio};

use service_connector::installer::Installer;
use service_connector::model::home::HomeLook;
use service_connector::model::name::AccountName;

use crate::fleet;
use crate::measure::median;

pub fn run(users: usize) {
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, &fleet::unused_addresses());
    drop(fleet::converge(dir.path(), users, true));
    let homes = dir.path().join("state/homes");
    let accounts: Vec<AccountName> =
        (0..users).map(|user| format!("user{user}").parse().unwrap()).collect();
    let accounts: Vec<&AccountName> = accounts.iter().collect();
    let installer = Installer::direct(homes.clone(), false);
    let seen = |look: &HomeLook| matches!(look, HomeLook::Seen(facts) if facts.env.is_some());
    assert!(installer.look(&accounts).values().all(seen), "every home is there");
    let find = median(|| {
        let mut find = Command::new("find");
        find.arg(&homes).args(["-printf", "%p %m %u %s %T@\n"]).stdout(Stdio::null());
        assert!(find.status().unwrap().success());
    });
    let look = median(|| drop(black_box(installer.look(&accounts))));
    println!("  find -printf                 {find:.1?}");
    println!("  look                         {look:.1?}");
    println!("  ratio                        {:.2}", look.as_secs_f64() / find.as_secs_f64());
}
