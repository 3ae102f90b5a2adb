//! Looks at our files in one home and replaces them, as the user whose home it is.
//!
//! The home is the user's, and may change under every step: so everything goes through handles,
//! one name at a time, and nothing is followed. What the user does to their own home can only
//! spoil that home.

mod beneath;
mod look;
mod put;
mod trouble;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::model::home::HomeLook;
use crate::wire::{HomeFiles, PutDone, PutError};

pub use look::look;
pub use put::{Put, put};
pub use trouble::Trouble;

/// The file with the keys.
const ENV: &str = ".service_env";
/// The directory with the skills, which is not ours alone.
const RULES: &str = ".claude_rules";
/// The directory in which laptops say what they hold.
const SEEN: &str = ".service_env_seen";
/// More names than this in `.claude_rules` are not looked through.
const MAX_NAMES: usize = 10_000;

/// For one account, looking or putting: a healthy home takes milliseconds, and one that hangs must
/// not hold up a pass.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A home, opened. Of one that was replaced meanwhile, this is still the one that was opened.
pub struct Home {
    /// A place to start from, not to read.
    dir: OwnedFd,
    owner: u32,
    path: PathBuf,
}

impl Home {
    /// Opens the home at this path. The directories above it may be links, they are root's; the
    /// home itself may not. It may be a mount of its own.
    ///
    /// # Errors
    /// [`Trouble::NoHome`] if nothing is there; otherwise what stands in the way. A home that does
    /// not belong to the user that runs this is refused: its files would get the wrong owner.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        // Split first: with a slash at its end, a link would be followed all the same.
        let Some(name) = path.file_name() else {
            return Err(Trouble::InTheWay { name: path.display().to_string(), what: "no home" });
        };
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        match open_above(above) {
            Ok(above) => Self::open_in(&above, name, path.to_owned()),
            Err(Errno::NOENT) => Err(Trouble::NoHome(path.to_owned())),
            Err(errno) => Err(Trouble::os("open", &above.display().to_string(), errno)),
        }
    }

    /// Opens the home of this name in a directory of homes. `path` is for messages.
    ///
    /// # Errors
    /// As [`Home::open`].
    pub(crate) fn open_in(above: &OwnedFd, name: &OsStr, path: PathBuf) -> Result<Self, Trouble> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Without NO_XDEV, which holds beneath: homes may be mounts.
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let shown = path.display().to_string();
        let dir = match rustix::fs::openat2(above, name, flags, Mode::empty(), resolve) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Err(Trouble::NoHome(path)),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Trouble::InTheWay { name: shown, what: "a link or a file" });
            }
            Err(errno) => return Err(Trouble::os("open", &shown, errno)),
        };
        let owner = owner_unless_answered_by_users(&dir, &shown)?;
        let us = rustix::process::geteuid().as_raw();
        if owner != us {
            return Err(Trouble::NotOurs { path, owner, us });
        }
        Ok(Self { dir, owner, path })
    }

    /// The uid that the home belongs to.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Where it was when it was opened: for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whose the directory is. A file system that a program of some user's answers for (FUSE), mounted
/// there, is refused before it is asked anything: it might never answer, and a process that waits
/// for it cannot even be killed.
fn owner_unless_answered_by_users(dir: &OwnedFd, shown: &str) -> Result<u32, Trouble> {
    let from_memory = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::UID | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(dir, "", from_memory, wanted)
        .map_err(|errno| Trouble::os("stat", shown, errno))?;
    if stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Trouble::os("read /proc/self/mountinfo for", shown, errno)
        })?;
        if mounts.lines().any(|mount| is_fuse_of_a_user(mount, stat.stx_mnt_id)) {
            let what = "a file system that a program of some user's answers for (FUSE)";
            return Err(Trouble::InTheWay { name: shown.to_owned(), what });
        }
    }
    Ok(stat.stx_uid)
}

/// Whether this line of mountinfo is that mount, and FUSE, and not root's (proc(5)).
fn is_fuse_of_a_user(mount: &str, id: u64) -> bool {
    let Some((place, kind)) = mount.split_once(" - ") else { return false };
    let mut kind = kind.split(' ');
    let is_fuse = kind.next().is_some_and(|kind| kind.starts_with("fuse"));
    let options = kind.nth(1).unwrap_or_default();
    let is_roots = options.split(',').any(|option| option == "user_id=0");
    place.split(' ').next() == Some(id.to_string().as_str()) && is_fuse && !is_roots
}

/// Opens a directory above homes: a place to start from, not to read.
///
/// # Errors
/// The kernel's.
pub(crate) fn open_above(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Looks, and says it as an answer: for the helper's child and for homes of our own.
#[must_use]
pub fn answer_look(home: Result<Home, Trouble>, deadline: Instant) -> HomeLook {
    match home.and_then(|home| look(&home, deadline).map_err(|trouble| trouble.in_home(&home))) {
        Ok(facts) => HomeLook::Seen(facts),
        Err(trouble) => match trouble.absence() {
            Some(absence) => HomeLook::Absent(absence),
            None => HomeLook::Unknown(trouble.to_string()),
        },
    }
}

/// Puts, looks again, and says it as an answer. The facts are of what is really there afterwards.
///
/// # Errors
/// Says why not, and whether trying again may help.
pub fn answer_put(
    home: Result<Home, Trouble>,
    uid: Option<u32>,
    files: &HomeFiles,
    deadline: Instant,
) -> Result<PutDone, PutError> {
    let home = home?;
    if let Some(uid) = uid.filter(|uid| *uid != home.owner) {
        let (path, owner) = (home.path.display(), home.owner);
        return Err(PutError::Refused(format!(
            "{path}: it belongs to uid {owner}, and the keys are bound to uid {uid}: the account is not the one they were issued for"
        )));
    }
    let done = put(&home, files, deadline)
        .and_then(|Put { changed }| Ok(PutDone { changed, facts: look(&home, deadline)? }));
    Ok(done.map_err(|trouble| trouble.in_home(&home))?)
}

impl From<Trouble> for PutError {
    fn from(trouble: Trouble) -> Self {
        match trouble.absence() {
            Some(absence) => Self::Absent(absence),
            None if trouble.is_refusal() => Self::Refused(trouble.to_string()),
            None => Self::Failed(trouble.to_string()),
        }
    }
}
