//! What a person names to be installed, read with that person's rights: a link in it shows them
//! nothing that they could not read themselves.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::account::{Account, Refusal};
use super::{Failure, fork, user};
use crate::install::PATIENCE;
use crate::model::name::SkillFile;
use crate::wire::{self, HomeFiles, MAX_FILE, MAX_LINE};

/// The files of these sources as [`HomeFiles`] in JSON, read by a child that became the caller.
pub(super) fn read_as(
    caller: &Account,
    env: &Path,
    skills: &Path,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let us = Some(rustix::process::getpid());
    let child = fork::child(|out| {
        let entered = if caller.identity.uid.is_root() {
            user::seal(us)
        } else {
            user::become_for_good(caller, us)
        };
        let files = match entered {
            Ok(()) => read(env, skills),
            Err(Refusal::Absent(absence)) => Err(absence.why),
            Err(Refusal::Unknown(why)) => Err(why),
        };
        let answer = files.and_then(|files| wire::line(&files).map_err(|error| error.to_string()));
        // Should the parent be gone, there is nobody to tell.
        match answer {
            Ok(line) => super::pool::write_all(out.as_fd(), &line),
            Err(why) => super::pool::write_all(out.as_fd(), format!("!{why}").as_bytes()),
        }
        .ok();
    })?;
    let answer = everything(&child.answer);
    child.kill();
    let answer = answer?;
    match answer.strip_prefix(b"!") {
        Some(why) => Err(String::from_utf8_lossy(why).into_owned().into()),
        None => Ok(answer),
    }
}

fn everything(from: &impl AsFd) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    // As long as it can be: growing would leave copies of keys behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LINE + (64 << 10)));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("reading the sources took longer than allowed".into());
        }
        if !fork::readable(&[from.as_fd()], Some(left))?.contains(&true) {
            continue;
        }
        let filled = bytes.len();
        bytes.resize(filled + (64 << 10), 0);
        let count = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut bytes[filled..]))?;
        bytes.truncate(filled + count);
        if count == 0 {
            return Ok(bytes);
        }
        if bytes.len() > MAX_LINE {
            return Err("the sources are too large".into());
        }
    }
}

fn read(env: &Path, skills: &Path) -> Result<HomeFiles, String> {
    let env = Zeroizing::new(read_file(env)?);
    let at = |error| format!("{}: {error}", skills.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(skills).map_err(at)? {
        let entry = entry.map_err(at)?;
        let file = entry.file_name().to_str().and_then(|name| name.parse::<SkillFile>().ok());
        if let Some(file) = file {
            found.insert(file, read_file(&entry.path())?);
        }
    }
    Ok(HomeFiles { env, skills: found })
}

fn read_file(path: &Path) -> Result<String, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    // NONBLOCK: opening a FIFO would wait for its writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(|error| at(&error))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file: File = file.map_err(|error| at(&error))?;
    let metadata = file.metadata().map_err(|error| at(&error))?;
    if !metadata.is_file() {
        return Err(at(&"not a regular file"));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > MAX_FILE {
        return Err(at(&format!("longer than {MAX_FILE} bytes")));
    }
    let mut text = String::with_capacity(size + 1);
    file.take(MAX_FILE as u64 + 1).read_to_string(&mut text).map_err(|error| at(&error))?;
    Ok(text)
}
