//! `doctor`: what is wrong with this installation, and how to mend it.

use std::path::Path;

use serde::Serialize;

use crate::doctor::{self, Finding, Setup, State};
use crate::model::plan::Scope;

use super::report::{palette, say};
use super::settings::{Overrides, Settings, SettingsError};
use super::{Failure, block_on, run_as};

/// Say what is wrong with this installation, and how to mend it. Nothing is changed.
///
/// Owners and modes of all places, the files, the state, the services and their clocks, the shared
/// secrets (which are never shown), the homes, what runs passes, and the portal. Exit 1 if anything is wrong.
#[derive(clap::Args)]
pub struct Args {
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

/// What was found, for programs.
#[derive(Serialize)]
struct DoctorJson<'a> {
    version: u8,
    /// Whether nothing is wrong.
    ok: bool,
    findings: &'a [Finding],
}

pub fn run(flags: Overrides, args: &Args) -> Result<u8, Failure> {
    let findings = examine(flags)?;
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
    if args.json {
        let body = DoctorJson { version: 1, ok: wrong == 0, findings: &findings };
        say(&serde_json::to_string_pretty(&body)?);
    } else {
        findings.iter().for_each(print);
    }
    Ok(u8::from(wrong > 0))
}

fn examine(flags: Overrides) -> Result<Vec<Finding>, Failure> {
    let config = Settings::config(&flags);
    let found = config.and_then(|config| Ok((config, Settings::find(flags)?)));
    let (config, settings) = match found {
        Ok(found) => found,
        Err(error) => return Ok(unusable(&error)),
    };
    if let Some(user) = &settings.run_as {
        run_as::become_user(user)?;
    }
    let pass = settings.pass(Scope::default());
    let secrets = |names: &_| settings.secrets(names);
    let setup = Setup {
        config,
        pass: &pass,
        homes: settings.homes(),
        secrets: &secrets,
        is_portal_open: !settings.identity.is_empty(),
    };
    block_on(doctor::examine(&setup))
}

fn unusable(error: &SettingsError) -> Vec<Finding> {
    let (path, mend): (&Path, _) = match error {
        SettingsError::Read { path, .. } => (path, "put it there, readable, or name another"),
        SettingsError::Wrong { path, .. } => {
            (path, "edit it; `service-connector schema config` says what is allowed")
        }
        SettingsError::NotYours { path, .. } => (path, "take the others' right to write it away"),
        SettingsError::TwoWays => (Path::new("service-connector.yaml"), "leave one of them"),
    };
    doctor::without_configuration(path, error, mend)
}

fn print(finding: &Finding) {
    let palette = palette();
    let Finding { area, state, what, mend } = finding;
    let area = area.words();
    let mend = mend.as_ref().map(|mend| format!("; to mend: {mend}")).unwrap_or_default();
    match state {
        State::Ok => {
            let add = palette.add;
            say(&format!("{add}ok{add:#}  {area}: {what}"));
        }
        State::Wrong => {
            let warn = palette.warn;
            say(&format!("{warn}!!{warn:#}  {area}: {what}{mend}"));
        }
        State::NotChecked => say(&format!("--  {area}: not checked: {what}")),
    }
}
