//! `registry import`: the services of a `service_connectors.json` become registry entries.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::model::name::SkillFile;
use crate::model::registry_import::{self, NewEntry};
use crate::registry_dir::{self, Adding};

use super::Failure;
use super::report::{chain, say};
use super::settings::Settings;

/// The largest list of services, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Add services to the registry.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a registry entry of each service in a `service_connectors.json`
    ///
    /// FILE is a JSON list of services, each with `id`, `name`, `description`,
    /// `token_exchange_url`, `token_revoke_url`, `env_var_name`, `skill_file` and `enabled`. All of
    /// it is checked before anything is written, and no entry is overwritten. Services speak
    /// contract v1; one that is not enabled becomes a retired one. Running it again is harmless.
    Import(ImportArgs),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The list of services
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the entries are written [default: the registry]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Who may be connected: an e-mail address, or `*@` and a domain [default: nobody]
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let Command::Import(args) = &args.command;
    import(settings, args)
}

fn import(settings: &Settings, args: &ImportArgs) -> Result<u8, Failure> {
    let ImportArgs { file, dir, allow } = args;
    let skills = &settings.places.skills;
    let dir = dir.as_ref().unwrap_or(&settings.places.registry);
    let template = |skill: &SkillFile| registry_dir::skill(skills, skill);
    let json = read(file)?;
    let entries = registry_import::convert(&json, allow, template)
        .map_err(|error| format!("{}: {}", file.display(), chain(&error)))?;
    if !dir.is_dir() {
        let dir = dir.display();
        return Err(
            format!("there is no directory {dir}: make it, or name another by --dir").into()
        );
    }
    let adding = Adding::begin(dir)?;
    let already = registry_import::compare(&entries, &registry_dir::texts(dir)?, template)
        .map_err(|error| format!("{}: {}", dir.display(), chain(&error)))?;
    for (entry, already) in entries.iter().zip(already) {
        if already {
            say(&format!("Already there: {}", dir.join(format!("{}.yaml", entry.id)).display()));
        } else {
            say(&format!("Written: {}", adding.add(&entry.id, &entry.text)?.display()));
        }
    }
    say_what_is_left(&entries, skills, allow.is_empty());
    Ok(0)
}

fn say_what_is_left(entries: &[NewEntry], skills: &Path, nobody: bool) {
    if entries.is_empty() {
        return say("The list is empty: there is nothing to import.");
    }
    for NewEntry { id, skill, .. } in entries.iter().filter(|entry| !entry.has_skill) {
        let path = skills.join(skill.as_str());
        say(&format!(
            "{id} cannot be used yet: its skill {} is not there. Put it there, or name another in \
             `skill:` of its entry.",
            path.display()
        ));
    }
    for NewEntry { id, .. } in entries.iter().filter(|entry| entry.retired) {
        say(&format!(
            "{id} is retired, since it was not enabled: nobody is connected to it until \
             `retired: true` is taken out of its entry."
        ));
    }
    if nobody {
        say("Nobody may be connected yet: put who may into `allow:` of each entry, such as \
             `emails: [\"*@your-domain.com\"]` (or say --allow on a first import).");
    }
    let secrets: Vec<&str> = entries.iter().map(|entry| entry.secret.as_str()).collect();
    say(&format!("The shared secrets are named {}.", secrets.join(", ")));
    say("`service-connector validate` checks the whole.");
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(format!("{} is larger than 1 MiB", path.display()).into());
    }
    Ok(bytes)
}
