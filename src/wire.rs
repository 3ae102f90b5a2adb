//! The messages between the unprivileged side and the helper: one line of JSON each way.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::model::home::{Absence, HomeFacts, HomeLook};
use crate::model::name::{AccountName, SkillFile};

/// The largest file that we write, and the most of one that we read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The most that all files of one account may be together, in bytes.
pub const MAX_FILES: usize = 7 << 20;

/// The longest line that the helper takes, in bytes: JSON writes no byte of our texts as more than
/// two, so every allowed set fits.
pub const MAX_LINE: usize = 16 << 20;

/// The whole set of our files for one account. It holds keys, so it has no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeFiles {
    /// The text of `.service_env`.
    #[serde(serialize_with = "as_text", deserialize_with = "wiped_text")]
    pub env: Zeroizing<String>,
    /// The skills of `.claude_rules`; every other `sc_*.md` there is unwanted.
    pub skills: BTreeMap<SkillFile, String>,
}

/// What is asked of the helper, about one account. It is read as `Request<&RawValue>`, so that
/// only the account's own process reads what is in the files, and written as
/// `Request<&HomeFiles>`, so that sending makes no second copy of a key. It has no `Debug`, as it
/// may hold keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<Files = HomeFiles> {
    /// The answer has the same.
    pub id: u64,
    /// Whose home.
    pub account: AccountName,
    /// To do what.
    pub what: Asked<Files>,
}

/// What is to be done in a home.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked<Files> {
    /// What is there? Answered with facts, never with contents.
    Look,
    /// Make these the account's files.
    Put {
        /// The uid that the tokens in the files are bound to: refused if the home's owner is
        /// another, so that an account made anew under an old name inherits nothing.
        uid: Option<u32>,
        /// The whole set.
        files: Files,
    },
}

/// A line of the helper's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// To a request; they come in any order.
    Reply(Reply),
    /// It does nothing more, and why: the last line.
    Stopped(String),
}

/// What is said to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// What became of it.
    pub answer: Answer,
}

/// What the helper answers; always of the request's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Asked::Look`].
    Look(HomeLook),
    /// To [`Asked::Put`]: what is there afterwards, or why not.
    Put(Result<PutDone, PutError>),
}

/// The files are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutDone {
    /// Whether anything had to be written.
    pub changed: bool,
    /// What is really there afterwards.
    pub facts: HomeFacts,
}

/// Why the files were not put. It concerns this one account; the text names the path and what to
/// do. Each file is then the old one or the new one, none is torn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum PutError {
    /// There is no home that may be served.
    #[error("{}", .0.why)]
    Absent(Absence),
    /// The home is not one that may be served so: trying again helps only when somebody has
    /// changed something.
    #[error("{0}")]
    Refused(String),
    /// It went wrong; the next pass may succeed.
    #[error("{0}")]
    Failed(String),
}

/// The message as one line with its line feed, in a buffer that is wiped and never grew: growing
/// would leave copies of keys behind.
///
/// # Errors
/// None but those of the `Serialize` of the message; ours have none.
pub fn line(message: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, message)?;
    let mut line = Zeroizing::new(Vec::with_capacity(length.0 + 1));
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    Ok(line)
}

struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn as_text<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

fn wiped_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}
