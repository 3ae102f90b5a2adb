//! The shared secrets: where they are found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use crate::model::name::EnvName;
use crate::model::secret::Secret;

/// Longer than any header that a service takes.
const LONGEST: u64 = 4096;

/// The shared secrets that were looked for, and what was found.
#[derive(Default)]
pub struct Secrets(BTreeMap<EnvName, Result<Secret, SecretError>>);

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
        Self(names.into_iter().map(|name| (name.clone(), variable(name))).collect())
    }

    /// From a directory with one file per secret, named like it (systemd's credentials are such).
    pub fn from_dir<'a>(dir: &Path, names: impl IntoIterator<Item = &'a EnvName>) -> Self {
        Self(names.into_iter().map(|name| (name.clone(), file(dir, name))).collect())
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
        let find = |name| {
            let in_dirs = dirs.iter().map(|dir| file(dir, name));
            let mut found = in_dirs.filter(|found| !matches!(found, Err(SecretError::NotSet)));
            found.next().unwrap_or_else(|| variable(name))
        };
        Self(names.into_iter().map(|name| (name.clone(), find(name))).collect())
    }

    /// Those that can be used.
    pub(super) fn found(&self) -> impl Iterator<Item = &Secret> {
        self.0.values().filter_map(|found| found.as_ref().ok())
    }

    /// The secret of this name.
    pub(super) fn get(&self, name: &EnvName) -> Result<&Secret, &SecretError> {
        match self.0.get(name) {
            Some(Ok(secret)) => Ok(secret),
            Some(Err(error)) => Err(error),
            None => Err(&SecretError::NotSet),
        }
    }
}

fn variable(name: &EnvName) -> Result<Secret, SecretError> {
    match std::env::var(name.as_str()) {
        Ok(text) => fit(&Zeroizing::new(text)),
        Err(std::env::VarError::NotPresent) => Err(SecretError::NotSet),
        Err(std::env::VarError::NotUnicode(text)) => {
            text.into_encoded_bytes().zeroize();
            Err(SecretError::Unfit)
        }
    }
}

fn file(dir: &Path, name: &EnvName) -> Result<Secret, SecretError> {
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

fn fit(text: &str) -> Result<Secret, SecretError> {
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
