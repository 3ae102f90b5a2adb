//! `state`: moving keys in from another program, and out.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::model::plan::Scope;
use crate::model::transfer::{self, Arrivals, Ground};

use crate::reconcile::finish_import;
use crate::store::{PassLock, Store};

use super::report::say;
use super::settings::Settings;
use super::{Failure, who};

/// Larger than the file of a hundred thousand connections.
const MOST_BYTES: u64 = 64 << 20;

/// Move keys in from another program's `connections.json`, or write such a file.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Subcommand)]
enum StateCommand {
    /// Take over the keys and connections of a connections.json: all of them or none
    ///
    /// The keys stay as they are: the next pass puts them into the homes, and issues and revokes
    /// nothing. Whoever is not in people.yaml is listed, and then nobody is imported.
    Import(ImportArgs),
    /// Write the connections as a connections.json, with fingerprints in place of the keys
    Export(ExportArgs),
}

#[derive(clap::Args)]
struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(clap::Args)]
struct ExportArgs {
    /// With the keys themselves; only into a file. It is recorded who did so
    #[arg(long, requires = "out")]
    with_keys: bool,
    /// Into this new file (mode 600) instead of the terminal
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    match &args.command {
        StateCommand::Import(args) => import(settings, &args.file),
        StateCommand::Export(args) => export(settings, args),
    }
}

fn import(settings: &Settings, file: &Path) -> Result<u8, Failure> {
    let places = &settings.places;
    let bytes = read(file)?;
    let _lock = PassLock::take(&places.state, || {
        anstream::eprintln!("A pass is under way; waiting for it.");
    })?;
    let pass = settings.pass(Scope::default());
    super::block_on(pass.refuse_lost_state())??;
    let now = Timestamp::now();
    let mut store = Store::open(&places.state, &places.sealing_key)?;
    finish_import(&places.desired, &store, now)?;
    let actual = store.load(now, None)?;
    let intent = super::block_on(pass.settled_intent(&actual))?;
    let wanted = intent.desired?;
    let (desired, people, registry) = (&wanted.desired, &wanted.people, &intent.registry);
    let ground = Ground { desired, people, registry, actual: &actual, now };
    let in_file = |error| format!("{}: {error}", file.display());
    let arrivals = transfer::read(&bytes, &ground).map_err(in_file)?;
    if !arrivals.tokens.is_empty() {
        store.import(&arrivals.tokens, &who(), now)?;
        finish_import(&places.desired, &store, Timestamp::now())?;
    }
    say(&summary(&arrivals));
    Ok(0)
}

fn summary(arrivals: &Arrivals) -> String {
    let mut lines = vec![format!("Imported {} keys.", arrivals.tokens.len())];
    if arrivals.already > 0 {
        lines.push(format!("{} were here already.", arrivals.already));
    }
    if arrivals.not_connected > 0 {
        let count = arrivals.not_connected;
        lines.push(format!("{count} entries are not connected, and were left out."));
    }
    lines.push("The next pass puts them into the homes.".to_owned());
    lines.push("Take the file away when all is well: it holds keys.".to_owned());
    lines.join("\n")
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", file.display());
    let length = fs::metadata(file).map_err(failed)?.len();
    if length > MOST_BYTES {
        return Err(format!(
            "{} has {length} bytes; at most {MOST_BYTES} are read",
            file.display()
        )
        .into());
    }
    Ok(Zeroizing::new(fs::read(file).map_err(failed)?))
}

fn export(settings: &Settings, args: &ExportArgs) -> Result<u8, Failure> {
    let places = &settings.places;
    let store = Store::open_to_read(&places.state)?;
    let now = Timestamp::now();
    let actual = store.load(now, None)?;
    let Some(out) = &args.out else {
        say(&serde_json::to_string_pretty(&transfer::departures(&actual, |_| None))?);
        return Ok(0);
    };
    // Made before the keys are taken out: where it cannot be, they stay.
    let mut file = create(out)?;
    let keys = if args.with_keys {
        let mut store = Store::open(&places.state, &places.sealing_key)?;
        store.export_keys(&actual, &out.display().to_string(), &who(), now)?
    } else {
        std::collections::BTreeMap::new()
    };
    let connections = transfer::departures(&actual, |op| keys.get(op));
    let count: usize = connections.values().map(std::collections::BTreeMap::len).sum();
    let mut text = Zeroizing::new(serde_json::to_vec_pretty(&connections)?);
    text.push(b'\n');
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(|error| format!("{} could not be written: {error}", out.display()))?;
    let with = if args.with_keys { "with their keys" } else { "without keys" };
    say(&format!("{count} connections, {with}, are in {}.", out.display()));
    Ok(0)
}

/// A new file that nobody else reads, from its first instant.
fn create(out: &Path) -> Result<fs::File, Failure> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok(options.open(out).map_err(|error| format!("{} cannot be made: {error}", out.display()))?)
}
