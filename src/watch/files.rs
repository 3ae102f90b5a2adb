//! Whether a file changed. The kernel tells; and since it may not (a network's file system, a
//! directory that was replaced), sizes and times are looked at now and then.

use std::collections::BTreeSet;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::file_marks::{Marks, marks};

/// Who makes one change often makes another at once: they are waited for.
const GATHER: Duration = Duration::from_millis(15);
/// How often sizes and times are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The same, where the kernel does not tell.
const LOOK_OFTEN: Duration = Duration::from_secs(1);

/// Files, and directories of files.
pub(super) struct Files {
    paths: Arc<[PathBuf]>,
    told: Arc<Notify>,
    seen: Marks,
    watcher: Option<RecommendedWatcher>,
}

impl Files {
    pub(super) fn watch(paths: Vec<PathBuf>) -> Self {
        let (paths, told) = (Arc::from(paths), Arc::new(Notify::new()));
        let mut files = Self { paths, told, seen: Marks::new(), watcher: None };
        files.begin();
        files
    }

    /// Waits until something is not as it was, and says what: only what changes from then on is a
    /// change again. Nothing is lost when it is dropped.
    pub(super) async fn changed(&mut self) -> BTreeSet<PathBuf> {
        let every = if self.watcher.is_some() { LOOK } else { LOOK_OFTEN };
        while marks(&self.paths) == self.seen {
            tokio::select! {
                () = self.told.notified() => {}
                () = sleep(every) => {}
            }
        }
        sleep(GATHER).await;
        let former = std::mem::take(&mut self.seen);
        // A permit that is left from before.
        self.told = Arc::new(Notify::new());
        self.begin();
        let here = self.seen.iter().filter(|(path, mark)| former.get(*path) != Some(mark));
        let gone = former.keys().filter(|path| !self.seen.contains_key(*path));
        here.map(|(path, _)| path).chain(gone).cloned().collect()
    }

    /// Watches the directories, never the files: a file that is replaced is another one. Anew each
    /// time, since a directory may have been replaced, too.
    fn begin(&mut self) {
        self.watcher = match watcher(&self.paths, &self.told) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "changes are not told by the kernel; looking for them instead");
                None
            }
        };
        self.seen = marks(&self.paths);
    }
}

fn watcher(paths: &Arc<[PathBuf]>, told: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let told = Arc::clone(told);
    let ours = paths.iter().map(path::absolute).collect::<io::Result<Vec<_>>>()?;
    // What a link leads through may have any name.
    let has_links = paths.iter().any(|path| path.is_symlink());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| may_change(&event, &ours, has_links)) {
            told.notify_one();
        }
    })?;
    for path in paths.iter() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        watcher.watch(parent.unwrap_or(Path::new(".")), RecursiveMode::NonRecursive)?;
        if path.is_dir() {
            watcher.watch(path, RecursiveMode::NonRecursive)?;
        }
    }
    Ok(watcher)
}

/// Whether this may have changed one of these. Reading is an event, too: it must not wake who reads.
fn may_change(event: &notify::Event, ours: &[PathBuf], has_links: bool) -> bool {
    let is_ours =
        |path: &PathBuf| ours.iter().any(|ours| path.starts_with(ours) || ours.starts_with(path));
    !matches!(event.kind, EventKind::Access(_))
        && (has_links || event.need_rescan() || event.paths.iter().any(is_ours))
}
