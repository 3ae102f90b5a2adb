//! A process becomes another user for good: what root's process does before it touches anything of
//! somebody else's.

use std::io;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, getgroups, getresgid, getresuid, setegid, seteuid, setgroups, setresgid, setresuid,
};
use rustix::thread::CapabilitySet;

/// Whom to become.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Their uid.
    pub uid: Uid,
    /// Their own group.
    pub gid: Gid,
    /// All their groups.
    pub groups: Vec<Gid>,
}

/// The process did not become the user. It must do nothing more.
#[derive(Debug, thiserror::Error)]
pub enum BecomeError {
    /// The system's own words.
    #[error("cannot {what}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It looked well, and is not so.
    #[error("something of root is left")]
    StillRoot,
}

impl Identity {
    /// Makes this process, which must have one thread, the user's: groups, gid, uid; then proves
    /// that nothing of root is left and that it cannot be had back.
    ///
    /// # Errors
    /// See [`BecomeError`].
    pub fn become_for_good(&self) -> Result<(), BecomeError> {
        setgroups(&self.groups).map_err(refused("take their groups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(refused("take their group"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(refused("take their uid"))?;
        if self.is_all_there_is()? { Ok(()) } else { Err(BecomeError::StillRoot) }
    }

    fn is_all_there_is(&self) -> Result<bool, BecomeError> {
        let uids = getresuid().map_err(refused("look at the uids"))?;
        let gids = getresgid().map_err(refused("look at the groups"))?;
        let groups = getgroups().map_err(refused("look at all groups"))?;
        let capabilities = rustix::thread::capabilities(None)
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
            .map_err(refused("look at the capabilities"))?;
        let root = Uid::from_raw(0);
        Ok([uids.real, uids.effective, uids.saved] == [self.uid; 3]
            && [gids.real, gids.effective, gids.saved] == [self.gid; 3]
            && groups.iter().all(|group| self.groups.contains(group))
            && capabilities.permitted | capabilities.effective == CapabilitySet::empty()
            && seteuid(root).is_err()
            && setresuid(root, root, root).is_err()
            && (self.gid.as_raw() == 0 || setegid(Gid::from_raw(0)).is_err()))
    }
}

fn refused(what: &'static str) -> impl Fn(Errno) -> BecomeError {
    move |errno| BecomeError::Refused { what, source: errno.into() }
}
