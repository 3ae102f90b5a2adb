//! The command line: the only place that prints.

mod approve;
mod check_service;
mod completions;
mod demo;
mod doctor;
mod edit;
mod events;
mod explain;
mod forget;
mod health;
mod laptop_script;
mod man;
mod plan;
mod reconcile;
mod registry;
mod report;
mod run_as;
mod schema;
mod serve;
mod settings;
mod state;
mod status;
mod validate;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use settings::{LogFormat, Overrides, Settings};

/// Hands people, and the AI agents they work with, their keys to internal services, and takes them
/// back.
///
/// `desired.yaml` says who should be connected to what. `plan` shows what that takes; `reconcile`
/// does it: asks the services for keys, revokes those that nobody should have, and writes
/// `.service_env` and the skill files into people's homes.
#[derive(Parser)]
#[command(name = "service-connector", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
New here? `service-connector demo` shows the whole cycle on this machine, with three example services.

Exit codes of plan and reconcile: 0 nothing to do, 2 changes to make (plan), 3 the guard holds \
something, 4 something is owed or blocked, 1 an error.";

#[derive(Subcommand)]
enum Command {
    /// Show the whole cycle on this machine, with three example services
    Demo(demo::Args),
    /// Show what a pass would do, and do nothing
    Plan(plan::Args),
    /// Do what must be done: one pass
    Reconcile(reconcile::Args),
    /// Serve the portal: the page, the card and their API
    Serve(serve::Args),
    /// Let the next pass carry out the removals that the guard holds
    Approve(approve::Args),
    /// Show who can use what now, what is owed, and what is blocked
    Status(status::Args),
    /// Explain one connection: what is desired, what is there, what will be done and why
    Explain(explain::Args),
    /// Connect a user to a service
    Connect(edit::ConnectArgs),
    /// Disconnect a user from a service
    Disconnect(edit::DisconnectArgs),
    /// Replace a user's key to a service by a new one
    Rotate(edit::RotateArgs),
    /// Offboard a user: nothing is issued any more, every connection goes
    Offboard(edit::OffboardArgs),
    /// Take a revoke that is owed off the list, on your word
    Forget(forget::Args),
    /// Ask the services' health checks
    Health(health::Args),
    /// Show what happened, and check that nothing was changed in the telling
    Events(events::Args),
    /// Check the desired state, people, the registry and the skills
    Validate(validate::Args),
    /// Say what is wrong with this installation, and how to mend it
    Doctor(doctor::Args),
    /// Make registry entries from another program's `service_connectors.json`
    Registry(registry::Args),
    /// Move keys in from another program's connections.json, or write such a file
    State(state::Args),
    /// Check whether a service keeps the service contract, by using it
    ///
    /// Asks it for tokens of a test account and revokes them all, trying each rule of
    /// `docs/service-contract.md` by name. What is asked for is in a journal first: when the check is
    /// cut off, the next one revokes what it left. Exit 0: no rule is broken.
    CheckService(check_service::Args),
    /// Print the script that brings keys and skills to a laptop
    ///
    /// To be saved as `sync_service_env.sh`, and run in a project's directory: it fetches the keys into
    /// `.env` and the skills into `.claude/rules/`.
    LaptopScript,
    /// Print the JSON Schema of a file that people write, for editors
    Schema(schema::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Print the manual page, or write one page for each command
    Man(man::Args),
}

impl Command {
    /// Whether it runs with the settings of the configuration.
    fn has_settings(&self) -> bool {
        !matches!(
            self,
            Self::Demo(_)
                | Self::LaptopScript
                | Self::Schema(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Doctor(_)
        )
    }
}

/// The error of a command: printed once, with its causes, at the top.
type Failure = Box<dyn std::error::Error>;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Should the terminal be gone, there is nobody to tell.
            drop(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // 2 means "changes to make".
            return if asked { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    leave_no_core();
    match dispatch(cli) {
        Ok(code) => match report::said_in_vain() {
            None => ExitCode::from(code),
            Some(error) => {
                report::error(&io::Error::other(format!("standard output: {error}")));
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            report::error(&*error);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let format = cli.overrides.log_format;
    if !cli.command.has_settings() {
        start_logging(format.unwrap_or_default());
    }
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::LaptopScript => {
            laptop_script::run();
            Ok(0)
        }
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run(Cli::command(), &args),
        Command::Man(args) => man::run(Cli::command(), &args),
        // A configuration that is not usable is the first that it tells.
        Command::Doctor(args) => doctor::run(cli.overrides, &args),
        command => with_settings(command, cli.overrides),
    }
}

fn with_settings(command: Command, overrides: Overrides) -> Result<u8, Failure> {
    let settings = Settings::find(overrides)?;
    start_logging(settings.log_format);
    // The registry is root's to write, like the configuration.
    if let Some(user) = &settings.run_as
        && !matches!(command, Command::Registry(_))
    {
        run_as::become_user(user)?;
    }
    match command {
        Command::Demo(_)
        | Command::LaptopScript
        | Command::Schema(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Doctor(_) => unreachable!("they ran above, without these settings"),
        Command::Plan(args) => plan::run(&settings, &args),
        Command::Reconcile(args) => reconcile::run(&settings, &args),
        Command::Serve(args) => serve::run(&settings, &args),
        Command::Approve(args) => approve::run(&settings, &args),
        Command::Status(args) => status::run(&settings, &args),
        Command::Connect(args) => edit::connect(&settings, &args),
        Command::Disconnect(args) => edit::disconnect(&settings, &args),
        Command::Rotate(args) => edit::rotate(&settings, &args),
        Command::Explain(args) => explain::run(&settings, &args),
        Command::Offboard(args) => edit::offboard(&settings, &args),
        Command::Forget(args) => forget::run(&settings, &args),
        Command::Health(args) => health::run(&settings, &args),
        Command::Events(args) => events::run(&settings, &args),
        Command::Validate(args) => validate::run(&settings, &args),
        Command::Registry(args) => registry::run(&settings, &args),
        Command::State(args) => state::run(&settings, &args),
        Command::CheckService(args) => check_service::run(&settings, &args),
    }
}

/// What happened, for ops, goes to stderr; `SC_LOG` says how much (`info`, `debug`, …).
fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// A core dump would hold keys.
fn leave_no_core() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}

/// Runs this on one thread: the work is waiting.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// Until somebody ends the process politely.
async fn stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Who is at the keyboard, for the history.
fn who() -> String {
    let name = ["SUDO_USER", "USER"].iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| format!("uid {}", run_as::caller()))
}
