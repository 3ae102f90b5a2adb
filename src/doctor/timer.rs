//! What runs passes: a loop or a timer, started by systemd.

use super::unit::{Unit, systemd_runs};
use super::{Area, Findings};

const WATCHER: &str = "service-connector-watch.service";
const TIMER: &str = "service-connector-reconcile.timer";

/// Whether a loop or a timer runs passes.
pub(super) fn look(findings: &mut Findings) {
    if !systemd_runs() {
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
        return findings.wrong(Area::Timer, watcher.how_it_is(), watcher.restart());
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
