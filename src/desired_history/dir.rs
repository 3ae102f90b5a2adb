//! The directory of the history, by handle. Who may write it may put anything there: no link in
//! it is followed, no FIFO waited for, and no file that has another name elsewhere is written.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

/// No file of ours there is larger.
const MOST: u64 = crate::model::yaml::MAX_BYTES as u64;

/// The directory, open.
pub(super) struct Dir(File);

impl Dir {
    /// Opens it; none where there is none.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Self(dir.into()))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes it, with the permissions that its file has: who may read or write the file may enter
    /// its history. The set-group-id bit that it inherits stays.
    pub(super) fn make(path: &Path, mode: u32) -> io::Result<Self> {
        // Under its name only when it has its mode: nobody would mend one that a crash left
        // without. We hold the lock, so the other name is nobody's; who left it may have been
        // another user.
        let unfinished = path.with_extension("new");
        match fs::remove_dir(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&unfinished)?,
        }
        let dir = Self::open(&unfinished)?.ok_or(io::ErrorKind::NotFound)?;
        let meta = dir.0.metadata()?;
        // Another one would be somebody's trap.
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("somebody else replaced it"));
        }
        let inherited = meta.mode() & 0o7000;
        let mode = inherited | 0o700 | mode | ((mode & 0o444) >> 2);
        dir.0.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&unfinished, path)?;
        Ok(dir)
    }

    fn file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        Err(io::Error::other("it is not a regular file"))
    }

    /// A whole file; none where there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::Error::other(format!("it is larger than {MOST} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The last so many bytes of a file, or all of a shorter one; none where there is none.
    pub(super) fn read_tail(&self, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut file = match self.file(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let start = file.metadata()?.len().saturating_sub(most as u64);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(most);
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// How long a file is, if it is there.
    pub(super) fn length(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    }

    /// The names of all that is there, as far as they can be read.
    pub(super) fn names(&self) -> Vec<String> {
        let Ok(again) = rustix::fs::openat(&self.0, ".", OFlags::RDONLY, Mode::empty()) else {
            return Vec::new();
        };
        let mut buffer = vec![std::mem::MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(again, &mut buffer);
        let mut names = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            names.extend(entry.file_name().to_str().map(str::to_owned));
        }
        names
    }

    /// Puts a whole file in place, durable but for the directory.
    pub(super) fn put(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let temp = format!("{stem}.new");
        match rustix::fs::unlinkat(&self.0, &temp, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut file = self.file(&temp, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(rustix::fs::renameat(&self.0, &temp, &self.0, name)?)
    }

    /// Adds to the end of a file that is there, durably.
    pub(super) fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file(name, OFlags::WRONLY | OFlags::APPEND)?;
        if file.metadata()?.nlink() != 1 {
            return Err(io::Error::other("it has another name elsewhere"));
        }
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}
