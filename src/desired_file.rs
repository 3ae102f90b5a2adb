//! `desired.yaml` on disk: the only reader, and the only writer besides people.
//!
//! Every writer holds a lock, reads again, edits, and replaces the file in one rename. A revision
//! is in the history before the file has it, so that a crash at any instant leaves a file that the
//! history knows. One that the history does not know was made by hand: it is taken up when it has
//! been still for a while, and is not the beginning of the last good one, as a copy that was cut
//! short would be.

mod lock;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

pub use crate::desired_error::{EditError, LoadError};
use crate::desired_history::{Entry, History, HistoryError};
use crate::model::change::{Change, ChangeError};
use crate::model::desired::Desired;
use crate::model::digest::Digest;
use crate::model::edit_text::{self, EditTextError, Users};
use crate::model::name::UserId;
use crate::model::user_blocks;
use crate::model::yaml::{self, YamlError};

/// How long a file that our own writers did not make must have been still.
const STILL: SignedDuration = SignedDuration::from_secs(2);
/// What the history says of a revision that our own writers did not make.
pub const BY_HAND: &str = "by hand";
/// How long a writer waits for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many users are kept in mind from edit to edit, at most: a few kilobytes for each.
const MOST_KNOWN: usize = 4096;

/// The file, its lock and its history.
#[derive(Debug)]
pub struct DesiredFile {
    path: PathBuf,
    history: History,
    /// What the last edit left here.
    last: Mutex<Option<Last>>,
}

/// A text that was written, and what is known of it: that need not be found out again while the file
/// has it.
#[derive(Debug)]
struct Last {
    text: Arc<str>,
    revision: Digest,
    users: Users,
}

/// The file as it was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says, of the users who were asked for.
    pub desired: Desired,
    /// Its text, to show places in it.
    pub text: Arc<str>,
    /// The digest of its bytes.
    pub revision: Digest,
    /// Whether our own writers did not make it: a pass that takes it up says so to
    /// [`DesiredFile::adopt`].
    pub by_hand: bool,
}

/// What came of one edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// The revision that the file has now.
    pub revision: Digest,
    /// Whether it had to be changed.
    pub changed: bool,
    /// When the history says that this was.
    pub at: Timestamp,
}

/// One edit: a change and who asked for it.
#[derive(Debug, Clone)]
pub struct Edit {
    /// What.
    pub change: Change,
    /// Who.
    pub who: String,
}

/// What came of a batch.
#[derive(Debug)]
pub struct Batch {
    /// The revision that the file has now.
    pub revision: Digest,
    /// For each edit in order, whether it changed anything.
    pub outcomes: Vec<Result<bool, ChangeError>>,
    /// When the history says that this was.
    pub at: Timestamp,
}

/// The file as it was written.
#[derive(Debug)]
pub struct Written {
    /// Its text.
    pub text: Arc<str>,
    /// The digest of its bytes.
    pub revision: Digest,
    /// What it was before.
    pub before: Digest,
    /// What it says of the users whom the edits are about, as far as it names them.
    pub users: Users,
    /// The new file's metadata, once it was in place: whether it still is there is for the reader
    /// to see.
    pub meta: fs::Metadata,
}

impl DesiredFile {
    /// The file at this path, the lock and the history beside it. Nothing is touched yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let history = History::new(path.with_file_name("history"));
        Self { path, history, last: Mutex::default() }
    }

    /// Who changed it, as far back as the history goes, oldest first.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn edits(&self) -> Result<Vec<Entry>, HistoryError> {
        self.history.entries()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file, if it may be believed.
    ///
    /// # Errors
    /// Whatever is wrong with it; never an empty state in its place.
    pub fn read(&self, now: Timestamp) -> Result<Loaded, LoadError> {
        self.read_part(now, None)
    }

    /// The same; with `only`, of a large file that our own writers made, no more than these users'
    /// lines: the others were read when they were written.
    ///
    /// # Errors
    /// As [`DesiredFile::read`].
    pub fn read_part(
        &self,
        now: Timestamp,
        only: Option<&BTreeSet<UserId>>,
    ) -> Result<Loaded, LoadError> {
        let raw = self.raw()?;
        let by_hand = self.judge(&raw, now)? == Made::ByHand;
        let large = raw.text.len() > user_blocks::SMALL;
        let layout = (large && !by_hand && only.is_some()).then(|| user_blocks::scan(&raw.text));
        let desired = match (layout.flatten(), only) {
            (Some(layout), Some(users)) => layout.read(&raw.text, |name| users.contains(name)),
            _ => Desired::parse(&raw.text),
        };
        let desired = desired.map_err(|error| self.invalid(error, &raw.text))?;
        Ok(Loaded { desired, text: raw.text, revision: raw.revision, by_hand })
    }

    /// Reads the file's text, if it may be believed. Of one that our own writers made nothing is
    /// parsed: that was done when it was written.
    ///
    /// # Errors
    /// As [`DesiredFile::read`].
    pub fn read_text(&self, now: Timestamp) -> Result<(Arc<str>, Digest), LoadError> {
        let raw = self.raw()?;
        if self.judge(&raw, now)? == Made::ByHand {
            Desired::parse(&raw.text).map_err(|error| self.invalid(error, &raw.text))?;
        }
        Ok((raw.text, raw.revision))
    }

    /// Everybody whom a kept revision names. One that cannot be read names nobody.
    #[must_use]
    pub fn formerly(&self) -> BTreeSet<UserId> {
        let texts = self.history.kept().into_iter().filter_map(|kept| String::from_utf8(kept).ok());
        let desired = texts.filter_map(|text| Desired::parse(&text).ok());
        desired.flat_map(|desired| desired.users.into_keys()).collect()
    }

    /// Records a revision that was made by hand as a good one: a pass acts on it.
    ///
    /// # Errors
    /// When the history cannot be written, or the file is another one meanwhile.
    pub fn adopt(&self, loaded: &Loaded, who: &str, now: Timestamp) -> Result<(), EditError> {
        if !loaded.by_hand {
            return Ok(());
        }
        let _lock = self.lock()?;
        let raw = self.raw()?;
        if raw.revision != loaded.revision {
            return Err(EditError::Conflict { now: raw.revision });
        }
        Ok(self.record(&raw, &[(who, BY_HAND)], now)?)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// When there is no good state to change, it is not the expected one, or the change makes no
    /// sense; then nothing is changed.
    pub fn edit(
        &self,
        change: &Change,
        who: &str,
        expected: Option<Digest>,
        now: Timestamp,
    ) -> Result<Edited, EditError> {
        let edit = Edit { change: change.clone(), who: who.to_owned() };
        let mut batch = self.edit_batch(&[edit], expected, now)?;
        let changed = batch.outcomes.pop().transpose()?.unwrap_or(false);
        Ok(Edited { revision: batch.revision, changed, at: batch.at })
    }

    /// Makes several changes in one write. One that makes no sense does not stop the others.
    ///
    /// # Errors
    /// When there is no good state to change, or it is not the expected one.
    pub fn edit_batch(
        &self,
        edits: &[Edit],
        expected: Option<Digest>,
        now: Timestamp,
    ) -> Result<Batch, EditError> {
        self.edit_batch_and_show(edits, expected, now, |_| {})
    }

    /// The same. As soon as everybody who reads the file sees the edits, `show` is called: not yet
    /// durable, and even if that then fails.
    ///
    /// # Errors
    /// As [`DesiredFile::edit_batch`].
    pub fn edit_batch_and_show(
        &self,
        edits: &[Edit],
        expected: Option<Digest>,
        now: Timestamp,
        show: impl FnOnce(Written),
    ) -> Result<Batch, EditError> {
        let _lock = self.lock()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = self.raw_after(last.as_ref())?;
        if expected.is_some_and(|expected| expected != raw.revision) {
            return Err(EditError::Conflict { now: raw.revision });
        }
        let made = self.judge(&raw, now)?;
        // Not before the file's own time: by it is told whether a revision that is recorded has
        // also been put in place, though we waited for the lock or the clock was set back.
        let now = now.max(changed_at(&raw.meta));
        let changes: Vec<Change> = edits.iter().map(|edit| edit.change.clone()).collect();
        let mut users = match last.take() {
            Some(last) if last.revision == raw.revision => last.users,
            _ => Users::new(),
        };
        let known = (made != Made::ByHand).then_some(&users);
        let edited = edit_text::edit(&raw.text, &changes, known).map_err(|error| match error {
            EditTextError::Invalid(error) => self.invalid(*error, &raw.text).into(),
            error @ EditTextError::Form { .. } => {
                EditError::Text { path: self.path.clone(), error: Box::new(error) }
            }
        })?;
        // What follows is built on it.
        match made {
            Made::Last => {}
            Made::BeforeLast => self.record(&raw, &[("", "an edit before this failed")], now)?,
            // It was read as a whole by the edit.
            Made::ByHand => self.record(&raw, &[("", BY_HAND)], now)?,
        }
        let Some(text) = edited.text else {
            let (revision, outcomes) = (raw.revision, edited.outcomes);
            *last = Some(Last { text: raw.text, revision, users });
            return Ok(Batch { revision, outcomes, at: now });
        };
        let done: Vec<_> =
            edits.iter().zip(&edited.outcomes).filter(|(_, o)| **o == Ok(true)).collect();
        let what: Vec<String> = done.iter().map(|(edit, _)| edit.change.to_string()).collect();
        let lines = done.iter().zip(&what).map(|((edit, _), what)| (edit.who.as_str(), &**what));
        let new = Raw { revision: Digest::of(&text), text: text.into(), meta: raw.meta };
        let revision = new.revision;
        let meta = self.replace(&new, &lines.collect::<Vec<_>>(), now)?;
        if users.len() > MOST_KNOWN {
            users.clear();
        }
        users.extend(edited.users.clone());
        *last = Some(Last { text: Arc::clone(&new.text), revision, users });
        let (before, users) = (raw.revision, edited.users);
        show(Written { text: new.text, revision, before, users, meta });
        sync_dir(&self.path).map_err(|source| EditError::Write {
            what: "make durable the directory of",
            path: self.path.clone(),
            source,
        })?;
        Ok(Batch { revision, outcomes: edited.outcomes, at: now })
    }

    /// `.desired.yaml.<what>` in the same directory.
    fn beside(&self, what: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{what}"))
    }

    fn invalid(&self, error: YamlError, text: &str) -> LoadError {
        LoadError::Invalid {
            path: self.path.clone(),
            error: Box::new(error),
            text: text.to_owned(),
        }
    }

    fn raw(&self) -> Result<Raw, LoadError> {
        self.raw_after(None)
    }

    /// The same, quicker if it is what was written last.
    fn raw_after(&self, last: Option<&Last>) -> Result<Raw, LoadError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing(self.path.clone()),
            _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let source = io::Error::other("it is a link: name the file itself");
                LoadError::Read { path: self.path.clone(), source }
            }
            _ => LoadError::Read { path: self.path.clone(), source },
        };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(no_traps())
            .open(&self.path)
            .map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        let most = yaml::MAX_BYTES as u64 + 1;
        (&file).take(most).read_to_end(&mut bytes).map_err(failed)?;
        // Asked again: what was written while we read is not still.
        let meta = file.metadata().map_err(failed)?;
        if let Some(last) = last.filter(|last| last.text.as_bytes() == bytes) {
            return Ok(Raw { text: Arc::clone(&last.text), revision: last.revision, meta });
        }
        let revision = Digest::of(&bytes);
        let error = match String::from_utf8(bytes) {
            Ok(text) => return Ok(Raw { text: text.into(), revision, meta }),
            Err(error) => yaml::utf8(error.as_bytes()).err(),
        };
        Err(error.map_or_else(
            || failed(io::Error::other("it is not UTF-8")),
            |error| self.invalid(error, ""),
        ))
    }

    /// Whether the file may be believed, and how it was made. An older revision of our own counts
    /// as made by hand: what is left of a file that grew by our edits and was cut off may be one.
    fn judge(&self, raw: &Raw, now: Timestamp) -> Result<Made, LoadError> {
        let changed = changed_at(&raw.meta);
        let last_two = self.history.last_two()?;
        match last_two.iter().position(|entry| entry.revision == raw.revision) {
            Some(0) => return Ok(Made::Last),
            Some(_) if changed <= last_two[0].at => return Ok(Made::BeforeLast),
            _ => {}
        }
        // A time in the future is as good as one in the past: who writes now leaves "now" there.
        let still = now.duration_since(changed).abs();
        if still < STILL {
            let ready_in = (STILL - still).unsigned_abs();
            return Err(LoadError::Settling { path: self.path.clone(), ready_in });
        }
        if let Some((good, contents)) = self.history.last_good()?
            && raw.text.len() < contents.len()
            && contents.starts_with(raw.text.as_bytes())
        {
            let (bytes, of) = (raw.text.len(), contents.len());
            return Err(LoadError::CutOff { path: self.path.clone(), bytes, of, good });
        }
        Ok(Made::ByHand)
    }

    fn record(&self, raw: &Raw, lines: &[(&str, &str)], at: Timestamp) -> Result<(), HistoryError> {
        let entries: Vec<Entry> = lines
            .iter()
            .map(|(who, what)| Entry {
                at,
                who: (*who).to_owned(),
                what: (*what).to_owned(),
                revision: raw.revision,
            })
            .collect();
        self.history.record(raw.text.as_bytes(), &entries, raw.meta.permissions().mode())
    }

    /// Replaces the file, not yet durably. The history has the revision first: a crash in between
    /// leaves the old file, which it knows too.
    fn replace(
        &self,
        new: &Raw,
        lines: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<fs::Metadata, EditError> {
        let temp = self.beside("new");
        let failed = |what| {
            let path = temp.clone();
            move |source| EditError::Write { what, path, source }
        };
        // Left by a crash: we hold the lock, so nobody writes it.
        match fs::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove")(error));
            }
            _ => {}
        }
        let written = write_like(&temp, new.text.as_bytes(), &new.meta)
            .map_err(failed("write"))
            .and_then(|file| Ok(self.record(new, lines, now).map(|()| file)?))
            .and_then(|file| {
                fs::rename(&temp, &self.path).map_err(failed("put in place"))?;
                file.metadata().map_err(failed("look at"))
            });
        if written.is_err() {
            // Best effort: the next writer removes it too.
            fs::remove_file(&temp).ok();
        }
        written
    }

    /// Waits for the lock, which is given back when the file is closed.
    fn lock(&self) -> Result<File, EditError> {
        // Never renamed: a lock on a file that is replaced would protect nothing.
        let path = self.beside("lock");
        let failed = |source| EditError::Write { what: "lock", path: path.clone(), source };
        if !self.path.parent().is_some_and(|dir| dir.as_os_str().is_empty() || dir.is_dir()) {
            return Err(LoadError::Missing(self.path.clone()).into());
        }
        let file = lock::open(&path).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() > PATIENCE => {
                    return Err(EditError::Locked(self.path.clone()));
                }
                // Uneven, so that waiters do not come back all at once.
                Err(fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(Duration::from_micros(fastrand::u64(500..5000)));
                }
            }
        }
    }
}

/// Who made the file what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The last edit of our own.
    Last,
    /// The edit before it: the last one was recorded, and ended before it could replace the file.
    BeforeLast,
    /// Somebody else.
    ByHand,
}

/// The bytes of a file that are text, and its metadata.
struct Raw {
    text: Arc<str>,
    revision: Digest,
    meta: fs::Metadata,
}

/// When the file was last written.
fn changed_at(meta: &fs::Metadata) -> Timestamp {
    let nanos = i32::try_from(meta.mtime_nsec()).unwrap_or(0);
    Timestamp::new(meta.mtime(), nanos).unwrap_or(Timestamp::MIN)
}

/// Does not wait for a FIFO, and does not follow a link: who may write the directory could
/// otherwise have another file of ours read, and see a line of it in an error.
fn no_traps() -> i32 {
    use rustix::fs::OFlags;
    i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or(0)
}

/// Writes a new file with the group and the mode of another.
fn write_like(path: &Path, bytes: &[u8], like: &fs::Metadata) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if file.metadata()?.gid() != like.gid() {
        fchown(&file, None, Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o777))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn sync_dir(file: &Path) -> io::Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
