//! `helper.conf`: whom the helper serves, and who may ask.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

/// Below this, Debian's accounts are the system's (adduser.conf, `FIRST_UID`).
const FIRST_UID: u32 = 1000;
/// No configuration is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// Whom the helper serves, and who may ask.
#[derive(Debug)]
pub(super) struct Rule {
    /// Only accounts of this group.
    pub group: Gid,
    /// Its name, for messages.
    pub group_name: String,
    /// Only accounts with this uid or a higher one.
    pub min_uid: u32,
    /// Who may ask, besides root.
    pub callers: Vec<Uid>,
}

/// The configuration cannot be used: then nobody is served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{} is not root's alone to write (uid {uid}, mode {mode:o}): `chown root:root` and \
         `chmod go-w` it, and look at what it says", path.display()
    )]
    NotRoots { path: PathBuf, uid: u32, mode: u32 },
    #[error("{}, line {line}: {what}", path.display())]
    Wrong { path: PathBuf, line: usize, what: String },
    #[error("{} names no `{key}`", path.display())]
    Missing { path: PathBuf, key: &'static str },
}

impl Rule {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let error = |source| ConfigError::Read { path: path.to_owned(), source };
        let dir = path.parent().unwrap_or(Path::new("/"));
        must_be_roots(dir, &fs::metadata(dir).map_err(error)?)?;
        let file = File::open(path).map_err(error)?;
        // Of what was opened, not of what has the name by now.
        must_be_roots(path, &file.metadata().map_err(error)?)?;
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).map_err(error)?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (mut group, mut min_uid, mut callers) = (None, None, None);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| ConfigError::Wrong { path: path.to_owned(), line: number, what };
            let (key, value) =
                line.split_once('=').ok_or_else(|| wrong("not `key = value`".to_owned()))?;
            let value = value.trim();
            let is_new = match key.trim() {
                "group" => group.replace(find_group(value).map_err(wrong)?).is_none(),
                "min_uid" => min_uid.replace(parse_uid(value).map_err(wrong)?).is_none(),
                "callers" => callers.replace(find_callers(value).map_err(wrong)?).is_none(),
                other => {
                    return Err(wrong(format!(
                        "unknown key `{}`; there are group, min_uid and callers",
                        other.escape_debug()
                    )));
                }
            };
            if !is_new {
                return Err(wrong(format!("a second `{}`", key.trim())));
            }
        }
        let (group, group_name) =
            group.ok_or(ConfigError::Missing { path: path.to_owned(), key: "group" })?;
        let callers = callers.unwrap_or_default();
        Ok(Self { group, group_name, min_uid: min_uid.unwrap_or(FIRST_UID), callers })
    }
}

fn must_be_roots(path: &Path, found: &fs::Metadata) -> Result<(), ConfigError> {
    if found.uid() == 0 && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let (uid, mode) = (found.uid(), found.mode() & 0o7777);
    Err(ConfigError::NotRoots { path: path.to_owned(), uid, mode })
}

fn find_group(name: &str) -> Result<(Gid, String), String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok((group.gid, name.to_owned())),
        Ok(None) => Err(format!("there is no group `{}`", name.escape_debug())),
        Err(errno) => Err(format!("cannot look up the group: {errno}")),
    }
}

fn parse_uid(value: &str) -> Result<u32, String> {
    let uid = value.parse().ok().filter(|uid| *uid >= FIRST_UID);
    uid.ok_or_else(|| format!("min_uid is a number, {FIRST_UID} or higher"))
}

fn find_callers(value: &str) -> Result<Vec<Uid>, String> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    let find = |name: &str| match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid),
        Ok(None) => Err(format!("there is no user `{}`", name.escape_debug())),
        Err(errno) => Err(format!("cannot look up a user: {errno}")),
    };
    names.map(find).collect()
}
