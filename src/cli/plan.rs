//! `plan`: what a pass would do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::model::name::{ServiceId, UserId};
use crate::model::plan::{Scope, View, json, text};
use crate::reconcile::Planned;

use super::report;
use super::settings::Settings;
use super::{Failure, block_on};

/// Show what a pass would do, and do nothing: no call, no write, no secret needed.
#[derive(clap::Args, Default)]
pub struct Args {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// What would happen at this time (RFC 3339, such as 2026-12-24T00:00:00Z)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    #[command(flatten)]
    pub form: FormArgs,
}

/// The part of the world that a command is about.
#[derive(clap::Args, Default)]
pub struct ScopeArgs {
    /// Only this user
    #[arg(long, value_name = "USER")]
    user: Option<UserId>,
    /// Only this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<ServiceId>,
    /// Try again at once what failed before, without waiting
    #[arg(long)]
    retry_now: bool,
}

impl ScopeArgs {
    pub fn of_user(user: &UserId) -> Self {
        Self { user: Some(user.clone()), ..Self::default() }
    }

    pub fn scope(&self) -> Scope {
        let users = self.user.clone().map(|user| BTreeSet::from([user]));
        Scope { users, service: self.service.clone(), retry_now: self.retry_now }
    }
}

/// How facts are printed.
#[derive(clap::Args, Default)]
pub struct FormArgs {
    /// For programs: JSON
    #[arg(long)]
    pub json: bool,
    /// Into this file instead of the terminal
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let pass = settings.pass(args.scope.scope());
    let planned = block_on(pass.plan(args.at))??;
    show(&planned, &args.form)?;
    Ok(planned.exit().code())
}

/// Prints a plan, or writes it to a file.
pub fn show(planned: &Planned, form: &FormArgs) -> Result<(), Failure> {
    for problem in &planned.intent.problems {
        report::problem(problem);
    }
    if let Err(error) = &planned.intent.desired {
        report::error(error);
        report::say("Until that is mended, only debts are paid.");
    }
    let view = View {
        plan: planned.approved.plan(),
        held: &planned.held,
        registry: &planned.intent.registry,
        actual: &planned.actual,
        at: planned.at,
    };
    let text = if form.json {
        serde_json::to_string_pretty(&json::json(&view))?
    } else if form.out.is_some() {
        text::text(&view, &text::Palette::PLAIN)
    } else {
        text::text(&view, &report::palette())
    };
    match &form.out {
        None => report::say(text.trim_end()),
        Some(path) => std::fs::write(path, text.trim_end().to_owned() + "\n")
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?,
    }
    Ok(())
}
