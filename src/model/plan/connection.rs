//! What one connection needs: the rules of DESIGN, "Tokens".

mod maintain;
mod standing;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::action::{Action, Content, End, EndKind, Revoke, RevokeReason};
use super::super::actual::{Actual, Piece};
use super::super::digest::Digest;
use super::super::home::HomeLook;
use super::super::name::{OpId, ServiceId, UserId};
use super::super::skill::Status;
use super::super::token::{EXPIRY_LEEWAY, Phase, Token, days, later};
use super::waiting::{is_ahead, is_skewed, service_trouble, tried, waiting};
use super::{Loss, LossKind, Note, NoteKind, Scope, Subject, World};
pub(super) use maintain::SETTLING;
pub(super) use standing::ABSENCE;
use standing::{Standing, standing};

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
        let waits = is_ahead(backoff.until, now) && !scope.retry_now;
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

impl Connection<'_> {
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
