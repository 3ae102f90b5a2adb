//! When time alone may change a plan.

use jiff::Timestamp;

use super::super::actual::Actual;
use super::super::desired::Desired;
use super::super::registry::Registry;
use super::super::token::{EXPIRY_LEEWAY, Phase, Token, days, later};
use super::connection::{ABSENCE, SETTLING};

/// The first time after `now` at which the plan may be another one although nothing else changed.
/// Before it, the plan stays as it is, as long as homes do; at it, it may: being early costs a look
/// that finds nothing, being late costs somebody a key. `desired` is none while it cannot be read.
#[must_use]
pub fn next_due(
    actual: &Actual,
    desired: Option<&Desired>,
    registry: &Registry,
    now: Timestamp,
) -> Option<Timestamp> {
    let tokens = actual.tokens.values().flat_map(|services| services.values().flatten());
    let of_tokens = tokens.flat_map(|token| of_token(token, registry));
    let users = desired.into_iter().flat_map(|desired| desired.users.values());
    let of_wishes = users
        .flat_map(|user| user.connections.values())
        .flat_map(|wish| [wish.rotate_after, wish.revoke_issued_before].into_iter().flatten());
    let of_backoffs = actual.backoffs.values().flat_map(|services| services.values());
    let of_backoffs = of_backoffs.map(|backoff| backoff.until);
    let of_troubles = actual.troubles.values().map(|trouble| trouble.until);
    let of_absences = actual.absent_since.values().map(|since| later(*since, ABSENCE));
    let all = of_tokens.chain(of_wishes).chain(of_backoffs).chain(of_troubles).chain(of_absences);
    all.filter(|time| *time > now).min()
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
