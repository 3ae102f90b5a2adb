//! The thread that writes the state.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;

use crate::desired_history::Entry;
use crate::model::action::Install;
use crate::model::digest::Digest;
use crate::model::name::{OpId, ServiceId, UserId};
use crate::model::outcome::{Change, Recorded};
use crate::model::registry::Rendition;
use crate::model::run::{Connection, Ticket};
use crate::store::{Filled, RevokeTarget, Store, StoreError};

/// What the thread is asked.
pub(super) enum Request {
    Record(Ticket, Vec<Change>),
    Fill(Ticket, Install),
    Target(Ticket, OpId, Connection),
    /// The history of what is desired, as it is at a time.
    Tell(Vec<Entry>, Timestamp),
}

/// What it answers, in the order of asking.
pub(super) enum Reply {
    Recorded(Ticket, Result<Recorded, String>),
    Filled(Ticket, Box<Install>, Result<Filled, String>),
    Target(Ticket, Result<Target, String>),
    /// What is desired could not be told: nothing may be done.
    Untold(String),
}

/// How a token is revoked, with the op id that it was asked for by.
pub(super) struct Target {
    pub op: OpId,
    pub service: ServiceId,
    pub endpoint: std::sync::Arc<crate::model::registry::Endpoint>,
    pub token_id: Option<crate::model::name::TokenId>,
    pub user: UserId,
}

/// The thread, from outside.
pub(super) struct Writer {
    requests: Sender<Request>,
    thread: JoinHandle<Store>,
}

impl Writer {
    pub(super) fn start(
        store: Store,
        renditions: BTreeMap<Digest, Rendition>,
        clock: fn() -> Timestamp,
        reply: impl Fn(Reply) + Send + 'static,
    ) -> Self {
        let (requests, receiver) = channel();
        let thread = thread::spawn(move || work(store, &renditions, clock, &receiver, reply));
        Self { requests, thread }
    }

    pub(super) fn ask(&self, request: Request) {
        // The thread ends only after its sender is dropped, or by a panic that `finish` passes on.
        drop(self.requests.send(request));
    }

    /// Ends the thread and gives the state back.
    pub(super) fn finish(self) -> Store {
        drop(self.requests);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn work(
    mut store: Store,
    renditions: &BTreeMap<Digest, Rendition>,
    clock: fn() -> Timestamp,
    requests: &Receiver<Request>,
    reply: impl Fn(Reply),
) -> Store {
    while let Ok(first) = requests.recv() {
        let mut batch = Vec::new();
        for request in std::iter::once(first).chain(requests.try_iter()) {
            match request {
                Request::Record(ticket, changes) => batch.push((ticket, changes)),
                Request::Fill(ticket, install) => {
                    // What was recorded before is seen by what comes after.
                    record(&mut store, clock(), &mut batch, &reply);
                    let filled = store.fill(&install, renditions).map_err(|error| told(&error));
                    reply(Reply::Filled(ticket, Box::new(install), filled));
                }
                Request::Tell(edits, at) => {
                    record(&mut store, clock(), &mut batch, &reply);
                    if let Err(error) = store.tell_edits(&edits, at) {
                        reply(Reply::Untold(told(&error)));
                    }
                }
                Request::Target(ticket, op, (user, _)) => {
                    record(&mut store, clock(), &mut batch, &reply);
                    reply(Reply::Target(ticket, target(&store, op, user)));
                }
            }
        }
        record(&mut store, clock(), &mut batch, &reply);
    }
    store
}

/// One transaction of all that waits.
fn record(
    store: &mut Store,
    now: Timestamp,
    batch: &mut Vec<(Ticket, Vec<Change>)>,
    reply: &impl Fn(Reply),
) {
    if batch.is_empty() {
        return;
    }
    let (tickets, changes): (Vec<Ticket>, Vec<Vec<Change>>) = batch.drain(..).unzip();
    match store.record(changes, now) {
        Ok(results) => {
            for (ticket, result) in tickets.into_iter().zip(results) {
                reply(Reply::Recorded(ticket, result.map_err(|error| told(&error))));
            }
        }
        Err(error) => {
            for ticket in tickets {
                reply(Reply::Recorded(ticket, Err(told(&error))));
            }
        }
    }
}

fn target(store: &Store, op: OpId, user: UserId) -> Result<Target, String> {
    match store.revoke_target(&op) {
        Ok(Some(RevokeTarget { service, endpoint, token_id })) => {
            Ok(Target { op, service, endpoint, token_id, user })
        }
        Ok(None) => Err(format!("the state does not know {op}")),
        Err(error) => Err(told(&error)),
    }
}

/// An error with its causes, in one line.
fn told(error: &StoreError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
