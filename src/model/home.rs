//! What looking at a home gives: facts, never contents.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::name::{LaptopId, SkillFile};

/// What looking at one home gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HomeLook {
    /// Looked, and this is there.
    Seen(HomeFacts),
    /// There is no home that may be served.
    Absent(Absence),
    /// Could not look; why, for people. Says nothing about what is there.
    Unknown(String),
}

/// Why there is no home that may be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Of what kind.
    pub kind: AbsenceKind,
    /// For people.
    pub why: String,
}

/// The kinds of [`Absence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsenceKind {
    /// There is no such account.
    NoAccount,
    /// The account is not in the group of those that are served.
    NotInGroup,
    /// Another account has the same uid.
    NotUnique,
    /// It is an account of the system.
    UidTooLow,
    /// The account has no home.
    NoHome,
    /// The home is not the account's.
    NotOwned,
}

impl AbsenceKind {
    /// Whether the person has left: it is the account that is gone, not something about it that
    /// is wrong.
    #[must_use]
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::NoAccount | Self::NotInGroup)
    }

    /// Whether files of ours may still be there.
    #[must_use]
    pub fn may_hold_files(self) -> bool {
        matches!(self, Self::NotInGroup | Self::NotUnique | Self::UidTooLow | Self::NotOwned)
    }
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
    /// What stands where one of our files belongs and is neither followed nor removed, for people.
    pub in_the_way: Option<String>,
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
