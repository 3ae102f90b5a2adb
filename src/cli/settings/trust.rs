//! Whether a configuration may be believed: whoever can write it decides where keys go, and where
//! a process of root's does.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::SettingsError;

/// Others may not remove or rename in such a directory what is not theirs.
const STICKY: u32 = 0o1000;

/// Opens it. Root reads only what nobody else can change, however it was named.
pub(super) fn open(path: &Path) -> Result<File, SettingsError> {
    let failed = |source| SettingsError::Read { path: path.to_owned(), source };
    if !rustix::process::geteuid().is_root() {
        return File::open(path).map_err(failed);
    }
    let not_yours = |what: String| {
        let path = path.to_owned();
        SettingsError::NotYours { path, what, hint: ": root goes where it says" }
    };
    // The names in this path are no links: whoever may change none of its directories cannot
    // put another file there.
    let real = fs::canonicalize(path).map_err(failed)?;
    let file = File::open(&real).map_err(failed)?;
    if !is_ours_alone(&file.metadata().map_err(failed)?, 0) {
        return Err(not_yours("it".to_owned()));
    }
    for (height, dir) in real.ancestors().skip(1).enumerate() {
        let is_sticky = |meta: &Metadata| meta.uid() == 0 && meta.mode() & STICKY != 0;
        let meta = fs::metadata(dir).map_err(failed)?;
        if !is_ours_alone(&meta, 0) && !is_sticky(&meta) {
            let named = || dir.display().to_string();
            return Err(not_yours(if height == 0 { "its directory".to_owned() } else { named() }));
        }
    }
    Ok(file)
}

/// Refuses one in the working directory that somebody else may write: nobody named it.
pub(super) fn check_here(file: &Path) -> Result<(), SettingsError> {
    let failed = |source: io::Error| SettingsError::Read { path: file.to_owned(), source };
    let us = rustix::process::geteuid().as_raw();
    for (what, path) in [("it", file), ("its directory", Path::new("."))] {
        if !is_ours_alone(&fs::metadata(path).map_err(failed)?, us) {
            let (path, what) = (file.to_owned(), what.to_owned());
            let hint = "; name it with --config if you trust it";
            return Err(SettingsError::NotYours { path, what, hint });
        }
    }
    Ok(())
}

fn is_ours_alone(meta: &Metadata, us: u32) -> bool {
    meta.uid() == us && meta.mode() & 0o022 == 0
}
