//! Root's process becomes the configured user, for good, before it touches the places: what it
//! makes there is then the reconciler's, and what it is told to read is read with no more rights.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, User, getgrouplist, getgroups, getresgid, getresuid, initgroups, setresgid, setresuid,
};

use crate::model::name::AccountName;

/// Who called, where that is not who we are now.
static CALLER: OnceLock<Uid> = OnceLock::new();

/// Why root could not become the user. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum RunAsError {
    /// There is no such user.
    #[error(
        "there is no user {0} on this machine, whom the configuration makes root become (`user`): \
         make that user, or name another"
    )]
    NoSuchUser(AccountName),
    /// It is root by this name.
    #[error("the configuration makes root become {0} (`user`), who is root: name another user")]
    IsRoot(AccountName),
    /// The system's own words.
    #[error("root could not become {user}: cannot {what}")]
    Refused {
        /// Whom.
        user: AccountName,
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: Errno,
    },
    /// It looked well, and is not so.
    #[error("root could not become {0} for good: something of root is left")]
    StillRoot(AccountName),
}

/// Becomes this user, if root calls; whoever else calls goes on with their own rights. No thread
/// may run yet.
///
/// # Errors
/// See [`RunAsError`]; the process must end then.
pub fn become_user(user: &AccountName) -> Result<(), RunAsError> {
    let caller = Uid::effective();
    if !caller.is_root() {
        return Ok(());
    }
    let failed = |what| move |source| RunAsError::Refused { user: user.clone(), what, source };
    let entry = User::from_name(user.as_str()).map_err(failed("look the user up"))?;
    let entry = entry.ok_or_else(|| RunAsError::NoSuchUser(user.clone()))?;
    if entry.uid.is_root() {
        return Err(RunAsError::IsRoot(user.clone()));
    }
    let name = CString::new(user.as_str()).map_err(|_| RunAsError::NoSuchUser(user.clone()))?;
    let groups = getgrouplist(&name, entry.gid).map_err(failed("look up their groups"))?;
    initgroups(&name, entry.gid).map_err(failed("take their groups"))?;
    setresgid(entry.gid, entry.gid, entry.gid).map_err(failed("take their group"))?;
    setresuid(entry.uid, entry.uid, entry.uid).map_err(failed("take their uid"))?;
    if !is_wholly(entry.uid, entry.gid, &groups).map_err(failed("look at the result"))? {
        return Err(RunAsError::StillRoot(user.clone()));
    }
    CALLER.get_or_init(|| caller);
    Ok(())
}

/// Whether nothing of root is left, and root cannot be had back.
fn is_wholly(uid: Uid, gid: Gid, groups: &[Gid]) -> Result<bool, Errno> {
    let (uids, gids) = (getresuid()?, getresgid()?);
    let raw = |groups: &[Gid]| groups.iter().map(|gid| gid.as_raw()).collect::<BTreeSet<_>>();
    Ok([uids.real, uids.effective, uids.saved] == [uid; 3]
        && [gids.real, gids.effective, gids.saved] == [gid; 3]
        && raw(&getgroups()?) == raw(groups)
        && setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err())
}

/// The uid of whoever called.
pub fn caller() -> u32 {
    CALLER.get().map_or_else(|| rustix::process::getuid().as_raw(), |caller| caller.as_raw())
}
