//! What runs passes: a timer of systemd.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Area, Findings};

/// It is there while systemd runs (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
const TIMER: &str = "service-connector-reconcile.timer";
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the timer is enabled.
pub(super) fn look(findings: &mut Findings) {
    if !Path::new(BOOTED).is_dir() {
        let why = "systemd does not run here; something else must run \
                   `service-connector reconcile` every minute or so";
        return findings.not_checked(Area::Timer, why);
    }
    match is_enabled() {
        Err(error) => findings.not_checked(Area::Timer, format!("systemctl: {error}")),
        Ok(word) => judge(findings, &word),
    }
}

fn judge(findings: &mut Findings, word: &str) {
    match word {
        "enabled" | "enabled-runtime" => findings.ok(Area::Timer, format!("{TIMER} is {word}")),
        // Where it was never installed, as in a clone, the age of the last pass tells.
        "not-found" | "" => {
            let why = format!(
                "{TIMER} is not installed here; something else must run \
                               `service-connector reconcile` every minute or so"
            );
            findings.not_checked(Area::Timer, why);
        }
        "masked" | "masked-runtime" => {
            let mend = format!("systemctl unmask {TIMER} && systemctl enable --now {TIMER}");
            findings.wrong(Area::Timer, format!("{TIMER} is {word}: no pass runs"), mend);
        }
        word => {
            let mend = format!("systemctl enable --now {TIMER}");
            findings.wrong(Area::Timer, format!("{TIMER} is {word}: no pass runs"), mend);
        }
    }
}

/// What `systemctl is-enabled` says, in its one word.
fn is_enabled() -> io::Result<String> {
    let mut asked = Command::new("systemctl");
    // Our own environment may hold shared secrets.
    asked.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    asked.args(["is-enabled", TIMER]);
    asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = asked.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("no answer within 10 s"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}
