//! When time alone may change a plan.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::actual::Actual;
use super::super::desired::Desired;
use super::super::home::LaptopSeen;
use super::super::name::UserId;
use super::super::registry::Registry;
use super::super::token::{Delivery, EXPIRY_LEEWAY, Phase, Token, days, later};
use super::connection::{ABSENCE, SETTLING};

/// So often after a delivery: half an hour in all. Who syncs later is seen at the next look.
const LOOKS_FOR_LAPTOPS: u32 = 6;

/// When time alone may change a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// One user's part of it.
    pub users: BTreeMap<UserId, Timestamp>,
    /// All of it.
    pub of_all: Option<Timestamp>,
}

/// The first times after `now` at which the plan may be another one although nothing else changed.
/// Before them, the plan stays as it is, as long as homes do; at them, it may: being early costs a
/// look that finds nothing, being late costs somebody a key. `desired` is none while it cannot be
/// read.
#[must_use]
pub fn due(actual: &Actual, desired: Option<&Desired>, registry: &Registry, now: Timestamp) -> Due {
    let tokens = actual.tokens.iter().flat_map(|(user, services)| {
        let times = services.values().flatten().flat_map(|token| of_token(token, registry));
        times.map(move |time| (user, time))
    });
    let users = desired.into_iter().flat_map(|desired| &desired.users);
    let wishes = users.flat_map(|(user, wanted)| {
        let wishes = wanted.connections.values();
        let times = wishes.flat_map(|wish| [wish.rotate_after, wish.revoke_issued_before]);
        times.flatten().map(move |time| (user, time))
    });
    let backoffs = actual
        .backoffs
        .iter()
        .flat_map(|(user, services)| services.values().map(move |backoff| (user, backoff.until)));
    let absences = actual.absent_since.iter().map(|(user, since)| (user, later(*since, ABSENCE)));
    let laptops = actual.tokens.iter().flat_map(|(user, services)| {
        let deliveries = services.values().flatten().filter_map(|token| token.delivered);
        let newest = deliveries.max_by_key(|delivery| delivery.generation);
        let held = actual.laptops.get(user).map_or(&[][..], Vec::as_slice);
        let times = newest.into_iter().flat_map(|newest| looks_for_laptops(newest, held));
        times.map(move |time| (user, time))
    });
    let mut due = Due::default();
    for (user, time) in tokens.chain(wishes).chain(backoffs).chain(absences).chain(laptops) {
        if time > now {
            match due.users.get_mut(user) {
                Some(first) => *first = time.min(*first),
                None => {
                    due.users.insert(user.clone(), time);
                }
            }
        }
    }
    let troubles = actual.troubles.values().map(|trouble| trouble.until);
    due.of_all = troubles.filter(|time| *time > now).min();
    due
}

/// When a home is looked at again although nothing is due, so that it can soon be said that a laptop
/// has what was delivered: after 1, 2, 4, 8, 16 and 32 minutes, as long as none is known to.
fn looks_for_laptops(
    delivery: Delivery,
    held: &[LaptopSeen],
) -> impl Iterator<Item = Timestamp> + use<> {
    let is_held = held.iter().any(|laptop| laptop.generation >= delivery.generation);
    let looks = if is_held { 0 } else { LOOKS_FOR_LAPTOPS };
    (0..looks).map(move |look| later(delivery.at, SignedDuration::from_mins(1 << look)))
}

fn of_token<'a>(
    token: &'a Token,
    registry: &'a Registry,
) -> impl Iterator<Item = Timestamp> + use<'a> {
    let service = registry.service(&token.service);
    let over = token.expires_at().map(|end| later(end, EXPIRY_LEEWAY));
    let renewal = service.and_then(|service| token.renewal_due(service.renew_before_days));
    let grace_over = service
        .filter(|_| token.phase == Phase::Retiring)
        .map(|service| later(token.since, days(service.grace_days)));
    let acknowledged = token.delivered.map(|delivery| later(delivery.at, SETTLING));
    [over, renewal, grace_over, acknowledged].into_iter().flatten()
}
