//! The arguments and the environment of this process and of all that it started.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::marker::Marker;

/// This process, and all below it.
fn family() -> Vec<u32> {
    let mut family = vec![std::process::id()];
    let mut next = 0;
    while let Some(pid) = family.get(next) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children: Vec<u32> = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|text| {
                text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
            })
            .collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// The processes that have a marker among their arguments or in their environment.
pub fn leaks(markers: &[&Marker]) -> Vec<String> {
    look(&family(), markers)
}

fn look(family: &[u32], markers: &[&Marker]) -> Vec<String> {
    let mut leaks = Vec::new();
    for pid in family {
        for what in ["cmdline", "environ"] {
            // It may have ended meanwhile.
            let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let found = markers.iter().flat_map(|marker| marker.found_in(&bytes));
            leaks.extend(found.map(|form| format!("{form} is in the {what} of a process")));
        }
    }
    leaks
}

/// Holds that a process which is there now is among those looked at, and can be read.
#[track_caller]
pub fn assert_can_be_seen(pid: u32, argument: &[u8], variable: &[u8]) {
    assert!(family().contains(&pid), "it is ours");
    for (what, part) in [("cmdline", argument), ("environ", variable)] {
        let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap();
        assert!(bytes.split(|byte| *byte == 0).any(|found| found == part), "{what}");
    }
}

/// Looks again and again, from a thread of its own, until it is ended.
pub struct Watch {
    over: Arc<AtomicBool>,
    found: Arc<Mutex<BTreeSet<String>>>,
    thread: JoinHandle<usize>,
}

impl Watch {
    pub fn begin(keys: &Marker, secrets: &Marker) -> Self {
        let markers = [keys.clone(), secrets.clone()];
        let (over, found) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let thread = {
            let (over, found) = (Arc::clone(&over), Arc::clone(&found));
            std::thread::spawn(move || watch(&markers.each_ref(), &over, &found))
        };
        Self { over, found, thread }
    }

    pub fn is_clean(&self) -> bool {
        self.found.lock().unwrap().is_empty()
    }

    /// How many processes were seen beside this one, and what was found in any.
    pub fn end(self) -> (usize, BTreeSet<String>) {
        self.over.store(true, SeqCst);
        let seen = self.thread.join().unwrap();
        (seen, self.found.lock().unwrap().clone())
    }
}

fn watch(markers: &[&Marker], over: &AtomicBool, found: &Mutex<BTreeSet<String>>) -> usize {
    let mut seen = BTreeSet::new();
    while !over.load(SeqCst) {
        let family = family();
        let leaks = look(&family, markers);
        found.lock().unwrap().extend(leaks);
        seen.extend(family.into_iter().skip(1));
        std::thread::sleep(Duration::from_millis(3));
    }
    seen.len()
}
