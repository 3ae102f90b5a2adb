//! The state, open to be read: kept open from one answer to the next.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::store::{DATABASE, Store, StoreError};

/// So many are kept open.
const KEPT: usize = 8;

/// Which file a database is: one that was restored is another.
type Which = (u64, u64);

/// What tells one state of a database from another: which it is, since when it is watched, and a number
/// that counts from then.
pub(super) type Version = (Which, Instant, i64);

/// Open databases that nobody reads at the moment.
pub(super) struct Readers {
    dir: PathBuf,
    idle: Mutex<Vec<(Which, Store)>>,
    /// One that is only asked for its version, and when it was opened.
    watched: Mutex<Option<(Which, Instant, Store)>>,
}

impl Readers {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, idle: Mutex::default(), watched: Mutex::default() }
    }

    /// Reads something, all of it of one instant.
    ///
    /// # Errors
    /// The state's: there is none, or it cannot be read. Never as if it were empty.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let which = self.which();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(of, _)| Some(*of) == which);
        let kept = idle.pop();
        drop(idle);
        let store = match kept {
            Some((_, store)) => store,
            None => Store::open_to_read(&self.dir)?,
        };
        let read = store.at_once(read);
        // One that failed is opened anew.
        if let (Ok(_), Some(which)) = (&read, which) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < KEPT {
                idle.push((which, store));
            }
        }
        read
    }

    /// Another one after each change; none: it cannot be read.
    pub(super) fn version(&self) -> Option<Version> {
        let which = self.which()?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.as_ref().is_none_or(|(of, ..)| *of != which) {
            *watched = Some((which, Instant::now(), Store::open_to_read(&self.dir).ok()?));
        }
        let (_, opened, store) = watched.as_ref()?;
        let version = store.data_version().ok().map(|number| (which, *opened, number));
        if version.is_none() {
            *watched = None;
        }
        version
    }

    fn which(&self) -> Option<Which> {
        let meta = fs::metadata(self.dir.join(DATABASE)).ok()?;
        Some((meta.dev(), meta.ino()))
    }
}
