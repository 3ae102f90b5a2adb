//! What runs passes: a loop or a timer, started by systemd.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Area, Findings};

/// It is there while systemd runs (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
const WATCHER: &str = "service-connector-watch.service";
const TIMER: &str = "service-connector-reconcile.timer";
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A unit, in the words of `systemctl is-enabled` and `is-active`.
struct Unit {
    name: &'static str,
    enabled: String,
    active: String,
}

impl Unit {
    fn ask(name: &'static str) -> io::Result<Self> {
        let (enabled, active) = (systemctl("is-enabled", name)?, systemctl("is-active", name)?);
        Ok(Self { name, enabled, active })
    }

    fn is_there(&self) -> bool {
        !matches!(&*self.enabled, "not-found" | "")
    }

    fn is_enabled(&self) -> bool {
        matches!(&*self.enabled, "enabled" | "enabled-runtime")
    }

    /// It runs passes, now and after the next boot.
    fn is_on(&self) -> bool {
        self.is_enabled() && matches!(&*self.active, "active" | "reloading")
    }

    fn how_it_is(&self) -> String {
        let Self { name, enabled, active } = self;
        let active = if active.is_empty() { "unknown" } else { active };
        format!("{name} is {enabled} and {active}")
    }

    /// The command that turns it on.
    fn mend(&self) -> String {
        let name = self.name;
        match &*self.enabled {
            "masked" | "masked-runtime" => {
                format!("systemctl unmask {name} && systemctl enable --now {name}")
            }
            _ => format!("systemctl enable --now {name}"),
        }
    }
}

/// Whether a loop or a timer runs passes.
pub(super) fn look(findings: &mut Findings) {
    if !Path::new(BOOTED).is_dir() {
        let why = "systemd does not run here; something else must run \
                   `service-connector reconcile` every minute or so, or leave it running (`--watch`)";
        return findings.not_checked(Area::Timer, why);
    }
    match Unit::ask(WATCHER).and_then(|watcher| Ok((watcher, Unit::ask(TIMER)?))) {
        Err(error) => findings.not_checked(Area::Timer, format!("systemctl: {error}")),
        Ok((watcher, timer)) => judge(findings, &watcher, &timer),
    }
}

fn judge(findings: &mut Findings, watcher: &Unit, timer: &Unit) {
    if watcher.is_enabled() && !watcher.is_on() {
        let mend = format!("journalctl -u {WATCHER} says why; then systemctl restart {WATCHER}");
        return findings.wrong(Area::Timer, watcher.how_it_is(), mend);
    }
    match (watcher.is_on(), timer.is_on()) {
        (true, true) => {
            let both = format!("{WATCHER} and {TIMER} are both enabled and active: one is enough");
            findings.ok(Area::Timer, both);
        }
        (true, false) => findings.ok(Area::Timer, watcher.how_it_is()),
        (false, true) => findings.ok(Area::Timer, timer.how_it_is()),
        // Where they were never installed, as in a clone, the age of the last pass tells.
        (false, false) if !watcher.is_there() && !timer.is_there() => {
            let why = format!(
                "neither {WATCHER} nor {TIMER} is installed here; something else must run \
                 `service-connector reconcile` every minute or so"
            );
            findings.not_checked(Area::Timer, why);
        }
        (false, false) => {
            // The timer, where somebody chose it; and one that is there.
            let chosen = if timer.is_enabled() || !watcher.is_there() { timer } else { watcher };
            let each = [watcher, timer].map(Unit::how_it_is).join(", ");
            findings.wrong(Area::Timer, format!("nothing runs passes: {each}"), chosen.mend());
        }
    }
}

/// The one word that it says.
fn systemctl(question: &str, unit: &str) -> io::Result<String> {
    let mut asked = Command::new("systemctl");
    // Our own environment may hold shared secrets.
    asked.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    asked.args([question, unit]);
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
