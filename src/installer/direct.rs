//! Homes of our own uid.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::install::{self, Home, PATIENCE, Trouble};
use crate::model::home::{Absence, AbsenceKind, HomeFacts, HomeLook};
use crate::model::name::AccountName;
use crate::wire::{HomeFiles, PutDone, PutError};

/// Threads that look. Looking is mostly waiting for the kernel; more than this gains nothing.
const MAX_THREADS: usize = 8;
/// Fewer homes than this for a thread are not worth starting it.
const HOMES_PER_THREAD: usize = 64;

/// Homes of our own uid, as directories of one directory.
pub(super) struct Direct {
    pub homes_dir: PathBuf,
    /// Whether one that is not there is made by the first put.
    pub create: bool,
}

impl Direct {
    pub(super) fn look(&self, accounts: &[&AccountName]) -> BTreeMap<AccountName, HomeLook> {
        look(&self.homes_dir, self.create, accounts)
    }

    pub(super) fn put(
        &self,
        account: &AccountName,
        uid: Option<u32>,
        files: &HomeFiles,
    ) -> Result<PutDone, PutError> {
        let deadline = Instant::now() + PATIENCE;
        if self.create {
            make_home(&self.homes_dir, account)?;
        }
        match Home::open(&self.homes_dir.join(account.as_str())) {
            Err(Trouble::NoHome(path)) => Err(PutError::Absent(no_account(&path))),
            home => install::answer_put(home, uid, files, deadline),
        }
    }

    pub(super) fn probe(&self) -> Result<(), String> {
        match install::open_above(&self.homes_dir) {
            Err(errno) if !(self.create && errno == Errno::NOENT) => {
                Err(format!("cannot open {}: {errno}", self.homes_dir.display()))
            }
            _ => Ok(()),
        }
    }
}

fn look(
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
        Err(Trouble::NoHome(path)) => HomeLook::Absent(no_account(&path)),
        home => install::answer_look(home, Instant::now() + PATIENCE),
    }
}

/// Where homes are no more than directories, one that is missing is a person who left.
fn no_account(home: &Path) -> Absence {
    let why = Trouble::NoHome(home.to_owned()).to_string();
    Absence { kind: AbsenceKind::NoAccount, why }
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
