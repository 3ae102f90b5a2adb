//! Whether files are as they were: by what the file system says of them, without reading them.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What tells one state of a file from another: device, inode, size, time of change in
/// nanoseconds.
pub type Mark = (u64, u64, u64, i128);

/// The grain of the clock that file systems write down, and more, in nanoseconds.
const GRAIN: i128 = 20_000_000;

/// Files, each with its mark.
pub type Marks = BTreeMap<PathBuf, Mark>;

/// The marks of the files that are there, and of those in the directories.
#[must_use]
pub fn marks(paths: &[PathBuf]) -> Marks {
    let mut all = BTreeMap::new();
    let mut add = |file: PathBuf| {
        // What is linked counts, not the link.
        let meta = fs::metadata(&file).ok()?;
        all.insert(file, mark(&meta));
        Some(meta)
    };
    for path in paths {
        if add(path.clone()).is_some_and(|meta| meta.is_dir()) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                add(entry.path());
            }
        }
    }
    all
}

/// The mark of one file.
#[must_use]
pub fn mark(meta: &Metadata) -> Mark {
    let time = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    (meta.dev(), meta.ino(), meta.size(), time)
}

/// The mark of what has this name, if it is there.
#[must_use]
pub fn mark_of(path: &Path) -> Option<Mark> {
    // What is linked counts, not the link.
    fs::metadata(path).ok().as_ref().map(mark)
}

/// Whether no file changed within the grain of the file system's clock.
fn is_settled(marks: &Marks) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(i128::MAX));
    marks.values().all(|(.., changed)| (now - changed).abs() > GRAIN)
}

/// What files and directories of files say, read again only when they are not as they were.
pub struct Kept<T> {
    paths: Vec<PathBuf>,
    read: Mutex<Option<Read<T>>>,
}

/// What was read.
struct Read<T> {
    marks: Marks,
    /// Whether a change after the reading would show in the marks.
    is_settled: bool,
    value: Arc<T>,
}

impl<T> Kept<T> {
    /// Of these; nothing is read yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, read: Mutex::default() }
    }

    /// What they say now.
    ///
    /// # Errors
    /// They are not as they were, and cannot be read; they will be tried again.
    pub fn get<E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut kept = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what changes meanwhile is read again.
        let now = marks(&self.paths);
        // What changed just now may change again and look the same: it is read once more, soon.
        let is_settled = is_settled(&now);
        match &*kept {
            Some(last) if last.marks == now && (last.is_settled || !is_settled) => {
                Ok(Arc::clone(&last.value))
            }
            _ => {
                let value = Arc::new(read()?);
                *kept = Some(Read { marks: now, is_settled, value: Arc::clone(&value) });
                Ok(value)
            }
        }
    }

    /// Takes the word of who wrote the only file just now, and has this of it since. While somebody
    /// reads the file that is not waited for: it was read before that, and is then read once more, or
    /// after it.
    pub fn put(&self, meta: &Metadata, value: T) {
        let marks = self.paths.iter().map(|path| (path.clone(), mark(meta))).collect();
        let read = Read { marks, is_settled: false, value: Arc::new(value) };
        if let Ok(mut kept) = self.read.try_lock() {
            *kept = Some(read);
        }
    }
}
