//! What a run asked for, on disk before it is sent: a line of JSON for each thing.
//!
//! A run ends by emptying the file. What is in it at the start is of a run that was cut off.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::name::EnvName;
use crate::model::registry::Endpoint;

/// The journal cannot be used: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("cannot use the journal {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else checks this service just now.
    #[error("another check of this service is under way: it holds {}", .0.display())]
    Busy(PathBuf),
    /// Emptying it would destroy what it is.
    #[error("{} is not a journal of check-service", .0.display())]
    Foreign(PathBuf),
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// What follows was sent there.
    Run { version: u8, endpoint: Box<Endpoint> },
    /// A token is asked for: this line is there first.
    Ask { name: String, at: Timestamp },
    /// One was issued.
    Token { name: String, token_id: String },
    /// None was.
    Refused { name: String },
    /// The service confirmed a revoke under this name of its or ours.
    Revoked { by: String },
}

/// What was asked for under one name, and may be alive.
pub(super) struct Debt {
    pub(super) endpoint: Arc<Endpoint>,
    /// The `client_ref`, or (v1) a name that only the journal knows.
    pub(super) name: String,
    pub(super) at: Timestamp,
    pub(super) token_ids: Vec<String>,
    /// How many asks have no clear answer.
    pub(super) unclear: u32,
}

/// The journal of one service's runs, open and locked.
pub struct Journal {
    file: File,
    path: PathBuf,
    endpoint: Arc<Endpoint>,
    pub(super) debts: Vec<Debt>,
    /// Names under which a revoke was confirmed.
    revoked: BTreeSet<String>,
    /// Whether this run's first line is there.
    begun: bool,
}

impl Journal {
    /// Opens the file, which is made with mode 0600 when it is not there.
    ///
    /// # Errors
    /// It cannot be used, is somebody else's, or not a journal at all.
    pub fn open(path: &Path, endpoint: &Endpoint) -> Result<Self, JournalError> {
        let trouble = |source| JournalError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(trouble)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).map_err(trouble)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Busy(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(trouble(source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(trouble)?;
        let (debts, revoked) = read(&text).ok_or_else(|| JournalError::Foreign(path.to_owned()))?;
        let endpoint = Arc::new(endpoint.clone());
        let path = path.to_owned();
        let journal = Self { file, path, endpoint, debts, revoked, begun: false };
        if !text.is_empty() && !text.ends_with('\n') {
            // A line that was cut was never sent; what comes next begins its own.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            journal.file.set_len(whole as u64).map_err(trouble)?;
        }
        Ok(journal)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The shared secrets that paying takes, besides that of the service as it is now.
    #[must_use]
    pub fn secrets(&self) -> Vec<EnvName> {
        self.debts.iter().map(|debt| debt.endpoint.secret.clone()).collect()
    }

    /// To be called before a token is asked for under this name.
    pub(super) fn ask(&mut self, name: &str) -> io::Result<()> {
        let at = Timestamp::now();
        if !self.begun {
            self.write(&Line::Run { version: 1, endpoint: Box::new((*self.endpoint).clone()) })?;
            self.begun = true;
        }
        self.write(&Line::Ask { name: name.to_owned(), at })?;
        asked(&mut self.debts, &self.endpoint, name.to_owned(), at);
        Ok(())
    }

    pub(super) fn token(&mut self, name: &str, token_id: &str) -> io::Result<()> {
        let token_id = token_id.to_owned();
        self.write(&Line::Token { name: name.to_owned(), token_id: token_id.clone() })?;
        issued(&mut self.debts, name, token_id);
        Ok(())
    }

    pub(super) fn refused(&mut self, name: &str) -> io::Result<()> {
        self.write(&Line::Refused { name: name.to_owned() })?;
        answered(&mut self.debts, name);
        Ok(())
    }

    /// Without waiting for the disk: it is sent again where this is lost.
    pub(super) fn revoked(&mut self, by: &str) -> io::Result<()> {
        if self.debts.is_empty() || !self.revoked.insert(by.to_owned()) {
            return Ok(());
        }
        self.append(&Line::Revoked { by: by.to_owned() })
    }

    /// Whether a revoke under this name was confirmed before.
    pub(super) fn is_revoked(&self, by: &str) -> bool {
        self.revoked.contains(by)
    }

    /// Everything is paid.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.debts.clear();
        self.revoked.clear();
        self.begun = false;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.sync_all()
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.append(line)?;
        self.file.sync_data()
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

/// What the lines come to. None: they are not ours.
fn read(text: &str) -> Option<(Vec<Debt>, BTreeSet<String>)> {
    let (mut debts, mut revoked, mut endpoint) = (Vec::new(), BTreeSet::new(), None);
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            // Cut: what it announces was not sent. Only the first line tells whose file it is.
            return (endpoint.is_some() || line.starts_with(r#"{"run":"#))
                .then_some((debts, revoked));
        };
        match (serde_json::from_str(line).ok()?, &endpoint) {
            (Line::Run { version: 1, endpoint: there }, _) => endpoint = Some(Arc::new(*there)),
            (Line::Ask { name, at }, Some(there)) => asked(&mut debts, there, name, at),
            (Line::Token { name, token_id }, Some(_)) => issued(&mut debts, &name, token_id),
            (Line::Refused { name }, Some(_)) => answered(&mut debts, &name),
            (Line::Revoked { by }, Some(_)) => drop(revoked.insert(by)),
            _ => return None,
        }
    }
    Some((debts, revoked))
}

fn asked(debts: &mut Vec<Debt>, endpoint: &Arc<Endpoint>, name: String, at: Timestamp) {
    match debts.iter_mut().find(|debt| debt.name == name) {
        Some(debt) => debt.unclear += 1,
        None => debts.push(Debt {
            endpoint: Arc::clone(endpoint),
            name,
            at,
            token_ids: Vec::new(),
            unclear: 1,
        }),
    }
}

fn answered(debts: &mut [Debt], name: &str) {
    if let Some(debt) = debts.iter_mut().find(|debt| debt.name == name) {
        debt.unclear = debt.unclear.saturating_sub(1);
    }
}

fn issued(debts: &mut [Debt], name: &str, token_id: String) {
    answered(debts, name);
    if let Some(debt) = debts.iter_mut().find(|debt| debt.name == name)
        && !debt.token_ids.contains(&token_id)
    {
        debt.token_ids.push(token_id);
    }
}
