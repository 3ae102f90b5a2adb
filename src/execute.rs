//! Drives the step machine of [`crate::model::run`]: carries its effects out against the state,
//! the services and the homes, and tells it what became of each.
//!
//! The state is written by a thread of its own, which makes one transaction of all that waits: a
//! commit costs an fsync, and a fleet has many small things to write down.

mod inflow;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::desired_history::Entry;
use crate::exchange::seen::{self, CallKind};
use crate::exchange::{Exchange, RevokeBy};
use crate::installer::Installer;
use crate::model::action::Install;
use crate::model::actual::Actual;
use crate::model::desired::Desired;
use crate::model::digest::Digest;
use crate::model::guard::ApprovedPlan;
use crate::model::name::{EnvName, ServiceId, UserId};
use crate::model::outcome::{
    Answer, Change, Failure, FailureKind, Outcome, PutOutcome, RevokeAnswer,
};
use crate::model::registry::{Registry, Rendition};
use crate::model::run::{Busy, Effect, Event, Pace, Run, Setting, Ticket};
use crate::store::{self, Filled, Store, StoreError};
use inflow::Inflow;
pub use inflow::{Joining, More};
use tracing::Instrument as _;
use writer::{Reply, Request, Target, Writer};

/// Puts under way at once: each waits for the disk several times.
const PUTS: usize = 16;

/// What a pass acts upon.
pub struct Edges {
    /// The homes.
    pub installer: Arc<Installer>,
    /// The renditions of the registry, by digest.
    pub renditions: BTreeMap<Digest, Rendition>,
    /// The services as they are now.
    pub registry: Registry,
    /// When calls began lately.
    pub pace: Pace,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

/// What became of a run.
#[derive(Default)]
pub struct Executed {
    /// What each action found, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
    /// Why the run ended early: the state could not be written.
    pub broken: Option<String>,
    /// Whether it was told to stop before it was done.
    pub stopped: bool,
    /// Users whose plans were wanted and not made.
    pub left: BTreeSet<UserId>,
    /// When calls began lately.
    pub pace: Pace,
}

/// What comes back to the driver.
enum Message {
    Event(Event),
    FromWriter(Reply),
    /// A further plan; none: there is none now.
    Prepared(Option<Box<Prepared>>),
}

/// A plan, and what it was made from.
pub struct Prepared {
    /// What may be done.
    pub plan: ApprovedPlan,
    /// What was desired; none while that cannot be read.
    pub desired: Option<Desired>,
    /// What was there.
    pub actual: Actual,
    /// When.
    pub at: Timestamp,
    /// Whether what failed before is tried again without waiting.
    pub retry_now: bool,
    /// The services, with the shared secrets of now.
    pub exchange: Arc<Exchange>,
    /// Services, the names of their shared secrets, and why they cannot be called with these.
    pub shut: BTreeMap<(ServiceId, EnvName), String>,
    /// Found out beforehand, and recorded before anything is called.
    pub found: Vec<Change>,
    /// The history of what is desired: told before anything is done.
    pub edits: Vec<Entry>,
}

/// Carries out a plan, and those that come while it is under way. `on_outcome` is told of each
/// outcome as it happens. When `stop` completes, nothing new is begun and what is under way is
/// finished.
///
/// # Errors
/// The state's, before anything was done.
pub async fn execute(
    mut store: Store,
    edges: Edges,
    first: Prepared,
    more: Option<More>,
    stop: impl Future<Output = ()>,
    mut on_outcome: impl FnMut(&Outcome),
) -> Result<(Store, Executed), StoreError> {
    store.tell_edits(&first.edits, first.at)?;
    let (sender, mut messages) = mpsc::unbounded_channel();
    let prepared = sender.clone();
    // The receiver is gone only when the run is over.
    let inflow = Inflow::new(more, move |plan| drop(prepared.send(Message::Prepared(plan))));
    if first.plan.plan().is_empty() && first.found.is_empty() {
        let (left, pace) = (inflow.left(), edges.pace);
        return Ok((store, Executed { left, pace, ..Executed::default() }));
    }
    let mut execution = Execution::new(store, edges, first, inflow, sender);
    let (mut stop, mut stopped) = (std::pin::pin!(stop), false);
    let mut outcomes = Vec::new();
    let mut event = Event::Start;
    loop {
        for outcome in execution.step(event) {
            log(&outcome);
            on_outcome(&outcome);
            outcomes.push(outcome);
        }
        if execution.is_done() {
            return Ok(execution.end(outcomes));
        }
        event = loop {
            let next = tokio::select! {
                Some(message) = messages.recv() => execution.event_of(message),
                () = execution.driver.sleep() => Some(Event::Woke),
                joining = execution.inflow.joining() => Some(match joining {
                    Joining::Users(users) => {
                        execution.inflow.add(users);
                        Event::Woke
                    }
                    Joining::LastOnes => Event::WindDown,
                }),
                () = &mut stop, if !stopped => {
                    stopped = true;
                    Some(Event::Stop)
                }
            };
            if let Some(event) = next {
                break event;
            }
        };
    }
}

/// The machine, its driver, and the plans that are still to come.
struct Execution {
    run: Run,
    driver: Driver,
    inflow: Inflow,
}

impl Execution {
    fn new(
        store: Store,
        mut edges: Edges,
        first: Prepared,
        inflow: Inflow,
        sender: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let run = Run::new(&edges.registry, store.instance().clone(), Box::new(store::random));
        let run = run.at_pace(std::mem::take(&mut edges.pace));
        let driver = Driver::new(store, edges, Arc::clone(&first.exchange), sender);
        let mut execution = Self { run, driver, inflow };
        execution.take_over(first, &Busy::default());
        execution
    }

    /// Gives a plan to the machine; `busy` had something in work while it was made. Returns whose
    /// plan is to be made again.
    fn take_over(&mut self, first: Prepared, busy: &Busy) -> BTreeSet<UserId> {
        self.run.shut(first.shut);
        self.run.journal(first.found);
        self.driver.exchange = first.exchange;
        let setting = Setting {
            desired: first.desired.as_ref(),
            registry: &self.driver.registry,
            actual: &first.actual,
            now: first.at,
            retry_now: first.retry_now,
        };
        self.run.absorb(first.plan, &setting, busy)
    }

    fn step(&mut self, event: Event) -> Vec<Outcome> {
        for effect in self.run.next((self.driver.clock)(), event) {
            self.driver.carry_out(effect);
        }
        if self.takes_more() {
            self.inflow.prepare(&self.run);
        }
        self.run.take_outcomes()
    }

    fn takes_more(&self) -> bool {
        !self.run.is_stopped() && self.run.broken().is_none()
    }

    fn is_done(&self) -> bool {
        self.run.is_done() && !(self.takes_more() && self.inflow.is_preparing())
    }

    /// What a message means for the machine; none where it first means more work.
    fn event_of(&mut self, message: Message) -> Option<Event> {
        let Message::Prepared(prepared) = message else { return self.driver.event_of(message) };
        let Some(prepared) = prepared.filter(|_| self.takes_more()) else {
            self.inflow.put_off();
            return Some(Event::Woke);
        };
        self.driver.tell(&prepared);
        let busy = self.inflow.take_busy();
        let again = self.take_over(*prepared, &busy);
        self.inflow.make_again(again);
        Some(Event::Start)
    }

    fn end(self, outcomes: Vec<Outcome>) -> (Store, Executed) {
        let broken = self.run.broken().map(str::to_owned);
        let stopped = self.run.was_cut_short();
        let (left, pace) = (self.inflow.left(), self.run.into_pace());
        (self.driver.finish(), Executed { outcomes, broken, stopped, left, pace })
    }
}

fn log(outcome: &Outcome) {
    let Outcome { user, service, what, found } = outcome;
    let service = service.as_ref().map(tracing::field::display);
    tracing::info!(%user, service, ?what, ?found);
}

struct Driver {
    exchange: Arc<Exchange>,
    registry: Registry,
    installer: Arc<Installer>,
    writer: Writer,
    sender: mpsc::UnboundedSender<Message>,
    puts: Arc<Semaphore>,
    clock: fn() -> Timestamp,
    /// By a clock that nobody sets.
    wakes: BTreeSet<Instant>,
}

impl Driver {
    fn new(
        store: Store,
        edges: Edges,
        exchange: Arc<Exchange>,
        sender: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let replies = sender.clone();
        // The receiver is gone only when the run is over.
        let reply = move |reply| drop(replies.send(Message::FromWriter(reply)));
        Self {
            exchange,
            registry: edges.registry,
            installer: edges.installer,
            writer: Writer::start(store, edges.renditions, edges.clock, reply),
            sender,
            puts: Arc::new(Semaphore::new(PUTS)),
            clock: edges.clock,
            wakes: BTreeSet::new(),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(ticket, changes) => self.writer.ask(Request::Record(ticket, changes)),
            Effect::Put(ticket, install) => self.writer.ask(Request::Fill(ticket, install)),
            Effect::Revoke { ticket, op, of } => self.writer.ask(Request::Target(ticket, op, of)),
            Effect::Issue { ticket, op, ask, email, of: (user, service) } => {
                let exchange = Arc::clone(&self.exchange);
                let span = tracing::info_span!("issue", %user, %service, %op);
                let work = async move {
                    let call = exchange.issue(&ask.endpoint, &op, &email, ask.ttl_days);
                    let word = |answer: &Answer<_>| seen::of_issue(&answer.what);
                    Event::Issued(ticket, exchange.see(&service, CallKind::Issue, call, word).await)
                };
                self.spawn(work.instrument(span));
            }
            Effect::Wake(time) => {
                let wait = Duration::try_from(time.duration_since((self.clock)()));
                self.wakes.insert(Instant::now() + wait.unwrap_or_default()); // past: at once
            }
        }
    }

    /// Before what follows from it is written down.
    fn tell(&self, prepared: &Prepared) {
        self.writer.ask(Request::Tell(prepared.edits.clone(), prepared.at));
    }

    fn event_of(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Prepared(_) => None, // not the driver's
            Message::Event(event) => Some(event),
            Message::FromWriter(Reply::Untold(why)) => Some(Event::Broken(why)),
            Message::FromWriter(Reply::Recorded(ticket, result)) => {
                Some(Event::Recorded(ticket, result))
            }
            Message::FromWriter(Reply::Filled(ticket, install, filled)) => {
                self.put(ticket, *install, filled)
            }
            Message::FromWriter(Reply::Target(ticket, Ok(target))) => {
                self.revoke(ticket, target);
                None
            }
            Message::FromWriter(Reply::Target(ticket, Err(message))) => {
                let failure = Failure { kind: FailureKind::Rejected, message, retry_after: None };
                let what = RevokeAnswer::Failed(failure);
                Some(Event::Revoked(ticket, Answer { date: None, what }))
            }
        }
    }

    fn revoke(&self, ticket: Ticket, target: Target) {
        let Target { op, service, endpoint, token_id, user } = target;
        let endpoint = self.registry.present(&service, endpoint);
        let exchange = Arc::clone(&self.exchange);
        let span = tracing::info_span!("revoke", %user, %service, %op);
        let work = async move {
            let call =
                exchange.revoke(&endpoint, token_id.map_or(RevokeBy::Op(op), RevokeBy::TokenId));
            let word = |answer: &Answer<_>| seen::of_revoke(&answer.what);
            Event::Revoked(ticket, exchange.see(&service, CallKind::Revoke, call, word).await)
        };
        self.spawn(work.instrument(span));
    }

    fn put(
        &self,
        ticket: Ticket,
        install: Install,
        filled: Result<Filled, String>,
    ) -> Option<Event> {
        let (files, generation, holds) = match filled {
            Ok(Filled::Files { files, generation, holds }) => (files, generation, holds),
            Ok(Filled::Nothing) => return Some(Event::Put(ticket, PutOutcome::Already)),
            Ok(Filled::Unreadable(service)) => {
                let why = format!(
                    "the stored key of {service} cannot be unsealed; a new one is asked for"
                );
                return Some(Event::Put(ticket, PutOutcome::Failed(why)));
            }
            Err(why) => return Some(Event::Put(ticket, PutOutcome::Failed(why))),
        };
        let installer = Arc::clone(&self.installer);
        let puts = Arc::clone(&self.puts);
        let (user, account) = (&install.user, &install.account);
        let span = tracing::info_span!("install", %user, %account, generation);
        let work = async move {
            let permit = puts.acquire_owned().await;
            let put = tokio::task::spawn_blocking(move || {
                let put = installer.put(&install.account, install.uid, &files);
                drop(permit);
                put
            });
            let outcome = match put.await {
                Ok(Ok(put)) => {
                    PutOutcome::Done { generation, uid: put.facts.uid, holds, changed: put.changed }
                }
                Ok(Err(error)) => PutOutcome::Failed(error.to_string()),
                Err(panic) => PutOutcome::Failed(format!("the put did not end: {panic}")),
            };
            tracing::debug!(failed = matches!(outcome, PutOutcome::Failed(_)), "put");
            Event::Put(ticket, outcome)
        };
        self.spawn(work.instrument(span));
        None
    }

    fn spawn(&self, work: impl Future<Output = Event> + Send + 'static) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let event = work.await;
            drop(sender.send(Message::Event(event))); // the receiver goes only when the run is over
        });
    }

    /// Until the next wake; for ever when there is none.
    async fn sleep(&mut self) {
        let Some(next) = self.wakes.first().copied() else { return std::future::pending().await };
        tokio::time::sleep_until(next).await;
        self.wakes.remove(&next);
    }

    fn finish(self) -> Store {
        self.writer.finish()
    }
}
