//! `events`: what happened.

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;

use crate::model::action::shown;
use crate::model::event::Event;
use crate::model::name::{ServiceId, UserId};
use crate::store::{EventFilter, Store, Verified};

use super::Failure;
use super::report::say;
use super::settings::Settings;

/// Show what happened: who did what, to which connection, and what came of it.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<EventsCommand>,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
    /// Only this service's
    #[arg(long, value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// Not older than this (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// At most so many, the latest
    #[arg(long, value_name = "N", default_value_t = 100)]
    last: u32,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum EventsCommand {
    /// Check that no event was changed or taken out: each hash covers the one before
    Verify,
}

/// The events, for programs.
#[derive(Serialize)]
struct EventsJson {
    version: u8,
    events: Vec<Event>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let store = Store::open_to_read(&settings.places.state)?;
    if args.command.is_some() {
        return verify(&store);
    }
    let (user, service) = (args.user.clone(), args.service.clone());
    let filter = EventFilter { user, service, since: args.since, last: Some(args.last) };
    let events = store.events(&filter)?;
    if args.json {
        say(&serde_json::to_string_pretty(&EventsJson { version: 1, events })?);
        return Ok(0);
    }
    if events.is_empty() {
        say("No such event.");
    }
    for event in &events {
        say(&line(event));
    }
    Ok(0)
}

/// One event, for people.
pub fn line(event: &Event) -> String {
    let at = shown(event.at);
    let user = event.user.as_ref().map_or("", UserId::as_str);
    let service = event.service.as_ref().map_or("", ServiceId::as_str);
    let token = event.op.as_ref().map_or("", |op| op.short());
    let line = format!(
        "{at}  {:<10} {:<14} {user} {service} {token} {}",
        event.who, event.kind, event.detail
    );
    // A name and a reason are what somebody says they are: they must not look like other events.
    line.trim_end().chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

fn verify(store: &Store) -> Result<u8, Failure> {
    match store.verify_events()? {
        Verified::Whole { events, head } => {
            say(&format!("Whole: {events} events, each of which follows from the one before."));
            if let Some(head) = head {
                say(&format!(
                    "The last hash is {head}. Kept elsewhere, it shows whether any are cut off later."
                ));
            }
            Ok(0)
        }
        Verified::Broken { seq } => Err(format!(
            "the chain is broken at event {seq}: it was changed, or one before it is gone"
        )
        .into()),
    }
}
