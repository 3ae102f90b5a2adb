//! The portal: whether it is there for those whom the configuration lets in.

use super::unit::{Unit, systemd_runs};
use super::{Area, Findings};

const PORTAL: &str = "service-connector-portal.service";
const IDENTITY: &str = "`identity:` in service-connector.yaml";

/// Whether the portal runs, if the configuration says who is asking.
pub(super) fn look(findings: &mut Findings, is_open: bool) {
    let elsewhere = "something else must run `service-connector serve`";
    match systemd_runs().then(|| Unit::ask(PORTAL)) {
        Some(Ok(unit)) if unit.is_there() => judge(findings, &unit, is_open),
        _ if !is_open => nobody_asks(findings),
        Some(Err(error)) => findings.not_checked(Area::Portal, format!("systemctl: {error}")),
        Some(Ok(_)) => {
            findings.not_checked(Area::Portal, format!("{PORTAL} is not installed; {elsewhere}"));
        }
        None => {
            let why = format!("systemd does not run here; {elsewhere}");
            findings.not_checked(Area::Portal, why);
        }
    }
}

fn judge(findings: &mut Findings, unit: &Unit, is_open: bool) {
    match (unit.is_enabled(), unit.is_on(), is_open) {
        (true, false, _) => findings.wrong(Area::Portal, unit.how_it_is(), unit.restart()),
        (true, true, false) => {
            let what = format!("{}, and lets nobody in", unit.how_it_is());
            let mend = format!("say who is asking, under {IDENTITY}; then restart {PORTAL}");
            findings.wrong(Area::Portal, what, mend);
        }
        (true, true, true) => findings.ok(Area::Portal, unit.how_it_is()),
        (false, _, false) => nobody_asks(findings),
        // It may be served in another way.
        (false, _, true) => {
            let why = format!("{}; to have it serve the portal: {}", unit.how_it_is(), unit.mend());
            findings.not_checked(Area::Portal, why);
        }
    }
}

fn nobody_asks(findings: &mut Findings) {
    findings.ok(Area::Portal, format!("not set up: there is no {IDENTITY}"));
}
