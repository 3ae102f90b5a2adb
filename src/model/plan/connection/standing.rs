//! How a connection stands, by everything but its tokens.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::super::super::action::RevokeReason;
use super::super::super::desired::Wish;
use super::super::super::digest::Digest;
use super::super::super::home::{HomeFacts, HomeLook};
use super::super::super::name::ServiceId;
use super::super::super::registry::{Entry, Service};
use super::super::super::token::{Binding, later};
use super::super::{Subject, World};
use super::Connection;

/// How long an account must have been absent before its tokens are revoked.
pub(in crate::model::plan) const ABSENCE: SignedDuration = SignedDuration::from_hours(1);

/// How a connection stands.
pub(super) enum Standing<'a> {
    /// It should be there.
    Wanted(Box<Wanted<'a>>),
    /// It should not.
    Unwanted(RevokeReason),
    /// It stays as it is, and why; debts are paid and ends noted all the same.
    Frozen(String),
}

/// A connection that should be there.
pub(super) struct Wanted<'a> {
    pub wish: &'a Wish,
    pub service: &'a Service,
    pub rendition: Digest,
    pub binding: Binding,
}

/// How the connection stands. Of its tokens it matters only whether there are any to take away.
pub(super) fn standing<'a>(
    world: &World<'a>,
    subject: &Subject<'a>,
    service: &ServiceId,
    renditions: &BTreeMap<&ServiceId, Digest>,
    connection: &Connection<'_>,
) -> Standing<'a> {
    use RevokeReason as Why;
    let has_something = connection.anywhere.is_some() || connection.has_tokens();
    let take_or_block = |why: Why, text: String| {
        if has_something { Standing::Unwanted(why) } else { Standing::Frozen(text) }
    };
    let Some(wish) = subject.desired.and_then(|user| user.connections.get(service)) else {
        return Standing::Unwanted(Why::Disconnected);
    };
    if subject.desired.is_some_and(|user| user.disabled) {
        return Standing::Unwanted(Why::Offboarded);
    }
    let (Some(binding), Ok(person)) = (subject.binding(), &subject.person) else {
        let text = subject.person.as_ref().err().cloned().unwrap_or_default();
        return take_or_block(Why::NotInPeople, text);
    };
    let entry = match world.registry.entries.get(service) {
        Some(Entry::Usable(entry)) => entry,
        Some(Entry::Broken(error)) => {
            return Standing::Frozen(format!("its registry entry is not usable: {error}"));
        }
        None => return Standing::Frozen("it is not in the registry".to_owned()),
    };
    if entry.retired {
        return take_or_block(Why::Retired, "the service is retired".to_owned());
    }
    if !entry.allow.covers(subject.id, &person.email) {
        let text = format!("the registry's `allow` does not cover {}", person.email);
        return take_or_block(Why::NotAllowed, text);
    }
    match subject.look {
        Some(HomeLook::Absent(absence)) => {
            let since = world.actual.absent_since.get(subject.id);
            let for_long = since.is_some_and(|since| later(*since, ABSENCE) <= world.now);
            let for_long = for_long && !connection.skewed;
            if absence.kind.is_leaving() && for_long && connection.has_tokens() {
                return Standing::Unwanted(Why::AccountGone);
            }
            return Standing::Frozen(format!("account {}: {}", binding.account, absence.why));
        }
        // Who has something keeps it up: the next key is there when the way is free again.
        Some(HomeLook::Seen(HomeFacts { in_the_way: Some(what), .. })) if !has_something => {
            return Standing::Frozen(format!("the home of {}: {what}", binding.account));
        }
        Some(HomeLook::Seen(_) | HomeLook::Unknown(_)) | None => {}
    }
    let rendition = renditions.get(service).copied().unwrap_or_else(|| entry.rendition.digest());
    Standing::Wanted(Box::new(Wanted { wish, service: entry, rendition, binding }))
}
