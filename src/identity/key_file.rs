//! A key in a file: read at each use, so that a new one counts at once.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// No key is longer, in bytes.
const LONGEST: u64 = 16 << 10;
/// With so much room left, reading takes no detour, in bytes.
const SPARE: usize = 64;
/// The mode's bits of others.
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o022;

/// Where a key is.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// Whether whoever reads it can sign with it.
    pub(super) is_secret: bool,
}

/// A key file cannot be used. It never carries what is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the key file {} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Who can read or write it can be anybody.
    #[error(
        "the key file {} is not used: others may {may} it (mode {mode:o}), and so be anybody: \
         `chmod {mend}` it", path.display()
    )]
    Others {
        /// Which.
        path: PathBuf,
        /// Read or write.
        may: &'static str,
        /// Its mode.
        mode: u32,
        /// What helps.
        mend: &'static str,
    },
    /// Not a key of its kind.
    #[error("the key file {} is not used: {what}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// In what way.
        what: &'static str,
    },
}

impl KeyFile {
    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let failed = |source| KeyFileError::Read { path: self.path.clone(), source };
        // A FIFO in its place must not keep a request waiting.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let opened = rustix::fs::open(&self.path, flags, Mode::empty());
        let file = File::from(opened.map_err(|errno| failed(errno.into()))?);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(self.unfit("it is not a file"));
        }
        self.check_mode(meta.mode() & 0o7777)?;
        if meta.len() > LONGEST {
            return Err(self.unfit("it is longer than any key (16 KiB)"));
        }
        // Some file systems give no size.
        let most = if meta.len() == 0 { LONGEST } else { meta.len() };
        // Room for more than is read, so that growing leaves no copy behind.
        let room = usize::try_from(most).unwrap_or(0) + SPARE;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(most).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn check_mode(&self, mode: u32) -> Result<(), KeyFileError> {
        let others = |may, mend| KeyFileError::Others { path: self.path.clone(), may, mode, mend };
        if mode & OTHERS_WRITE != 0 {
            return Err(others("write", "go-w"));
        }
        if self.is_secret && mode & OTHERS_READ != 0 {
            return Err(others("read", "o-rwx"));
        }
        Ok(())
    }

    pub(super) fn unfit(&self, what: &'static str) -> KeyFileError {
        KeyFileError::Unfit { path: self.path.clone(), what }
    }
}
