//! Why `desired.yaml` could not be read, or not be edited.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::desired_history::HistoryError;
use crate::model::change::ChangeError;
use crate::model::digest::Digest;
use crate::model::edit_text::EditTextError;
use crate::model::yaml::YamlError;

/// Why there is no desired state to act on. It never means "nobody".
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no file.
    #[error("{} is not there; to begin with nobody, write `version: 1` and `users: {{}}` into it, a line each", .0.display())]
    Missing(PathBuf),
    /// It cannot be read, or is no regular file.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its contents are wrong.
    #[error("{}: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        error: Box<YamlError>,
        /// The whole text, to show the place in it; empty when it is not UTF-8.
        text: String,
    },
    /// It was changed by hand a moment ago, and may not be whole yet.
    #[error("{} was changed a moment ago, not by service-connector; it is taken up when it has been still for 2 seconds", path.display())]
    Settling {
        /// The file.
        path: PathBuf,
        /// When to look again.
        ready_in: Duration,
    },
    /// It is the beginning of the last good one.
    #[error("{} is the first {bytes} of the {of} bytes of its last good contents: it looks cut off. To take connections away, use `service-connector disconnect`; if it is meant, add a line (`# meant`) at its end; the last good contents are in {}", path.display(), good.display())]
    CutOff {
        /// The file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
        /// How long the last good one was.
        of: usize,
        /// Where the last good one is kept.
        good: PathBuf,
    },
    /// The history cannot be read, so nobody can tell.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Why the file was not edited. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no good state to edit.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Someone else changed it since it was shown.
    #[error("the desired state is another one now (revision {}): look again", now.short())]
    Conflict {
        /// Which one it is.
        now: Digest,
    },
    /// The change makes no sense on this state.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The text cannot be edited.
    #[error("{}: {error}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<EditTextError>,
    },
    /// Others hold the lock.
    #[error("{} is locked by another writer for more than 10 seconds", .0.display())]
    Locked(PathBuf),
    /// It cannot be written.
    #[error("cannot {what} {}", path.display())]
    Write {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Its history cannot be written.
    #[error(transparent)]
    History(#[from] HistoryError),
}
