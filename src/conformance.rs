//! The conformance run: the rules of the service contract, tried one by one on a service that
//! somebody is about to connect.
//!
//! It issues tokens of one day for one address and revokes them again. What it asks for is in a
//! journal before it is sent; whatever ends the run, the same command pays what is left.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use crate::exchange::Exchange;
use crate::model::name::{Email, ServiceId};
use crate::model::registry::{Contract, Endpoint};

mod answer;
mod asking;
mod bench;
mod business;
mod debts;
mod every_answer;
mod journal;
mod listing;
mod malformed;
mod repeating;
mod revoking;
pub mod rule;
mod runner;
mod shared_secret;

pub use journal::{Journal, JournalError};
pub use runner::{Check, Verdict};

use bench::Bench;
use runner::Runner;

/// What is checked, and how.
pub struct Subject {
    /// Its id in the registry.
    pub service: ServiceId,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Whom the tokens of the run are for.
    pub email: Email,
    /// An address of the business API that answers 200 to a key.
    pub probe: Option<String>,
    /// Whether to issue so many tokens that the list has a second page.
    pub many: bool,
    /// Random numbers: nobody may guess the names of the tokens.
    pub random: fn() -> u128,
}

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    /// The version of this format.
    pub version: u8,
    /// Which service.
    pub service: ServiceId,
    /// Which version of the contract it was held against.
    pub contract: Contract,
    /// Where tokens were asked for.
    pub exchange_url: String,
    /// Whom they were for.
    pub email: Email,
    /// When it began.
    pub at: Timestamp,
    /// In milliseconds.
    pub took_ms: u64,
    /// Nothing failed, nothing is left, and it came to its end.
    pub ok: bool,
    /// Somebody stopped it.
    pub interrupted: bool,
    /// How many tokens of an earlier run, which was cut off, were revoked first.
    pub recovered: usize,
    /// What may still be alive at the service, in words.
    pub left: Vec<String>,
    /// Each rule.
    pub checks: Vec<Check>,
}

/// Where the journal of a service's runs is.
#[must_use]
pub fn journal_path(state: &std::path::Path, service: &ServiceId) -> PathBuf {
    state.join(format!("check-service-{service}.journal"))
}

/// Checks every rule, and revokes what it asked for. `stop` ends the checks at its first return,
/// and the revokes as well at its second; `say` gets each check as it is done.
pub async fn run(
    subject: &Subject,
    exchange: &Exchange,
    journal: Journal,
    stop: impl AsyncFn(),
    mut say: impl FnMut(&Check),
) -> Report {
    let at = Timestamp::now();
    let (stopper, stopping) = watch::channel(false);
    let bench = Bench::new(subject, exchange, journal, stopping);
    let mut runner = Runner::new(&bench, &mut say);
    let (mut recovered, mut left) = (0, None);
    let work = async {
        recovered = bench.pay_earlier_runs().await;
        check(&mut runner).await;
        left = Some(bench.pay().await);
    };
    let stops = async {
        stop().await;
        stopper.send_replace(true);
        stop().await;
    };
    tokio::select! {
        () = work => {}
        () = stops => {}
    }
    let left = left.unwrap_or_else(|| bench.unpaid());
    runner.conclude(&rule::NOTHING_LEFT, bench.nothing_left(&left));
    let checks = runner.into_checks();
    let interrupted = *stopper.borrow();
    let failed = checks.iter().any(|check| matches!(check.verdict, Verdict::Fail(_)));
    Report {
        version: 1,
        service: subject.service.clone(),
        contract: subject.endpoint.contract,
        exchange_url: subject.endpoint.exchange_url.clone(),
        email: subject.email.clone(),
        at,
        took_ms: u64::try_from(Timestamp::now().duration_since(at).as_millis()).unwrap_or_default(),
        ok: !failed && left.is_empty() && !interrupted,
        interrupted,
        recovered,
        left,
        checks,
    }
}

async fn check(runner: &mut Runner<'_>) {
    shared_secret::check_health(runner).await;
    listing::remember_what_is_there(runner).await;
    shared_secret::check(runner).await;
    asking::check(runner).await;
    repeating::check(runner).await;
    revoking::check(runner).await;
    listing::check(runner).await;
    business::check(runner).await;
    malformed::check(runner).await;
    every_answer::check(runner);
}
