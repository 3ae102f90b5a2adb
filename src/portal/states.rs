//! How the state has people, read together for all who are asked about at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::PortalError;
use super::readers::Readers;
use crate::model::name::UserId;
use crate::store::{OfUser, StoreError};

/// So many are read about at once, at most.
const MOST: usize = 64;

/// What the state holds of one person, and what it has seen.
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
            while let Some(batch) = next(&asked) {
                answer(&readers, batch);
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

fn answer(readers: &Readers, mut batch: Vec<Asked>) {
    // Who has gone away need not be read about.
    batch.retain(|asked| !asked.answer.is_closed());
    let users: BTreeSet<UserId> = batch.iter().map(|asked| asked.user.clone()).collect();
    let read = readers.with(|store| Ok((store.of_users(&users)?, store.last_edit_seen()?)));
    let error = match read {
        Ok((of_users, last_edit_seen)) => {
            let of_users: BTreeMap<UserId, Arc<OfUser>> =
                of_users.into_iter().map(|(user, of_user)| (user, Arc::new(of_user))).collect();
            for asked in batch {
                let of_user = of_users.get(&asked.user).cloned().unwrap_or_default();
                asked.tell(Ok(StateOf { of_user, last_edit_seen }));
            }
            return;
        }
        Err(error) => Arc::new(error),
    };
    // A row that is damaged is one person's trouble.
    let one_by_one = users.len() > 1 && error.is_of_a_row();
    for asked in batch {
        if one_by_one {
            answer(readers, vec![asked]);
        } else {
            asked.tell(Err(Arc::clone(&error)));
        }
    }
}

impl Asked {
    fn tell(self, answer: Answer) {
        self.answer.send(answer).ok(); // who has gone away will ask again
    }
}
