//! What each pass leaves to be shown: what it costs to count a fleet.

use std::hint::black_box;

use jiff::Timestamp;
use service_connector::store::{Shown, Store};

use crate::fleet;
use crate::measure::median;

pub fn run(users: usize) {
    let dir = tempfile::tempdir().unwrap();
    fleet::write_files(dir.path(), users, &fleet::unused_addresses());
    let store = fleet::converge(dir.path(), users, false);
    let now = Timestamp::now();
    let counted = store.fleet(0, now).unwrap();
    let tokens: usize = counted.services.values().flat_map(|f| f.tokens.values()).sum();
    println!(
        "  count {tokens} tokens          {:.2?}",
        median(|| {
            black_box(store.fleet(0, now).unwrap());
        })
    );
    println!(
        "  the services' health         {:.2?}",
        median(|| {
            black_box(store.health().unwrap());
        })
    );
    println!(
        "  leave the figures            {:.2?}",
        median(|| {
            store.show(Shown::Fleet, &counted, now).unwrap();
        })
    );
    drop(store);
    let state = dir.path().join("state");
    println!(
        "  open and read them           {:.2?}",
        median(|| {
            let store = Store::open_to_read(&state).unwrap();
            black_box(store.shown(Shown::Fleet).unwrap().unwrap());
        })
    );
}
