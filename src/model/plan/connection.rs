//! What one connection needs: the rules of DESIGN, "Tokens".

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::action::{
    Action, Content, End, EndKind, Issue, IssueOp, IssueReason, Revoke, RevokeReason, shown,
    status_until,
};
use super::super::actual::{Actual, Backoff, HomeFacts, HomeLook, Piece, TroubleKind};
use super::super::desired::Wish;
use super::super::digest::Digest;
use super::super::name::{OpId, ServiceId, UserId};
use super::super::registry::{Entry, Service};
use super::super::skill::Status;
use super::super::token::{Ask, Binding, EXPIRY_LEEWAY, Phase, Token, days, later};
use super::{Loss, LossKind, Note, NoteKind, Scope, Subject, World};

/// How long an account must have been absent before its tokens are revoked.
const ABSENCE: SignedDuration = SignedDuration::from_hours(1);
/// How many old keys may live beside the newest.
const MAX_RETIRING: usize = 2;
/// Laptops that were not seen for so long do not hold up an acknowledgement.
const LAPTOP_MEMORY: SignedDuration = SignedDuration::from_hours(24 * 30);
/// A key is not called acknowledged sooner after its delivery.
const SETTLING: SignedDuration = SignedDuration::from_hours(1);

/// What one connection needs.
pub(super) struct Decision {
    pub actions: Vec<Action>,
    /// What goes into the user's present home.
    pub content: Option<Content>,
    /// Whether former homes keep their part of it, too.
    pub frozen: bool,
    pub loss: Option<Loss>,
    pub notes: Vec<Note>,
}

/// How a connection stands.
enum Standing<'a> {
    /// It should be there.
    Wanted(Box<Wanted<'a>>),
    /// It should not.
    Unwanted(RevokeReason),
    /// It stays as it is, and why; debts are paid and ends noted all the same.
    Frozen(String),
}

/// A connection that should be there.
struct Wanted<'a> {
    wish: &'a Wish,
    service: &'a Service,
    rendition: Digest,
    binding: Binding,
}

/// One connection under decision.
struct Connection<'a> {
    world: &'a World<'a>,
    user: &'a UserId,
    service: &'a ServiceId,
    tokens: &'a [Token],
    /// What was last put into the present home.
    before: Option<&'a Piece>,
    /// The same, or else what a former home still holds.
    anywhere: Option<&'a Piece>,
    skewed: bool,
    /// Until when nothing may be asked, and why.
    waiting: Option<(Timestamp, String)>,
    actions: Vec<Action>,
    notes: Vec<Note>,
}

/// Decides about one connection. `before` is what was last put into the present home, `former`
/// what a former one still holds: nothing of that is ever put anywhere else.
pub(super) fn decide<'a>(
    world: &'a World<'a>,
    subject: &Subject<'a>,
    service: &'a ServiceId,
    renditions: &BTreeMap<&ServiceId, Digest>,
    before: Option<&'a Piece>,
    former: Option<&'a Piece>,
) -> Decision {
    let wish = subject.desired.and_then(|user| user.connections.get(service));
    let mut connection = Connection {
        world,
        user: subject.id,
        service,
        tokens: world.actual.tokens_of(subject.id, service),
        before,
        anywhere: before.or(former),
        skewed: is_skewed(world.actual, service),
        waiting: waiting(world.actual, world.scope, world.now, subject.id, service, wish),
        actions: Vec::new(),
        notes: Vec::new(),
    };
    let standing = standing(world, subject, service, renditions, &connection);
    let frozen = matches!(standing, Standing::Frozen(_));
    connection.note_ends_and_debts();
    let content = match standing {
        Standing::Frozen(why) => connection.freeze(why),
        Standing::Unwanted(why) => connection.remove(why, subject.look),
        Standing::Wanted(wanted) => connection.maintain(&wanted, subject.look),
    };
    let loss = connection.loss(content.as_ref());
    Decision { actions: connection.actions, content, frozen, loss, notes: connection.notes }
}

/// The debts of one connection, when nothing is known of what is desired.
pub(super) fn pay_debts(
    actual: &Actual,
    scope: &Scope,
    now: Timestamp,
    user: &UserId,
    service: &ServiceId,
    tokens: &[Token],
) -> (Vec<Action>, Vec<Note>) {
    let debts = tokens.iter().filter(|token| token.phase == Phase::Revoking);
    let backoff = || {
        let backoff = actual.backoffs.get(user)?.get(service)?;
        let waits = backoff.until > now && !scope.retry_now;
        waits.then(|| (backoff.until, tried(backoff)))
    };
    let trouble = service_trouble(actual, scope.retry_now, now, service);
    if let Some((until, text)) = trouble.or_else(backoff) {
        let owed = debts.count() > 0;
        let note = note(user, service, NoteKind::Waiting(until), text);
        return (Vec::new(), owed.then_some(note).into_iter().collect());
    }
    let revoke = |token| Action::Revoke(revoke(token, RevokeReason::Owed, false));
    (debts.map(revoke).collect(), Vec::new())
}

/// How the connection stands. Of its tokens it matters only whether there are any to take away.
fn standing<'a>(
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
    if let Some(HomeLook::Absent(reason)) = subject.look {
        let since = world.actual.absent_since.get(subject.id);
        if since.is_some_and(|since| later(*since, ABSENCE) <= world.now) && connection.has_tokens()
        {
            return Standing::Unwanted(Why::AccountGone);
        }
        return Standing::Frozen(format!("account {}: {reason}", binding.account));
    }
    let rendition = renditions.get(service).copied().unwrap_or_else(|| entry.rendition.digest());
    Standing::Wanted(Box::new(Wanted { wish, service: entry, rendition, binding }))
}

impl<'a> Connection<'a> {
    /// Whether there is a token that could be taken away.
    fn has_tokens(&self) -> bool {
        self.tokens.iter().any(|token| token.phase != Phase::Revoking)
    }

    /// Tokens whose time is over, and debts: whatever else is decided.
    fn note_ends_and_debts(&mut self) {
        for token in self.tokens {
            if self.is_over(token) {
                let at = token.expires_at().unwrap_or(self.world.now);
                self.end(token, EndKind::Expired(at));
            } else if token.phase == Phase::Revoking {
                match &self.waiting {
                    None => self.revoke(token, RevokeReason::Owed, false),
                    Some((until, text)) => {
                        let (until, text) = (*until, format!("a revoke is owed: {text}"));
                        self.note(NoteKind::Waiting(until), text);
                    }
                }
            }
        }
    }

    fn freeze(&mut self, why: String) -> Option<Content> {
        self.note(NoteKind::Blocked, why);
        let before = self.before?.clone();
        // The key's time may be over all the same.
        let over = self.ended_op(&before);
        Some(if over { expired(before.rendition) } else { Content::Keep(before) })
    }

    fn remove(&mut self, why: RevokeReason, look: Option<&HomeLook>) -> Option<Content> {
        for token in self.tokens {
            if token.phase == Phase::Issuing {
                self.unask(token, why);
            } else if token.phase.is_live() && !self.is_over(token) {
                self.revoke(token, why, false);
            }
        }
        // What could not be looked at is not removed; the revoke does not wait for it.
        let error = not_looked(look)?.to_owned();
        let before = self.before?.clone();
        self.note(NoteKind::Blocked, format!("its files are not removed yet: {error}"));
        Some(Content::Keep(before))
    }

    fn maintain(&mut self, wanted: &Wanted<'a>, look: Option<&HomeLook>) -> Option<Content> {
        let resume = self.settle_unanswered(wanted);
        let kept = self.drop_wrong(wanted);
        let current = kept.iter().rev().find(|token| token.phase == Phase::Active).copied();
        let reason = self.issue_reason(wanted, resume.is_some(), &kept, current);
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
        if self.skewed && trouble_until(self.world.actual, self.service) > Some(now) {
            return None;
        }
        if let Some(at) = wish.rotate_after.filter(|at| *at <= now && current.ask.at < *at) {
            return Some(IssueReason::RotateAfter(at));
        }
        if outlives(current, wish, now) {
            return Some(IssueReason::TtlShortened);
        }
        current
            .renewal_due(wanted.service.renew_before_days)
            .filter(|due| *due <= now)
            .map(IssueReason::RenewalDue)
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
        let acknowledged = is_acknowledged(current, look, self.world.now);
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

    /// Whether this takes access away, and what does.
    fn loss(&self, content: Option<&Content>) -> Option<Loss> {
        let live: Vec<&Token> = self.tokens.iter().filter(|token| token.phase.is_live()).collect();
        let going: Vec<&Token> =
            live.iter().copied().filter(|token| self.goes_now(&token.op)).collect();
        let in_home = self.anywhere.and_then(|piece| piece.op.as_ref());
        let last_token_goes = going.len() == live.len();
        let lines_go = in_home.is_some() && !content.is_some_and(Content::keeps_lines);
        let by_time = content.is_some() && going.iter().all(|token| self.goes_by_time(token));
        // Lines of a token that is a debt, or has ended, give no access.
        (!live.is_empty() && (last_token_goes || lines_go)).then(|| Loss {
            user: self.user.clone(),
            service: self.service.clone(),
            ops: going.iter().map(|token| token.op.clone()).collect(),
            kind: if by_time { LossKind::Expiry } else { LossKind::Removal },
        })
    }

    /// Whether the plan ends this token without waiting for its successor.
    fn goes_now(&self, op: &OpId) -> bool {
        self.actions.iter().any(|action| match action {
            Action::Revoke(revoke) => revoke.op == *op && !revoke.after_delivery,
            Action::End(end) => end.op == *op,
            Action::Issue(_) | Action::Install(_) => false,
        })
    }

    /// Whether it goes because its time, or its grace, is over.
    fn goes_by_time(&self, token: &Token) -> bool {
        let grace_over = |action: &Action| match action {
            Action::Revoke(revoke) => {
                revoke.op == token.op && revoke.why == RevokeReason::GraceOver
            }
            _ => false,
        };
        self.is_over(token) || self.actions.iter().any(grace_over)
    }

    fn is_over(&self, token: &Token) -> bool {
        // A clock that disagrees with the service's ends nothing.
        !self.skewed && token.phase != Phase::Issuing && token.is_over(self.world.now)
    }

    fn ended_op(&self, piece: &Piece) -> bool {
        piece.op.as_ref().is_some_and(|op| {
            self.op_has_ended(op)
                || self.tokens.iter().any(|token| token.op == *op && self.is_over(token))
        })
    }

    fn op_has_ended(&self, op: &OpId) -> bool {
        !self.tokens.iter().any(|token| token.op == *op)
    }

    /// Takes back an ask that has no answer.
    fn unask(&mut self, token: &Token, why: RevokeReason) {
        if token.speaks_op_ids() {
            self.revoke(token, why, false);
        } else {
            let until = later(token.ask.at, days(token.ask.ttl_days) + EXPIRY_LEEWAY);
            self.end(token, EndKind::Lost(until));
        }
    }

    fn revoke(&mut self, token: &Token, why: RevokeReason, after_delivery: bool) {
        self.actions.push(Action::Revoke(revoke(token, why, after_delivery)));
    }

    fn end(&mut self, token: &Token, how: EndKind) {
        let (user, service, op) = (self.user.clone(), self.service.clone(), token.op.clone());
        self.actions.push(Action::End(End { user, service, op, how }));
    }

    fn note(&mut self, kind: NoteKind, text: String) {
        self.notes.push(note(self.user, self.service, kind, text));
    }
}

fn note(user: &UserId, service: &ServiceId, kind: NoteKind, text: String) -> Note {
    Note { user: Some(user.clone()), service: Some(service.clone()), kind, text }
}

fn revoke(token: &Token, why: RevokeReason, after_delivery: bool) -> Revoke {
    Revoke {
        user: token.user.clone(),
        service: token.service.clone(),
        op: token.op.clone(),
        phase: token.phase,
        ask: token.ask.clone(),
        after_delivery,
        why,
    }
}

/// Why a token may not stay, if it may not. A time of a leak that is yet to come waits until it
/// has: the new key would be older, too, and each pass would replace it.
fn wrong(token: &Token, wanted: &Wanted<'_>, now: Timestamp) -> Option<RevokeReason> {
    let leak = wanted.wish.revoke_issued_before.filter(|before| *before <= now);
    let leaked = leak.filter(|before| token.ask.at < *before);
    if let Some(before) = leaked {
        return Some(RevokeReason::Leaked(before));
    }
    (!token.binding.agrees_with(&wanted.binding)).then_some(RevokeReason::BindingChanged)
}

/// Whether a token has more life left than the desired state now asks for. Compared with what was
/// asked, too: a service that grants more than was asked would be asked for ever.
fn outlives(token: &Token, wish: &Wish, now: Timestamp) -> bool {
    wish.ttl_days.is_some_and(|ttl| {
        token.ask.ttl_days > ttl
            && token.expires_at().is_some_and(|end| end > later(now, days(ttl)))
    })
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

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Why nothing is known of what is in the home, if nothing is.
pub(super) fn not_looked(look: Option<&HomeLook>) -> Option<&str> {
    match look {
        None => Some("it was not looked at"),
        Some(HomeLook::Unknown(error)) => Some(error),
        Some(HomeLook::Seen(_) | HomeLook::Absent(_)) => None,
    }
}

fn expired_piece(rendition: Digest) -> Piece {
    Piece { op: None, rendition, status: Status::Expired }
}

fn expired(rendition: Digest) -> Content {
    Content::Of(expired_piece(rendition))
}

fn is_skewed(actual: &Actual, service: &ServiceId) -> bool {
    actual.troubles.get(service).is_some_and(|trouble| trouble.kind == TroubleKind::ClockSkew)
}

fn trouble_until(actual: &Actual, service: &ServiceId) -> Option<Timestamp> {
    actual.troubles.get(service).map(|trouble| trouble.until)
}

/// Until when a connection may not be asked for again, and why.
fn waiting(
    actual: &Actual,
    scope: &Scope,
    now: Timestamp,
    user: &UserId,
    service: &ServiceId,
    wish: Option<&Wish>,
) -> Option<(Timestamp, String)> {
    service_trouble(actual, scope.retry_now, now, service).or_else(|| {
        let backoff = actual.backoffs.get(user)?.get(service)?;
        let waits = backoff.until > now && !scope.retry_now && backoff.wish == wish_digest(wish);
        waits.then(|| (backoff.until, tried(backoff)))
    })
}

fn tried(backoff: &Backoff) -> String {
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
    let waits = trouble.kind != TroubleKind::ClockSkew && trouble.until > now && !retry_now;
    waits.then(|| (trouble.until, format!("{}; next at {}", trouble.message, shown(trouble.until))))
}

/// What tells one wish from another: a backoff counts only while the wish is the same.
#[must_use]
pub fn wish_digest(wish: Option<&Wish>) -> Digest {
    let Some(wish) = wish else { return Digest::of("not wanted") };
    let text = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    Digest::of_fields([
        wish.ttl_days.map(|ttl| ttl.to_string()).unwrap_or_default().as_str(),
        text(wish.rotate_after).as_str(),
        text(wish.revoke_issued_before).as_str(),
        if wish.paused { "paused" } else { "" },
    ])
}
