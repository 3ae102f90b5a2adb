//! A plan as JSON for programs. Field names are stable within a version; new fields may come. No
//! secret is in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::super::action::{Action, Content, End, Install, Issue, IssueOp, Revoke, Slot};
use super::super::actual::Piece;
use super::super::digest::Digest;
use super::super::name::{AccountName, Email, OpId, ServiceId, UserId};
use super::super::secret::Fingerprint;
use super::super::skill::Status;
use super::super::token::Phase;
use super::summary::Summary;
use super::{Loss, LossKind, Note, NoteKind, View};

/// The version of these field names.
pub const VERSION: u32 = 1;

/// A whole plan.
#[derive(Debug, Serialize)]
pub struct PlanJson {
    /// [`VERSION`].
    pub version: u32,
    /// The plan digest: `reconcile --expect` takes it.
    pub digest: Digest,
    /// The held digest: `approve` takes it. Null when nothing is held.
    pub held_digest: Option<Digest>,
    /// The instant of the plan.
    pub at: Timestamp,
    /// What would be done, in order.
    pub actions: Vec<ActionJson>,
    /// The removals that the guard holds back.
    pub held: Vec<HeldJson>,
    /// Why, one line for each limit that is passed.
    pub held_why: Vec<String>,
    /// What is not done, and why.
    pub notes: Vec<NoteJson>,
    /// All of it in numbers.
    pub summary: Summary,
}

/// One action.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionJson {
    /// A token is asked for.
    Issue {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
        /// The op id that is asked again; null: a new one is given.
        op: Option<OpId>,
        /// For how many days.
        ttl_days: u16,
        /// Whom the service will know as its owner.
        email: Email,
        /// Whose home gets the key.
        account: AccountName,
        /// Why.
        reason: ReasonJson,
    },
    /// Files are put into a home.
    Install {
        /// Whose.
        user: UserId,
        /// Into whose home.
        account: AccountName,
        /// Whether the account is the user's no more: our files leave it.
        leaves: bool,
        /// Each connection's part of the home.
        slots: BTreeMap<ServiceId, SlotJson>,
        /// Why.
        reasons: Vec<ReasonJson>,
    },
    /// A token is revoked.
    Revoke {
        /// Which token.
        #[serde(flatten)]
        token: TokenJson,
        /// The phase that it is in now.
        phase: Phase,
        /// Only once the key that takes its place is in the home.
        after_delivery: bool,
        /// Why.
        reason: ReasonJson,
    },
    /// A token has ended by itself.
    End {
        /// Which token.
        #[serde(flatten)]
        token: TokenJson,
        /// How.
        reason: ReasonJson,
    },
}

/// A token that there is.
#[derive(Debug, Serialize)]
pub struct TokenJson {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// Our name for it.
    pub op: OpId,
    /// What is shown in place of its key; null while it has none.
    pub fingerprint: Option<Fingerprint>,
}

/// Why, for programs and for people.
#[derive(Debug, Serialize)]
pub struct ReasonJson {
    /// A word that does not change: `connected`, `renewal_due`, `disconnected` …
    pub code: String,
    /// The time or the detail that belongs to the word; null when there is none.
    pub detail: Option<Value>,
    /// For people.
    pub text: String,
}

/// One connection's part of a home; null: none.
#[derive(Debug, Serialize)]
pub struct SlotJson {
    /// What was put there last.
    pub before: Option<PieceJson>,
    /// What goes there.
    pub after: Option<PieceJson>,
    /// What goes there until a new key has come, and if none comes; null unless `after` is new.
    pub until_then: Option<PieceJson>,
}

/// What a connection's part of a home is made of.
#[derive(Debug, Serialize)]
pub struct PieceJson {
    /// `none`: only the skill; `held`: a key that there is; `new`: the one that this plan asks for.
    pub key: &'static str,
    /// The token; null unless `held`.
    pub op: Option<OpId>,
    /// What is shown in place of its key.
    pub fingerprint: Option<Fingerprint>,
    /// The digest of the variables' and the skill's templates.
    pub rendition: Digest,
    /// The status line of the skill; null while a new key is to come.
    pub status: Option<Status>,
}

/// A removal that is held back.
#[derive(Debug, Serialize)]
pub struct HeldJson {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// The tokens that would go.
    pub ops: Vec<OpId>,
    /// `removal`: we would take them away; `expiry`: time would; `stray`: nobody here has them.
    pub kind: &'static str,
}

/// Something that is not done.
#[derive(Debug, Serialize)]
pub struct NoteJson {
    /// Whose; null: of all.
    pub user: Option<UserId>,
    /// Of which service; null: of none in particular.
    pub service: Option<ServiceId>,
    /// `waiting`, `blocked` or `remark`.
    pub kind: &'static str,
    /// Not before this time; null unless `waiting`.
    pub until: Option<Timestamp>,
    /// For people.
    pub text: String,
}

/// The plan, ready to be serialized.
#[must_use]
pub fn json(view: &View<'_>) -> PlanJson {
    first(view, usize::MAX)
}

/// The same with at most so many actions, so many held removals and so many notes. The digests and
/// the summary are of all.
#[must_use]
pub fn first(view: &View<'_>, most: usize) -> PlanJson {
    PlanJson {
        version: VERSION,
        digest: view.plan.digest(view.actual),
        held_digest: (!view.held.is_empty()).then(|| view.held.digest()),
        at: view.at,
        actions: view
            .plan
            .actions
            .iter()
            .take(most)
            .map(|action| of_action(view, action))
            .collect(),
        held: view.held.losses.iter().take(most).map(of_loss).collect(),
        held_why: view.held.why.clone(),
        notes: view.plan.notes.iter().take(most).map(of_note).collect(),
        summary: Summary::of(view),
    }
}

fn of_action(view: &View<'_>, action: &Action) -> ActionJson {
    match action {
        Action::Issue(issue) => of_issue(issue),
        Action::Install(install) => of_install(view, install),
        Action::Revoke(Revoke { user, service, op, phase, after_delivery, why, .. }) => {
            ActionJson::Revoke {
                token: token(view, user, service, op),
                phase: *phase,
                after_delivery: *after_delivery,
                reason: reason(why),
            }
        }
        Action::End(End { user, service, op, how }) => {
            ActionJson::End { token: token(view, user, service, op), reason: reason(how) }
        }
    }
}

fn of_issue(issue: &Issue) -> ActionJson {
    ActionJson::Issue {
        user: issue.user.clone(),
        service: issue.service.clone(),
        op: match &issue.op {
            IssueOp::New => None,
            IssueOp::Resume(op) => Some(op.clone()),
        },
        ttl_days: issue.ask.ttl_days,
        email: issue.binding.email.clone(),
        account: issue.binding.account.clone(),
        reason: reason(&issue.why),
    }
}

fn of_install(view: &View<'_>, install: &Install) -> ActionJson {
    let user = &install.user;
    let slots = install.slots.iter();
    ActionJson::Install {
        user: user.clone(),
        account: install.account.clone(),
        leaves: install.leaves,
        slots: slots
            .map(|(service, slot)| (service.clone(), of_slot(view, user, service, slot)))
            .collect(),
        reasons: install.why.iter().map(reason).collect(),
    }
}

fn of_slot(view: &View<'_>, user: &UserId, service: &ServiceId, slot: &Slot) -> SlotJson {
    let piece = |piece: &Piece| of_piece(view, user, service, piece);
    let (after, until_then) = match &slot.after {
        None => (None, None),
        Some(Content::Keep(after) | Content::Of(after)) => (Some(piece(after)), None),
        Some(Content::New { rendition, until_then }) => {
            let new = PieceJson {
                key: "new",
                op: None,
                fingerprint: None,
                rendition: *rendition,
                status: None,
            };
            (Some(new), until_then.as_ref().map(piece))
        }
    };
    SlotJson { before: slot.before.as_ref().map(piece), after, until_then }
}

fn of_piece(view: &View<'_>, user: &UserId, service: &ServiceId, piece: &Piece) -> PieceJson {
    let op = piece.op.clone();
    PieceJson {
        key: if op.is_some() { "held" } else { "none" },
        fingerprint: op.as_ref().and_then(|op| fingerprint(view, user, service, op)),
        op,
        rendition: piece.rendition,
        status: Some(piece.status),
    }
}

fn token(view: &View<'_>, user: &UserId, service: &ServiceId, op: &OpId) -> TokenJson {
    TokenJson {
        user: user.clone(),
        service: service.clone(),
        op: op.clone(),
        fingerprint: fingerprint(view, user, service, op),
    }
}

fn fingerprint(
    view: &View<'_>,
    user: &UserId,
    service: &ServiceId,
    op: &OpId,
) -> Option<Fingerprint> {
    let mut tokens = view.actual.tokens_of(user, service).iter();
    let token = tokens.find(|token| token.op == *op)?;
    Some(token.grant.as_ref()?.fingerprint)
}

/// A reason serializes as its word, or as one word with its detail.
fn reason<T: Serialize + ToString>(why: &T) -> ReasonJson {
    let text = why.to_string();
    match serde_json::to_value(why) {
        Ok(Value::String(code)) => ReasonJson { code, detail: None, text },
        Ok(Value::Object(map)) => {
            let (code, detail) = map.into_iter().next().unzip();
            ReasonJson { code: code.unwrap_or_default(), detail, text }
        }
        _ => ReasonJson { code: "other".to_owned(), detail: None, text },
    }
}

fn of_loss(loss: &Loss) -> HeldJson {
    HeldJson {
        user: loss.user.clone(),
        service: loss.service.clone(),
        ops: loss.ops.clone(),
        kind: match loss.kind {
            LossKind::Removal => "removal",
            LossKind::Expiry => "expiry",
            LossKind::Stray => "stray",
        },
    }
}

fn of_note(note: &Note) -> NoteJson {
    let (kind, until) = match note.kind {
        NoteKind::Waiting(until) => ("waiting", Some(until)),
        NoteKind::Blocked => ("blocked", None),
        NoteKind::Remark => ("remark", None),
    };
    NoteJson {
        user: note.user.clone(),
        service: note.service.clone(),
        kind,
        until,
        text: note.text.clone(),
    }
}
