//! `health`: do the services answer?

use serde::Serialize;

use crate::model::name::ServiceId;
use crate::model::registry::Service;
use crate::observe::{self, Health};
use crate::registry_dir;

use super::report::{palette, say};
use super::settings::Settings;
use super::{Failure, block_on};

/// Ask the services' health checks, without any secret. Exit 1 if one is not well.
#[derive(clap::Args)]
pub struct Args {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// How the services are, for programs.
#[derive(Serialize)]
struct HealthJson {
    version: u8,
    services: Vec<ServiceHealth>,
}

#[derive(Serialize)]
struct ServiceHealth {
    service: ServiceId,
    ok: bool,
    /// How long the answer took.
    milliseconds: i64,
    /// What is wrong.
    trouble: Option<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let places = &settings.places;
    let loaded = registry_dir::load(&places.registry, &places.skills)?;
    let wanted = |service: &&Service| args.service.as_ref().is_none_or(|only| *only == service.id);
    let services: Vec<Service> = loaded.registry.services().filter(wanted).cloned().collect();
    if let Some(only) = args.service.as_ref().filter(|_| services.is_empty()) {
        return Err(format!("there is no usable service `{only}` in the registry").into());
    }
    let found = block_on(observe::health(&services))?;
    let found: Vec<ServiceHealth> = found.into_iter().map(in_words).collect();
    let all_well = found.iter().all(|service| service.ok);
    if args.json {
        say(&serde_json::to_string_pretty(&HealthJson { version: 1, services: found })?);
    } else {
        found.iter().for_each(print);
    }
    Ok(u8::from(!all_well))
}

fn in_words(health: Health) -> ServiceHealth {
    let Health { service, took, skew, failure, .. } = health;
    let trouble = failure.map(|failure| failure.message).or(skew);
    let milliseconds = i64::try_from(took.as_millis()).unwrap_or(i64::MAX); // bounded by the timeout
    ServiceHealth { service, ok: trouble.is_none(), milliseconds, trouble }
}

fn print(health: &ServiceHealth) {
    let palette = palette();
    let ServiceHealth { service, milliseconds, trouble, .. } = health;
    match trouble {
        None => {
            let add = palette.add;
            say(&format!("{add}ok{add:#}  {service} ({milliseconds} ms)"));
        }
        Some(trouble) => {
            let warn = palette.warn;
            say(&format!("{warn}!!{warn:#}  {service}: {trouble}"));
        }
    }
}
