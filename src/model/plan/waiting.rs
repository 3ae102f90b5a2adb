//! What keeps a connection from being asked for again: backoffs, and services in trouble.

use jiff::{SignedDuration, Timestamp};

use super::super::action::shown;
use super::super::actual::{Actual, Backoff};
use super::super::desired::Wish;
use super::super::digest::Digest;
use super::super::name::{ServiceId, UserId};
use super::super::token::later;
use super::Scope;

/// Nothing waits longer than this: services are asked again within a day, whatever they say, and
/// the spread adds to that. A time further ahead was written under a clock that was wrong.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(25);

/// Whether this time is ahead, and may be waited for.
pub(super) fn is_ahead(until: Timestamp, now: Timestamp) -> bool {
    until > now && until <= later(now, LONGEST_WAIT)
}

pub(super) fn is_skewed(actual: &Actual, service: &ServiceId) -> bool {
    actual.troubles.get(service).is_some_and(|trouble| trouble.kind.is_skewed())
}

pub(super) fn trouble_until(actual: &Actual, service: &ServiceId) -> Option<Timestamp> {
    actual.troubles.get(service).map(|trouble| trouble.until)
}

/// Until when a connection may not be asked for again, and why.
pub(super) fn waiting(
    actual: &Actual,
    scope: &Scope,
    now: Timestamp,
    user: &UserId,
    service: &ServiceId,
    wish: Option<&Wish>,
) -> Option<(Timestamp, String)> {
    service_trouble(actual, scope.retry_now, now, service).or_else(|| {
        let backoff = actual.backoffs.get(user)?.get(service)?;
        let same = backoff.wish == wish_digest(wish);
        let waits = is_ahead(backoff.until, now) && !scope.retry_now && same;
        waits.then(|| (backoff.until, tried(backoff)))
    })
}

pub(super) fn tried(backoff: &Backoff) -> String {
    let Backoff { tries, until, message, .. } = backoff;
    format!("failed {}, next try at {}: {message}", times(*tries), shown(*until))
}

/// Until when a service is not to be called, and why.
#[must_use]
pub fn service_trouble(
    actual: &Actual,
    retry_now: bool,
    now: Timestamp,
    service: &ServiceId,
) -> Option<(Timestamp, String)> {
    let trouble = actual.troubles.get(service)?;
    let waits = trouble.kind.is_shut() && is_ahead(trouble.until, now);
    let waits = waits && !retry_now;
    waits.then(|| (trouble.until, format!("{}; next at {}", trouble.message, shown(trouble.until))))
}

/// What tells one wish from another: a backoff counts only while the wish is the same.
#[must_use]
pub fn wish_digest(wish: Option<&Wish>) -> Digest {
    let Some(wish) = wish else { return Digest::of("not wanted") };
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    let paused = if wish.paused { "paused" } else { "" };
    let mut fields = vec![
        wish.ttl_days.map(|ttl| ttl.to_string()).unwrap_or_default(),
        text(wish.rotate_after),
        text(wish.revoke_issued_before),
        paused.to_owned(),
    ];
    fields.extend(wish.retried_at.map(|at| at.to_string()));
    Digest::of_fields(fields.iter().map(String::as_str))
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
