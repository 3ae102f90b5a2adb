//! What `desired.yaml` was: who changed it to which revision, and the last contents themselves.

mod dir;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;

use dir::Dir;

/// The log's name.
const LOG: &str = "log.jsonl";
/// The log is cut to half of this when it is longer.
const MAX_LINES: usize = 10_000;
/// So many bytes of its end have the last two revisions, as a rule.
const TAIL: usize = 64 << 10;
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

    /// The directory, if there is one.
    fn open(&self) -> Result<Option<Dir>, HistoryError> {
        Dir::open(&self.dir).map_err(self.failed("read", ""))
    }

    fn failed(&self, what: &'static str, name: &str) -> impl Fn(io::Error) -> HistoryError {
        let path = if name.is_empty() { self.dir.clone() } else { self.dir.join(name) };
        move |source| HistoryError { what, path: path.clone(), source }
    }

    /// The log, oldest first. Lines that a crash cut short are passed over.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, HistoryError> {
        Ok(self.log()?.lines().filter_map(entry).collect())
    }

    fn log(&self) -> Result<String, HistoryError> {
        self.open()?.map_or_else(|| Ok(String::new()), |dir| self.log_in(&dir))
    }

    fn log_in(&self, dir: &Dir) -> Result<String, HistoryError> {
        let bytes = dir.read(LOG).map_err(self.failed("read", LOG))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The newest entries of the last two revisions, newest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn last_two(&self) -> Result<Vec<Entry>, HistoryError> {
        let Some(dir) = self.open()? else { return Ok(Vec::new()) };
        // As a rule they are at the end: of a long log no more is read.
        let tail = dir.read_tail(LOG, TAIL).map_err(self.failed("read", LOG))?.unwrap_or_default();
        let found = newest_two(&String::from_utf8_lossy(&tail));
        if found.len() == 2 || tail.len() < TAIL {
            return Ok(found);
        }
        Ok(newest_two(&self.log_in(&dir)?))
    }

    /// The newest contents that are kept and whole, with their file.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn last_good(&self) -> Result<Option<(PathBuf, Vec<u8>)>, HistoryError> {
        let Some(dir) = self.open()? else { return Ok(None) };
        let mut tried = Vec::new();
        for entry in self.log_in(&dir)?.lines().rev().filter_map(entry) {
            if tried.contains(&entry.revision) {
                continue;
            }
            if tried.len() > *KEEP.end() {
                break;
            }
            tried.push(entry.revision);
            let name = copy_name(entry.revision);
            match dir.read(&name).map_err(self.failed("read", &name))? {
                Some(bytes) if Digest::of(&bytes) == entry.revision => {
                    return Ok(Some((self.dir.join(name), bytes)));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// All contents that are kept, as far as they can be read.
    #[must_use]
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let Ok(Some(dir)) = self.open() else { return Vec::new() };
        let names = dir.names();
        let copies =
            names.iter().filter(|name| name.strip_suffix(".yaml").is_some() && is_copy(name));
        // One more than are kept: a crash may have come before the oldest was removed.
        copies.take(*KEEP.end() + 1).filter_map(|name| dir.read(name).ok().flatten()).collect()
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
        let dir = match self.open()? {
            Some(dir) => dir,
            None => Dir::make(&self.dir, mode).map_err(self.failed("make", ""))?,
        };
        let copy = copy_name(revision);
        let is_kept = |bytes: Option<Vec<u8>>| bytes.is_some_and(|b| Digest::of(&b) == revision);
        if !dir.read(&copy).is_ok_and(is_kept) {
            dir.put(&copy, bytes, mode).map_err(self.failed("write", &copy))?;
        }
        let log = self.log_in(&dir)?;
        append(&dir, &log, entries, mode).map_err(self.failed("write", LOG))?;
        dir.sync().map_err(self.failed("write", ""))?;
        self.prune(&dir)
    }

    /// Whoever of the group may write the directory above may edit, so also write the log.
    fn shared(&self, mode: u32) -> u32 {
        let above = self.dir.parent().and_then(|dir| fs::metadata(dir).ok());
        let by_group = above.is_some_and(|meta| meta.permissions().mode() & 0o020 != 0);
        if by_group { mode | 0o060 } else { mode }
    }

    /// Removes the oldest contents. What cannot be removed is tried again the next time.
    fn prune(&self, dir: &Dir) -> Result<(), HistoryError> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in self.log_in(dir)?.lines().rev().filter_map(entry) {
            let name = copy_name(entry.revision);
            if kept.contains(&name) {
                continue;
            }
            let Some(length) = dir.length(&name) else { continue };
            bytes += length;
            if kept.len() >= *KEEP.end() || (kept.len() >= *KEEP.start() && bytes > KEEP_BYTES) {
                break;
            }
            kept.push(name);
        }
        for name in dir.names() {
            // What a crash left half written ends in `.new`; we hold the lock, so it is nobody's.
            if is_copy(&name) && !kept.contains(&name) {
                dir.remove(&name).ok(); // another time
            }
        }
        Ok(())
    }
}

/// The newest entries of the last two revisions, newest first.
fn newest_two(log: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    for entry in log.lines().rev().filter_map(entry) {
        if found.len() == 2 {
            break;
        }
        if found.iter().all(|newer| newer.revision != entry.revision) {
            found.push(entry);
        }
    }
    found
}

fn copy_name(revision: Digest) -> String {
    format!("{revision}.yaml")
}

/// Whether a file of this name is a revision's contents, whole or half written.
fn is_copy(name: &str) -> bool {
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".new"));
    stem.is_some_and(|stem| stem.parse::<Digest>().is_ok())
}

/// What a line says, if it is whole.
fn entry(line: &str) -> Option<Entry> {
    serde_json::from_str(line).ok()
}

/// Adds lines to the log, which says `old` so far.
fn append(dir: &Dir, old: &str, entries: &[Entry], mode: u32) -> io::Result<()> {
    let mut lines = String::new();
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
        let kept = format!("{}\n{}", kept.join("\n"), lines.trim_start());
        return dir.put(LOG, kept.as_bytes(), mode);
    }
    if old.is_empty() {
        return dir.put(LOG, lines.as_bytes(), mode); // never there without its mode
    }
    dir.append(LOG, lines.as_bytes())
}
