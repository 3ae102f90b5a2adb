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
/// The log is cut to half of this when it is longer, in bytes: some ten thousand lines.
const MAX_LOG: u64 = 2 * HALF_LOG as u64;
const HALF_LOG: usize = 1 << 20;
/// So much of its end is read first.
const TAIL: usize = 16 << 10;
/// How many contents are kept: never fewer than the first, and more only up to the others.
const KEEP: std::ops::RangeInclusive<usize> = 2..=20;
const KEEP_BYTES: u64 = 64 << 20;
/// Once there are too many, so many are left: to tell which are the oldest is not for each edit.
const LEFT: usize = 16;

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
        self.open()?.map_or_else(|| Ok(Vec::new()), |dir| self.last(&dir, 2))
    }

    /// The newest entry of each of the last so many revisions, newest first.
    fn last(&self, dir: &Dir, revisions: usize) -> Result<Vec<Entry>, HistoryError> {
        // As a rule they are at the end: of a long log no more is read.
        let mut most = TAIL;
        loop {
            let tail = dir.read_tail(LOG, most).map_err(self.failed("read", LOG))?;
            let tail = tail.unwrap_or_default();
            let found = newest(&String::from_utf8_lossy(&tail), revisions);
            // What is before that was not written by us.
            let is_all = tail.len() < most || most as u64 > MAX_LOG;
            if found.len() == revisions || is_all {
                return Ok(found);
            }
            most *= 4;
        }
    }

    /// The newest contents that are kept and whole, with their file.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn last_good(&self) -> Result<Option<(PathBuf, Vec<u8>)>, HistoryError> {
        let Some(dir) = self.open()? else { return Ok(None) };
        // One more than are kept: a crash may have come before the newest was written.
        for entry in self.last(&dir, *KEEP.end() + 1)? {
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
        let copies = names.iter().filter(|name| is_whole(name) && is_copy(name));
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
        append(&dir, entries, mode).map_err(self.failed("write", LOG))?;
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
        // What a crash left half written ends in `.new`; we hold the lock, so it is nobody's.
        let (copies, unfinished): (Vec<String>, Vec<String>) =
            dir.names().into_iter().filter(|name| is_copy(name)).partition(|n| is_whole(n));
        let bytes: u64 = copies.iter().filter_map(|name| dir.length(name)).sum();
        let mut gone = unfinished;
        if copies.len() > *KEEP.end() || bytes > KEEP_BYTES {
            let kept = self.to_keep(dir)?;
            gone.extend(copies.into_iter().filter(|name| !kept.contains(name)));
        }
        for name in gone {
            dir.remove(&name).ok(); // another time
        }
        Ok(())
    }

    /// The names of the newest contents, as many as there is room for.
    fn to_keep(&self, dir: &Dir) -> Result<Vec<String>, HistoryError> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for entry in self.last(dir, LEFT + 1)? {
            let name = copy_name(entry.revision);
            let Some(length) = dir.length(&name) else { continue };
            bytes += length;
            if kept.len() >= LEFT || (kept.len() >= *KEEP.start() && bytes > KEEP_BYTES) {
                break;
            }
            kept.push(name);
        }
        Ok(kept)
    }
}

/// The newest entry of each of the last so many revisions, newest first.
fn newest(log: &str, revisions: usize) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut same = String::new();
    for line in log.lines().rev() {
        // Many lines may be of one revision: they are not parsed.
        if !same.is_empty() && line.ends_with(&same) {
            continue;
        }
        let Some(entry) = entry(line) else { continue };
        if found.iter().all(|newer| newer.revision != entry.revision) {
            same = format!("\"{}\"}}", entry.revision);
            found.push(entry);
            if found.len() == revisions {
                break;
            }
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

fn is_whole(copy: &str) -> bool {
    copy.strip_suffix(".yaml").is_some()
}

/// What a line says, if it is whole.
fn entry(line: &str) -> Option<Entry> {
    serde_json::from_str(line).ok()
}

/// Adds lines to the log.
fn append(dir: &Dir, entries: &[Entry], mode: u32) -> io::Result<()> {
    let mut lines = String::new();
    for entry in entries {
        lines.push_str(&serde_json::to_string(entry)?);
        lines.push('\n');
    }
    let Some(length) = dir.length(LOG) else {
        return dir.put(LOG, lines.as_bytes(), mode); // never there without its mode
    };
    let end = dir.read_tail(LOG, 1)?.unwrap_or_default();
    if end.last().is_some_and(|last| *last != b'\n') {
        lines.insert(0, '\n'); // what a crash cut short stays a line of its own
    }
    if length + lines.len() as u64 <= MAX_LOG {
        return dir.append(LOG, lines.as_bytes());
    }
    let half = dir.read_tail(LOG, HALF_LOG)?.unwrap_or_default();
    // Its first line may be cut.
    let from = half.iter().position(|byte| *byte == b'\n').map_or(half.len(), |end| end + 1);
    dir.put(LOG, &[&half[from..], lines.as_bytes()].concat(), mode)
}
