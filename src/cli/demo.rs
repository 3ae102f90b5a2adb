//! `demo`.
use super::Failure;
/// Show the whole cycle on this machine
#[derive(clap::Args)]
pub struct Args {
    /// End when the story is told
    #[arg(long)]
    once: bool,
}
pub fn run(_args: &Args) -> Result<u8, Failure> {
    Ok(0)
}
