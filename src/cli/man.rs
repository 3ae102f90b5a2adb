//! `man`: our manual pages.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_mangen::Man;

use super::Failure;
use super::report::{say, say_text};

/// Print the manual page, or write one page for each command.
#[derive(clap::Args)]
pub struct Args {
    /// Write a page for each command into this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(mut command: clap::Command, args: &Args) -> Result<u8, Failure> {
    command.build();
    let Some(dir) = &args.dir else {
        say_text(&String::from_utf8(page(command)?).map_err(io::Error::other)?);
        return Ok(0);
    };
    let written = write_pages(command, dir)
        .map_err(|error| format!("the pages cannot be written to {}: {error}", dir.display()))?;
    say(&format!("{written} pages are in {}.", dir.display()));
    Ok(0)
}

/// Writes the page of this command and of each below it; says how many.
fn write_pages(command: clap::Command, dir: &Path) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    let (mut written, mut commands) = (0, vec![command]);
    while let Some(command) = commands.pop() {
        // `help` would have a page for each command again.
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        commands.extend(below.cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        fs::write(dir.join(format!("{name}.1")), page(command)?)?;
        written += 1;
    }
    Ok(written)
}

fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}
