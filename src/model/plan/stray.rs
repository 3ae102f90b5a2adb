//! What the services' own lists of tokens ask for: strays are revoked.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::action::{Action, Revoke, RevokeReason};
use super::super::name::{ServiceId, UserId};
use super::super::registry::{Contract, Endpoint};
use super::super::sweep::{Stray, Sweep};
use super::super::token::{Ask, Phase};
use super::waiting::service_trouble;
use super::{Loss, LossKind, Note, NoteKind, Plan, World};

/// Services whose list of tokens cannot be relied on.
pub(super) fn frozen(world: &World<'_>) -> BTreeSet<ServiceId> {
    let is_frozen = |(service, sweep): &(&ServiceId, &Sweep)| {
        let known = world.registry.service(service);
        sweep.record.frozen.is_some()
            && known.is_some_and(|known| known.endpoint.contract == Contract::V2)
    };
    let frozen = world.actual.sweeps.iter().filter(is_frozen);
    frozen.map(|(service, _)| service.clone()).collect()
}

/// Plans the revokes of strays; of a service whose list cannot be relied on, none.
pub(super) fn revoke(world: &World<'_>, plan: &mut Plan) {
    let swept = world.actual.sweeps.iter();
    for (service, sweep) in swept.filter(|(service, _)| world.scope.has_service(service)) {
        let strays: Vec<&Stray> =
            sweep.strays.iter().filter(|stray| world.scope.has_user(&stray.user)).collect();
        match endpoint(world, service, sweep, strays.len()) {
            Ok(endpoint) => take(service, sweep, &strays, &endpoint, plan),
            Err(None) => {}
            Err(Some((kind, text))) => {
                plan.notes.push(Note { user: None, service: Some(service.clone()), kind, text });
            }
        }
    }
}

/// Where strays are revoked; why they are not, if there is something to say.
fn endpoint(
    world: &World<'_>,
    service: &ServiceId,
    sweep: &Sweep,
    strays: usize,
) -> Result<Arc<Endpoint>, Option<(NoteKind, String)>> {
    let known = world.registry.service(service).map(|known| &known.endpoint);
    let endpoint = known.filter(|endpoint| endpoint.contract == Contract::V2);
    match (&sweep.record.frozen, endpoint) {
        (Some(frozen), Some(_)) => {
            return Err(Some((NoteKind::Blocked, frozen_text(sweep, &frozen.why))));
        }
        // There is no list to wait for.
        (Some(_), None) => return Err(None),
        (None, _) if strays == 0 => return Err(None),
        (None, _) => {}
    }
    if let Some((until, text)) =
        service_trouble(world.actual, world.scope.retry_now, world.now, service)
    {
        let text = format!("{strays} keys that the state does not know are to be revoked: {text}");
        return Err(Some((NoteKind::Waiting(until), text)));
    }
    endpoint.cloned().map(Arc::new).ok_or_else(|| {
        let text = format!(
            "{strays} keys there that the state does not know cannot be revoked: it has no usable \
             registry entry of contract v2"
        );
        Some((NoteKind::Blocked, text))
    })
}

fn frozen_text(sweep: &Sweep, why: &str) -> String {
    let way_out = match sweep.record.frozen.as_ref().and_then(|frozen| frozen.shrunk.as_ref()) {
        Some((digest, _)) => format!("if the list is right: `service-connector approve {digest}`"),
        None => "to look again: `service-connector reconcile --sweep`".to_owned(),
    };
    format!(
        "{why}; until a good one comes, nothing is revoked or issued because of it, and removals \
         of more than one user within an hour are held; {way_out}"
    )
}

fn take(
    service: &ServiceId,
    sweep: &Sweep,
    strays: &[&Stray],
    endpoint: &Arc<Endpoint>,
    plan: &mut Plan,
) {
    // The stray may be what the person works with: it goes once the new key is there.
    let asks = |action: &&Action| matches!(action, Action::Issue(i) if i.service == *service);
    let asked: BTreeSet<UserId> =
        plan.actions.iter().filter(asks).map(|action| action.user().clone()).collect();
    let waits = |note: &&Note| {
        matches!(note.kind, NoteKind::Waiting(_)) && note.service.as_ref() == Some(service)
    };
    let waiting: BTreeSet<UserId> =
        plan.notes.iter().filter(waits).filter_map(|note| note.user.clone()).collect();
    for stray in strays {
        if waiting.contains(&stray.user) {
            let text = format!("{}: it stays until the new key is there", RevokeReason::Stray);
            let (user, service) = (Some(stray.user.clone()), Some(service.clone()));
            plan.notes.push(Note { user, service, kind: NoteKind::Remark, text });
            continue;
        }
        let (user, service, op) = (stray.user.clone(), service.clone(), stray.op.clone());
        plan.losses.push(Loss {
            user: user.clone(),
            service: service.clone(),
            ops: vec![op.clone()],
            kind: LossKind::Stray,
        });
        plan.actions.push(Action::Revoke(Revoke {
            after_delivery: asked.contains(&user),
            user,
            service,
            op,
            phase: Phase::Active,
            ask: Ask { endpoint: Arc::clone(endpoint), ttl_days: 1, at: sweep.record.at },
            why: RevokeReason::Stray,
        }));
    }
}
