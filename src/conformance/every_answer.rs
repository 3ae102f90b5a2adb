//! What must hold for every answer, whatever it answers.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::rule::{self, Rule};
use super::runner::{Runner, Trial, broken, moot};
use crate::exchange::{NoBody, RawReply};

/// DESIGN, "The service contract": beyond this no time-driven action is taken.
const CLOCKS_AGREE: SignedDuration = SignedDuration::from_mins(5);

/// What was seen over all answers.
#[derive(Default)]
pub(super) struct EveryAnswer {
    /// How many answers each rule could be seen in, and the first that broke it.
    seen: BTreeMap<&'static str, (u32, Option<String>)>,
}

impl EveryAnswer {
    pub(super) fn observe(&mut self, reply: &RawReply, story: &str, shows_secret: bool) {
        let mut look = |rule: &'static Rule, wrong: bool, what: &str| {
            let (count, first) = self.seen.entry(rule.name).or_default();
            *count += 1;
            if wrong && first.is_none() {
                *first = Some(format!("{story}: {what}"));
            }
        };
        let header = |name: &str| reply.headers.get(name).map(HeaderValue::as_bytes);
        let kind = header("content-type").unwrap_or_default().to_ascii_lowercase();
        look(&rule::DATE, reply.date.is_none(), "no Date that can be read");
        if let Some(date) = reply.date {
            let apart = date.duration_since(Timestamp::now());
            let what = format!("its Date is {} s from this machine's clock", apart.as_secs());
            look(&rule::CLOCK, apart.abs() > CLOCKS_AGREE, &what);
        }
        look(&rule::NO_REDIRECT, (300..400).contains(&reply.status), "a redirect");
        let too_long = matches!(reply.body, Err(NoBody::TooLong));
        look(&rule::SIZE, too_long, "more than 64 KiB");
        look(&rule::SECRET_STAYS, shows_secret, "the shared secret is in it");
        match reply.status {
            200..300 => {
                look(&rule::JSON, !kind.starts_with(b"application/json"), "not application/json");
            }
            400..600 => look(&rule::PROBLEM, !is_problem(reply, &kind), "not a problem document"),
            _ => {}
        }
        if matches!(reply.status, 429 | 503) {
            let what = "no Retry-After that can be read";
            look(&rule::RETRY_AFTER, reply.retry_after().is_none(), what);
        }
    }

    fn found(&self, rule: &Rule) -> Trial {
        match self.seen.get(rule.name) {
            None => moot("no answer came that it is about"),
            Some((_, Some(first))) => broken(first),
            Some((_, None)) => Ok(()),
        }
    }
}

fn is_problem(reply: &RawReply, kind: &[u8]) -> bool {
    let Ok(body) = &reply.body else { return false };
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let says = ["title", "detail"].iter().any(|field| json[*field].is_string());
    kind.starts_with(b"application/problem+json") && says
}

pub(super) fn check(runner: &mut Runner<'_>) {
    let rules = [
        &rule::DATE,
        &rule::CLOCK,
        &rule::NO_REDIRECT,
        &rule::SIZE,
        &rule::JSON,
        &rule::PROBLEM,
        &rule::RETRY_AFTER,
        &rule::SECRET_STAYS,
    ];
    for rule in rules {
        let found = runner.bench.observed.borrow().found(rule);
        runner.conclude(rule, found);
    }
}
