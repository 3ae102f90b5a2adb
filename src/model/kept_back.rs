//! What keeps a connection from being as it should, as the last pass that looked has found it: for
//! those who cannot look into homes, nor ask the guard.

use serde::{Deserialize, Serialize};

use super::name::{ServiceId, UserId};

/// Something that is not done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeptBack {
    /// Whose.
    pub user: UserId,
    /// Of which service; none: of all of the user's.
    pub service: Option<ServiceId>,
    /// What keeps it.
    pub by: KeptBy,
    /// Why, for people.
    pub why: String,
}

/// What keeps something from being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBy {
    /// The guard, until somebody approves.
    Guard,
    /// It cannot be done until a person changes something.
    Block,
    /// It was tried, and failed; the next pass tries again.
    Failure,
}
