//! `approve`: let go what the guard holds.

use jiff::Timestamp;

use crate::model::digest::DigestPrefix;
use crate::model::name::ServiceId;
use crate::model::plan::Scope;
use crate::model::sweep::Record;
use crate::nudge;
use crate::reconcile::Planned;
use crate::store::{PassLock, Store};

use super::report::say;
use super::settings::Settings;
use super::{Failure, block_on, who};

/// Let the next pass carry out exactly the removals that the guard holds (good for 24 hours), or
/// believe a service's list of tokens that lost many of our keys.
#[derive(clap::Args)]
pub struct Args {
    /// The digest of what is held, as `plan` and `reconcile` show it
    #[arg(value_name = "DIGEST")]
    digest: DigestPrefix,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let planned = block_on(settings.pass(Scope::default()).plan(None))??;
    let shrunk = shrunk(&planned, &args.digest);
    let held = planned.held.digest();
    if shrunk.is_none() && planned.held.is_empty() {
        return Err("nothing is held; there is nothing to approve".into());
    }
    if shrunk.is_none() && !args.digest.names(&held) {
        return Err(format!(
            "what is held has the digest {held} now; look again with `service-connector plan`"
        )
        .into());
    }
    let places = &settings.places;
    let lock = PassLock::take(&places.state, || {
        anstream::eprintln!("A pass is under way; waiting for it.");
    })?;
    let mut store = Store::open(&places.state, &places.sealing_key)?;
    if let Some((service, record)) = shrunk {
        let now = store.last_sweeps()?;
        if now.get(&service).is_none_or(|sweep| sweep.record != record) {
            return Err(format!("{service} was swept meanwhile; look again with `plan`").into());
        }
        store.believe_list(&service, record, &who(), Timestamp::now())?;
        drop((store, lock));
        // Who cannot be told finds it at the next pass.
        nudge::nudge(&places.state).ok();
        say(&format!("Approved: the list of tokens of {service} is believed as it is."));
        return Ok(0);
    }
    store.approve(held, &who(), Timestamp::now())?;
    drop((store, lock));
    let count = planned.held.losses.len();
    // Who cannot be told finds it at the next pass.
    say(&match nudge::nudge(&places.state) {
        Ok(true) => format!("Approved: the watcher carries out these {count} removals now."),
        Ok(false) | Err(_) => {
            format!("Approved: the next pass within 24 hours carries out these {count} removals.")
        }
    });
    Ok(0)
}

/// The list of tokens that lost so much that nobody relies on it, if the digest names one.
fn shrunk(planned: &Planned, digest: &DigestPrefix) -> Option<(ServiceId, Record)> {
    planned.actual.sweeps.iter().find_map(|(service, sweep)| {
        let (list, _) = sweep.record.frozen.as_ref()?.shrunk.as_ref()?;
        digest.names(list).then(|| (service.clone(), sweep.record.clone()))
    })
}
