//! The modes of the state's files: the group reads them, whatever umask the writer came with.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::umask;

use super::StoreError;

/// Of the database and what SQLite keeps beside it.
pub(super) const FILE: u32 = 0o640;

/// While it lives, files get the mode that they are made with, from their first instant: one that
/// is mended afterwards would keep the group out for good if its maker was killed in between.
///
/// The umask is the process's, so this is for the one writer, who holds the pass lock. What other
/// threads make meanwhile names its mode, too.
pub(super) struct GroupMayRead(Mode);

impl GroupMayRead {
    pub(super) fn begin() -> Self {
        Self(umask(Mode::WGRP | Mode::RWXO))
    }
}

impl Drop for GroupMayRead {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// Gives the database and its kin their mode where they are ours and have another one: an earlier
/// version, or a restored backup, left them with the umask's.
pub(super) fn mend(database: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        let path = Path::new(&path);
        let failed = |source| StoreError::File { path: path.to_owned(), source };
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.map_err(failed)?,
        };
        let is_ours = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw();
        if is_ours && meta.mode() & 0o777 != FILE {
            fs::set_permissions(path, fs::Permissions::from_mode(FILE)).map_err(failed)?;
        }
    }
    Ok(())
}
