//! What is there: tokens, homes, what was recorded. "Could not look" is a value of its own.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::name::{AccountName, LaptopId, OpId, ServiceId, SkillFile, UserId};
use super::registry::Rendition;
use super::skill::Status;
use super::token::Token;

/// What is there.
#[derive(Debug, Default)]
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
    /// Since when a user's account has been found absent.
    pub absent_since: BTreeMap<UserId, Timestamp>,
    /// Removals that were carried out within the last hour, but for those that somebody approved.
    pub recent_removals: Vec<(UserId, ServiceId)>,
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

    /// The services that the state knows, whatever the registry says.
    #[must_use]
    pub fn services(&self) -> BTreeSet<&ServiceId> {
        let in_tokens = self.tokens.values().flat_map(BTreeMap::keys);
        let homes = self.installed.values().flat_map(BTreeMap::values);
        let here = in_tokens.chain(homes.flat_map(|installed| installed.pieces.keys()));
        here.chain(self.elsewhere.connections.keys()).collect()
    }
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
}

/// What looking at one home gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeLook {
    /// Looked, and this is there.
    Seen(HomeFacts),
    /// The account or its home is not there, or may not be served; why, for people.
    Absent(String),
    /// Could not look; why, for people. Says nothing about what is there.
    Unknown(String),
}

/// What is seen of our files in a home: never their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeFacts {
    /// The numeric id of the account that owns the home.
    pub uid: u32,
    /// `.service_env`, if there is a regular file of that name.
    pub env: Option<EnvFacts>,
    /// Each regular `.claude_rules/sc_*.md` whose name is that of a skill, whoever owns it.
    pub skills: BTreeMap<SkillFile, FileFacts>,
    /// Whether `.claude_rules` has the mode 0700 (true when no directory of that name is there).
    pub rules_mode_ok: bool,
    /// What the user's laptops last held, from `.service_env_seen`.
    pub laptops: Vec<LaptopSeen>,
}

/// One file of ours as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// The digest of its bytes. A file that may not be read, or that is longer than any of ours,
    /// has the digest of what was read of it, which is never that of a file of ours.
    pub digest: Digest,
    /// Whether its mode is 0600, its owner the account, and this its only name.
    pub mode_ok: bool,
}

/// `.service_env` as seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFacts {
    /// The file.
    pub file: FileFacts,
    /// The generation that it claims, if that line is readable.
    pub generation: Option<u64>,
}

/// What one laptop's sync last held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaptopSeen {
    /// Which laptop.
    pub laptop: LaptopId,
    /// The generation that it holds.
    pub generation: u64,
    /// When it said so: the modification time of its file.
    pub at: Timestamp,
}
