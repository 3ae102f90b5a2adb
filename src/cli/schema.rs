//! `schema`: what editors complete and check the files by.

use crate::model::{desired, people, registry_entry};

use super::report::say;
use super::{Failure, settings};

/// Print the JSON Schema of a file that people write, for editors.
#[derive(clap::Args)]
pub struct Args {
    /// Of which file
    #[arg(value_enum)]
    file: File,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum File {
    /// desired.yaml
    Desired,
    /// people.yaml
    People,
    /// An entry of the registry
    Registry,
    /// service-connector.yaml
    Config,
}

pub fn run(args: &Args) -> Result<u8, Failure> {
    let schema = match args.file {
        File::Desired => desired::json_schema(),
        File::People => people::json_schema(),
        File::Registry => registry_entry::json_schema(),
        File::Config => settings::json_schema(),
    };
    say(&serde_json::to_string_pretty(&schema)?);
    Ok(0)
}
