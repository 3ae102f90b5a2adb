//! What `desired.yaml` was: who changed it to which revision, and the last contents themselves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;

/// The log is cut to half of this when it is longer.
const MAX_LINES: usize = 10_000;
/// How many contents are kept: never fewer than the first, and more only up to the others.
const KEEP: std::ops::RangeInclusive<usize> = 2..=20;
const KEEP_BYTES: u64 = 64 << 20;

/// The directory `history/`.
#[derive(Debug)]
pub struct History {
    dir: PathBuf,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who asked for it; empty when nobody can tell.
    pub who: String,
    /// What was changed.
    pub what: String,
    /// What the file was after it.
    pub revision: Digest,
}

/// The history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct HistoryError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl History {
    /// The history in this directory, which is made when it is first written to.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log.jsonl")
    }

    /// The log, oldest first. Lines that a crash cut short are passed over.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, HistoryError> {
        Ok(self.log()?.lines().filter_map(entry).collect())
    }

    fn log(&self) -> Result<String, HistoryError> {
        let path = self.log_path();
        match fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(HistoryError { what: "read", path, source }),
        }
    }

    /// The newest entries of the last two revisions, newest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn last_two(&self) -> Result<Vec<Entry>, HistoryError> {
        let mut found: Vec<Entry> = Vec::new();
        for entry in self.log()?.lines().rev().filter_map(entry) {
            if found.len() == 2 {
                break;
            }
            if found.iter().all(|newer| newer.revision != entry.revision) {
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// The newest contents that are kept and whole, with their file.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn last_good(&self) -> Result<Option<(PathBuf, Vec<u8>)>, HistoryError> {
        let mut tried = Vec::new();
        for entry in self.log()?.lines().rev().filter_map(entry) {
            if tried.contains(&entry.revision) {
                continue;
            }
            if tried.len() > *KEEP.end() {
                break;
            }
            tried.push(entry.revision);
            let path = self.copy_path(entry.revision);
            match fs::read(&path) {
                Ok(bytes) if Digest::of(&bytes) == entry.revision => {
                    return Ok(Some((path, bytes)));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(HistoryError { what: "read", path, source }),
            }
        }
        Ok(None)
    }

    /// All contents that are kept, as far as they can be read.
    #[must_use]
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let copies = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        copies.filter_map(|path| fs::read(path).ok()).collect()
    }

    fn copy_path(&self, revision: Digest) -> PathBuf {
        self.dir.join(format!("{revision}.yaml"))
    }

    /// Records contents and how they came about: the contents first, then the log, both durable
    /// when this returns. The caller holds the lock. `mode` is the file's: who may read the one may
    /// read the other.
    ///
    /// # Errors
    /// When something cannot be written; the revision then counts as unknown.
    pub fn record(&self, bytes: &[u8], entries: &[Entry], mode: u32) -> Result<(), HistoryError> {
        let Some(revision) = entries.first().map(|entry| entry.revision) else { return Ok(()) };
        let mode = self.shared(mode & 0o666);
        self.make_dir(mode)?;
        let copy = self.copy_path(revision);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HistoryError { what: "write", path, source }
        };
        if !fs::read(&copy).is_ok_and(|kept| Digest::of(&kept) == revision) {
            put(&copy, bytes, mode).map_err(failed(&copy))?;
        }
        let log = self.log_path();
        self.append(&log, entries, mode).map_err(failed(&log))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed(&self.dir))?;
        self.prune()
    }

    /// Whoever of the group may write the directory above may edit, so also write the log.
    fn shared(&self, mode: u32) -> u32 {
        let above = self.dir.parent().and_then(|dir| fs::metadata(dir).ok());
        let by_group = above.is_some_and(|meta| meta.permissions().mode() & 0o020 != 0);
        if by_group { mode | 0o060 } else { mode }
    }

    fn make_dir(&self, mode: u32) -> Result<(), HistoryError> {
        let failed = |source| HistoryError { what: "make", path: self.dir.clone(), source };
        if self.dir.is_dir() {
            return Ok(());
        }
        // Under its name only when it has its mode: nobody would mend one that a crash left
        // without. We hold the lock, so the other name is nobody's; who left it may have been
        // another user.
        let unfinished = self.dir.with_extension("new");
        let make = || {
            match fs::remove_dir(&unfinished) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir(&unfinished)?,
            }
            // Who may read or write the file may enter its history. The set-group-id bit that the
            // directory inherits stays.
            let now = fs::metadata(&unfinished)?.permissions().mode();
            let mode = (now & 0o7000) | 0o700 | mode | ((mode & 0o444) >> 2);
            fs::set_permissions(&unfinished, fs::Permissions::from_mode(mode))?;
            fs::rename(&unfinished, &self.dir)
        };
        make().map_err(failed)
    }

    fn append(&self, path: &Path, entries: &[Entry], mode: u32) -> io::Result<()> {
        let mut lines = String::new();
        let old = self.log().map_err(|error| error.source)?;
        if !old.is_empty() && !old.ends_with('\n') {
            lines.push('\n'); // what a crash cut short stays a line of its own
        }
        for entry in entries {
            lines.push_str(&serde_json::to_string(entry)?);
            lines.push('\n');
        }
        let count = old.lines().count();
        if count + entries.len() > MAX_LINES {
            let kept: Vec<&str> = old.lines().skip(count - MAX_LINES / 2).collect();
            return put(
                path,
                format!("{}\n{}", kept.join("\n"), lines.trim_start()).as_bytes(),
                mode,
            );
        }
        if old.is_empty() {
            return put(path, lines.as_bytes(), mode); // never there without its mode
        }
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()
    }

    /// Removes the oldest contents. What cannot be removed is tried again the next time.
    fn prune(&self) -> Result<(), HistoryError> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in self.log()?.lines().rev().filter_map(entry) {
            if kept.contains(&entry.revision) {
                continue;
            }
            let Ok(meta) = fs::metadata(self.copy_path(entry.revision)) else { continue };
            bytes += meta.len();
            if kept.len() >= *KEEP.end() || (kept.len() >= *KEEP.start() && bytes > KEEP_BYTES) {
                break;
            }
            kept.push(entry.revision);
        }
        let names: Vec<String> = kept.iter().map(|revision| format!("{revision}.yaml")).collect();
        let files = fs::read_dir(&self.dir);
        for file in files.into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            // What a crash left half written ends in `.new`; we hold the lock, so it is nobody's.
            let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".new"));
            let is_copy = stem.is_some_and(|stem| stem.parse::<Digest>().is_ok());
            if is_copy && !names.iter().any(|kept| kept == name) {
                fs::remove_file(file.path()).ok(); // another time
            }
        }
        Ok(())
    }
}

/// What a line says, if it is whole.
fn entry(line: &str) -> Option<Entry> {
    serde_json::from_str(line).ok()
}

/// Puts a whole file in place, durable but for the directory.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temp = path.with_extension("new");
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)
}
