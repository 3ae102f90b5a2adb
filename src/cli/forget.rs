//! `forget`: take a debt off the list on an operator's word.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::model::name::{ServiceId, UserId};
use crate::model::token::{Phase, Token};
use crate::nudge;
use crate::store::{PassLock, Store};

use super::report::say;
use super::settings::Settings;
use super::{Failure, who};

/// Take a revoke that is owed off the list, on your word that the token is gone. It is recorded who
/// said so, and why. The key may still be alive at the service: use it only when nobody can confirm
/// the revoke any more.
#[derive(clap::Args)]
pub struct Args {
    /// Whose token
    #[arg(value_name = "USER")]
    user: UserId,
    /// Of which service
    #[arg(value_name = "SERVICE")]
    service: ServiceId,
    /// The token's op id, or the first digits of its last part, as `plan --json` and `explain` show it
    #[arg(value_name = "OP")]
    op: String,
    /// Why it is certain that the token is gone
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    if args.reason.trim().is_empty() {
        return Err("--reason must say why".into());
    }
    let places = &settings.places;
    // Opened to write, a state that was lost would be made anew, and nobody would miss the old one.
    Store::open_to_read(&places.state)?;
    let lock = PassLock::take(&places.state, || {
        anstream::eprintln!("A pass is under way; waiting for it.");
    })?;
    let now = Timestamp::now();
    let mut store = Store::open(&places.state, &places.sealing_key)?;
    let actual = store.load(now, Some(&BTreeSet::from([args.user.clone()])))?;
    let tokens = actual.tokens_of(&args.user, &args.service);
    let named: Vec<&Token> = tokens.iter().filter(|token| is_named(token, &args.op)).collect();
    let (user, service) = (&args.user, &args.service);
    match named[..] {
        [token] if token.phase == Phase::Revoking => {
            store.forget(&token.op, &who(), &args.reason, now)?;
            drop((store, lock));
            // What is shown of the last pass follows. Who cannot be told finds it at the next.
            nudge::nudge(&places.state).ok();
            let op = token.op.short();
            say(&format!("Forgotten: the revoke of {user}'s key {op} to {service} is owed no more."));
            Ok(0)
        }
        [token] => Err(format!(
            "the token is {}, and only a debt (revoking) can be forgotten; disconnect {user} from {service} first",
            token.phase
        )
        .into()),
        [] => Err(format!("{user} has no token of {service} that begins with `{}`", args.op).into()),
        _ => Err(format!("`{}` names several tokens: give more digits", args.op).into()),
    }
}

fn is_named(token: &Token, name: &str) -> bool {
    let last = token.op.as_str().rsplit(':').next().unwrap_or_default();
    token.op.as_str() == name || (name.len() >= 4 && last.starts_with(name))
}
