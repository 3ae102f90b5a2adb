//! Approvals that administrators ask for in the portal. The portal cannot write the state: it leaves them
//! beside the desired state, and a pass takes them up where its own configuration says that it may.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;

/// So many are looked at.
const MOST: usize = 64;
/// And of each so many bytes.
const MOST_BYTES: u64 = 1024;
/// The directory's mode: its group takes them up, whatever the umask.
const DIR_MODE: u32 = 0o2770;
const FILE_MODE: u32 = 0o640;

/// The directory.
pub struct ApprovalBox(PathBuf);

/// An approval that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Of what is held under this digest.
    pub digest: Digest,
    /// By whom.
    pub who: String,
    /// When.
    pub at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    who: String,
    at: Timestamp,
}

impl ApprovalBox {
    /// The one beside this desired state.
    #[must_use]
    pub fn beside(desired: &Path) -> Self {
        Self(desired.with_file_name("approvals"))
    }

    /// Asks for an approval. It is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn ask(&self, asked: &Asked) -> io::Result<()> {
        if !self.0.is_dir() {
            self.make()?;
        }
        let contents = Contents { who: asked.who.clone(), at: asked.at };
        let temp = self.0.join(format!(".{:016x}", fastrand::u64(..)));
        let written = self.write(&temp, &serde_json::to_vec(&contents)?, asked.digest);
        if written.is_err() {
            // Best effort: nobody reads it there.
            fs::remove_file(&temp).ok();
        }
        written
    }

    /// Under its name only when it has its mode: what lies in one without, no pass could take up.
    fn make(&self) -> io::Result<()> {
        let unfinished = self.0.with_file_name(format!(".approvals.{:016x}", fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&unfinished)?;
        let made = fs::set_permissions(&unfinished, fs::Permissions::from_mode(DIR_MODE))
            .and_then(|()| fs::rename(&unfinished, &self.0))
            .and_then(|()| File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all());
        if made.is_err() {
            // Best effort: it is empty, and nobody looks there.
            fs::remove_dir(&unfinished).ok();
        }
        made
    }

    fn write(&self, temp: &Path, bytes: &[u8], digest: Digest) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temp)?;
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(temp, self.place(digest))?;
        File::open(&self.0)?.sync_all()
    }

    /// What is asked for. Whatever is not of the agreed form asks for nothing.
    ///
    /// # Errors
    /// The directory is there and cannot be read.
    pub fn asked(&self) -> io::Result<Vec<Asked>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let digests = names.filter_map(|name| name.parse().ok());
        Ok(digests.take(MOST).filter_map(|digest| self.read(digest)).collect())
    }

    fn read(&self, digest: Digest) -> Option<Asked> {
        // Neither a link is followed nor a FIFO waited for.
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).ok()?;
        let path = self.place(digest);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let mut text = String::new();
        file.metadata().ok().filter(fs::Metadata::is_file)?;
        file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        let Contents { who, at } = serde_json::from_str(&text).ok()?;
        Some(Asked { digest, who, at })
    }

    /// Takes it out.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, digest: Digest) -> io::Result<()> {
        fs::remove_file(self.place(digest))
    }

    fn place(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }
}
