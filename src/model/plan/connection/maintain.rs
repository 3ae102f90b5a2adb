//! A connection that should be there: its asks, its old keys, and what goes into the home.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::super::action::{
    Action, Content, Issue, IssueOp, IssueReason, RevokeReason, shown, status_until,
};
use super::super::super::actual::Piece;
use super::super::super::home::{HomeFacts, HomeLook};
use super::super::super::skill::Status;
use super::super::super::sweep::Missing;
use super::super::super::token::{Ask, EXPIRY_LEEWAY as CLOCK_LEEWAY, Phase, Token, days, later};
use super::super::NoteKind;
use super::super::waiting::{is_ahead, trouble_until};
use super::standing::Wanted;
use super::{Connection, expired, expired_piece};

/// How many old keys may live beside the newest.
const MAX_RETIRING: usize = 2;
/// Laptops that were not seen for so long do not hold up an acknowledgement.
const LAPTOP_MEMORY: SignedDuration = SignedDuration::from_hours(24 * 30);
/// A key is not called acknowledged sooner after its delivery.
pub(in crate::model::plan) const SETTLING: SignedDuration = SignedDuration::from_hours(1);

impl<'a> Connection<'a> {
    pub(super) fn maintain(
        &mut self,
        wanted: &Wanted<'a>,
        look: Option<&HomeLook>,
    ) -> Option<Content> {
        let resume = self.settle_unanswered(wanted);
        let kept = self.drop_wrong(wanted);
        let current = kept.iter().rev().find(|token| token.phase == Phase::Active).copied();
        let reason = self.issue_reason(wanted, resume.is_some(), &kept, current);
        self.note_missing(wanted, current, reason);
        let reason = reason.filter(|_| self.may_ask());
        if let Some(why) = reason {
            self.issue(wanted, resume, why);
        }
        self.retire(wanted, &kept, current, reason.is_some(), look);
        self.content(wanted, &kept, current, reason.is_some())
    }

    /// The ask that is to be made again, if one is; those that may not be are taken back.
    fn settle_unanswered(&mut self, wanted: &Wanted<'a>) -> Option<&'a Token> {
        let mut resume = None;
        for token in self.tokens.iter().filter(|token| token.phase == Phase::Issuing) {
            if !token.speaks_op_ids() {
                self.unask(token, RevokeReason::Disconnected);
            } else if let Some(why) = wrong(token, wanted, self.world.now) {
                self.unask(token, why);
            } else if *token.ask.endpoint != wanted.service.endpoint {
                self.unask(token, RevokeReason::EndpointChanged);
            } else {
                resume = Some(token);
            }
        }
        resume
    }

    /// The live tokens that may stay; those that may not are revoked, without a grace.
    fn drop_wrong(&mut self, wanted: &Wanted<'a>) -> Vec<&'a Token> {
        let mut kept = Vec::new();
        for token in self.tokens {
            if !token.phase.is_live() || self.is_over(token) {
                continue;
            }
            match wrong(token, wanted, self.world.now) {
                Some(why) => self.revoke(token, why, false),
                None => kept.push(token),
            }
        }
        kept
    }

    /// Why a token is to be asked for, if one is.
    fn issue_reason(
        &self,
        wanted: &Wanted<'_>,
        unanswered: bool,
        kept: &[&Token],
        current: Option<&Token>,
    ) -> Option<IssueReason> {
        let wish = wanted.wish;
        if wish.paused {
            return None;
        }
        if unanswered {
            return Some(IssueReason::Unanswered);
        }
        let Some(current) = current else { return Some(self.first_reason(wanted)) };
        // While a newer token is undelivered, no third is asked for.
        if current.delivered.is_none() && kept.len() > 1 && current.key_readable {
            return None;
        }
        if !current.key_readable {
            return Some(IssueReason::KeyUnreadable);
        }
        let now = self.world.now;
        // Renewals are what finds out, after a while, whether the clocks agree again.
        let until = trouble_until(self.world.actual, self.service);
        if self.skewed && until.is_some_and(|until| is_ahead(until, now)) {
            return None;
        }
        if let Some(at) = wish.rotate_after.filter(|at| *at <= now && current.ask.at < *at) {
            return Some(IssueReason::RotateAfter(at));
        }
        if wish.ttl_days.is_some_and(|days| current.outlives(days, now)) {
            return Some(IssueReason::TtlShortened);
        }
        if self.missing(current).is_some_and(|missing| missing.is_gone() && !self.again(missing)) {
            return Some(IssueReason::Missing);
        }
        current
            .renewal_due(wanted.service.renew_before_days)
            .filter(|due| *due <= now)
            .map(IssueReason::RenewalDue)
    }

    /// How often the service's list lacked this token.
    fn missing(&self, token: &Token) -> Option<&'a Missing> {
        self.world.actual.sweeps.get(self.service)?.missing(&token.op)
    }

    /// Whether the connection's key was replaced for this very reason a short time before.
    fn again(&self, missing: &Missing) -> bool {
        let key = (self.user.clone(), self.service.clone());
        let replaced = self.world.actual.reissued.get(&key);
        replaced.is_some_and(|replaced| missing.follows(*replaced))
    }

    /// Says that the key is missing where nothing is done about it.
    fn note_missing(
        &mut self,
        wanted: &Wanted<'_>,
        current: Option<&Token>,
        reason: Option<IssueReason>,
    ) {
        let Some(missing) = current.and_then(|current| self.missing(current)) else { return };
        if reason.is_some() || wanted.wish.paused {
            return;
        }
        let since = shown(missing.since);
        let (user, service) = (self.user, self.service);
        if missing.is_gone() && self.again(missing) {
            let text = format!(
                "the service's list of tokens lacks the key since {since}, within a day of its \
                 replacement for the same reason: this waits for a person. Ask the service's \
                 owner why; `service-connector rotate {user} {service}` asks for another key"
            );
            self.note(NoteKind::Blocked, text);
        } else if !missing.is_gone() {
            let text = format!(
                "the service's list of tokens of {since} lacks the key: it is replaced if the \
                 next list lacks it, too"
            );
            self.note(NoteKind::Remark, text);
        }
    }

    /// Why a connection without a token that may stay gets one.
    fn first_reason(&self, wanted: &Wanted<'_>) -> IssueReason {
        let newest = self.tokens.iter().rev().find(|token| token.phase.is_live());
        match newest {
            None => IssueReason::Connected,
            Some(token) => match wrong(token, wanted, self.world.now) {
                Some(RevokeReason::Leaked(at)) => IssueReason::Leaked(at),
                Some(_) => IssueReason::BindingChanged,
                None => IssueReason::RenewalDue(token.expires_at().unwrap_or(self.world.now)),
            },
        }
    }

    /// Whether the service may be asked now; a note says if not.
    fn may_ask(&mut self) -> bool {
        let Some((until, text)) = self.waiting.clone() else { return true };
        self.note(NoteKind::Waiting(until), text);
        false
    }

    fn issue(&mut self, wanted: &Wanted<'_>, resume: Option<&Token>, why: IssueReason) {
        let (op, binding, ask) = match resume {
            Some(token) => {
                (IssueOp::Resume(token.op.clone()), token.binding.clone(), token.ask.clone())
            }
            None => (
                IssueOp::New,
                wanted.binding.clone(),
                Ask {
                    endpoint: Arc::new(wanted.service.endpoint.clone()),
                    ttl_days: wanted.wish.ttl_days.unwrap_or(wanted.service.ttl_days),
                    at: self.world.now,
                },
            ),
        };
        let (user, service) = (self.user.clone(), self.service.clone());
        self.actions.push(Action::Issue(Issue { user, service, op, binding, ask, why }));
    }

    /// Old keys beside a newer one: their grace, and their number.
    fn retire(
        &mut self,
        wanted: &Wanted<'_>,
        kept: &[&'a Token],
        current: Option<&'a Token>,
        issuing: bool,
        look: Option<&HomeLook>,
    ) {
        let grace = days(wanted.service.grace_days);
        let acknowledged = !self.skewed && is_acknowledged(current, look, self.world.now);
        let mut old: Vec<(&Token, bool)> = Vec::new();
        for token in kept {
            let superseded = issuing || current.is_some_and(|newest| newest.op != token.op);
            if token.phase == Phase::Active && superseded {
                old.push((token, true));
            } else if token.phase == Phase::Retiring {
                let over = !self.skewed && later(token.since, grace) <= self.world.now;
                match (over, acknowledged) {
                    (true, _) => self.revoke(token, RevokeReason::GraceOver, false),
                    (_, true) => self.revoke(token, RevokeReason::Acknowledged, false),
                    _ => old.push((token, false)),
                }
            }
        }
        if grace.is_zero() {
            for (token, _) in old.extract_if(.., |(_, on_delivery)| *on_delivery) {
                self.revoke(token, RevokeReason::GraceOver, true);
            }
        }
        let already = old.iter().filter(|(_, on_delivery)| !on_delivery).count();
        let (now, in_all) =
            (already.saturating_sub(MAX_RETIRING), old.len().saturating_sub(MAX_RETIRING));
        for (place, (token, _)) in old.iter().take(in_all).enumerate() {
            self.revoke(token, RevokeReason::TooMany, place >= now);
        }
    }

    fn content(
        &self,
        wanted: &Wanted<'_>,
        kept: &[&Token],
        current: Option<&Token>,
        issuing: bool,
    ) -> Option<Content> {
        let rendition = wanted.rendition;
        let piece_of = |token: &Token| Piece {
            op: Some(token.op.clone()),
            rendition,
            status: token.expires_at().map_or(Status::Expired, status_until),
        };
        let readable = current.filter(|token| token.key_readable).map(piece_of);
        // A key that cannot be unsealed may still be where it was put.
        let stays = self.before.filter(|piece| {
            piece.op.as_ref().is_some_and(|op| kept.iter().any(|token| token.op == *op))
        });
        let present = readable.or_else(|| stays.cloned());
        if issuing {
            let gone = || self.before.map(|_| expired_piece(rendition));
            return Some(Content::New { rendition, until_then: present.or_else(gone) });
        }
        match present {
            Some(piece) if Some(&piece) == self.before => Some(Content::Keep(piece)),
            Some(piece) => Some(Content::Of(piece)),
            // The skill stays and says that the key is dead.
            None => self.before.map(|_| expired(rendition)),
        }
    }
}

/// Why a token may not stay, if it may not. A time of a leak that is yet to come waits until it
/// has: the new key would be older, too, and each pass would replace it.
fn wrong(token: &Token, wanted: &Wanted<'_>, now: Timestamp) -> Option<RevokeReason> {
    let leak = wanted.wish.revoke_issued_before.filter(|before| *before <= now);
    // A time of issue that is yet to come was written under a wrong clock: it proves nothing.
    let is_older =
        |before: &Timestamp| token.ask.at < *before || later(now, CLOCK_LEEWAY) < token.ask.at;
    let leaked = leak.filter(is_older);
    if let Some(before) = leaked {
        return Some(RevokeReason::Leaked(before));
    }
    (!token.binding.agrees_with(&wanted.binding)).then_some(RevokeReason::BindingChanged)
}

/// Whether every laptop that was seen lately has the newest key (DESIGN, "`.service_env_seen`").
fn is_acknowledged(current: Option<&Token>, look: Option<&HomeLook>, now: Timestamp) -> bool {
    let Some(delivery) = current.and_then(|token| token.delivered) else { return false };
    let Some(HomeLook::Seen(HomeFacts { laptops, .. })) = look else { return false };
    let mut lately =
        laptops.iter().filter(|laptop| later(laptop.at, LAPTOP_MEMORY) > now).peekable();
    lately.peek().is_some()
        && lately.all(|laptop| laptop.generation >= delivery.generation)
        && later(delivery.at, SETTLING) <= now
}
