//! Makes our files in a home the ones that are wanted.
//!
//! What stands in the way is found before any file changes. Then skills first, then
//! `.service_env`, then the unwanted skills go. Each file is the old one or the new one at any
//! moment. `.service_env` names the skills that belong to it, so it comes when they are on disk:
//! after a crash between any two steps its keys are whole, and of what it names nothing is missing
//! that was not there before. The next put does what is left.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{self, Place};
use super::look::is_skill;
use super::{ENV, Home, MAX_NAMES, RULES, Trouble};
use crate::model::name::SkillFile;
use crate::wire::{HomeFiles, MAX_FILE, MAX_FILES};

/// Leftovers are looked for among this many names of a home: they are swept, not counted on.
const MAX_HOME_NAMES: usize = 100_000;
/// How often a lock is tried for.
const LOCK_STEP: Duration = Duration::from_millis(20);

/// What a put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Whether anything was written or removed; false if all was right already.
    pub changed: bool,
}

/// Makes these our files in the home.
///
/// # Errors
/// Says what stands in the way or went wrong. What is in the way is found before any file changes.
pub fn put(home: &Home, files: &HomeFiles, deadline: Instant) -> Result<Put, Trouble> {
    check_sizes(files)?;
    let lock = lock(home, deadline)?;
    let env_is_right = is_right(&home.dir, ENV, files.env.as_bytes(), home.owner, deadline)?;
    let (rules, made) = open_rules(home, !files.skills.is_empty())?;
    let skills = match &rules {
        Some(rules) => Skills::survey(rules, &files.skills, home.owner, deadline)?,
        None => Skills::default(),
    };
    let mut changed = made | sweep(&lock, home, deadline)?;
    if let Some(rules) = &rules {
        changed |= skills.write(rules, &files.skills, deadline)?;
    }
    if !env_is_right {
        replace(&home.dir, ENV, files.env.as_bytes(), deadline)?;
        changed = true;
    }
    if changed {
        sync(&lock, "the home")?;
    }
    if let Some(rules) = &rules {
        changed |= skills.remove_unwanted(rules, deadline)?;
    }
    Ok(Put { changed })
}

fn check_sizes(files: &HomeFiles) -> Result<(), Trouble> {
    let skills = files.skills.iter().map(|(file, text)| (file.as_str(), text.len()));
    let mut total = 0;
    for (name, length) in skills.chain([(ENV, files.env.len())]) {
        total += length;
        if length > MAX_FILE {
            return Err(Trouble::TooLarge { what: format!("`{name}`"), limit: MAX_FILE });
        }
    }
    if total > MAX_FILES {
        return Err(Trouble::TooLarge { what: "the whole set".to_owned(), limit: MAX_FILES });
    }
    Ok(())
}

/// One put at a time in a home, so that two sets never mix and neither sweeps the other's temporary
/// files away. The lock is on the directory itself and ends with the handle, killed or not.
fn lock(home: &Home, deadline: Instant) -> Result<OwnedFd, Trouble> {
    let trouble = |errno| Trouble::os("open", "the home", errno);
    let handle = beneath::open_dir(&home.dir, ".").map_err(trouble)?;
    loop {
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => thread::sleep(LOCK_STEP),
            Err(Errno::WOULDBLOCK) => return Err(Trouble::Busy),
            Err(Errno::INTR) => {}
            // Got it; or NFS, which locks no directory: there the reconciler's own lock has to do.
            Ok(()) | Err(_) => return Ok(handle),
        }
    }
}

/// Whether a file is already as wanted. A link, a FIFO and so on is not, and is replaced.
fn is_right(
    dir: &OwnedFd,
    name: &str,
    wanted: &[u8],
    owner: u32,
    deadline: Instant,
) -> Result<bool, Trouble> {
    match beneath::place(dir, name)? {
        place @ (Place::Directory | Place::Mount) => {
            Err(Trouble::InTheWay { name: name.to_owned(), what: place.describe() })
        }
        Place::Empty | Place::Link | Place::Other => Ok(false),
        Place::Regular(_) => {
            let found = beneath::find(dir, name, MAX_FILE, deadline)?;
            Ok(found.is_some_and(|found| found.is_private(owner) && *found.bytes == wanted))
        }
    }
}

/// Opens `.claude_rules`, makes it if it is needed, mends its mode; says whether it changed
/// anything. If nothing is wanted in it, what is not the owner's directory is none of our business.
fn open_rules(home: &Home, needed: bool) -> Result<(Option<OwnedFd>, bool), Trouble> {
    let made = match beneath::place(&home.dir, RULES)? {
        Place::Directory => false,
        _ if !needed => return Ok((None, false)),
        Place::Empty => {
            rustix::fs::mkdirat(&home.dir, RULES, Mode::RWXU)
                .map_err(|errno| Trouble::os("create", RULES, errno))?;
            true
        }
        place => return Err(Trouble::InTheWay { name: RULES.into(), what: place.describe() }),
    };
    let rules =
        beneath::open_dir(&home.dir, RULES).map_err(|errno| Trouble::os("open", RULES, errno))?;
    let stat = rustix::fs::fstat(&rules).map_err(|errno| Trouble::os("stat", RULES, errno))?;
    if stat.st_uid != home.owner {
        if !needed {
            return Ok((None, false));
        }
        return Err(Trouble::InTheWay { name: RULES.into(), what: "somebody else's directory" });
    }
    let mended = stat.st_mode & 0o7777 != 0o700;
    if mended {
        rustix::fs::fchmod(&rules, Mode::RWXU)
            .map_err(|errno| Trouble::os("change the mode of", RULES, errno))?;
    }
    Ok((Some(rules), made || mended))
}

/// What is to be done in `.claude_rules`.
#[derive(Default)]
struct Skills {
    leftovers: Vec<String>,
    to_write: Vec<SkillFile>,
    unwanted: Vec<String>,
}

impl Skills {
    fn survey(
        rules: &OwnedFd,
        wanted: &BTreeMap<SkillFile, String>,
        owner: u32,
        deadline: Instant,
    ) -> Result<Self, Trouble> {
        let ours = |name: &str| is_skill(name) || is_skill_leftover(name);
        let names = beneath::names(rules, RULES, MAX_NAMES, deadline, ours)?
            .ok_or(Trouble::TooManyNames(RULES))?;
        let mut skills = Self::default();
        for name in names {
            match beneath::place(rules, &name)? {
                Place::Regular(stat) if is_skill_leftover(&name) && stat.st_uid == owner => {
                    skills.leftovers.push(name);
                }
                Place::Regular(_) | Place::Link
                    if is_skill(&name) && !wanted.contains_key(name.as_str()) =>
                {
                    skills.unwanted.push(name);
                }
                _ => {}
            }
        }
        for (file, text) in wanted {
            if !is_right(rules, file.as_str(), text.as_bytes(), owner, deadline)? {
                skills.to_write.push(file.clone());
            }
        }
        Ok(skills)
    }

    fn write(
        &self,
        rules: &OwnedFd,
        wanted: &BTreeMap<SkillFile, String>,
        deadline: Instant,
    ) -> Result<bool, Trouble> {
        for name in &self.leftovers {
            remove(rules, name)?;
        }
        for file in &self.to_write {
            replace(rules, file.as_str(), wanted[file].as_bytes(), deadline)?;
        }
        if !self.to_write.is_empty() {
            // Before `.service_env`, which names them.
            sync(rules, RULES)?;
        }
        Ok(!self.leftovers.is_empty() || !self.to_write.is_empty())
    }

    fn remove_unwanted(&self, rules: &OwnedFd, deadline: Instant) -> Result<bool, Trouble> {
        for name in &self.unwanted {
            beneath::in_time(deadline)?;
            remove(rules, name)?;
        }
        if !self.unwanted.is_empty() {
            sync(rules, RULES)?;
        }
        Ok(!self.unwanted.is_empty())
    }
}

/// Removes the temporary `.service_env` of a run that was killed: it may hold a key.
fn sweep(listing: &OwnedFd, home: &Home, deadline: Instant) -> Result<bool, Trouble> {
    let names = beneath::names(listing, "the home", MAX_HOME_NAMES, deadline, is_env_leftover)?;
    let mut swept = false;
    for name in names.unwrap_or_default() {
        if let Place::Regular(stat) = beneath::place(&home.dir, &name)?
            && stat.st_uid == home.owner
        {
            remove(&home.dir, &name)?;
            swept = true;
        }
    }
    Ok(swept)
}

/// Replaces what has this name, whole or not at all.
fn replace(dir: &OwnedFd, name: &str, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
    let (temporary, file) = create(dir, name)?;
    let replaced = fill(&file, bytes, name, deadline).and_then(|()| {
        rustix::fs::renameat(dir, &temporary, dir, name)
            .map_err(|errno| Trouble::os("replace", name, errno))
    });
    if replaced.is_err() {
        // The first error is the one to tell; what stays, the next put sweeps.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    replaced
}

fn create(dir: &OwnedFd, name: &str) -> Result<(String, OwnedFd), Trouble> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    loop {
        let temporary = temporary_name(name, fastrand::u64(..));
        match beneath::open(dir, &temporary, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((temporary, file)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Trouble::os("create a file beside", name, errno)),
        }
    }
}

fn fill(file: &OwnedFd, bytes: &[u8], name: &str, deadline: Instant) -> Result<(), Trouble> {
    let trouble = |doing| move |errno| Trouble::os(doing, name, errno);
    // A umask takes bits away; it may have taken the owner's.
    rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR).map_err(trouble("change the mode of"))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        beneath::in_time(deadline)?;
        let count = rustix::io::retry_on_intr(|| rustix::io::write(file, rest))
            .map_err(trouble("write"))?;
        rest = &rest[count..];
    }
    beneath::in_time(deadline)?;
    rustix::fs::fsync(file).map_err(trouble("write"))
}

fn remove(dir: &OwnedFd, name: &str) -> Result<(), Trouble> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Trouble::os("remove", name, errno)),
    }
}

fn sync(dir: &OwnedFd, name: &str) -> Result<(), Trouble> {
    match rustix::fs::fsync(dir) {
        // EINVAL: a file system that has no such thing for directories.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(Trouble::os("write", name, errno)),
    }
}

/// Beside its target and hidden, so that nothing takes it for a skill.
fn temporary_name(name: &str, random: u64) -> String {
    let dot = if name.starts_with('.') { "" } else { "." };
    format!("{dot}{name}.tmp.{random:016x}")
}

/// Whether [`temporary_name`] makes this name for `.service_env`.
fn is_env_leftover(name: &str) -> bool {
    name.strip_prefix(ENV).is_some_and(is_temporary_ending)
}

/// Whether [`temporary_name`] makes this name for a skill.
fn is_skill_leftover(name: &str) -> bool {
    let end = name.len().saturating_sub(TEMPORARY_ENDING);
    name.split_at_checked(end).is_some_and(|(target, ending)| {
        target.strip_prefix('.').is_some_and(is_skill) && is_temporary_ending(ending)
    })
}

/// `.tmp.` and 16 hex digits.
const TEMPORARY_ENDING: usize = 21;

fn is_temporary_ending(ending: &str) -> bool {
    let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    ending.len() == TEMPORARY_ENDING
        && ending.strip_prefix(".tmp.").is_some_and(|random| random.bytes().all(is_hex))
}
