//! The privileged side of homes: `install-service-env`.
//!
//! It has root only until it has become the user whose home it is, in a child of its own for each
//! account. As root it reads its configuration and the system's accounts, and nothing in a home.
//! Its caller says what the files hold, and can name no account outside the group in
//! `helper.conf`; whoever owns a home can spoil that home alone.

mod account;
mod caller;
mod config;
mod fork;
mod pool;
mod serve;
mod sources;
mod user;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use serde_json::value::RawValue;

use crate::model::name::AccountName;
use crate::wire::{self, Answer, Asked, PutDone, Request, Said};
use config::Rule;
use pool::Pool;

const CONFIG: &str = "/etc/service-connector/helper.conf";

const USAGE: &str = "\
Puts a user's .service_env and skill files into their home, as that user.

Usage: install-service-env USERNAME ENV_SOURCE_PATH SKILLS_SOURCE_DIR
       install-service-env < REQUESTS

With three arguments, for root and admins: the file and the sc_*.md of the directory, read with the
rights of whoever calls, become the user's; other sc_*.md of theirs are removed. Without arguments,
for the callers in /etc/service-connector/helper.conf: one request as a line of JSON, one answer.";

/// What ended the program, for people; never what is in a file.
type Failure = Box<dyn std::error::Error>;

/// Runs this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // Should standard error be gone, too, there is nobody to tell.
            drop(writeln!(std::io::stderr(), "install-service-env: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    match arguments {
        [] => {
            // The caller is told, too: at a socket it does not see standard error.
            answer_requests().inspect_err(|error| tell(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
        [option] if option == "--help" || option == "-h" => {
            writeln!(std::io::stdout(), "{USAGE}")?;
            Ok(ExitCode::SUCCESS)
        }
        [option] if option == "--version" => {
            writeln!(std::io::stdout(), "install-service-env {}", env!("CARGO_PKG_VERSION"))?;
            Ok(ExitCode::SUCCESS)
        }
        [account, env, skills] => {
            let rule = Rule::read(Path::new(CONFIG))?;
            let name = account.to_str().ok_or("the user name is not UTF-8")?;
            let done = install(&rule, name.parse()?, Path::new(env), Path::new(skills))?;
            let what = if done.changed { "installed" } else { "was so already" };
            writeln!(std::io::stdout(), "{name}: {what}")?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("wrong usage; see `install-service-env --help`".into()),
    }
}

fn answer_requests() -> Result<(), Failure> {
    let rule = Rule::read(Path::new(CONFIG))?;
    caller::must_be_listed(&rule)?;
    Ok(serve::serve(&rule, std::io::stdin().as_fd(), std::io::stdout().as_fd())?)
}

fn tell(why: String) {
    if let Ok(line) = wire::line(&Said::Stopped(why)) {
        // Should the caller be gone, standard error has it.
        drop(std::io::stdout().write_all(&line));
    }
}

/// The form for people: what they name becomes the account's files.
fn install(
    rule: &Rule,
    account: AccountName,
    env: &Path,
    skills: &Path,
) -> Result<PutDone, Failure> {
    let sources = sources::read_as(&caller::person()?, env, skills)?;
    let files: &RawValue =
        serde_json::from_slice(&sources).map_err(|_| "the sources were cut off")?;
    let mut pool = Pool::new(rule);
    pool.start(&Request { id: 0, account, what: Asked::Put { uid: None, files } }, || ());
    loop {
        match pool.wait(None)?.0.pop().map(|reply| reply.answer) {
            Some(Answer::Put(done)) => return Ok(done?),
            Some(Answer::Look(_)) => return Err("the answer is of another kind".into()),
            None => {}
        }
    }
}
