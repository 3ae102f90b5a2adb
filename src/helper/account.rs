//! Accounts of the system, and which of them are served.

use std::ffi::CString;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Uid, User, getgrouplist};

use super::config::Rule;
use crate::model::home::{Absence, AbsenceKind, HomeLook};
use crate::model::name::AccountName;
use crate::user_process::Identity;
use crate::wire::PutError;

/// `nobody` (systemd's uids-gids: 65534 and its 16-bit kin are nobody's).
const NOBODIES: [u32; 4] = [65534, 65535, u32::MAX - 1, u32::MAX];

/// An account that a process can become.
#[derive(Debug)]
pub(super) struct Account {
    pub identity: Identity,
    pub home: PathBuf,
}

/// An account is not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// By the rule.
    Absent(Absence),
    /// It could not be found out.
    Unknown(String),
}

impl Account {
    /// The account of this name, if it is one that is served.
    pub(super) fn served(name: &AccountName, rule: &Rule) -> Result<Self, Refusal> {
        use AbsenceKind as Kind;
        let Some(user) = found(User::from_name(name.as_str()))? else {
            return Err(absent(Kind::NoAccount, format!("there is no account {name}")));
        };
        let uid = user.uid.as_raw();
        // Another name for the same uid would be another person's home.
        let back = found(User::from_uid(user.uid))?.map(|back| back.name);
        if user.name != name.as_str() || back.as_deref() != Some(name.as_str()) {
            let why = format!("{name} has uid {uid}, and that is {}", back.unwrap_or_default());
            return Err(absent(Kind::NotUnique, why));
        }
        if uid < rule.min_uid || NOBODIES.contains(&uid) {
            let why = format!("{name} has uid {uid}: an account of the system, not a person's");
            return Err(absent(Kind::UidTooLow, why));
        }
        let account = Self::of(user)?;
        if !account.identity.groups.contains(&rule.group) {
            let group = &rule.group_name;
            let why = format!(
                "{name} is not in the group {group}: `adduser {name} {group}` if it should be served"
            );
            return Err(absent(Kind::NotInGroup, why));
        }
        if !account.home.is_absolute() {
            return Err(absent(Kind::NoHome, format!("the account {name} has no home")));
        }
        Ok(account)
    }

    /// The account of whoever calls.
    pub(super) fn of_caller(uid: Uid) -> Result<Self, Refusal> {
        match found(User::from_uid(uid))? {
            Some(user) => Self::of(user),
            None => Err(absent(AbsenceKind::NoAccount, format!("uid {uid} has no account"))),
        }
    }

    fn of(user: User) -> Result<Self, Refusal> {
        let name = CString::new(user.name).map_err(|error| Refusal::Unknown(error.to_string()))?;
        let groups = getgrouplist(&name, user.gid).map_err(unknown)?;
        let identity = Identity { uid: user.uid, gid: user.gid, groups };
        Ok(Self { identity, home: user.dir })
    }
}

/// What looking an account up gave. Some sources of accounts report "no such" as an error
/// (`getpwnam_r(3)`).
fn found(looked_up: nix::Result<Option<User>>) -> Result<Option<User>, Refusal> {
    match looked_up {
        Ok(user) => Ok(user),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(unknown(errno)),
    }
}

fn unknown(errno: Errno) -> Refusal {
    Refusal::Unknown(format!("the system's accounts cannot be looked up: {errno}"))
}

fn absent(kind: AbsenceKind, why: String) -> Refusal {
    Refusal::Absent(Absence { kind, why })
}

impl From<Refusal> for HomeLook {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent(absence) => Self::Absent(absence),
            Refusal::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl From<Refusal> for PutError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent(absence) => Self::Absent(absence),
            Refusal::Unknown(why) => Self::Failed(why),
        }
    }
}
