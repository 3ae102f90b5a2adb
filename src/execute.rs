//! Drives the step machine of [`crate::model::run`]: carries its effects out against the state,
//! the services and the homes, and tells it what became of each.
//!
//! The state is written by a thread of its own, which makes one transaction of all that waits: a
//! commit costs an fsync, and a fleet has many small things to write down.

mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::exchange::{Exchange, RevokeBy};
use crate::installer::Installer;
use crate::model::action::Install;
use crate::model::digest::Digest;
use crate::model::outcome::{Answer, Failure, FailureKind, Outcome, PutOutcome, RevokeAnswer};
use crate::model::registry::{Registry, Rendition};
use crate::model::run::{Effect, Event, Run, Ticket};
use crate::store::{Filled, Store};
use writer::{Reply, Request, Writer};

/// Puts under way at once: each waits for the disk several times.
const PUTS: usize = 16;

/// What a pass acts upon.
pub struct Edges {
    /// The services.
    pub exchange: Arc<Exchange>,
    /// The homes.
    pub installer: Arc<Installer>,
    /// The renditions of the registry, by digest.
    pub renditions: BTreeMap<Digest, Rendition>,
    /// The services as they are now.
    pub registry: Registry,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

/// What became of a run.
pub struct Executed {
    /// What each action found, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
    /// Why the run ended early: the state could not be written.
    pub broken: Option<String>,
    /// Whether it was told to stop before it was done.
    pub stopped: bool,
}

/// What comes back to the driver.
enum Message {
    Event(Event),
    FromWriter(Reply),
}

/// Carries out a run. `on_outcome` is told of each outcome as it happens. When `stop` completes,
/// nothing new is begun and what is under way is finished.
pub async fn execute(
    store: Store,
    edges: Edges,
    mut run: Run,
    stop: impl Future<Output = ()>,
    mut on_outcome: impl FnMut(&Outcome),
) -> (Store, Executed) {
    let (sender, mut messages) = mpsc::unbounded_channel();
    let clock = edges.clock;
    let mut driver = Driver::new(store, edges, sender);
    let mut outcomes = Vec::new();
    let mut stop = std::pin::pin!(stop);
    let mut stopping = false;
    let mut event = Event::Start;
    loop {
        let effects = run.next(clock(), event);
        for effect in effects {
            driver.carry_out(effect);
        }
        for outcome in run.take_outcomes() {
            log(&outcome);
            on_outcome(&outcome);
            outcomes.push(outcome);
        }
        if run.is_done() {
            break;
        }
        event = loop {
            let next = tokio::select! {
                Some(message) = messages.recv() => driver.event_of(message),
                () = driver.sleep() => Some(Event::Woke),
                () = &mut stop, if !stopping => {
                    stopping = true;
                    Some(Event::Stop)
                }
            };
            if let Some(event) = next {
                break event;
            }
        };
    }
    let (broken, stopped) = (run.broken().map(str::to_owned), run.was_cut_short());
    (driver.finish(), Executed { outcomes, broken, stopped })
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
    fn new(store: Store, edges: Edges, sender: mpsc::UnboundedSender<Message>) -> Self {
        let replies = sender.clone();
        // The receiver is gone only when the run is over.
        let reply = move |reply| drop(replies.send(Message::FromWriter(reply)));
        Self {
            exchange: edges.exchange,
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
            Effect::Revoke { ticket, op } => self.writer.ask(Request::Target(ticket, op)),
            Effect::Issue { ticket, op, ask, email } => {
                let exchange = Arc::clone(&self.exchange);
                self.spawn(async move {
                    let answer = exchange.issue(&ask.endpoint, &op, &email, ask.ttl_days).await;
                    Event::Issued(ticket, answer)
                });
            }
            Effect::Wake(time) => {
                let wait = Duration::try_from(time.duration_since((self.clock)()));
                self.wakes.insert(Instant::now() + wait.unwrap_or_default()); // past: at once
            }
        }
    }

    /// What a message means for the machine; none where it first means more work.
    fn event_of(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Event(event) => Some(event),
            Message::FromWriter(Reply::Recorded(ticket, result)) => {
                Some(Event::Recorded(ticket, result))
            }
            Message::FromWriter(Reply::Filled(ticket, install, filled)) => {
                self.put(ticket, *install, filled)
            }
            Message::FromWriter(Reply::Target(ticket, Ok(target))) => {
                let endpoint = self.registry.present(&target.service, target.endpoint);
                let exchange = Arc::clone(&self.exchange);
                self.spawn(async move {
                    let by = match target.token_id {
                        Some(token_id) => RevokeBy::TokenId(token_id),
                        None => RevokeBy::Op(target.op),
                    };
                    Event::Revoked(ticket, exchange.revoke(&endpoint, by).await)
                });
                None
            }
            Message::FromWriter(Reply::Target(ticket, Err(message))) => {
                let failure = Failure { kind: FailureKind::Rejected, message, retry_after: None };
                let what = RevokeAnswer::Failed(failure);
                Some(Event::Revoked(ticket, Answer { date: None, what }))
            }
        }
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
        self.spawn(async move {
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
            Event::Put(ticket, outcome)
        });
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
