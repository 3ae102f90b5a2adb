//! The state: the database, the key that seals, and the last pass.

use jiff::{SignedDuration, Timestamp};

use crate::causes::chain;
use crate::model::action::shown;
use crate::model::actual::Actual;
use crate::reconcile::{Pass, PassError};
use crate::store::{Store, StoreError};

use super::owners::quoted;
use super::{Area, Findings};

/// Passes run every minute or so: one that is older than this has no successor.
const STALE: SignedDuration = SignedDuration::from_hours(1);

/// Examines the state; answers what it holds, or nothing if that cannot be read.
pub(super) async fn look(findings: &mut Findings, pass: &Pass) -> Option<Actual> {
    match Store::open_to_read(&pass.places.state) {
        Ok(store) => {
            sealing_key(findings, &store, pass);
            last_pass(findings, &store, (pass.clock)());
            whole(findings, &store, pass)
        }
        Err(StoreError::Missing(path)) => {
            missing(findings, pass).await;
            let why = format!("there is no state at {} yet", path.display());
            findings.not_checked(Area::SealingKey, &why);
            findings.not_checked(Area::LastPass, &why);
            Some(Actual::default())
        }
        Err(error) => {
            wrong(findings, Area::State, &error, pass);
            for area in [Area::SealingKey, Area::LastPass] {
                findings.not_checked(area, "the state cannot be read");
            }
            None
        }
    }
}

fn whole(findings: &mut Findings, store: &Store, pass: &Pass) -> Option<Actual> {
    let faults = store.faults().map_err(|error| wrong(findings, Area::State, &error, pass)).ok()?;
    for fault in &faults {
        let what = format!("the database in {} is damaged: {fault}", pass.places.state.display());
        findings.wrong(Area::State, what, restore(pass));
    }
    match store.load((pass.clock)(), None) {
        Ok(actual) => {
            let what = format!("the database in {} is whole", pass.places.state.display());
            findings.ok(Area::State, what);
            Some(actual)
        }
        Err(error) => {
            wrong(findings, Area::State, &error, pass);
            None
        }
    }
}

/// None was ever made, or it was lost.
async fn missing(findings: &mut Findings, pass: &Pass) {
    match pass.refuse_lost_state().await {
        Ok(()) => {
            let why = "there is none yet: the first `service-connector reconcile` makes it";
            findings.not_checked(Area::State, why);
        }
        Err(PassError::Intent(_)) => {
            findings.not_checked(Area::State, "there is none, and who had files is not known");
        }
        Err(error @ PassError::NoTrace { .. }) => {
            let mend = "mend the way to the homes first";
            findings.wrong(Area::State, chain(&error), mend);
        }
        Err(error) => findings.wrong(Area::State, chain(&error), restore(pass)),
    }
}

fn sealing_key(findings: &mut Findings, store: &Store, pass: &Pass) {
    let path = &pass.places.sealing_key;
    match store.check_sealing_key(path) {
        Ok(()) => findings.ok(Area::SealingKey, format!("{} fits the state", path.display())),
        Err(error) => wrong(findings, Area::SealingKey, &error, pass),
    }
}

fn wrong(findings: &mut Findings, area: Area, error: &StoreError, pass: &Pass) {
    let mend = match error {
        StoreError::Newer { .. } => "use the newer service-connector".to_owned(),
        StoreError::Older { .. } => "service-connector reconcile".to_owned(),
        StoreError::File { path, .. } => format!("namei -l {}", quoted(path)),
        StoreError::SealingKey { path, .. } => {
            format!("bring back {} from the backup that the state belongs to", quoted(path))
        }
        _ => restore(pass),
    };
    findings.wrong(area, chain(error), mend);
}

fn restore(pass: &Pass) -> String {
    format!("bring back {} from a backup", quoted(&pass.places.state))
}

fn last_pass(findings: &mut Findings, store: &Store, now: Timestamp) {
    let pass = match store.last_pass() {
        Ok(Some(pass)) => pass,
        Ok(None) => {
            let why = "none has run yet: `service-connector reconcile` runs one";
            return findings.not_checked(Area::LastPass, why);
        }
        Err(error) => return findings.not_checked(Area::LastPass, chain(&error)),
    };
    let age = now.duration_since(pass.at);
    let what = format!("{} ({}), exit {}: {}", ago(age), shown(pass.at), pass.exit, pass.summary);
    if age > STALE {
        let mend = "service-connector reconcile, and see why nothing runs it (`timer`)";
        findings.wrong(
            Area::LastPass,
            format!("{what}: keys are renewed and revoked only by passes"),
            mend,
        );
    } else if age < -STALE {
        findings.wrong(
            Area::LastPass,
            format!("{what}: it lies ahead of our clock"),
            "timedatectl",
        );
    } else if pass.exit == 1 {
        findings.wrong(Area::LastPass, what, "service-connector reconcile");
    } else {
        findings.ok(Area::LastPass, what);
    }
}

/// How long ago that was, in the largest unit that fits.
fn ago(age: SignedDuration) -> String {
    let seconds = age.as_secs().max(0);
    let (count, unit) = match seconds {
        0..=119 => (seconds, "s"),
        120..=7_199 => (seconds / 60, "min"),
        7_200..=172_799 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}
