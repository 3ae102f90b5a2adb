//! What `status` says of the services' own lists of tokens, and of the services that have none.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::action::shown;
use crate::model::digest::Digest;
use crate::model::name::ServiceId;
use crate::model::registry::Contract;
use crate::model::sweep::Good;
use crate::reconcile::Planned;
use crate::store::LostToken;

use super::report::say;

/// A service of contract v1.
#[derive(Serialize)]
pub(super) struct V1 {
    pub(super) service: ServiceId,
    /// For how long keys are asked for there, in days.
    ttl_days: u16,
    /// Keys that may exist, and nobody can tell.
    possible_orphans: usize,
}

/// What a service's list of tokens showed last.
#[derive(Serialize)]
pub(super) struct SweepJson {
    pub(super) service: ServiceId,
    at: Timestamp,
    /// The last list that could be relied on.
    good: Option<Good>,
    /// Keys of ours on it that the state does not know.
    strays: usize,
    /// Keys that it lacks.
    missing: usize,
    /// Why the last one cannot be relied on, if so.
    frozen: Option<String>,
    /// What `approve` takes if a list that lost much is right.
    digest: Option<Digest>,
}

/// The services of contract v1: those that somebody uses, or may have an orphan at.
pub(super) fn v1(planned: &Planned, lost: &[LostToken]) -> Vec<V1> {
    let known = planned.intent.registry.services();
    let v1 = known.filter(|known| known.endpoint.contract == Contract::V1).map(|known| V1 {
        service: known.id.clone(),
        ttl_days: known.ttl_days,
        possible_orphans: lost.iter().filter(|lost| lost.service == known.id).count(),
    });
    v1.collect()
}

pub(super) fn sweeps(planned: &Planned) -> Vec<SweepJson> {
    let sweeps = planned.actual.sweeps.iter().map(|(service, sweep)| {
        let frozen = sweep.record.frozen.as_ref();
        SweepJson {
            service: service.clone(),
            at: sweep.record.at,
            good: sweep.record.good,
            strays: sweep.strays.len(),
            missing: sweep.missing.len(),
            frozen: frozen.map(|frozen| frozen.why.clone()),
            digest: frozen.and_then(|frozen| Some(frozen.shrunk.as_ref()?.0)),
        }
    });
    sweeps.collect()
}

pub(super) fn print(v1: &[V1], sweeps: &[SweepJson]) {
    for V1 { service, ttl_days, possible_orphans } in v1 {
        let s = if *possible_orphans == 1 { "" } else { "s" };
        say(&format!(
            "{service} speaks contract v1: a key that a crash leaves there cannot be found or taken \
             back and lives until its end, at most {ttl_days} days; {possible_orphans} possible \
             orphan{s} now"
        ));
    }
    for sweep in sweeps {
        print_sweep(sweep);
    }
}

fn print_sweep(sweep: &SweepJson) {
    let SweepJson { service, at, strays, missing, .. } = sweep;
    let at = shown(*at);
    let list = match &sweep.good {
        // Why is among the notes.
        _ if sweep.frozen.is_some() => "its list of tokens cannot be relied on".to_owned(),
        None => "no list yet".to_owned(),
        Some(Good { ours, others, .. }) => format!(
            "its list of tokens has {ours} of ours and {others} of others, {strays} unknown; it \
             lacks {missing}"
        ),
    };
    say(&format!("Swept {service} {at}: {list}"));
}
