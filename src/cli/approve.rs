//! `approve`: let go what the guard holds.

use jiff::Timestamp;

use crate::model::digest::DigestPrefix;
use crate::model::plan::Scope;
use crate::store::{PassLock, Store};

use super::report::say;
use super::settings::Settings;
use super::{Failure, block_on, who};

/// Let the next pass carry out exactly the removals that the guard holds. Good for 24 hours.
#[derive(clap::Args)]
pub struct Args {
    /// The digest of what is held, as `plan` and `reconcile` show it
    #[arg(value_name = "DIGEST")]
    digest: DigestPrefix,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let planned = block_on(settings.pass(Scope::default()).plan(None))??;
    if planned.held.is_empty() {
        return Err("nothing is held; there is nothing to approve".into());
    }
    let held = planned.held.digest();
    if !args.digest.names(&held) {
        return Err(format!(
            "what is held has the digest {held} now; look again with `service-connector plan`"
        )
        .into());
    }
    let places = &settings.places;
    let _lock = PassLock::take(&places.state, || {
        anstream::eprintln!("A pass is under way; waiting for it.");
    })?;
    let mut store = Store::open(&places.state, &places.sealing_key)?;
    store.approve(held, &who(), Timestamp::now())?;
    let count = planned.held.losses.len();
    say(&format!("Approved: the next pass within 24 hours carries out these {count} removals."));
    Ok(0)
}
