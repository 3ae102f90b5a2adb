//! Who calls. Under sudo even the real uid is root's: then `SUDO_UID` tells, which sudo sets and
//! nobody below root can keep it from setting. On a socket, the kernel says who connected
//! (`SO_PEERCRED`, unix(7)).

use std::env::VarError;
use std::os::fd::AsFd;

use nix::unistd::{Uid, geteuid, getuid};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, sockopt::socket_domain};

use super::account::{Account, Refusal};
use super::config::Rule;

/// The caller may not ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallerError {
    #[error("it must run as root: through its socket, or by `sudo install-service-env`")]
    NotRoot,
    #[error("uid {0} may not ask: `callers` in helper.conf does not name it")]
    NotListed(Uid),
    #[error("SUDO_UID is no uid")]
    Unclear,
    #[error("this form is not for sockets")]
    Socket,
    #[error("the caller: {0}")]
    Refused(String),
}

/// Everybody who has a part in this call. A caller that is root through sudo could have a socket
/// of root's as its standard input: so all of them count, not one.
fn everybody() -> Result<Vec<Uid>, CallerError> {
    if !geteuid().is_root() {
        return Err(CallerError::NotRoot);
    }
    let mut uids = vec![getuid()];
    uids.extend(by_sudo()?);
    uids.extend(by_socket());
    Ok(uids)
}

fn by_sudo() -> Result<Option<Uid>, CallerError> {
    match std::env::var("SUDO_UID") {
        Ok(uid) => Ok(Some(Uid::from_raw(uid.parse().map_err(|_| CallerError::Unclear)?))),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(CallerError::Unclear),
    }
}

fn by_socket() -> Option<Uid> {
    let stdin = std::io::stdin();
    let is_unix = socket_domain(stdin.as_fd()).is_ok_and(|family| family == AddressFamily::UNIX);
    // A unix socket without a peer is not connected, and asks nothing; its uid is then -1.
    is_unix.then(|| match socket_peercred(stdin.as_fd()) {
        Ok(peer) => Uid::from_raw(peer.uid.as_raw()),
        Err(_) => Uid::from_raw(u32::MAX),
    })
}

/// Refuses a caller that is neither root nor in `helper.conf`.
pub(super) fn must_be_listed(rule: &Rule) -> Result<(), CallerError> {
    let stranger = |uid: &Uid| !uid.is_root() && !rule.callers.contains(uid);
    match everybody()?.into_iter().find(stranger) {
        Some(uid) => Err(CallerError::NotListed(uid)),
        None => Ok(()),
    }
}

/// The person who calls: root, or whom sudo let in. It was sudo's rules that let them.
pub(super) fn person() -> Result<Account, CallerError> {
    let uids = everybody()?;
    if by_socket().is_some() {
        return Err(CallerError::Socket);
    }
    let uid = uids.into_iter().find(|uid| !uid.is_root()).unwrap_or(Uid::from_raw(0));
    Account::of_caller(uid).map_err(|refusal| match refusal {
        Refusal::Absent(absence) => CallerError::Refused(absence.why),
        Refusal::Unknown(why) => CallerError::Refused(why),
    })
}
