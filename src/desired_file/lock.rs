//! The file that every writer of `desired.yaml` locks: one for several users.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::no_traps;

/// Opens the lock, and makes it where there is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let there = || OpenOptions::new().read(true).write(true).custom_flags(no_traps()).open(path);
    let file = match there() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match make(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => there()?,
            made => return made,
        },
        file => file?,
    };
    let meta = file.metadata()?;
    // With another name elsewhere it would be something of ours that is no lock.
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw() && meta.nlink() == 1;
    if is_ours && meta.mode() & 0o777 != 0o660 {
        share(&file)?; // who made it was killed before it came to that
    }
    Ok(file)
}

/// The lock has its name only when it has its mode: the other users could not mend one that was
/// left without.
fn make(path: &Path) -> io::Result<File> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(nameless) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) else {
        // Not every file system has files without a name.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o660).custom_flags(no_traps());
        let file = options.open(path)?;
        share(&file)?;
        return Ok(file);
    };
    let file = File::from(nameless);
    share(&file)?;
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, handle, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(file)
}

/// The group's writers share the lock, whatever the umask of who came first.
fn share(lock: &File) -> io::Result<()> {
    lock.set_permissions(fs::Permissions::from_mode(0o660))
}
