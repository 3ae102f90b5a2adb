//! `reconcile`: one pass.

use std::path::PathBuf;

use serde::Serialize;

use crate::model::digest::{Digest, DigestPrefix};
use crate::model::name::{ServiceId, UserId};
use crate::model::outcome::Outcome;
use crate::model::plan::{Note, NoteKind};
use crate::reconcile::{Passed, Swept};

use super::plan::{FormArgs, ScopeArgs};
use super::report::{self, Progress, say};
use super::settings::Settings;
use super::{Failure, block_on, stop, watch};

/// Do what must be done: one pass. What fails is tried again by the next.
#[derive(clap::Args, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Show the plan and stop, as `plan` does
    #[arg(long)]
    plan: bool,
    /// Go on until told to end (SIGTERM): a pass for each change of a file, when something is due, and
    /// now and then; SIGHUP and `approve` ask for one
    #[arg(long, conflicts_with_all = ["plan", "expect", "json", "user", "service", "retry_now"])]
    watch: bool,
    /// Act only if the plan has this digest, as `plan` showed it
    #[arg(long, value_name = "DIGEST", conflicts_with = "plan")]
    expect: Option<DigestPrefix>,
    /// First compare each service's own list of tokens (contract v2) with what is held: keys that
    /// nobody here knows are then revoked, those that are missing twice running replaced
    #[arg(long, conflicts_with_all = ["plan", "watch"])]
    sweep: bool,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
    /// Into this file instead of the terminal
    #[arg(long, value_name = "FILE", requires = "plan")]
    out: Option<PathBuf>,
}

impl Args {
    /// The pass of one user.
    pub fn of_user(user: &UserId, json: bool) -> Self {
        Self { scope: ScopeArgs::of_user(user), json, ..Self::default() }
    }
}

/// A connection that the guard keeps as it is.
#[derive(Serialize)]
struct HeldJson<'a> {
    user: &'a UserId,
    service: &'a ServiceId,
}

/// What a pass came to, for programs.
#[derive(Serialize)]
struct PassJson<'a> {
    version: u8,
    exit: u8,
    /// What the services' lists showed, with `--sweep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<&'a [Swept]>,
    outcomes: &'a [Outcome],
    held: Vec<HeldJson<'a>>,
    held_digest: Option<Digest>,
    notes: Vec<String>,
    /// Whether somebody ended the pass before all of it was begun.
    stopped: bool,
    error: Option<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    if args.watch {
        return watch::run(settings);
    }
    let pass = settings.pass(args.scope.scope());
    if args.plan {
        let planned = block_on(pass.plan(None))??;
        let form = FormArgs { json: args.json, out: args.out.clone() };
        super::plan::show(&planned, &form)?;
        return Ok(planned.exit().code());
    }
    let on_wait = || anstream::eprintln!("Another pass is under way; waiting for it.");
    let swept = if args.sweep { Some(block_on(pass.sweep(|_| true, on_wait))??) } else { None };
    if let Some(swept) = swept.as_ref().filter(|_| !args.json) {
        for swept in swept {
            say(&swept_line(swept));
        }
    }
    let passed = block_on(async {
        let progress = Progress::start();
        let on_outcome = |outcome: &Outcome| {
            if !args.json {
                progress.outcome(outcome);
            }
        };
        let passed = pass.run(args.expect.clone(), stop(), on_wait, on_outcome).await;
        progress.end();
        passed
    })??;
    if args.json {
        say(&serde_json::to_string_pretty(&json(&passed, swept.as_deref()))?);
    } else {
        finish(&passed);
    }
    Ok(passed.exit.code())
}

/// What a pass came to, for people.
pub fn finish(passed: &Passed) {
    let (planned, outcomes) = (&passed.planned, &passed.executed.outcomes);
    if let Some(error) = &planned.intent_error {
        report::error(error);
        say("Only debts were paid; nothing else was done.");
    }
    let of_the_whole = |note: &Note| note.user.is_none() && note.service.is_none();
    let told = |note: &&Note| note.kind != NoteKind::Remark || of_the_whole(note);
    for note in planned.notes.iter().filter(told) {
        say(&format!("! {}", note_line(note)));
    }
    if !planned.held.is_empty() {
        let held = &planned.held;
        say(&format!("The guard holds {} removals: {}.", held.losses.len(), held.why.join("; ")));
        say(
            "Every key of theirs still works. `service-connector plan` shows them; to let them go:",
        );
        say(&format!("  service-connector approve {}", held.digest()));
    }
    if let Some(error) = &passed.executed.broken {
        say(&format!("The state could not be written; nothing new was begun: {error}"));
    }
    if passed.executed.stopped {
        say("Ended before all was begun; the next pass does the rest.");
    } else if outcomes.is_empty() && planned.intent_error.is_none() {
        say("Nothing to do.");
    }
}

fn note_line(note: &Note) -> String {
    let user = note.user.as_ref().map(|user| format!("{user} ")).unwrap_or_default();
    let service = note.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
    format!("{user}{service}{}", note.text)
}

/// What a service's list showed, for people.
fn swept_line(swept: &Swept) -> String {
    let Swept { service, strays, missing, .. } = swept;
    let shown = match swept.ours.zip(swept.others) {
        None => "no list of tokens".to_owned(),
        Some((ours, others)) => {
            let unknown = if *strays == 0 { String::new() } else { format!(", {strays} unknown") };
            format!(
                "its list has {ours} keys of ours{unknown}, {others} of others, lacks {missing}"
            )
        }
    };
    let frozen = if swept.frozen.is_some() { " (not to be relied on)" } else { "" };
    format!("Swept {service}: {shown}{frozen}.")
}

fn json<'a>(passed: &'a Passed, sweep: Option<&'a [Swept]>) -> PassJson<'a> {
    let held = &passed.planned.held;
    PassJson {
        version: 1,
        exit: passed.exit.code(),
        sweep,
        outcomes: &passed.executed.outcomes,
        held: held.losses.iter().map(|l| HeldJson { user: &l.user, service: &l.service }).collect(),
        held_digest: (!held.is_empty()).then(|| held.digest()),
        notes: passed.planned.notes.iter().map(note_line).collect(),
        stopped: passed.executed.stopped,
        error: passed.planned.intent_error.as_ref().map(|error| report::chain(error)),
    }
}
