//! `status`: who can use what now, what is owed, what is blocked.

mod laptops;
mod lists;

use std::collections::BTreeMap;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::model::action::{Action, InstallReason, shown};
use crate::model::name::{ServiceId, UserId};
use crate::model::plan::{LossKind, Note, NoteKind};
use crate::model::secret::Fingerprint;
use crate::model::token::{Phase, Token};
use crate::reconcile::Planned;
use crate::store::{FailedRecord, LastPass, LostToken, Store, StoreError};

use super::plan::ScopeArgs;
use super::report::{self, chain, say};
use super::settings::Settings;
use super::{Failure, block_on};
pub(super) use laptops::{LaptopJson, laptops};
use lists::{SweepJson, V1};

/// Show who can use what now, until when, what is owed, and what is blocked and why.
#[derive(clap::Args, Default)]
pub struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// The state of everything, for programs.
#[derive(Serialize)]
struct StatusJson {
    version: u8,
    at: Timestamp,
    last_pass: Option<LastPass>,
    connections: Vec<Row>,
    /// Revokes that are owed.
    debts: Vec<Debt>,
    /// Keys of contract v1 that may exist, and nobody can tell.
    lost: Vec<LostToken>,
    /// Services of contract v1: what a crash leaves behind there lives until its end.
    v1: Vec<V1>,
    /// What the services' own lists of tokens showed last (contract v2).
    sweeps: Vec<SweepJson>,
    /// Which laptop holds which generation of its user's files.
    laptops: Vec<LaptopJson>,
    /// What is said of the whole, or of a service.
    notes: Vec<String>,
    error: Option<String>,
}

/// One connection.
#[derive(Serialize)]
struct Row {
    user: UserId,
    service: ServiceId,
    desired: bool,
    /// Whether a key that works is in the home.
    usable: bool,
    /// Until when.
    until: Option<Timestamp>,
    /// One word or two for people.
    state: &'static str,
    /// The key's fingerprint.
    key: Option<Fingerprint>,
    /// Why it is not as it should be.
    why: Option<String>,
}

/// A revoke that is owed.
#[derive(Serialize)]
struct Debt {
    user: UserId,
    service: ServiceId,
    since: Timestamp,
    why: Option<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let now = Timestamp::now();
    let (last_pass, lost) = match Store::open_to_read(&settings.places.state) {
        Ok(store) => (store.last_pass()?, store.lost(now)?),
        Err(StoreError::Missing(_)) => (None, Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let scope = args.scope.scope();
    let planned = block_on(settings.pass(scope.clone()).plan(None))??;
    let within =
        |user: &UserId, service: &ServiceId| scope.has_user(user) && scope.has_service(service);
    let error = planned.intent.desired.as_ref().err();
    let failed = last_pass.as_ref().map_or(&[][..], |pass| &pass.failed);
    let mut status = StatusJson {
        version: 1,
        at: now,
        connections: rows(&planned, failed),
        debts: debts(&planned),
        v1: lists::v1(&planned, &lost),
        sweeps: lists::sweeps(&planned),
        laptops: laptops(&planned.actual),
        lost,
        notes: general_notes(&planned),
        last_pass,
        error: error.map(|error| chain(error)),
    };
    status.connections.retain(|row| within(&row.user, &row.service));
    status.debts.retain(|debt| within(&debt.user, &debt.service));
    status.lost.retain(|lost| within(&lost.user, &lost.service));
    status.laptops.retain(|laptop| scope.has_user(&laptop.user));
    status.v1.retain(|v1| scope.has_service(&v1.service));
    status.sweeps.retain(|sweep| scope.has_service(&sweep.service));
    if args.json {
        say(&serde_json::to_string_pretty(&status)?);
    } else {
        if let Some(error) = error {
            report::error(error);
        }
        print(&status);
    }
    Ok(u8::from(status.error.is_some()))
}

/// Every connection that is desired, or of which something is left.
fn rows(planned: &Planned, failed: &[FailedRecord]) -> Vec<Row> {
    let mut keys: BTreeMap<(&UserId, &ServiceId), bool> = BTreeMap::new();
    for (user, services) in &planned.actual.tokens {
        keys.extend(services.keys().map(|service| ((user, service), false)));
    }
    if let Ok(wanted) = &planned.intent.desired {
        for (user, desired) in &wanted.desired.users {
            keys.extend(desired.connections.keys().map(|service| ((user, service), true)));
        }
    }
    let mut rows: Vec<Row> = keys
        .into_iter()
        .map(|((user, service), desired)| row(planned, user, service, desired))
        .collect();
    // What kept the last pass from it, where the plan sees nothing that would.
    for row in rows.iter_mut().filter(|row| row.why.is_none() && row.usable != row.desired) {
        let of = |failed: &&FailedRecord| {
            failed.user == row.user && failed.service.as_ref().is_none_or(|of| *of == row.service)
        };
        row.why = failed.iter().find(of).map(|failed| failed.why.clone());
    }
    rows
}

fn row(planned: &Planned, user: &UserId, service: &ServiceId, desired: bool) -> Row {
    let actual = &planned.actual;
    let tokens = actual.tokens_of(user, service);
    let in_homes = actual.installed.get(user).into_iter().flat_map(BTreeMap::values);
    let in_home = in_homes
        .filter(|home| home.confirmed)
        .find_map(|home| home.pieces.get(service)?.op.clone());
    let key = tokens.iter().find(|token| {
        Some(&token.op) == in_home.as_ref() && token.phase.is_live() && !token.is_over(planned.at)
    });
    let note = planned.approved.plan().notes.iter().find(|note| {
        note.user.as_ref() == Some(user)
            && note.service.as_ref().is_none_or(|of| of == service)
            && note.kind != NoteKind::Remark
    });
    let held =
        planned.held.losses.iter().any(|loss| {
            loss.user == *user && loss.service == *service && loss.kind != LossKind::Stray
        });
    let why =
        if held { Some("held by the guard".to_owned()) } else { note.map(|n| n.text.clone()) };
    let why = why.or_else(|| drift(planned, user));
    Row {
        user: user.clone(),
        service: service.clone(),
        desired,
        usable: key.is_some(),
        until: key.and_then(Token::expires_at),
        state: state(desired, key, tokens, note),
        key: key.and_then(|token| token.grant.as_ref()).map(|grant| grant.fingerprint),
        why,
    }
}

/// How the user's home differs from what was put there.
fn drift(planned: &Planned, user: &UserId) -> Option<String> {
    planned.approved.plan().actions.iter().find_map(|action| match action {
        Action::Install(install) if install.user == *user => {
            let drift = |why: &&InstallReason| matches!(why, InstallReason::Drift(_));
            install.why.iter().find(drift).map(ToString::to_string)
        }
        _ => None,
    })
}

fn state(
    desired: bool,
    key: Option<&Token>,
    tokens: &[Token],
    note: Option<&Note>,
) -> &'static str {
    let blocked = note.is_some_and(|note| note.kind == NoteKind::Blocked);
    match (desired, key) {
        (true, Some(_)) if tokens.iter().any(|token| token.phase == Phase::Retiring) => {
            "connected, old key in grace"
        }
        (true, Some(_)) => "connected",
        (true, None) if blocked => "blocked",
        (true, None) if note.is_some() => "waiting",
        (true, None) => "connecting",
        (false, _) if tokens.iter().all(|token| token.phase == Phase::Revoking) => "revoke owed",
        (false, _) => "disconnecting",
    }
}

fn debts(planned: &Planned) -> Vec<Debt> {
    let tokens = planned.actual.tokens.values().flat_map(BTreeMap::values).flatten();
    let owed = tokens.filter(|token| token.phase == Phase::Revoking);
    owed.map(|token| {
        let backoffs = planned.actual.backoffs.get(&token.user);
        Debt {
            user: token.user.clone(),
            service: token.service.clone(),
            since: token.since,
            why: backoffs.and_then(|of| of.get(&token.service)).map(|b| b.message.clone()),
        }
    })
    .collect()
}

fn general_notes(planned: &Planned) -> Vec<String> {
    let notes = planned.approved.plan().notes.iter().filter(|note| note.user.is_none());
    let service = |note: &Note| {
        note.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default()
    };
    notes.map(|note| format!("{}{}", service(note), note.text)).collect()
}

fn print(status: &StatusJson) {
    match &status.last_pass {
        None => say("No pass has run yet: `service-connector reconcile` runs one."),
        Some(pass) => {
            let (at, took) = (shown(pass.at), pass.took_ms);
            say(&format!("Last pass {at}, {took} ms, exit {}: {}", pass.exit, pass.summary));
            if let Some(held) = &pass.held {
                let (count, why) = (held.connections, held.why.join("; "));
                say(&format!("It held {count} removals: {why}"));
            }
        }
    }
    if !status.connections.is_empty() {
        say(&format!("\n{}", table(&status.connections).trim_fmt()));
    }
    for laptop in &status.laptops {
        say(&format!("A {}", laptop.line()));
    }
    for debt in &status.debts {
        let why = debt.why.as_deref().unwrap_or("not tried yet");
        let (user, service, since) = (&debt.user, &debt.service, shown(debt.since));
        say(&format!("Owed since {since}: the revoke of {user}'s key to {service} ({why})"));
    }
    for lost in &status.lost {
        let LostToken { user, service, until } = lost;
        let until = shown(*until);
        say(&format!("Possible orphan: a key of {user} to {service} may exist until {until}"));
    }
    lists::print(&status.v1, &status.sweeps);
    for note in &status.notes {
        say(&format!("Note: {note}"));
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["USER", "SERVICE", "STATE", "UNTIL", "KEY", "WHY"]);
    for row in rows {
        table.add_row([
            row.user.to_string(),
            row.service.to_string(),
            row.state.to_owned(),
            row.until.map(shown).unwrap_or_default(),
            row.key.map(|key| key.to_string()).unwrap_or_default(),
            row.why.clone().unwrap_or_default(),
        ]);
    }
    table
}
