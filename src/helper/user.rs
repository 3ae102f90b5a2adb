//! Becoming a user for good.

use std::fmt::Display;

use nix::unistd::{
    Gid, Uid, getegid, getgroups, getresgid, getresuid, setegid, seteuid, setgroups, setresgid,
    setresuid,
};
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use rustix::thread::CapabilitySet;

use super::account::{Account, Refusal};

/// Makes this process the user's, with no way back, and proves it. What it holds in memory may be
/// another's, so nobody may look into it, the user neither.
///
/// # Errors
/// Then the process must do nothing more.
pub(super) fn become_for_good(account: &Account, parent: Option<Pid>) -> Result<(), Refusal> {
    let Account { uid, gid, groups, .. } = account;
    setgroups(groups).map_err(failed("set the groups"))?;
    setresgid(*gid, *gid, *gid).map_err(failed("set the group"))?;
    setresuid(*uid, *uid, *uid).map_err(failed("set the user"))?;
    // After the ids, whose change resets it.
    seal(parent)?;
    prove(account)
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

fn prove(account: &Account) -> Result<(), Refusal> {
    let uids = getresuid().map_err(failed("read the user"))?;
    let gids = getresgid().map_err(failed("read the group"))?;
    let is_user = [uids.real, uids.effective, uids.saved] == [account.uid; 3];
    let is_group = [gids.real, gids.effective, gids.saved] == [account.gid; 3];
    let groups = getgroups().map_err(failed("read the groups"))?;
    let no_other_group = groups.iter().all(|group| account.groups.contains(group));
    let capabilities = rustix::thread::capabilities(None).map_err(failed("read capabilities"))?;
    let has_none = capabilities.permitted | capabilities.effective == CapabilitySet::empty();
    let stays = seteuid(Uid::from_raw(0)).is_err()
        && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err()
        && (account.gid.as_raw() == 0 || setegid(Gid::from_raw(0)).is_err())
        && getegid() == account.gid;
    if is_user && is_group && no_other_group && has_none && stays {
        Ok(())
    } else {
        Err(Refusal::Unknown("the process did not become the user for good".to_owned()))
    }
}

fn failed<E: Display>(doing: &'static str) -> impl Fn(E) -> Refusal {
    move |error| Refusal::Unknown(format!("cannot {doing}: {error}"))
}
