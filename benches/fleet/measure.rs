//! Medians and memory.

use std::fs;
use std::time::{Duration, Instant};

/// How often each thing is done.
pub const RUNS: usize = 7;

/// The median of several runs.
pub fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[RUNS / 2]
}

/// The most memory that this process ever had, in MB.
pub fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1000
}
