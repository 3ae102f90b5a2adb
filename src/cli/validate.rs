//! `validate`: are the files right?

use jiff::Timestamp;
use serde::Serialize;

use crate::model::actual::Actual;
use crate::model::plan::Scope;
use crate::model::skill_lint;
use crate::observe;
use crate::store::{Store, StoreError};

use super::Failure;
use super::report::{self, chain, say};
use super::settings::Settings;

/// Check the desired state, people, the registry and the skills. Nothing is called or changed.
#[derive(clap::Args)]
pub struct Args {
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// What is wrong, for programs.
#[derive(Serialize)]
struct ValidateJson {
    version: u8,
    ok: bool,
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let now = Timestamp::now();
    let actual = match Store::open_to_read(&settings.places.state) {
        Ok(store) => store.load(now, None)?,
        Err(StoreError::Missing(_)) => Actual::default(),
        Err(error) => return Err(error.into()),
    };
    let intent = observe::intent(&settings.places, now, &Scope::default())
        .checked(&settings.places, &actual);
    // A file that was saved a moment ago is right or wrong all the same.
    let desired_error = intent.desired.as_ref().err().filter(|error| error.ready_in().is_none());
    let warnings: Vec<String> = intent
        .registry
        .services()
        .flat_map(|service| {
            let of = service.rendition.skill.clone();
            skill_lint::lint(service).into_iter().map(move |text| format!("{of}: {text}"))
        })
        .collect();
    let ok = desired_error.is_none() && intent.problems.is_empty();
    if args.json {
        let problems = intent.problems.iter();
        let errors = problems.map(|p| format!("{}: {}", p.path.display(), chain(&p.error)));
        let errors = errors.chain(desired_error.map(|error| chain(error))).collect();
        let body = ValidateJson { version: 1, ok, errors, warnings };
        say(&serde_json::to_string_pretty(&body)?);
        return Ok(u8::from(!ok));
    }
    intent.problems.iter().for_each(report::problem);
    if let Some(error) = desired_error {
        report::error(error);
    }
    for warning in &warnings {
        say(&format!("warning: {warning}"));
    }
    if ok {
        let services = intent.registry.services().count();
        let (users, connections) = intent.desired.as_ref().map_or((0, 0), |wanted| {
            let users = &wanted.desired.users;
            (users.len(), users.values().map(|user| user.connections.len()).sum::<usize>())
        });
        say(&format!(
            "All right. Services: {services}, users: {users}, connections: {connections}."
        ));
    }
    Ok(u8::from(!ok))
}
