//! What the portal's files say: looked at for all who ask at about the same time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::PortalError;
use super::desired_text::DesiredText;
use crate::causes::chain;
use crate::desired_file::{DesiredFile, LoadError, Written};
use crate::file_marks::{Kept, Mark, mark, mark_of};
use crate::model::desired::People;
use crate::model::registry::Registry;
use crate::observe::{self, IntentError, Places};
use crate::registry_dir::{self, DirError};

/// For so long after a look the registry counts as it was: two directories full of files.
const TRUST: Duration = Duration::from_millis(20);

/// What the files say, each that can be read.
#[derive(Clone)]
pub struct View {
    people: Result<Arc<People>, Arc<IntentError>>,
    registry: Result<Arc<Registry>, Arc<DirError>>,
    /// Or the last good one.
    desired: Result<Arc<DesiredText>, Arc<LoadError>>,
    /// What is wrong with the present one: not for everybody's eyes, since it may name others.
    notice: Option<String>,
}

impl View {
    pub(super) fn people(&self) -> Result<&People, PortalError> {
        self.people.as_deref().map_err(|error| PortalError::People(Arc::clone(error)))
    }

    pub(super) fn registry(&self) -> Result<&Registry, PortalError> {
        self.registry.as_deref().map_err(|error| PortalError::Registry(Arc::clone(error)))
    }

    pub(super) fn desired(&self) -> Result<&DesiredText, PortalError> {
        self.desired.as_deref().map_err(|error| PortalError::Desired(Arc::clone(error)))
    }

    /// The files that it was made from, but for the desired state, if they can be read.
    pub(super) fn files(&self) -> Option<Files> {
        let (people, registry) = (self.people.as_ref().ok()?, self.registry.as_ref().ok()?);
        Some(Files { people: Arc::clone(people), registry: Arc::clone(registry) })
    }

    pub(super) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }
}

/// One reading of the files that say who may have what.
pub(super) struct Files {
    people: Arc<People>,
    registry: Arc<Registry>,
}

impl PartialEq for Files {
    /// Whether it is the same reading.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.people, &other.people) && Arc::ptr_eq(&self.registry, &other.registry)
    }
}

/// The files, and what they said last.
pub(super) struct Views {
    people: Kept<People>,
    registry: Kept<Registry>,
    /// Or what is wrong with it, for as long as it is as it is.
    desired: Kept<Result<Arc<DesiredText>, Arc<LoadError>>>,
    last: Mutex<Last>,
    /// Held by who looks, and by who knows of a change: an older look never takes the place of a newer
    /// one.
    looking: Arc<tokio::sync::Mutex<()>>,
    places: Places,
    clock: fn() -> Timestamp,
}

#[derive(Default)]
struct Last {
    look: Option<Look>,
    /// The last one that could be used.
    desired: Option<Arc<DesiredText>>,
    /// How many were written here, and the mark of the last.
    writes: u64,
    written_mark: Option<Mark>,
}

/// The marks of the files that say who may do what.
#[derive(PartialEq)]
struct TheirMarks {
    people: Option<Mark>,
    desired: Option<Mark>,
}

/// What was seen when.
struct Look {
    at: Instant,
    marks: TheirMarks,
    view: Arc<View>,
}

impl Views {
    pub(super) fn new(places: Places, clock: fn() -> Timestamp) -> Self {
        Self {
            people: Kept::new(vec![places.people.clone()]),
            registry: Kept::new(vec![places.registry.clone(), places.skills.clone()]),
            desired: Kept::new(vec![places.desired.clone()]),
            last: Mutex::default(),
            looking: Arc::default(),
            places,
            clock,
        }
    }

    /// What the files say now. Where none of them has to be read, nothing is waited for.
    ///
    /// # Errors
    /// The portal is being stopped.
    pub(super) async fn now(self: &Arc<Self>) -> Result<Arc<View>, PortalError> {
        if let Some(view) = self.fresh() {
            return Ok(view);
        }
        // It goes along: who asks may go away before the look ends.
        let looking = Arc::clone(&self.looking).lock_owned().await;
        if let Some(view) = self.fresh() {
            return Ok(view);
        }
        let views = Arc::clone(self);
        let look = move || {
            let view = views.look();
            drop(looking);
            view
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| PortalError::Stopping)
    }

    /// What was written to the desired state just now is what it says. Who wrote it does not wait for
    /// who looks. Not from a thread that answers.
    pub(super) fn was_written(&self, written: Written) {
        let meta = written.meta.clone();
        let mark = Some(mark(&meta));
        let mut last = self.last();
        let desired = Arc::new(DesiredText::written(written, last.desired.as_deref()));
        last.desired = Some(Arc::clone(&desired));
        last.writes += 1;
        last.written_mark = mark;
        if let Some(look) = &mut last.look {
            look.marks.desired = mark;
            look.view = Arc::new(View {
                desired: Ok(Arc::clone(&desired)),
                notice: None,
                ..View::clone(&look.view)
            });
        }
        drop(last);
        self.desired.put(&meta, Ok(desired));
    }

    /// Something is known to have changed: the next who asks looks.
    pub(super) async fn forget(&self) {
        let _looking = self.looking.lock().await;
        self.last().look = None;
    }

    fn fresh(&self) -> Option<Arc<View>> {
        let last = self.last();
        let look = last.look.as_ref()?;
        let is_fresh = look.at.elapsed() < TRUST && look.marks == self.marks();
        is_fresh.then(|| Arc::clone(&look.view))
    }

    /// Whatever is written down of who may do what counts at once.
    fn marks(&self) -> TheirMarks {
        let (people, desired) = (&self.places.people, &self.places.desired);
        TheirMarks { people: mark_of(people), desired: mark_of(desired) }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Arc<View> {
        // Before they are read: what changes meanwhile is looked at again.
        let (at, mut marks, writes) = (Instant::now(), self.marks(), self.last().writes);
        let places = &self.places;
        let people = self.people.get(|| observe::people(&places.people)).map_err(Arc::new);
        let load = || registry_dir::load(&places.registry, &places.skills);
        let registry = self.registry.get(|| load().map(|loaded| loaded.registry));
        let found = self.look_at_desired();
        let mut last = self.last();
        let (desired, notice) = match &last.desired {
            // Written meanwhile. If what was found is newer still, its mark is another: the next looks.
            Some(written) if last.writes != writes => {
                marks.desired = last.written_mark;
                (Ok(Arc::clone(written)), None)
            }
            good => or_last_good(found, good.as_ref()),
        };
        last.desired = desired.as_ref().ok().cloned();
        let view = Arc::new(View { people, registry: registry.map_err(Arc::new), desired, notice });
        last.look = Some(Look { at, marks, view: Arc::clone(&view) });
        view
    }

    fn look_at_desired(&self) -> Result<Arc<DesiredText>, Arc<LoadError>> {
        let file = DesiredFile::new(&self.places.desired);
        let read = || match DesiredText::read(&file, (self.clock)()) {
            Ok(desired) => Ok(Ok(Arc::new(desired))),
            // That is so until the file is another one: it is not read again for each who asks.
            Err(error @ (LoadError::Invalid { .. } | LoadError::CutOff { .. })) => {
                Ok(Err(Arc::new(error)))
            }
            Err(error) => Err(Arc::new(error)),
        };
        self.desired.get(read).and_then(|kept| (*kept).clone())
    }
}

/// The desired state, or the last good one and what is wrong with the present one.
fn or_last_good(
    found: Result<Arc<DesiredText>, Arc<LoadError>>,
    good: Option<&Arc<DesiredText>>,
) -> (Result<Arc<DesiredText>, Arc<LoadError>>, Option<String>) {
    let error = match found {
        Ok(desired) => return (Ok(desired), None),
        Err(error) => error,
    };
    let Some(good) = good else { return (Err(error), None) };
    let notice = match *error {
        LoadError::Settling { .. } => None,
        _ => Some(chain(&*error)),
    };
    (Ok(Arc::clone(good)), notice)
}
