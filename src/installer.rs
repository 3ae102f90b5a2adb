//! The unprivileged side of homes: looks at and puts files for many accounts, whoever it is that
//! really does it.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::install::{self, Home, Trouble};
use crate::model::actual::{HomeFacts, HomeLook};
use crate::model::name::AccountName;
use crate::wire::{HomeFiles, PutDone, PutError};

/// For one account, looking or putting: a healthy home takes milliseconds, and one that hangs must
/// not hold up a pass.
const PER_HOME: Duration = Duration::from_secs(10);
/// Threads that look. Looking is mostly waiting for the kernel; more than this gains nothing.
const MAX_THREADS: usize = 8;
/// Fewer homes than this for a thread are not worth starting it.
const HOMES_PER_THREAD: usize = 64;

/// How homes are reached.
pub struct Installer(Way);

enum Way {
    /// Homes of our own uid, as directories of one directory.
    Direct { homes_dir: PathBuf, create: bool },
}

impl Installer {
    /// Homes of our own uid: the one of `john` is `<homes_dir>/john`. With `create`, a home that
    /// is not there is an empty one, made at the first put.
    #[must_use]
    pub fn direct(homes_dir: PathBuf, create: bool) -> Self {
        Self(Way::Direct { homes_dir, create })
    }

    /// Looks at these accounts' homes; each has an answer of its own.
    #[must_use]
    pub fn look(&self, accounts: &[&AccountName]) -> BTreeMap<AccountName, HomeLook> {
        match &self.0 {
            Way::Direct { homes_dir, create } => look_direct(homes_dir, *create, accounts),
        }
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
        match &self.0 {
            Way::Direct { homes_dir, create } => {
                let deadline = Instant::now() + PER_HOME;
                if *create {
                    make_home(homes_dir, account)?;
                }
                let home = Home::open(&homes_dir.join(account.as_str()));
                install::answer_put(home, uid, files, deadline)
            }
        }
    }
}

fn look_direct(
    homes_dir: &Path,
    create: bool,
    accounts: &[&AccountName],
) -> BTreeMap<AccountName, HomeLook> {
    let above = match install::open_above(homes_dir) {
        Ok(above) => above,
        Err(Errno::NOENT) if create => {
            return accounts.iter().map(|account| ((*account).clone(), not_yet())).collect();
        }
        // All of them missing at once is a file system that is not mounted, not everybody gone.
        Err(errno) => {
            let text = format!("cannot open {}: {errno}", homes_dir.display());
            let unknown =
                |account: &&AccountName| ((*account).clone(), HomeLook::Unknown(text.clone()));
            return accounts.iter().map(unknown).collect();
        }
    };
    in_parallel(accounts, |account| look_at(&above, homes_dir, create, account))
}

fn look_at(above: &OwnedFd, homes_dir: &Path, create: bool, account: &AccountName) -> HomeLook {
    let path = homes_dir.join(account.as_str());
    match Home::open_in(above, account.as_str().as_ref(), path) {
        Err(Trouble::NoHome(_)) if create => not_yet(),
        home => install::answer_look(home, Instant::now() + PER_HOME),
    }
}

/// A home that the first put makes.
fn not_yet() -> HomeLook {
    let uid = rustix::process::geteuid().as_raw();
    HomeLook::Seen(HomeFacts { uid, rules_mode_ok: true, ..HomeFacts::default() })
}

fn in_parallel(
    accounts: &[&AccountName],
    look: impl Fn(&AccountName) -> HomeLook + Sync,
) -> BTreeMap<AccountName, HomeLook> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(MAX_THREADS).min(accounts.len().div_ceil(HOMES_PER_THREAD)).max(1);
    let next = AtomicUsize::new(0);
    // Each takes the next one, so that a slow home holds up one thread and not its share.
    let work = || {
        let mut looks = Vec::new();
        while let Some(account) = accounts.get(next.fetch_add(1, Ordering::Relaxed)) {
            looks.push(((*account).clone(), look(account)));
        }
        looks
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut looks: BTreeMap<_, _> = work().into_iter().collect();
        for other in others {
            match other.join() {
                Ok(more) => looks.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        looks
    })
}

/// Makes a home that is not there, 0700, and the directory of homes with it.
fn make_home(homes_dir: &Path, account: &AccountName) -> Result<(), PutError> {
    let failed = |path: &Path, cause: &dyn std::fmt::Display| {
        PutError::Failed(format!("cannot create {}: {cause}", path.display()))
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(homes_dir)
        .map_err(|error| failed(homes_dir, &error))?;
    let above = install::open_above(homes_dir).map_err(|errno| failed(homes_dir, &errno))?;
    match rustix::fs::mkdirat(&above, account.as_str(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed(&homes_dir.join(account.as_str()), &errno)),
    }
}
