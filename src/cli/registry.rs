//! `registry`: entries from another program's list of services.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::model::name::ServiceId;
use crate::model::registry::Entry;
use crate::model::registry_import::{self, NewEntry};
use crate::registry_dir;

use super::Failure;
use super::report::say;
use super::settings::Settings;

/// Make registry entries from another program's `service_connectors.json`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Subcommand)]
enum RegistryCommand {
    /// Write one registry entry for each service of a `service_connectors.json`: all of them or none
    ///
    /// An entry that is there already is left alone if it is the same, and refused if it is not.
    Import(ImportArgs),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The list: of each service `id`, `name`, `description`, `token_exchange_url`,
    /// `token_revoke_url`, `env_var_name`, `skill_file` and `enabled`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Into this directory instead of the registry
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Who may be connected: an address, or `*@` and a domain; may be given several times
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<String>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let RegistryCommand::Import(args) = &args.command;
    let bytes = fs::read(&args.file)
        .map_err(|error| format!("{} cannot be read: {error}", args.file.display()))?;
    let entries = registry_import::read(&bytes, &args.allow)
        .map_err(|error| format!("{}: {error}", args.file.display()))?;
    let dir = args.dir.as_deref().unwrap_or(&settings.places.registry);
    let new = not_there_yet(dir, entries)?;
    check(dir, &settings.places.skills, &new)?;
    for entry in &new {
        write(dir, entry)?;
        say(&format!("{}: {}", entry.id, path(dir, &entry.id).display()));
        for remark in &entry.remarks {
            say(&format!("  {remark}"));
        }
        let skill = settings.places.skills.join(entry.skill.as_str());
        if !skill.exists() {
            say(&format!("  {} is not there: no key is issued until it is", skill.display()));
        }
    }
    let rest = if new.is_empty() { "all of them were there already" } else { "try `validate`" };
    say(&format!("{} entries written; {rest}.", new.len()));
    Ok(0)
}

fn path(dir: &Path, id: &ServiceId) -> PathBuf {
    dir.join(format!("{id}.yaml"))
}

/// Those that must be written. One that is there and says something else is refused.
fn not_there_yet(dir: &Path, entries: Vec<NewEntry>) -> Result<Vec<NewEntry>, Failure> {
    let mut new = Vec::new();
    for entry in entries {
        let path = path(dir, &entry.id);
        match fs::read_to_string(&path) {
            Ok(text) if text == entry.text => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => new.push(entry),
            Ok(_) => {
                let shown = path.display();
                return Err(format!("{shown} is there already, and says something else").into());
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display()).into()),
        }
    }
    Ok(new)
}

/// Whether the entries are right, beside each other and beside those that are there.
fn check(dir: &Path, skills: &Path, new: &[NewEntry]) -> Result<(), Failure> {
    let texts: Vec<(ServiceId, &str)> =
        new.iter().map(|entry| (entry.id.clone(), entry.text.as_str())).collect();
    let loaded = registry_dir::load_with(dir, skills, &texts)?;
    for entry in new {
        if let Some(Entry::Broken(why)) = loaded.registry.entries.get(&entry.id) {
            return Err(format!("{}: nothing was written: {why}", entry.id).into());
        }
    }
    Ok(())
}

/// Whole or not at all, and never over another file.
fn write(dir: &Path, entry: &NewEntry) -> Result<(), Failure> {
    let path = path(dir, &entry.id);
    let unfinished = dir.join(format!(".{}.yaml.{:08x}", entry.id, fastrand::u32(..)));
    let written = fs::File::create_new(&unfinished)
        .and_then(|mut file| {
            file.write_all(entry.text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::hard_link(&unfinished, &path));
    let removed = fs::remove_file(&unfinished);
    written
        .and(removed)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()).into())
}
