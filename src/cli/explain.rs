//! `explain`: all that is known of one connection.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::action::{Action, IssueOp, shown};
use crate::model::desired::Wish;
use crate::model::event::Event;
use crate::model::home::HomeLook;
use crate::model::name::{AccountName, Email, OpId, ServiceId, UserId};
use crate::model::plan::{Note, NoteKind, Scope};
use crate::model::secret::Fingerprint;
use crate::model::token::{Phase, Token, days, later};
use crate::reconcile::Planned;
use crate::store::{EventFilter, Store, StoreError};

use super::report::{self, chain, palette, say};
use super::settings::Settings;
use super::status::{LaptopJson, laptops};
use super::{Failure, block_on, events};

/// Explain one connection: what is desired and where, each key with its phase and times, what was
/// seen in the home, what the next pass will do and by which rule, what happened lately, and the
/// one thing that a person should do, if any.
#[derive(clap::Args)]
pub struct Args {
    /// Whose connection
    #[arg(value_name = "USER")]
    user: UserId,
    /// To which service
    #[arg(value_name = "SERVICE")]
    service: ServiceId,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// All that is known, for programs.
#[derive(Serialize)]
struct Explanation {
    version: u8,
    user: UserId,
    service: ServiceId,
    desired: Option<DesiredPart>,
    email: Option<Email>,
    account: Option<AccountName>,
    tokens: Vec<TokenPart>,
    home: String,
    /// Which laptop holds which generation of the user's files.
    laptops: Vec<LaptopJson>,
    decisions: Vec<String>,
    next_due: Option<Timestamp>,
    lately: Vec<Event>,
    advice: Option<String>,
}

/// What `desired.yaml` says.
#[derive(Serialize)]
struct DesiredPart {
    file: String,
    line: u32,
    settings: Vec<String>,
}

/// One token.
#[derive(Serialize)]
struct TokenPart {
    op: OpId,
    phase: Phase,
    since: Timestamp,
    asked_at: Timestamp,
    expires_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    key: Option<Fingerprint>,
    at: String,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let (user, service) = (args.user.clone(), args.service.clone());
    let lately = match Store::open_to_read(&settings.places.state) {
        Ok(store) => {
            let (user, service) = (Some(user.clone()), Some(service.clone()));
            store.events(&EventFilter { user, service, since: None, last: Some(8) })?
        }
        Err(StoreError::Missing(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let scope = Scope { service: Some(service), ..Scope::of_users([user]) };
    let planned = block_on(settings.pass(scope).plan(None))??;
    let explanation = explain(settings, args, &planned, lately);
    if args.json {
        say(&serde_json::to_string_pretty(&explanation)?);
    } else {
        if let Err(error) = &planned.intent.desired {
            report::error(error);
        }
        print(&explanation);
    }
    Ok(u8::from(planned.intent.desired.is_err()))
}

fn explain(settings: &Settings, args: &Args, planned: &Planned, lately: Vec<Event>) -> Explanation {
    let (user, service) = (&args.user, &args.service);
    let wanted = planned.intent.desired.as_ref().ok();
    let wish = wanted.and_then(|wanted| wanted.desired.users.get(user)?.connections.get(service));
    let person = wanted.and_then(|wanted| wanted.people.person(user).ok());
    let tokens = planned.actual.tokens_of(user, service);
    Explanation {
        version: 1,
        user: user.clone(),
        service: service.clone(),
        desired: wish.map(|wish| DesiredPart {
            file: settings.places.desired.display().to_string(),
            line: wish.line,
            settings: wish_settings(wish),
        }),
        email: person.as_ref().map(|person| person.email.clone()),
        account: person.as_ref().map(|person| person.account.clone()),
        tokens: tokens.iter().map(token_part).collect(),
        home: home(planned, user, service, person.as_ref().map(|person| &person.account)),
        laptops: laptops(&planned.actual),
        decisions: decisions(planned),
        next_due: next_due(planned, service, tokens),
        lately,
        advice: advice(planned, user, service, wish, tokens),
    }
}

fn wish_settings(wish: &Wish) -> Vec<String> {
    let mut settings = Vec::new();
    settings.extend(wish.ttl_days.map(|days| format!("ttl_days: {days}")));
    settings.extend(wish.rotate_after.map(|at| format!("rotate_after: {at}")));
    settings.extend(wish.revoke_issued_before.map(|at| format!("revoke_issued_before: {at}")));
    settings.extend(wish.paused.then(|| "paused: true".to_owned()));
    settings.extend(wish.retried_at.map(|at| format!("retried_at: {at}")));
    settings
}

fn token_part(token: &Token) -> TokenPart {
    TokenPart {
        op: token.op.clone(),
        phase: token.phase,
        since: token.since,
        asked_at: token.ask.at,
        expires_at: token.expires_at(),
        delivered_at: token.delivered.map(|delivery| delivery.at),
        key: token.grant.as_ref().map(|grant| grant.fingerprint),
        at: token.ask.endpoint.exchange_url.clone(),
    }
}

/// What is in the home of this connection.
fn home(
    planned: &Planned,
    user: &UserId,
    service: &ServiceId,
    account: Option<&AccountName>,
) -> String {
    let Some(account) = account else { return "no account is known".to_owned() };
    let record = planned.actual.installed.get(user).and_then(|homes| homes.get(account));
    let what = match record.and_then(|record| Some((record, record.pieces.get(service)?))) {
        None => "nothing of this service was put there".to_owned(),
        Some((record, piece)) => {
            let state = if record.confirmed { "put" } else { "not confirmed yet" };
            let key = if piece.op.is_some() { "key and skill" } else { "skill only" };
            format!("generation {}, {state}: {key}, {}", record.generation, piece.status)
        }
    };
    let seen = match planned.actual.homes.get(account) {
        None => "not looked at".to_owned(),
        Some(HomeLook::Absent(absence)) => format!("absent: {}", absence.why),
        Some(HomeLook::Unknown(why)) => format!("could not look: {why}"),
        Some(HomeLook::Seen(facts)) => match facts.env.and_then(|env| env.generation) {
            Some(generation) => format!("generation {generation} seen"),
            None => "no .service_env of ours seen".to_owned(),
        },
    };
    format!("{account}: {what}; {seen}")
}

/// What the plan decides, and why.
fn decisions(planned: &Planned) -> Vec<String> {
    let plan = planned.approved.plan();
    let mut found: Vec<String> = plan.actions.iter().map(decision).collect();
    found.extend(plan.notes.iter().map(|note| note.text.clone()));
    if !planned.held.is_empty() {
        found.push(format!("held by the guard: {}", planned.held.why.join("; ")));
    }
    found
}

fn decision(action: &Action) -> String {
    match action {
        Action::Issue(issue) => match issue.op {
            IssueOp::New => format!("ask for a key: {}", issue.why),
            IssueOp::Resume(_) => format!("ask again: {}", issue.why),
        },
        Action::Revoke(revoke) => {
            let when = if revoke.after_delivery { " once the new key is in the home" } else { "" };
            format!("revoke {}{when}: {}", revoke.op.short(), revoke.why)
        }
        Action::End(end) => format!("{} has ended: {}", end.op.short(), end.how),
        Action::Install(install) => {
            let why: Vec<String> = install.why.iter().map(ToString::to_string).collect();
            format!("put files into {}'s home: {}", install.account, why.join("; "))
        }
    }
}

/// When something is due next by time alone.
fn next_due(planned: &Planned, service: &ServiceId, tokens: &[Token]) -> Option<Timestamp> {
    let entry = planned.intent.registry.service(service);
    let due = |token: &Token| match token.phase {
        Phase::Active => token.renewal_due(entry?.renew_before_days),
        Phase::Retiring => Some(later(token.since, days(entry?.grace_days))),
        _ => None,
    };
    tokens.iter().filter_map(due).filter(|due| *due > planned.at).min()
}

/// The one thing that a person should do, if any.
fn advice(
    planned: &Planned,
    user: &UserId,
    service: &ServiceId,
    wish: Option<&Wish>,
    tokens: &[Token],
) -> Option<String> {
    if let Err(error) = &planned.intent.desired {
        return Some(format!("Mend the desired state: {}", chain(error)));
    }
    if !planned.held.is_empty() {
        return Some(format!(
            "If the removal is meant: service-connector approve {}",
            planned.held.digest()
        ));
    }
    let plan = planned.approved.plan();
    if let Some(note) = plan.notes.iter().find(|note| is_theirs(note)) {
        return Some(format!("Nothing happens until this is changed: {}", note.text));
    }
    if !plan.is_empty() {
        return Some("Run a pass: service-connector reconcile".to_owned());
    }
    let waits = plan.notes.iter().any(|note| matches!(note.kind, NoteKind::Waiting(_)));
    if waits {
        return Some(
            "Mend what failed, then do not wait: service-connector reconcile --retry-now"
                .to_owned(),
        );
    }
    if wish.is_none() && tokens.is_empty() {
        return Some(format!("To connect: service-connector connect {user} {service}"));
    }
    None
}

/// Whether this keeps the connection itself from going on.
fn is_theirs(note: &Note) -> bool {
    note.kind == NoteKind::Blocked && note.user.is_some()
}

fn print(explanation: &Explanation) {
    let strong = palette().strong;
    let part = |name: &str, text: &str| say(&format!("{strong}{name:<9}{strong:#}{text}"));
    let Explanation { user, service, .. } = explanation;
    say(&format!("{user} and {service}\n"));
    match &explanation.desired {
        None => part("desired", "not connected"),
        Some(DesiredPart { file, line, settings }) => {
            let settings = if settings.is_empty() {
                String::new()
            } else {
                format!(", {}", settings.join(", "))
            };
            part("desired", &format!("connected, by {file}:{line}{settings}"));
        }
    }
    match (&explanation.email, &explanation.account) {
        (Some(email), Some(account)) => part("person", &format!("{email}, account {account}")),
        _ => part("person", "not known"),
    }
    for token in &explanation.tokens {
        part("key", &token_line(token));
    }
    part("home", &explanation.home);
    for laptop in &explanation.laptops {
        part("laptop", laptop.line().trim_start_matches("laptop "));
    }
    for decision in &explanation.decisions {
        part("plan", decision);
    }
    if explanation.decisions.is_empty() {
        part("plan", "nothing to do");
    }
    if let Some(due) = explanation.next_due {
        part("next", &format!("something is due {}", shown(due)));
    }
    for event in &explanation.lately {
        part("event", &events::line(event));
    }
    if let Some(advice) = &explanation.advice {
        part("do", advice);
    }
}

fn token_line(token: &TokenPart) -> String {
    let mut line = format!("{} {} since {}", token.op.short(), token.phase, shown(token.since));
    let mut add = |name: &str, value: Option<String>| {
        line.extend(value.map(|value| format!(", {name} {value}")));
    };
    add("key", token.key.map(|key| key.to_string()));
    add("asked", Some(shown(token.asked_at)));
    add("until", token.expires_at.map(shown));
    add("delivered", token.delivered_at.map(shown));
    add("at", Some(token.at.clone()));
    line
}
