//! Root's process becomes the configured user, for good, before it touches the places: what it
//! makes there is then the reconciler's, and what it is told to read is read with no more rights.

use std::ffi::CString;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::unistd::{Uid, User, getgrouplist};

use crate::model::name::AccountName;
use crate::user_process::{BecomeError, Identity};

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
    /// They could not be looked up.
    #[error("root could not become {user}: cannot look them up")]
    Unknown {
        /// Whom.
        user: AccountName,
        /// What the system says.
        #[source]
        source: Errno,
    },
    /// The system refused, or something of root was left.
    #[error("root could not become {user} for good")]
    Refused {
        /// Whom.
        user: AccountName,
        /// Why.
        #[source]
        source: BecomeError,
    },
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
    let unknown = |source| RunAsError::Unknown { user: user.clone(), source };
    let entry = User::from_name(user.as_str()).map_err(unknown)?;
    let entry = entry.ok_or_else(|| RunAsError::NoSuchUser(user.clone()))?;
    if entry.uid.is_root() {
        return Err(RunAsError::IsRoot(user.clone()));
    }
    let name = CString::new(user.as_str()).map_err(|_| RunAsError::NoSuchUser(user.clone()))?;
    let groups = getgrouplist(&name, entry.gid).map_err(unknown)?;
    let identity = Identity { uid: entry.uid, gid: entry.gid, groups };
    let refused = |source| RunAsError::Refused { user: user.clone(), source };
    identity.become_for_good().map_err(refused)?;
    CALLER.get_or_init(|| caller);
    Ok(())
}

/// The uid of whoever called.
pub fn caller() -> u32 {
    CALLER.get().map_or_else(|| rustix::process::getuid().as_raw(), |caller| caller.as_raw())
}
