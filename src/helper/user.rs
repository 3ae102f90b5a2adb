//! Becoming a user, and being nobody's to look into.

use std::error::Error;
use std::fmt::Display;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};

use super::account::{Account, Refusal};

/// Makes this process the user's, with no way back. What it holds in memory may be another's, so
/// nobody may look into it, the user neither.
///
/// # Errors
/// Then the process must do nothing more.
pub(super) fn become_for_good(account: &Account, parent: Option<Pid>) -> Result<(), Refusal> {
    let become_it = account.identity.become_for_good();
    become_it.map_err(|error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Refusal::Unknown(format!("the process did not become the user: {error}{cause}"))
    })?;
    // After the ids, whose change resets it.
    seal(parent)
}

/// Nobody may trace this process or have its memory, and it does not outlive its parent.
pub(super) fn seal(parent: Option<Pid>) -> Result<(), Refusal> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("forbid tracing"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("forbid new privileges"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed("forbid core dumps"))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("bind the child to its parent"))?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    if rustix::process::getppid() == parent {
        Ok(())
    } else {
        Err(Refusal::Unknown("the helper has ended".to_owned()))
    }
}

fn failed<E: Display>(doing: &'static str) -> impl Fn(E) -> Refusal {
    move |error| Refusal::Unknown(format!("cannot {doing}: {error}"))
}
