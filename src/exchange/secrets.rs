//! The shared secrets: where they are found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::{Zeroize, Zeroizing};

use crate::model::name::EnvName;
use crate::model::secret::Secret;

/// Longer than any header that a service takes.
const LONGEST: u64 = 4096;

/// Behind a secret's name: the secret that is to follow it.
pub(super) const NEXT: &str = "_NEXT";

/// The shared secrets that were looked for, and what was found.
#[derive(Default)]
pub struct Secrets(BTreeMap<EnvName, Entry>);

/// What was found under a name.
struct Entry {
    now: Found,
    /// The secret that is to follow it.
    next: Found,
    /// The service took that one: it is tried first. Which one goes first is never more than a
    /// guess, for either is tried when the other gets 401; so no order between threads is needed.
    next_goes_first: AtomicBool,
}

type Found = Result<Secret, SecretError>;

/// The secrets that may be shown to a service, at least one.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    /// The one to try.
    pub(super) first: &'a Secret,
    /// The one to try when that gets 401.
    pub(super) then: Option<&'a Secret>,
    then_is_next: bool,
    next_goes_first: &'a AtomicBool,
}

/// Why there is no such secret. It never carries the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nowhere to be found.
    #[error("is not set")]
    NotSet,
    /// There is a file, and it cannot be read.
    #[error("cannot be read from {}: {cause}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It cannot stand in a header.
    #[error("is not 1 to 4096 printable ASCII characters without spaces")]
    Unfit,
}

impl Secrets {
    /// From the environment.
    pub fn from_env<'a>(names: impl IntoIterator<Item = &'a EnvName>) -> Self {
        Self::find(names, variable)
    }

    /// From a directory with one file per secret, named like it (systemd's credentials are such).
    pub fn from_dir<'a>(dir: &Path, names: impl IntoIterator<Item = &'a EnvName>) -> Self {
        Self::find(names, |name| file(dir, name))
    }

    /// From the directory, if there is one, else from systemd's credentials
    /// (`$CREDENTIALS_DIRECTORY`, systemd.exec(5)), else from the environment. A file that is there
    /// and is no good hides what comes after it: falling back would send a secret that was replaced.
    pub fn from_dir_or_env<'a>(
        dir: Option<&Path>,
        names: impl IntoIterator<Item = &'a EnvName>,
    ) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let credentials = credentials.as_deref().filter(|dir| dir.is_absolute());
        let dirs: Vec<&Path> = dir.into_iter().chain(credentials).collect();
        Self::find(names, |name| {
            let in_dirs = dirs.iter().map(|dir| file(dir, name));
            let mut found = in_dirs.filter(|found| !matches!(found, Err(SecretError::NotSet)));
            found.next().unwrap_or_else(|| variable(name))
        })
    }

    /// Each name, and what is to follow it: both are looked for in the same way.
    fn find<'a>(
        names: impl IntoIterator<Item = &'a EnvName>,
        find: impl Fn(&EnvName) -> Found,
    ) -> Self {
        let entry = |name| {
            let next = next_of(name).map_or(Err(SecretError::NotSet), |next| find(&next));
            Entry { now: find(name), next, next_goes_first: AtomicBool::new(false) }
        };
        Self(names.into_iter().map(|name| (name.clone(), entry(name))).collect())
    }

    /// Those that can be used.
    pub(super) fn found(&self) -> impl Iterator<Item = &Secret> {
        let all = self.0.values().flat_map(|entry| [&entry.now, &entry.next]);
        all.filter_map(|found| found.as_ref().ok())
    }

    /// What may be shown under this name; why nothing may.
    pub(super) fn get(&self, name: &EnvName) -> Result<Choice<'_>, &SecretError> {
        let Some(entry) = self.0.get(name) else { return Err(&SecretError::NotSet) };
        let next_goes_first = &entry.next_goes_first;
        let turned = next_goes_first.load(Ordering::Relaxed);
        let choice = |first, then| Choice { first, then, then_is_next: !turned, next_goes_first };
        match (&entry.now, &entry.next) {
            (Ok(now), Ok(next)) if now.expose() == next.expose() => Ok(choice(now, None)),
            (Ok(now), Ok(next)) if turned => Ok(choice(next, Some(now))),
            (Ok(now), Ok(next)) => Ok(choice(now, Some(next))),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(choice(only, None)),
            (Err(why), Err(_)) => Err(why),
        }
    }

    /// Why what is to follow this one cannot be used, though it is there.
    pub(super) fn bad_next(&self, name: &EnvName) -> Option<(EnvName, &SecretError)> {
        let error = self.0.get(name)?.next.as_ref().err()?;
        let is_there = !matches!(error, SecretError::NotSet);
        next_of(name).filter(|_| is_there).map(|next| (next, error))
    }
}

impl Choice<'_> {
    /// The service took `then`: from now on that one goes first.
    pub(super) fn turn(self) {
        self.next_goes_first.store(self.then_is_next, Ordering::Relaxed);
    }
}

/// The name of the secret that is to follow the one of this name. The longest names have none.
fn next_of(name: &EnvName) -> Option<EnvName> {
    format!("{name}{NEXT}").parse().ok()
}

fn variable(name: &EnvName) -> Found {
    match std::env::var(name.as_str()) {
        Ok(text) => fit(&Zeroizing::new(text)),
        Err(std::env::VarError::NotPresent) => Err(SecretError::NotSet),
        Err(std::env::VarError::NotUnicode(text)) => {
            text.into_encoded_bytes().zeroize();
            Err(SecretError::Unfit)
        }
    }
}

fn file(dir: &Path, name: &EnvName) -> Found {
    let path = dir.join(name.as_str());
    match read(&path) {
        Ok(bytes) => fit(std::str::from_utf8(&bytes).map_err(|_| SecretError::Unfit)?),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(SecretError::NotSet),
        Err(cause) => Err(SecretError::Unreadable { path, cause }),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for a line end and for one byte too many; all of it at once, so that growing leaves no
    // copy behind.
    let most = LONGEST + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn fit(text: &str) -> Found {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.len() as u64 {
        0 => Err(SecretError::NotSet),
        1..=LONGEST if line.bytes().all(|c| c.is_ascii_graphic()) => {
            Ok(Secret::new(line.to_owned()))
        }
        _ => Err(SecretError::Unfit),
    }
}
