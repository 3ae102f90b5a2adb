//! The unprivileged side of homes: looks at and puts files for many accounts, whoever it is that
//! really does it.

mod direct;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::model::home::HomeLook;
use crate::model::name::AccountName;
use crate::wire::{Answer, Asked, HomeFiles, PutDone, PutError};
use direct::Direct;
use session::Session;

/// Reaches homes.
pub struct Installer(Way);

/// How homes are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Homes {
    /// As directories of this one, which are our own uid's.
    Direct {
        /// It.
        dir: PathBuf,
        /// Whether a home that is not there is made.
        create: bool,
    },
    /// As those of their accounts, through the helper.
    Helper(Reach),
}

enum Way {
    /// Homes of our own uid, as directories of one directory.
    Direct(Direct),
    /// Homes of their accounts, through the helper: started once, when it is first needed.
    Helper { reach: Reach, session: OnceLock<Result<Session, String>> },
}

/// How the helper is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// By the socket at which systemd starts it.
    Socket(PathBuf),
    /// By `sudo -n` and this program.
    Sudo(PathBuf),
    /// By starting this program: for a reconciler that is root itself.
    Started(PathBuf),
}

impl Installer {
    /// Homes that are reached so.
    #[must_use]
    pub fn of(homes: &Homes) -> Self {
        match homes {
            Homes::Direct { dir, create } => Self::direct(dir.clone(), *create),
            Homes::Helper(reach) => Self::helper(reach.clone()),
        }
    }

    /// Homes of our own uid: the one of `john` is `<homes_dir>/john`. With `create`, a home that
    /// is not there is an empty one, made at the first put.
    #[must_use]
    pub fn direct(homes_dir: PathBuf, create: bool) -> Self {
        Self(Way::Direct(Direct { homes_dir, create }))
    }

    /// Homes of their accounts, through the helper. It ends with this installer.
    #[must_use]
    pub fn helper(reach: Reach) -> Self {
        Self(Way::Helper { reach, session: OnceLock::new() })
    }

    /// Looks at these accounts' homes; each has an answer of its own.
    #[must_use]
    pub fn look(&self, accounts: &[&AccountName]) -> BTreeMap<AccountName, HomeLook> {
        let (reach, session) = match &self.0 {
            Way::Direct(direct) => return direct.look(accounts),
            Way::Helper { reach, session } => (reach, session),
        };
        let answers: Vec<Result<Answer, String>> = if accounts.is_empty() {
            Vec::new()
        } else {
            match session.get_or_init(|| Session::start(reach)) {
                Ok(session) => session.ask(accounts.iter().map(|account| {
                    let asked: Asked<&HomeFiles> = Asked::Look;
                    (*account, asked)
                })),
                Err(why) => accounts.iter().map(|_| Err(why.clone())).collect(),
            }
        };
        let looks = answers.into_iter().map(|answer| match answer {
            Ok(Answer::Look(look)) => look,
            Ok(Answer::Put(_)) => HomeLook::Unknown("the helper gave a wrong answer".to_owned()),
            Err(why) => HomeLook::Unknown(why),
        });
        accounts.iter().map(|account| (*account).clone()).zip(looks).collect()
    }

    /// Makes these the account's files, and says what is there afterwards. `uid` is the one that
    /// the tokens are bound to.
    ///
    /// # Errors
    /// Says why not, for this account alone.
    pub fn put(
        &self,
        account: &AccountName,
        uid: Option<u32>,
        files: &HomeFiles,
    ) -> Result<PutDone, PutError> {
        let (reach, session) = match &self.0 {
            Way::Direct(direct) => return direct.put(account, uid, files),
            Way::Helper { reach, session } => (reach, session),
        };
        let session = session.get_or_init(|| Session::start(reach));
        let session = session.as_ref().map_err(|why| PutError::Failed(why.clone()))?;
        let mut answers = session.ask([(account, Asked::Put { uid, files })]);
        match answers.pop() {
            Some(Ok(Answer::Put(done))) => done,
            Some(Err(why)) => Err(PutError::Failed(why)),
            _ => Err(PutError::Failed("the helper gave a wrong answer".to_owned())),
        }
    }

    /// Whether homes can be reached at all; looks at none.
    ///
    /// # Errors
    /// Says why not.
    pub fn probe(&self) -> Result<(), String> {
        match &self.0 {
            Way::Direct(direct) => direct.probe(),
            Way::Helper { reach, .. } => Session::start(reach)?.end(),
        }
    }
}
