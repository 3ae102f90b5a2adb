//! How the state has people, read together for all who are asked about at the same time.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::PortalError;
use super::readers::{Readers, Version};
use crate::model::name::UserId;
use crate::store::{OfUser, StoreError};

/// So many are read about at once, at most.
const MOST: usize = 64;
/// What was read of so many is kept, at most: a few kilobytes for each.
const MOST_KNOWN: usize = 4096;

/// What the state holds of one person, and what it had seen then.
#[derive(Clone)]
pub(super) struct StateOf {
    pub(super) of_user: Arc<OfUser>,
    /// When the last edit was made that a pass has acted upon.
    pub(super) last_edit_seen: Option<Timestamp>,
}

type Answer = Result<StateOf, Arc<StoreError>>;

/// Who is asked about, and who wants to know.
struct Asked {
    user: UserId,
    answer: oneshot::Sender<Answer>,
}

/// Reads, in a thread of its own: those who ask while others are answered share the next reading.
pub(super) struct States(Sender<Asked>);

impl States {
    /// It ends when this is dropped.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(readers: Arc<Readers>) -> io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        let work = move || {
            let mut seen = Seen::default();
            while let Some(batch) = next(&asked) {
                seen.answer(&readers, batch);
            }
        };
        thread::Builder::new().name("reader".to_owned()).spawn(work)?;
        Ok(Self(ask))
    }

    /// What the state holds of somebody, now or later: it is read while the caller does something else.
    ///
    /// # Errors
    /// The state's, or the portal is being stopped.
    pub(super) fn of(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<StateOf, PortalError>> + use<> {
        let (answer, answered) = oneshot::channel();
        // Who has ended answers nobody.
        self.0.send(Asked { user: user.clone(), answer }).ok();
        async { Ok(answered.await.map_err(|_| PortalError::Stopping)??) }
    }
}

/// All who wait. None: nobody can ask any more.
fn next(asked: &Receiver<Asked>) -> Option<Vec<Asked>> {
    let first = asked.recv().ok()?;
    Some([first].into_iter().chain(asked.try_iter()).take(MOST).collect())
}

/// What was read of people, for as long as the state is the same.
#[derive(Default)]
struct Seen {
    version: Option<Version>,
    known: HashMap<UserId, StateOf>,
}

impl Seen {
    fn answer(&mut self, readers: &Readers, mut batch: Vec<Asked>) {
        // Who has gone away need not be read about.
        batch.retain(|asked| !asked.answer.is_closed());
        // Before anything is read: what changes meanwhile is read again.
        let version = readers.version();
        if version.is_none() || version != self.version || self.known.len() > MOST_KNOWN {
            *self = Self { version, known: HashMap::new() };
        }
        let (known, unknown): (Vec<Asked>, Vec<Asked>) =
            batch.into_iter().partition(|asked| self.known.contains_key(&asked.user));
        for asked in known {
            self.tell(asked);
        }
        if !unknown.is_empty() {
            self.read(readers, unknown);
        }
    }

    fn read(&mut self, readers: &Readers, batch: Vec<Asked>) {
        let users: BTreeSet<UserId> = batch.iter().map(|asked| asked.user.clone()).collect();
        // Together: what a pass has made of an edit is never older than that it has seen it.
        let read = readers.with(|store| Ok((store.of_users(&users)?, store.last_edit_seen()?)));
        match read {
            Ok((of_users, last_edit_seen)) => {
                for (user, of_user) in of_users {
                    let state = StateOf { of_user: Arc::new(of_user), last_edit_seen };
                    self.known.insert(user, state);
                }
                for asked in batch {
                    self.tell(asked);
                }
            }
            // A row that is damaged is one person's trouble.
            Err(error) if users.len() > 1 && error.is_of_a_row() => {
                for asked in batch {
                    self.read(readers, vec![asked]);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for asked in batch {
                    asked.tell(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// Answers who asked about somebody of whom it was read.
    fn tell(&self, asked: Asked) {
        if let Some(state) = self.known.get(&asked.user) {
            let state = state.clone();
            asked.tell(Ok(state));
        }
    }
}

impl Asked {
    fn tell(self, answer: Answer) {
        self.answer.send(answer).ok(); // who has gone away will ask again
    }
}
