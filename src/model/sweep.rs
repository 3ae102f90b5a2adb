//! A service's own list of tokens against what we hold (contract v2).
//!
//! An entry that bears our name and that the state does not know as one that may live is a *stray*:
//! an older database was restored, or the end of a token was believed too soon. A token that we
//! hold and that is not listed is *missing*: somebody ended it behind our back. Whatever bears
//! another name, or none, is somebody else's, and is counted and nothing more.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::name::{Email, InstanceId, OpId, ServiceId, TokenId, UserId};
use super::registry::{Contract, Endpoint};
use super::token::{EXPIRY_LEEWAY, Token, later};

/// Two lists that are closer to each other than this count as one: what is being changed there may
/// be missing from both.
pub const APART: SignedDuration = SignedDuration::from_mins(5);
/// A token that so many lists running lack is gone.
const LISTS: u8 = 2;
/// A list may always lose so many of our entries without an explanation.
const MAY_LOSE: usize = 5;
/// And so many of a hundred.
const MAY_LOSE_PERCENT: usize = 10;
/// A replacement that is missing so soon says that asking again is no cure.
const ONCE_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// The user of a stray whose e-mail address is nobody's.
const NOBODY: &str = "_nobody";

/// A token as a service lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The service's name for it; none where it is not of the form that we take.
    pub token_id: Option<TokenId>,
    /// Our name for it; none where it is not of the form that we give.
    pub op: Option<OpId>,
    /// Whom it was issued for, where that is an e-mail address.
    pub email: Option<Email>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A token that bears our name and that the state does not know as one that may live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Our name for it: it is revoked by this.
    pub op: OpId,
    /// Whose it is, as far as can be told; else [`nobody`].
    pub user: UserId,
    /// Whom the service issued it for.
    pub email: Option<Email>,
    /// The service's name for it.
    pub token_id: Option<TokenId>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// A token that we hold and that lists lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// When the first of these lists was fetched.
    pub since: Timestamp,
    /// When the last one was that counted.
    pub counted: Timestamp,
    /// How many counted.
    pub times: u8,
}

impl Missing {
    /// Whether enough lists running lacked it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.times >= LISTS
    }

    /// Whether it was first missed so soon after this replacement that another is no cure.
    #[must_use]
    pub fn follows(&self, replaced: Timestamp) -> bool {
        self.since < later(replaced, ONCE_WITHIN)
    }

    /// Another list lacks it.
    fn again(earlier: Option<&Self>, at: Timestamp) -> Self {
        match earlier {
            None => Self { since: at, counted: at, times: 1 },
            Some(earlier) if at < later(earlier.counted, APART) => *earlier,
            Some(earlier) => {
                Self { counted: at, times: earlier.times.saturating_add(1), ..*earlier }
            }
        }
    }
}

/// What is remembered of a service's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When the last one was asked for.
    pub at: Timestamp,
    /// The last one that could be relied on.
    pub good: Option<Good>,
    /// Why the last one cannot be, if it cannot.
    pub frozen: Option<Frozen>,
}

/// A list that can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// When it was asked for.
    pub at: Timestamp,
    /// Its entries that bear our name.
    pub ours: usize,
    /// All others.
    pub others: usize,
}

/// Why removals wait until a good list comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// For people.
    pub why: String,
    /// The list that lost too much; none when there was no list at all. Whoever knows that it is
    /// right approves its digest.
    pub shrunk: Option<(Digest, Good)>,
}

/// What is known of a service's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The list as a whole.
    pub record: Record,
    /// To be revoked.
    pub strays: Vec<Stray>,
    /// What it lacks.
    pub missing: BTreeMap<OpId, Missing>,
}

impl Sweep {
    /// How often this token was missing, as far as the list can be relied on.
    #[must_use]
    pub fn missing(&self, op: &OpId) -> Option<&Missing> {
        self.missing.get(op).filter(|_| self.record.frozen.is_none())
    }
}

/// What a list is compared with.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Of which service.
    pub service: &'a ServiceId,
    /// Where the list is.
    pub endpoint: &'a Endpoint,
    /// Our own id.
    pub instance: &'a InstanceId,
    /// When the list was asked for.
    pub began: Timestamp,
    /// The tokens that were live before it was.
    pub live_before: &'a BTreeSet<OpId>,
    /// The service's tokens that have not ended, read after it was fetched to its end.
    pub tokens: &'a [Token],
    /// Those that have ended since the list was asked for, and may be on it.
    pub ended_meanwhile: &'a BTreeSet<OpId>,
    /// The last list that could be relied on.
    pub good: Option<Good>,
    /// How many tokens that may stand on that one have been ended by us since.
    pub ended_since: usize,
    /// What was missing before.
    pub missing: &'a BTreeMap<OpId, Missing>,
}

/// What a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its entries that bear our name.
    pub ours: usize,
    /// All others.
    pub others: usize,
    /// To be revoked.
    pub strays: Vec<Stray>,
    /// What it lacks.
    pub missing: BTreeMap<OpId, Missing>,
    /// Why it cannot be relied on, if it lost too much.
    pub shrunk: Option<String>,
}

/// Compares. `whose` says whose a stray is, by our name for it and by its address.
#[must_use]
pub fn compare(
    list: &[Listed],
    ground: &Ground<'_>,
    whose: impl Fn(&OpId, Option<&Email>) -> UserId,
) -> Found {
    // One that is over is not alive, though the service may still list it.
    let alive = list.iter().filter(|listed| later(listed.expires_at, EXPIRY_LEEWAY) > ground.began);
    let (ours, others): (Vec<&Listed>, Vec<&Listed>) =
        alive.partition(|listed| listed.op.as_ref().is_some_and(|op| op.is_of(ground.instance)));
    let ops: BTreeSet<&OpId> = ours.iter().filter_map(|listed| listed.op.as_ref()).collect();
    let listed_ids: BTreeSet<&TokenId> =
        list.iter().filter_map(|listed| listed.token_id.as_ref()).collect();
    let held = ground.tokens.iter().map(|token| &token.op);
    let known: BTreeSet<&OpId> = held.chain(ground.ended_meanwhile).collect();
    // What another program asked for is held under a name that the service never heard.
    let held_ids: BTreeSet<&TokenId> = ground.tokens.iter().filter_map(token_id).collect();
    let strays: BTreeMap<&OpId, &Listed> = ours
        .iter()
        .filter(|listed| listed.token_id.as_ref().is_none_or(|id| !held_ids.contains(id)))
        .filter_map(|listed| Some((listed.op.as_ref()?, *listed)))
        .filter(|(op, _)| !known.contains(*op))
        .collect();
    let judged = ground.tokens.iter().filter(|token| must_be_listed(token, ground));
    let (there, lacking): (Vec<&Token>, Vec<&Token>) = judged.partition(|token| {
        ops.contains(&token.op) || token_id(token).is_some_and(|id| listed_ids.contains(id))
    });
    let again = |token: &&Token| {
        (token.op.clone(), Missing::again(ground.missing.get(&token.op), ground.began))
    };
    let loss = match ground.good {
        Some(good) => lost_since(good, &ops, ground),
        None => (lacking.len(), there.len() + lacking.len()),
    };
    Found {
        ours: ops.len(),
        others: others.len(),
        strays: strays.into_values().filter_map(|listed| stray(listed, &whose)).collect(),
        missing: lacking.iter().map(again).collect(),
        shrunk: too_much(loss),
    }
}

/// Our entries that are gone since the last good list though we ended nothing of theirs, and how
/// many there were.
fn lost_since(good: Good, ops: &BTreeSet<&OpId>, ground: &Ground<'_>) -> (usize, usize) {
    let is_new = |token: &&Token| token.ask.at > good.at && ops.contains(&token.op);
    let new = ground.tokens.iter().filter(is_new).count();
    let expected = good.ours.saturating_sub(ground.ended_since);
    (expected.saturating_sub(ops.len().saturating_sub(new)), good.ours)
}

fn too_much((lost, of): (usize, usize)) -> Option<String> {
    (lost > MAY_LOSE.max(of * MAY_LOSE_PERCENT / 100)).then(|| {
        format!("its list of tokens lacks {lost} of {of} keys of ours that nobody here has ended")
    })
}

/// Whether a whole list has this token: it was live before the list was asked for and is so still,
/// was asked for at this place, and does not end just now.
fn must_be_listed(token: &Token, ground: &Ground<'_>) -> bool {
    token.phase.is_live()
        && ground.live_before.contains(&token.op)
        && token.ask.endpoint.contract == Contract::V2
        && token.ask.endpoint.list_url == ground.endpoint.list_url
        && token.expires_at().is_some_and(|end| end > later(ground.began, EXPIRY_LEEWAY))
}

fn token_id(token: &Token) -> Option<&TokenId> {
    token.grant.as_ref().map(|grant| &grant.token_id)
}

fn stray(listed: &Listed, whose: impl Fn(&OpId, Option<&Email>) -> UserId) -> Option<Stray> {
    let op = listed.op.clone()?;
    Some(Stray {
        user: whose(&op, listed.email.as_ref()),
        op,
        email: listed.email.clone(),
        token_id: listed.token_id.clone(),
        expires_at: listed.expires_at,
    })
}

impl Found {
    /// What is remembered of it.
    #[must_use]
    pub fn record(&self, ground: &Ground<'_>) -> Record {
        let good = Good { at: ground.began, ours: self.ours, others: self.others };
        let frozen = self.shrunk.as_ref().map(|why| {
            let lacks = self.missing.keys().map(OpId::as_str);
            let ours = self.ours.to_string();
            let names = [ground.service.as_str(), ours.as_str()].into_iter().chain(lacks);
            Frozen { why: why.clone(), shrunk: Some((Digest::of_fields(names), good)) }
        });
        let good = if frozen.is_some() { ground.good } else { Some(good) };
        Record { at: ground.began, good, frozen }
    }
}

impl Record {
    /// What is remembered when no list could be had.
    #[must_use]
    pub fn without_list(at: Timestamp, good: Option<Good>, why: &str) -> Self {
        let why = format!("its list of tokens could not be had: {why}");
        Self { at, good, frozen: Some(Frozen { why, shrunk: None }) }
    }

    /// The same, once somebody said that the list is right.
    #[must_use]
    pub fn believed(self) -> Self {
        let believed = self.frozen.and_then(|frozen| frozen.shrunk).map(|(_, good)| good);
        Self { good: believed.or(self.good), frozen: None, ..self }
    }
}

/// Stands for the user of a stray whose e-mail address is nobody's.
///
/// # Panics
/// Never: it is a legal name.
#[must_use]
pub fn nobody() -> UserId {
    NOBODY.parse().expect("a legal user id")
}
