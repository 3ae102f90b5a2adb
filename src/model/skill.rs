//! The text of a skill file.

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::registry::{Rendition, STATUS_MARK};

/// What a skill says of its connection: it changes with the phase only, so that a file does not
/// change from day to day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The key works until this day (UTC).
    ActiveUntil(Date),
    /// There is no key that works.
    Expired,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActiveUntil(date) => write!(f, "active until {date}"),
            Self::Expired => f.write_str("expired"),
        }
    }
}

/// The skill's text.
#[must_use]
pub fn render(rendition: &Rendition, status: Status) -> String {
    rendition.skill_text.replace(STATUS_MARK, &status.to_string())
}
