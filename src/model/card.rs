//! How a connection stands, in the words of the person whose it is: what the portal shows.

mod words;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actual::{Backoff, Installed, Trouble, TroubleKind};
use super::desired::Wish;
use super::kept_back::{KeptBack, KeptBy};
use super::name::{AccountName, ServiceId};
use super::plan::waiting::wish_digest;
use super::registry::{Entry, Service};
use super::token::{Phase, Token, days, later};

/// A key that ends within this time, and is not being renewed, is said to end soon.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody wants it, and nothing of it is left.
    NotConnected,
    /// It is wanted; the key has not come yet.
    Connecting,
    /// A key that works is in the home.
    Connected,
    /// The same, and another key is to take its place.
    Renewing,
    /// The same, but the key ends soon and nothing takes its place.
    ExpiringSoon,
    /// It is wanted; the key has ended.
    Expired,
    /// It is wanted; the key could not be had, or not be put into the home.
    Failed,
    /// It is wanted; the service does not answer, or refuses us.
    ServiceDown,
    /// The registry does not allow it.
    NotAllowed,
    /// The guard holds its removal.
    Held,
    /// It is not wanted; something of it is still there.
    Disconnecting,
    /// It cannot be made until somebody else changes something.
    Blocked,
}

impl State {
    /// Whether something is being done about it now, so that it is worth waiting for.
    #[must_use]
    pub fn is_on_its_way(self) -> bool {
        matches!(self, Self::Connecting | Self::Renewing | Self::Disconnecting)
    }

    /// Whether there is a key that works.
    #[must_use]
    pub fn has_key(self) -> bool {
        matches!(self, Self::Connected | Self::Renewing | Self::ExpiringSoon | Self::Held)
    }
}

/// What its owner can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Can {
    /// Connect.
    Connect,
    /// Disconnect.
    Disconnect,
    /// Replace the key by a new one.
    Rotate,
    /// Have it tried again at once.
    Retry,
}

/// All that is known of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// To which service.
    pub service: &'a ServiceId,
    /// The service's entry; none: the registry has it no more.
    pub entry: Option<&'a Entry>,
    /// Whether the registry allows it to this person.
    pub allowed: bool,
    /// Whether the person is offboarded.
    pub disabled: bool,
    /// What is desired of it.
    pub wish: Option<&'a Wish>,
    /// Its tokens that have not ended, oldest first.
    pub tokens: &'a [Token],
    /// What was put into the user's homes.
    pub installed: Option<&'a BTreeMap<AccountName, Installed>>,
    /// Why it waits after a failure.
    pub backoff: Option<&'a Backoff>,
    /// What is wrong with the service as a whole.
    pub trouble: Option<&'a Trouble>,
    /// When.
    pub now: Timestamp,
}

/// How it stands.
#[derive(Debug, Clone)]
pub struct Standing<'a> {
    /// In a word.
    pub state: State,
    /// In a sentence or two; empty where the word says all.
    pub message: String,
    /// The key in the home that works.
    pub key: Option<InUse>,
    /// When it is tried again by itself.
    pub retry_at: Option<Timestamp>,
    /// Until when a key that was replaced lives on.
    pub old_key_until: Option<Timestamp>,
    /// What its owner can do.
    pub can: Vec<Can>,
    /// The service, if it can be used.
    pub service: Option<&'a Service>,
}

/// A key that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Option<Timestamp>,
    /// The generation of the user's files that brought it.
    pub generation: Option<u64>,
}

impl<'a> Facts<'a> {
    /// How the connection stands. `kept_back` is what the last pass found of its user.
    #[must_use]
    pub fn standing(&self, kept_back: &[KeptBack]) -> Standing<'a> {
        let kept = |by: KeptBy| {
            let of_it = |kept: &&KeptBack| {
                kept.by == by && kept.service.as_ref().is_none_or(|of| of == self.service)
            };
            kept_back.iter().find(of_it).map(|kept| kept.why.as_str())
        };
        let key = self.key();
        let (state, message) = if self.is_wanted() {
            self.wanted(key, kept(KeptBy::Block), kept(KeptBy::Failure))
        } else {
            self.unwanted(key, kept(KeptBy::Guard), kept(KeptBy::Failure).or(kept(KeptBy::Block)))
        };
        let retry_at = matches!(
            state,
            State::Failed
                | State::ServiceDown
                | State::Expired
                | State::ExpiringSoon
                | State::Renewing
                | State::Disconnecting
        );
        Standing {
            state,
            message,
            key: key.map(in_use),
            retry_at: self.retry_at().filter(|_| retry_at),
            old_key_until: self.old_key_until(),
            can: self.can(state, key),
            service: self.service(),
        }
    }

    /// Why it waits after a failure. What was wished for then must be what is wished for now.
    fn backoff(&self) -> Option<&'a Backoff> {
        self.backoff.filter(|backoff| backoff.wish == wish_digest(self.wish))
    }

    fn service(&self) -> Option<&'a Service> {
        match self.entry {
            Some(Entry::Usable(service)) => Some(service),
            Some(Entry::Broken(_)) | None => None,
        }
    }

    /// Whether it should be there, by everything that is known here.
    fn is_wanted(&self) -> bool {
        let retired = self.service().is_some_and(|service| service.retired);
        self.wish.is_some() && !self.disabled && self.allowed && !retired
    }

    /// The key in a home that works. While files are being put, or could not be, it is the one that
    /// was delivered last.
    fn key(&self) -> Option<&'a Token> {
        let homes = || self.installed.into_iter().flat_map(BTreeMap::values);
        let works = |token: &&Token| token.phase.is_live() && !token.is_over(self.now);
        let put = homes().filter(|home| home.confirmed);
        let ops: Vec<_> =
            put.filter_map(|home| home.pieces.get(self.service)?.op.as_ref()).collect();
        let mut confirmed = self.tokens.iter().filter(works);
        confirmed.find(|token| ops.contains(&&token.op)).or_else(|| {
            let is_being_put =
                homes().any(|home| !home.confirmed && home.pieces.contains_key(self.service));
            let mut delivered = self.tokens.iter().rev().filter(works);
            delivered.find(|token| is_being_put && token.delivered.is_some())
        })
    }

    /// Whether the home still has something of it.
    fn is_in_home(&self) -> bool {
        let mut homes = self.installed.into_iter().flat_map(BTreeMap::values);
        homes.any(|home| home.pieces.contains_key(self.service))
    }

    /// Whether another key is to take the place of this one.
    fn is_replaced(&self, key: &Token) -> bool {
        let newer = |token: &Token| {
            token.op != key.op && matches!(token.phase, Phase::Issuing | Phase::Active)
        };
        let asked_for =
            |at: Option<Timestamp>| at.is_some_and(|at| key.ask.at < at && at <= self.now);
        let wish = self.wish.filter(|wish| !wish.paused);
        let rotated = wish.is_some_and(|wish| {
            asked_for(wish.rotate_after)
                || asked_for(wish.revoke_issued_before)
                || wish.ttl_days.is_some_and(|days| key.outlives(days, self.now))
        });
        rotated || self.tokens.iter().any(newer)
    }

    fn is_leaked(&self, key: &Token) -> bool {
        let before = self.wish.and_then(|wish| wish.revoke_issued_before);
        before.is_some_and(|before| key.ask.at < before && before <= self.now)
    }

    fn wanted(
        &self,
        key: Option<&Token>,
        blocked: Option<&str>,
        failed: Option<&str>,
    ) -> (State, String) {
        let Some(key) = key else { return self.wanted_without_key(blocked, failed) };
        let ends_soon = key.expires_at().is_some_and(|end| end <= later(self.now, SOON));
        if self.service().is_none() {
            let state = if ends_soon { State::ExpiringSoon } else { State::Connected };
            return (state, words::works_without_entry());
        }
        let service = self.trouble.map(|trouble| trouble.message.as_str());
        let trouble = blocked.or(failed).or(self.backoff().map(|backoff| backoff.message.as_str()));
        let paused = self.wish.is_some_and(|wish| wish.paused);
        match trouble {
            _ if paused && ends_soon => (State::ExpiringSoon, words::paused()),
            Some(why) if ends_soon => (State::ExpiringSoon, words::not_renewed(why)),
            _ if self.is_leaked(key) => (State::Renewing, words::leaked()),
            _ if self.is_replaced(key) => match trouble.or(service) {
                Some(why) => (State::Renewing, words::in_trouble(why)),
                None => (State::Renewing, words::renewing()),
            },
            Some(why) => (State::Connected, words::in_trouble(why)),
            None if ends_soon && service.is_some() => {
                (State::ExpiringSoon, words::not_renewed(service.unwrap_or_default()))
            }
            None if paused => (State::Connected, words::paused()),
            None => (State::Connected, String::new()),
        }
    }

    fn wanted_without_key(&self, blocked: Option<&str>, failed: Option<&str>) -> (State, String) {
        if let Some(Entry::Broken(_)) | None = self.entry {
            return (State::Blocked, words::entry_broken());
        }
        if let Some(why) = blocked {
            return (State::Blocked, words::blocked(why));
        }
        let had_one = self.is_in_home();
        if self.wish.is_some_and(|wish| wish.paused) {
            let state = if had_one { State::Expired } else { State::Blocked };
            return (state, words::paused());
        }
        match (self.trouble, self.backoff(), failed) {
            (Some(trouble), ..) if trouble.kind.is_shut() => {
                (State::ServiceDown, words::service_down(trouble.kind))
            }
            (_, Some(backoff), _) if had_one => (State::Expired, words::failed(&backoff.message)),
            (_, Some(backoff), _) => (State::Failed, words::failed(&backoff.message)),
            (_, _, Some(why)) => (State::Failed, words::failed(why)),
            (Some(_), ..) => (State::ServiceDown, words::service_down(TroubleKind::ClockSkew)),
            (None, None, None) => (State::Connecting, words::connecting()),
        }
    }

    fn unwanted(
        &self,
        key: Option<&Token>,
        held: Option<&str>,
        failed: Option<&str>,
    ) -> (State, String) {
        let is_left = !self.tokens.is_empty() || self.is_in_home();
        if held.is_some() && is_left {
            return (State::Held, words::held());
        }
        if is_left {
            let debt = self.backoff().map(|b| b.message.as_str());
            let message = match (key, failed, debt.or(self.trouble.map(|t| t.message.as_str()))) {
                (_, Some(why), _) => words::files_stay(why),
                (None, None, Some(why)) if !self.is_in_home() => words::revoke_owed(why),
                _ => words::disconnecting(),
            };
            return (State::Disconnecting, message);
        }
        match self.service() {
            None => (State::Blocked, words::entry_broken()),
            Some(service) if service.retired => (State::NotAllowed, words::retired()),
            Some(_) if self.disabled => (State::NotAllowed, words::disabled()),
            Some(_) if !self.allowed => (State::NotAllowed, words::not_allowed()),
            Some(_) => (State::NotConnected, String::new()),
        }
    }

    fn retry_at(&self) -> Option<Timestamp> {
        let until = [self.trouble.map(|t| t.until), self.backoff().map(|b| b.until)];
        until.into_iter().flatten().filter(|until| *until > self.now).max()
    }

    fn old_key_until(&self) -> Option<Timestamp> {
        let grace = days(self.service()?.grace_days);
        let retiring = self.tokens.iter().filter(|token| token.phase == Phase::Retiring);
        let until = retiring.map(|token| {
            let over = later(token.since, grace);
            token.expires_at().map_or(over, |end| end.min(over))
        });
        until.max()
    }

    fn can(&self, state: State, key: Option<&Token>) -> Vec<Can> {
        let mut can = Vec::new();
        let may = self.allowed
            && !self.disabled
            && self.service().is_some_and(|service| !service.retired);
        if self.wish.is_none() && may {
            can.push(Can::Connect);
        }
        if self.wish.is_some() {
            can.push(Can::Disconnect);
        }
        let paused = self.wish.is_some_and(|wish| wish.paused);
        if key.is_some() && self.is_wanted() && !paused && self.service().is_some() {
            can.push(Can::Rotate);
        }
        if matches!(state, State::Failed | State::Expired) && self.backoff().is_some() && !paused {
            can.push(Can::Retry);
        }
        can
    }
}

fn in_use(key: &Token) -> InUse {
    InUse {
        since: key.ask.at,
        until: key.expires_at(),
        generation: key.delivered.map(|delivery| delivery.generation),
    }
}
