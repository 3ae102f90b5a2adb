//! What is there: tokens, homes, what was recorded. "Could not look" is a value of its own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::home::{HomeLook, LaptopSeen};
use super::name::{AccountName, OpId, ServiceId, SkillFile, UserId};
use super::registry::Rendition;
use super::skill::Status;
use super::sweep::Sweep;
use super::token::Token;

/// A laptop that goes on holding the same is written down so often: it counts for a month.
const LAPTOP_NOTED: SignedDuration = SignedDuration::from_hours(24);

/// What is there.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// The tokens that have not ended, oldest first.
    pub tokens: BTreeMap<UserId, BTreeMap<ServiceId, Vec<Token>>>,
    /// What was last put, or was about to be put, into each home: one record for each account that
    /// may hold files of the user's.
    pub installed: BTreeMap<UserId, BTreeMap<AccountName, Installed>>,
    /// What looking at the homes gave. An account that is not here was not looked at.
    pub homes: BTreeMap<AccountName, HomeLook>,
    /// The renditions that the records name.
    pub renditions: BTreeMap<Digest, Rendition>,
    /// Connections that failed, and when they may be tried again.
    pub backoffs: BTreeMap<UserId, BTreeMap<ServiceId, Backoff>>,
    /// Services that refuse our secret, do not answer, or whose clock is off.
    pub troubles: BTreeMap<ServiceId, Trouble>,
    /// What each user's laptops hold: as the homes showed it where they were looked at, else as it
    /// was written down.
    pub laptops: BTreeMap<UserId, Vec<LaptopSeen>>,
    /// Since when a user's account has been found absent.
    pub absent_since: BTreeMap<UserId, Timestamp>,
    /// Removals that were carried out within the last hour, but for those that somebody approved.
    pub recent_removals: Vec<(UserId, ServiceId)>,
    /// Strays that were revoked within the last hour, but for those that somebody approved.
    pub recent_strays: Vec<(UserId, ServiceId)>,
    /// What the services' own lists of tokens showed last.
    pub sweeps: BTreeMap<ServiceId, Sweep>,
    /// When a connection's key was last replaced because it was missing from those lists.
    pub reissued: BTreeMap<(UserId, ServiceId), Timestamp>,
    /// Digests of held removals that somebody approved within the last 24 hours.
    pub approved: Vec<Digest>,
    /// Connections of an import that was cut short: `desired.yaml` does not have them yet.
    pub arriving: Vec<(UserId, ServiceId)>,
    /// What the others have, when this is one user's part.
    pub elsewhere: Elsewhere,
}

/// What a plan for one user must know of all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// How many of them have access to each service; 0 where a debt is all that they have.
    pub connections: BTreeMap<ServiceId, usize>,
    /// How many of them have access to anything, at least; nobody needs to know of more than two.
    pub users: usize,
}

impl Actual {
    /// The tokens of one connection, oldest first.
    #[must_use]
    pub fn tokens_of(&self, user: &UserId, service: &ServiceId) -> &[Token] {
        self.tokens.get(user).and_then(|of_user| of_user.get(service)).map_or(&[], Vec::as_slice)
    }

    /// Takes over what the homes of these users showed of their laptops. Returns of whom it is to be
    /// written down: a fleet whose laptops go on holding the same is written down once a day.
    pub fn see_laptops<'a>(
        &mut self,
        accounts: impl IntoIterator<Item = (&'a UserId, &'a AccountName)>,
    ) -> BTreeSet<UserId> {
        let mut changed = BTreeSet::new();
        for (user, account) in accounts {
            let seen = match self.homes.get(account) {
                Some(HomeLook::Seen(facts)) => facts.laptops.clone(),
                Some(HomeLook::Absent(_)) => Vec::new(),
                // Nothing is known that was not known before.
                Some(HomeLook::Unknown(_)) | None => continue,
            };
            let known = self.laptops.get(user).map_or(&[][..], Vec::as_slice);
            if !is_noted(known, &seen) {
                changed.insert(user.clone());
            }
            if seen.is_empty() {
                self.laptops.remove(user);
            } else {
                self.laptops.insert(user.clone(), seen);
            }
        }
        changed
    }

    /// The services that the state knows, whatever the registry says.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&ServiceId> {
        let in_tokens = self.tokens.values().flat_map(BTreeMap::keys);
        let homes = self.installed.values().flat_map(BTreeMap::values);
        let here = in_tokens.chain(homes.flat_map(|installed| installed.pieces.keys()));
        here.chain(self.elsewhere.connections.keys()).collect()
    }
}

fn is_noted(known: &[LaptopSeen], seen: &[LaptopSeen]) -> bool {
    let same = |(known, seen): (&LaptopSeen, &LaptopSeen)| {
        known.laptop == seen.laptop
            && known.generation == seen.generation
            && seen.at.duration_since(known.at) < LAPTOP_NOTED
    };
    known.len() == seen.len() && known.iter().zip(seen).all(same)
}

/// What was last put, or was about to be put, into one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The version of the user's files.
    pub generation: u64,
    /// The digest of `.service_env`.
    pub env: Digest,
    /// The digests of the skills.
    pub skills: BTreeMap<SkillFile, Digest>,
    /// What the files were made of.
    pub pieces: BTreeMap<ServiceId, Piece>,
    /// Whether the put was confirmed.
    pub confirmed: bool,
}

/// One connection's part of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The token whose key is there; none when only the skill is.
    pub op: Option<OpId>,
    /// The [`Rendition`] that it was made from.
    pub rendition: Digest,
    /// The status line of the skill.
    pub status: Status,
}

/// What keeps a failed connection from being tried again at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Not before this time.
    pub until: Timestamp,
    /// How often in a row it failed.
    pub tries: u32,
    /// What the connection should have been then: another wish makes the backoff void.
    pub wish: Digest,
    /// What went wrong, for people.
    pub message: String,
}

/// What is wrong with a service as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub kind: TroubleKind,
    /// Not to be called before this time; then by one call first.
    pub until: Timestamp,
    /// How often in a row.
    pub tries: u32,
    /// For people.
    pub message: String,
}

/// The kinds of [`Trouble`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// It answered 401 or 403.
    SecretRefused,
    /// It did not answer several times in a row.
    Down,
    /// Its `Date` and our clock are more than 5 minutes apart: no time-driven action is taken.
    ClockSkew,
    /// Its clock and ours are apart, as it last said, and it does not answer or refuses our secret.
    SkewedAndShut,
}

impl TroubleKind {
    /// Whether nothing is renewed or ended by time there.
    #[must_use]
    pub fn is_skewed(self) -> bool {
        matches!(self, Self::ClockSkew | Self::SkewedAndShut)
    }

    /// Whether nothing is called there for a while.
    #[must_use]
    pub fn is_shut(self) -> bool {
        !matches!(self, Self::ClockSkew)
    }
}
