//! What the state remembers of failures and has no more use for.

use super::super::actual::Actual;
use super::super::desired::Desired;
use super::super::name::{ServiceId, UserId};
use super::super::outcome::Change;
use super::super::plan::waiting::wish_digest;
use super::super::registry::{Entry, Registry};

/// What has outlived its cause: backoffs of what is not wanted any more or not in that way, and the
/// troubles of services that nobody can use and nothing is held of.
#[must_use]
pub fn outlived(desired: &Desired, registry: &Registry, actual: &Actual) -> Vec<Change> {
    let wish =
        |user: &UserId, service: &ServiceId| desired.users.get(user)?.connections.get(service);
    let backoffs = actual.backoffs.iter().flat_map(|(user, of_user)| {
        of_user.iter().map(move |(service, backoff)| (user, service, backoff))
    });
    let backoffs = backoffs.filter(|(user, service, backoff)| {
        let wish = wish(user, service);
        let is_nothing = wish.is_none() && actual.tokens_of(user, service).is_empty();
        is_nothing || backoff.wish != wish_digest(wish)
    });
    let backoffs = backoffs.map(|(user, service, _)| Change::Backoff {
        user: user.clone(),
        service: service.clone(),
        backoff: None,
    });
    let held = actual.services();
    // A broken entry may be half of one that is being written.
    let is_gone = |id| match registry.entries.get(id) {
        Some(Entry::Usable(service)) => service.retired,
        Some(Entry::Broken(_)) => false,
        None => true,
    };
    let troubles = actual.troubles.keys().filter(|id| is_gone(*id) && !held.contains(id));
    let troubles = troubles.map(|id| Change::Trouble { service: id.clone(), trouble: None });
    backoffs.chain(troubles).collect()
}
