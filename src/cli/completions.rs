//! `completions`: lets a shell complete our command line.

use std::io;

use clap_complete::Shell;

use super::Failure;
use super::report::say_text;

/// Print the completions of a shell, to be saved where it looks for them
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(mut command: clap::Command, args: &Args) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "service-connector", &mut script);
    say_text(&String::from_utf8(script).map_err(io::Error::other)?);
    Ok(0)
}
