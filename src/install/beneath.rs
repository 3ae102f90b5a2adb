//! One name in one directory: nothing here takes a path, follows a link or crosses a mount.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::trouble::Trouble;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// What stands at a name.
pub(super) enum Place {
    Empty,
    Regular(Stat),
    Directory,
    Link,
    Mount,
    /// A FIFO, a socket or a device.
    Other,
}

impl Place {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Empty => "nothing",
            Self::Regular(_) => "a file",
            Self::Directory => "a directory",
            Self::Link => "a link",
            Self::Mount => "a mount",
            Self::Other => "a FIFO, socket or device",
        }
    }
}

/// What stands at this name, told without opening it: opening a FIFO or a device does something
/// to it, and a file system of the user's own (FUSE) behind a mount may never answer.
pub(super) fn place(dir: &OwnedFd, name: &str) -> Result<Place, Trouble> {
    let stat = match open(dir, name, OFlags::PATH, Mode::empty()) {
        Ok(handle) => {
            rustix::fs::fstat(handle).map_err(|errno| Trouble::os("stat", name, errno))?
        }
        Err(Errno::NOENT) => return Ok(Place::Empty),
        Err(Errno::XDEV) => return Ok(Place::Mount),
        Err(errno) => return Err(Trouble::os("look at", name, errno)),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Place::Regular(stat),
        FileType::Directory => Place::Directory,
        FileType::Symlink => Place::Link,
        _ => Place::Other,
    })
}

/// Opens a name in a directory, new with `O_CREAT`.
pub(super) fn open(dir: &OwnedFd, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, name, flags, mode, BENEATH)
}

/// Opens a directory for listing.
pub(super) fn open_dir(dir: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// A regular file as found.
pub(super) struct Found {
    pub(super) stat: Stat,
    /// At most one byte more than the limit; none at all if it may not be read. Wiped, since it
    /// may hold keys.
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Found {
    /// Whether only the owner reads it, under this name alone.
    pub(super) fn is_private(&self, owner: u32) -> bool {
        let stat = &self.stat;
        stat.st_mode & 0o7777 == 0o600 && stat.st_uid == owner && stat.st_nlink == 1
    }
}

/// The regular file of this name, if there is one.
pub(super) fn find(
    dir: &OwnedFd,
    name: &str,
    limit: usize,
    deadline: Instant,
) -> Result<Option<Found>, Trouble> {
    let Place::Regular(stat) = place(dir, name)? else { return Ok(None) };
    // What is there may have become something else by now; NONBLOCK, so that neither a FIFO nor
    // a lease makes us wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN) => {
            return Ok(Some(Found { stat, bytes: Zeroizing::default() }));
        }
        Err(errno) => return Err(Trouble::os("open", name, errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| Trouble::os("stat", name, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX).min(limit);
    let bytes = read(&file, name, size, limit, deadline)?;
    Ok(Some(Found { stat, bytes }))
}

/// Reads at most one byte more than the limit. `size` is a guess, so that the buffer seldom grows.
fn read(
    file: &OwnedFd,
    name: &str,
    size: usize,
    limit: usize,
    deadline: Instant,
) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    const STEP: usize = 64 << 10; // small enough to see the deadline between two
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    while bytes.len() <= limit {
        in_time(deadline)?;
        let filled = bytes.len();
        if bytes.capacity() == filled {
            bytes = grown(&bytes);
        }
        let end = (bytes.capacity()).min(filled + STEP).min(limit + 1);
        bytes.resize(end, 0);
        let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut bytes[filled..]))
            .map_err(|errno| Trouble::os("read", name, errno))?;
        bytes.truncate(filled + count);
        if count == 0 {
            break;
        }
    }
    Ok(bytes)
}

/// A copy with twice the room; the old one is wiped by its owner, which `Vec` itself would not do.
fn grown(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut more = Zeroizing::new(Vec::with_capacity(2 * bytes.len() + 1));
    more.extend_from_slice(bytes);
    more
}

/// The names of a directory that `wanted` takes, in order; `None` if it has more than `limit` names
/// of whatever kind. Starts where the handle stands: give it a fresh one.
pub(super) fn names(
    dir: &OwnedFd,
    shown: &str,
    limit: usize,
    deadline: Instant,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<String>>, Trouble> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut found = Vec::new();
    let mut count = 0;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| Trouble::os("list", shown, errno))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        count += 1;
        if count > limit {
            return Ok(None);
        }
        if count % 256 == 0 {
            in_time(deadline)?;
        }
        // Every name of ours is ASCII.
        if let Some(name) = std::str::from_utf8(name).ok().filter(|name| wanted(name)) {
            found.push(name.to_owned());
        }
    }
    found.sort_unstable();
    Ok(Some(found))
}

pub(super) fn in_time(deadline: Instant) -> Result<(), Trouble> {
    if Instant::now() < deadline { Ok(()) } else { Err(Trouble::Deadline) }
}
