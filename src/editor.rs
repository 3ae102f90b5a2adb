//! Edits of `desired.yaml` that many ask for at once: those that wait while one write is under way
//! share the next one, and its fsyncs.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::desired_file::{DesiredFile, Edit, EditError, Edited, LoadError, Written};
use crate::model::change::ChangeError;
use crate::model::digest::Digest;
use crate::reconcile::SETTLING_PATIENCE;

/// So many edits share one write at most: an answer is not to wait for all the others.
const MOST: usize = 64;

/// Why an edit was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RefusedEdit {
    /// It makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The file is another one than was expected, or cannot be changed.
    #[error(transparent)]
    File(Arc<EditError>),
    /// The editor has ended.
    #[error("the portal is being stopped")]
    Ended,
}

/// Makes edits, one write at a time, in a thread of its own.
#[derive(Clone)]
pub struct Editor(Sender<Wanted>);

struct Wanted {
    edit: Edit,
    expected: Option<Digest>,
    answer: oneshot::Sender<Result<Edited, RefusedEdit>>,
}

impl Editor {
    /// An editor of this file. `show` is called as soon as a write can be seen by who reads the file,
    /// before anybody is told that their edit is made. It ends with its last clone.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        file: DesiredFile,
        clock: fn() -> Timestamp,
        show: impl Fn(Written) + Send + 'static,
    ) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        let work = move || {
            let mut queue = Queue { asked, first: None };
            while let Some(batch) = queue.next() {
                make(&file, batch, clock, &show);
            }
        };
        thread::Builder::new().name("editor".to_owned()).spawn(work)?;
        Ok(Self(ask))
    }

    /// Makes an edit, if the file has this revision, or whatever it has. It is on the disk when this
    /// returns.
    ///
    /// # Errors
    /// See [`RefusedEdit`]; then nothing was changed.
    pub async fn edit(&self, edit: Edit, expected: Option<Digest>) -> Result<Edited, RefusedEdit> {
        let (answer, answered) = oneshot::channel();
        let wanted = Wanted { edit, expected, answer };
        self.0.send(wanted).map_err(|_| RefusedEdit::Ended)?;
        answered.await.map_err(|_| RefusedEdit::Ended)?
    }
}

/// What is asked for, in the order of asking.
struct Queue {
    asked: Receiver<Wanted>,
    /// Taken out, and not for the same write as those before it.
    first: Option<Wanted>,
}

impl Queue {
    /// What shares the next write: several edits of whatever the file is then, or one of an expected
    /// revision. None: nobody can ask any more.
    fn next(&mut self) -> Option<Vec<Wanted>> {
        let first = self.first.take().or_else(|| self.asked.recv().ok())?;
        let mut batch = vec![first];
        while batch.len() < MOST && batch[0].expected.is_none() {
            match self.asked.try_recv() {
                Ok(wanted) if wanted.expected.is_none() => batch.push(wanted),
                other => {
                    self.first = other.ok();
                    break;
                }
            }
        }
        Some(batch)
    }
}

fn make(file: &DesiredFile, batch: Vec<Wanted>, clock: fn() -> Timestamp, show: &impl Fn(Written)) {
    let expected = batch.first().and_then(|wanted| wanted.expected);
    let edits: Vec<Edit> = batch.iter().map(|wanted| wanted.edit.clone()).collect();
    match when_still(|| file.edit_batch_and_show(&edits, expected, clock(), show)) {
        Ok(done) => {
            for (wanted, outcome) in batch.into_iter().zip(done.outcomes) {
                let (revision, at) = (done.revision, done.at);
                let edited = outcome.map(|changed| Edited { revision, changed, at });
                wanted.tell(edited.map_err(Into::into));
            }
        }
        // Lines in an odd form are one person's trouble.
        Err(EditError::Text { .. }) if batch.len() > 1 => {
            for wanted in batch {
                make(file, vec![wanted], clock, show);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for wanted in batch {
                wanted.tell(Err(RefusedEdit::File(Arc::clone(&error))));
            }
        }
    }
}

impl Wanted {
    fn tell(self, answer: Result<Edited, RefusedEdit>) {
        // Who has gone away finds the edit made.
        self.answer.send(answer).ok();
    }
}

/// Makes an edit of a file, waiting for one that was saved by hand a moment ago.
///
/// # Errors
/// The edit's.
pub fn when_still<T>(mut edit: impl FnMut() -> Result<T, EditError>) -> Result<T, EditError> {
    let mut patience = SETTLING_PATIENCE;
    loop {
        match edit() {
            Err(EditError::Load(LoadError::Settling { ready_in, .. })) if ready_in <= patience => {
                thread::sleep(ready_in);
                patience -= ready_in;
            }
            done => return done,
        }
    }
}
