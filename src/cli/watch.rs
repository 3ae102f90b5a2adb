//! `reconcile --watch`: the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::listen::Listening;
use crate::model::action::shown;
use crate::model::outcome::Found;
use crate::model::plan::Scope;
use crate::nudge::Nudges;
use crate::ops::{self, Ops};
use crate::watch::{SILENCE, Told, Watch};

use super::reconcile::finish;
use super::report::{self, say};
use super::settings::Settings;
use super::{Failure, block_on, stop};

/// How often a loop without the nudge socket tries to have it.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs passes until the process is told to end. SIGHUP and a nudge ask for one.
pub fn run(settings: &Settings) -> Result<u8, Failure> {
    let mut watch = Watch::new(settings.pass(Scope::default()), settings.look_every);
    let ops = Arc::new(Ops::new(watch.heart(), settings.look_every));
    let socket = match &settings.ops_listen {
        Some(address) => {
            watch.observe(ops.observer());
            ops::serve(Listening::bind(address, ops::MODE)?, Arc::clone(&ops))?
        }
        None => None,
    };
    let code = block_on(async {
        let (stopping, stopped) = watch::channel(false);
        let (asking, asked) = watch::channel(0);
        tokio::spawn(async move {
            stop().await;
            systemd(&[NotifyState::Stopping]);
            stopping.send_replace(true);
        });
        let nudges = nudges(settings.places.state.clone(), asking.clone());
        tokio::spawn(nudges);
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                asking.send_modify(|times| *times += 1);
            }
        });
        if let Some(patience) = sd_notify::watchdog_enabled() {
            let heart = watch.heart();
            tokio::spawn(async move {
                // Else systemd ends us, and starts us again.
                while heart.beats_within(SILENCE) {
                    systemd(&[NotifyState::Watchdog]);
                    tokio::time::sleep(patience / 3).await;
                }
                tracing::error!("the loop does not go on");
            });
        }
        // Those above listen before anybody is told that we are ready.
        tokio::task::yield_now().await;
        let tell = |told: Told<'_>| {
            ops.told(told);
            tell(told);
        };
        Box::pin(watch.run(stopped, asked, tell)).await?;
        Ok(0)
    })?;
    if let Some(left) = socket {
        left.remove();
    }
    code
}

/// Listens for nudges, from now on. Of two loops of one state one does, and the other follows when
/// that has ended.
fn nudges(state_dir: PathBuf, asking: watch::Sender<u64>) -> impl Future<Output = ()> {
    let mut listening = Nudges::listen(&state_dir);
    let mut is_told = false;
    async move {
        loop {
            let trouble = match listening {
                Ok(Some(nudges)) => loop {
                    nudges.next().await;
                    asking.send_modify(|times| *times += 1);
                },
                Ok(None) => "another watcher of this state hears the nudges".to_owned(),
                Err(error) => report::chain(&error),
            };
            if !std::mem::replace(&mut is_told, true) {
                anstream::eprintln!("Nudges are not heard here: {trouble}.");
            }
            tokio::time::sleep(AGAIN).await;
            listening = Nudges::listen(&state_dir);
        }
    }
}

fn tell(told: Told<'_>) {
    match told {
        Told::Ready => {
            systemd(&[NotifyState::Ready]);
            say("Watching; a change is acted upon as it comes.");
        }
        Told::Waiting => say("Another pass is under way; waiting for it."),
        Told::Outcome(outcome) if outcome.found == Found::Already => {}
        Told::Outcome(outcome) => say(&report::outcome(outcome)),
        Told::Passed(passed) => {
            let planned = &passed.planned;
            let quiet = passed.executed.outcomes.is_empty()
                && planned.intent_error.is_none()
                && planned.held.is_empty()
                && planned.notes.is_empty();
            if !quiet {
                finish(passed);
                say(&format!("A pass ended at {}.", shown(Timestamp::now())));
            }
        }
        Told::Failed(error) => report::error(error),
    }
}

/// Tells systemd, if it started us.
pub(super) fn systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
