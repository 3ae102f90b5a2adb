//! What can go wrong in one home, and what to do about it.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::model::home::{Absence, AbsenceKind};

use super::{Home, MAX_NAMES};

/// Why looking or putting did not work. Names are relative to the home; none of it is a secret.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no home.
    #[error("{}: there is no home here", .0.display())]
    NoHome(PathBuf),
    /// The home belongs to somebody else than the user that runs this.
    #[error("{}: it belongs to uid {owner}, and this runs as uid {us}", path.display())]
    NotOurs {
        /// The home.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Something that we neither follow nor remove has a name that we need.
    #[error("`{name}` is {what}: move it away and the next pass goes on")]
    InTheWay {
        /// The name.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// The kernel said no.
    #[error("cannot {doing} `{name}`: {}", advice(*errno))]
    Os {
        /// A verb.
        doing: &'static str,
        /// The name.
        name: String,
        /// What it said.
        errno: Errno,
    },
    /// A directory has more names than we look through.
    #[error("`{0}` has more than {MAX_NAMES} names: clear it out")]
    TooManyNames(&'static str),
    /// What is to be put is more than we would read back.
    #[error("{what} would be longer than {limit} bytes")]
    TooLarge {
        /// A file, or all of them.
        what: String,
        /// In bytes.
        limit: usize,
    },
    /// Somebody else holds the home's lock.
    #[error("another program holds a lock on the home, probably a second install: try again")]
    Busy,
    /// The deadline came first.
    #[error("it took longer than allowed: is its file system slow or hanging?")]
    Deadline,
    /// Any of these, with the home that it is about.
    #[error("{}: {trouble}", home.display())]
    In {
        /// The home.
        home: PathBuf,
        /// What went wrong in it.
        trouble: Box<Trouble>,
    },
}

impl Trouble {
    pub(super) fn os(doing: &'static str, name: &str, errno: Errno) -> Self {
        Self::Os { doing, name: name.to_owned(), errno }
    }

    pub(super) fn in_home(self, home: &Home) -> Self {
        Self::In { home: home.path().to_owned(), trouble: Box::new(self) }
    }

    /// Whether it means that there is no home that may be served.
    pub(super) fn absence(&self) -> Option<Absence> {
        let kind = match self {
            Self::NoHome(_) => AbsenceKind::NoHome,
            Self::NotOurs { .. } => AbsenceKind::NotOwned,
            _ => return None,
        };
        Some(Absence { kind, why: self.to_string() })
    }

    /// Whether trying again helps only once somebody has changed something.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::InTheWay { .. } | Self::TooLarge { .. } => true,
            Self::In { trouble, .. } => trouble.is_refusal(),
            Self::NoHome(_)
            | Self::NotOurs { .. }
            | Self::Os { .. }
            | Self::TooManyNames(_)
            | Self::Busy
            | Self::Deadline => false,
        }
    }
}

/// What the kernel's answer means in a home, and what to do.
fn advice(errno: Errno) -> String {
    match errno {
        Errno::NOSPC => "the disk is full: free some space".to_owned(),
        Errno::DQUOT => {
            "the account's disk quota is used up: free some space or raise it".to_owned()
        }
        Errno::ROFS => "its file system is mounted read-only: mount it writable".to_owned(),
        Errno::ACCESS => "permission denied: check its owner and mode, and the home's".to_owned(),
        Errno::PERM => "not permitted: check its owner, a sticky bit, and `lsattr`".to_owned(),
        Errno::LOOP => "a link stands there, and links are not followed: remove it".to_owned(),
        Errno::XDEV => "a mount stands there, and mounts are not crossed: unmount it".to_owned(),
        Errno::BUSY => "a mount stands there: unmount it".to_owned(),
        Errno::ISDIR => "a directory stands there: move it away".to_owned(),
        Errno::NOTDIR => "it is no directory: move it away".to_owned(),
        Errno::NOSYS => {
            "the system has no openat2: Linux is older than 5.6, or a filter forbids it (systemd's \
             RestrictSUIDSGID does)"
                .to_owned()
        }
        other => other.to_string(),
    }
}
