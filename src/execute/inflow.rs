//! Plans that come while a run is under way: made on a thread of their own, one after the other,
//! for users of whom something changed meanwhile. So nobody waits for another's slow service.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Prepared;
use crate::model::name::UserId;
use crate::model::run::{Busy, Run};

/// What is said to a run that is under way.
pub enum Joining {
    /// For these users something may be to be done.
    Users(BTreeSet<UserId>),
    /// Another run is wanted: this one ends as soon as it may, and only until then others join it.
    LastOnes,
}

/// Where further plans come from.
pub struct More {
    /// Who joins.
    pub joining: mpsc::UnboundedReceiver<Joining>,
    /// A plan for them; none: it cannot be made now.
    pub prepare: Arc<dyn Fn(BTreeSet<UserId>) -> Option<Prepared> + Send + Sync>,
}

/// The plans that are to come, and the one that is being made.
pub(super) struct Inflow {
    more: Option<More>,
    send: Arc<dyn Fn(Option<Box<Prepared>>) + Send + Sync>,
    next: BTreeSet<UserId>,
    preparing: Option<Preparing>,
    /// Who had something in work; their plan is made again once that has ended.
    again: BTreeSet<UserId>,
    put_off: BTreeSet<UserId>,
}

struct Preparing {
    users: BTreeSet<UserId>,
    /// What they had in work when it began: nobody knows what the plan has seen of that.
    busy: Busy,
}

impl Inflow {
    pub(super) fn new(
        more: Option<More>,
        send: impl Fn(Option<Box<Prepared>>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            more,
            send: Arc::new(send),
            next: BTreeSet::new(),
            preparing: None,
            again: BTreeSet::new(),
            put_off: BTreeSet::new(),
        }
    }

    /// Until something is said.
    pub(super) async fn joining(&mut self) -> Joining {
        let joining = match &mut self.more {
            Some(more) => more.joining.recv().await,
            None => None,
        };
        match joining {
            Some(joining) => joining,
            None => std::future::pending().await,
        }
    }

    pub(super) fn add(&mut self, users: BTreeSet<UserId>) {
        self.next.extend(users);
    }

    pub(super) fn is_preparing(&self) -> bool {
        self.preparing.is_some()
    }

    /// Begins with the next plan, if one is wanted and none is being made.
    pub(super) fn prepare(&mut self, run: &Run) {
        let Some(more) = self.more.as_ref().filter(|_| self.preparing.is_none()) else { return };
        // Only now: whoever is free while a plan of theirs is being made may be busy by its end.
        if !self.again.is_empty() {
            let busy = run.in_work(&self.again).users;
            let ready = self.again.difference(&busy).cloned();
            self.next.extend(ready.collect::<Vec<_>>());
            self.again = busy;
        }
        // The guard counts what was removed before.
        if self.next.is_empty() || !run.is_journaled() {
            return;
        }
        let users = std::mem::take(&mut self.next);
        self.preparing = Some(Preparing { users: users.clone(), busy: run.in_work(&users) });
        let (prepare, send) = (Arc::clone(&more.prepare), Arc::clone(&self.send));
        tokio::task::spawn_blocking(move || {
            // Said in any case: a run waits for it.
            let plan = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(users)));
            send(plan.ok().flatten().map(Box::new));
        });
    }

    /// The plan has come: what had something in work when it was begun.
    pub(super) fn take_busy(&mut self) -> Busy {
        self.preparing.take().map(|preparing| preparing.busy).unwrap_or_default()
    }

    /// They had something in work.
    pub(super) fn make_again(&mut self, users: BTreeSet<UserId>) {
        self.again.extend(users);
    }

    /// There is no such plan now.
    pub(super) fn put_off(&mut self) {
        self.put_off.extend(self.preparing.take().into_iter().flat_map(|it| it.users));
    }

    /// Who was wanted, and no plan was taken over.
    pub(super) fn left(mut self) -> BTreeSet<UserId> {
        self.put_off();
        if let Some(more) = &mut self.more {
            while let Ok(joining) = more.joining.try_recv() {
                if let Joining::Users(users) = joining {
                    self.next.extend(users);
                }
            }
        }
        let Self { mut next, again, put_off, .. } = self;
        next.extend(again);
        next.extend(put_off);
        next
    }
}
