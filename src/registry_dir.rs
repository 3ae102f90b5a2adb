//! Reads the registry and the skills from their directories.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::causes::chain;
use crate::model::name::{ServiceId, SkillFile};
use crate::model::registry::{Entry, Registry};
use crate::model::registry_entry::{self, Parsed, RegistryError};
use crate::model::skill_template::MAX_SKILL_BYTES;
use crate::model::yaml;

/// The largest entry, in bytes.
const MAX_ENTRY_BYTES: u64 = 1 << 20;

/// The registry as it was read, with all that is wrong in it.
#[derive(Debug)]
pub struct LoadedRegistry {
    /// What can be used, and what is broken.
    pub registry: Registry,
    /// Each thing that is wrong, with its file.
    pub problems: Vec<Problem>,
}

/// One file that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: ProblemError,
}

/// What is wrong with a file of the registry.
#[derive(Debug, thiserror::Error)]
pub enum ProblemError {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// Its name is none for a service.
    #[error("its name is not a service id: a-z 0-9 _, a letter first, then `.yaml`")]
    Name,
    /// It is larger than any entry.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// Its contents are wrong.
    #[error(transparent)]
    Contents(#[from] RegistryError),
    /// It clashes with another entry.
    #[error("{0}")]
    Clash(String),
}

/// A directory that cannot be read. It says nothing about which services there are.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the directory {}", path.display())]
pub struct DirError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DirError {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads every `*.yaml` of the registry, and the skills that they name.
///
/// # Errors
/// When either directory cannot be read. A wrong file is no error here: it is a broken entry.
pub fn load(registry_dir: &Path, skills_dir: &Path) -> Result<LoadedRegistry, DirError> {
    let files = yaml_files(registry_dir)?;
    list(skills_dir)?;
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        let stem = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        let Some(id) = stem else {
            problems.push(Problem { path, error: ProblemError::Name });
            continue;
        };
        let id: ServiceId = id;
        let entry = read_entry(&path, &id, skills_dir).map_err(|error| {
            let text = format!("{}: {}", path.display(), chain(&error));
            problems.push(Problem { path, error });
            text
        });
        entries.push((id, entry));
    }
    let right: Vec<ServiceId> =
        entries.iter().filter(|(_, entry)| entry.is_ok()).map(|(id, _)| id.clone()).collect();
    let registry = Registry::assemble(entries);
    for id in right {
        if let Some(Entry::Broken(why)) = registry.entries.get(&id) {
            let path = registry_dir.join(format!("{id}.yaml"));
            problems.push(Problem { path, error: ProblemError::Clash(why.clone()) });
        }
    }
    Ok(LoadedRegistry { registry, problems })
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, DirError> {
    let paths = fs::read_dir(dir).and_then(|found| found.map(|file| Ok(file?.path())).collect());
    paths.map_err(|source| DirError { path: dir.to_owned(), source })
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>, DirError> {
    let mut files = list(dir)?;
    files.retain(|path| path.extension() == Some(OsStr::new("yaml")));
    files.sort();
    Ok(files)
}

fn read_entry(path: &Path, id: &ServiceId, skills_dir: &Path) -> Result<Parsed, ProblemError> {
    let bytes = read_bounded(path, MAX_ENTRY_BYTES).map_err(ProblemError::Read)?;
    let bytes = bytes.ok_or(ProblemError::TooLarge)?;
    let text = yaml::utf8(&bytes).map_err(RegistryError::from)?;
    let mut parsed =
        registry_entry::parse(id.as_str(), text, |skill| read_skill(skills_dir, skill))?;
    // The state remembers it, and the state's reader may stand elsewhere.
    if let (Some(file), Some(dir)) = (&mut parsed.service.endpoint.ca_file, path.parent())
        && Path::new(file).is_relative()
        && let Ok(dir) = dir.canonicalize()
    {
        *file = dir.join(&*file).to_string_lossy().into_owned();
    }
    Ok(parsed)
}

/// The texts of all entries by the ids in their names, whether they are right or not.
///
/// # Errors
/// The directory or one of them cannot be read, or is none.
pub fn texts(registry_dir: &Path) -> Result<BTreeMap<ServiceId, String>, AddError> {
    let failed = |path: &Path, source| AddError { what: "read", path: path.to_owned(), source };
    let files = yaml_files(registry_dir).map_err(|error| failed(&error.path, error.source))?;
    let mut texts = BTreeMap::new();
    for path in files {
        // A name that is no id is the name of no entry.
        let stem = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        let Some(id) = stem else { continue };
        let bytes = read_bounded(&path, MAX_ENTRY_BYTES).map_err(|error| failed(&path, error))?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
            failed(&path, io::Error::other("it is larger than 1 MiB or not UTF-8"))
        })?;
        texts.insert(id, text);
    }
    Ok(texts)
}

/// The text of a skill's template; `None` when it is not there.
///
/// # Errors
/// Says why it cannot be read, for people.
pub fn skill(skills_dir: &Path, skill: &SkillFile) -> Result<Option<String>, String> {
    match skills_dir.join(skill.as_str()).try_exists() {
        Ok(false) => Ok(None),
        _ => read_skill(skills_dir, skill).map(Some),
    }
}

/// The right to add entries to a registry, which one process has at a time.
#[derive(Debug)]
pub struct Adding {
    path: PathBuf,
    /// Holds the lock, and makes names durable.
    dir: fs::File,
}

/// Entries cannot be added.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct AddError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Adding {
    /// Waits until nobody else adds.
    ///
    /// # Errors
    /// The directory is not there, or cannot be locked.
    pub fn begin(registry_dir: &Path) -> Result<Self, AddError> {
        let failed = |what| move |source| AddError { what, path: registry_dir.to_owned(), source };
        let dir = fs::File::open(registry_dir).map_err(failed("open the directory"))?;
        dir.lock().map_err(failed("lock the directory"))?;
        Ok(Self { path: registry_dir.to_owned(), dir })
    }

    /// Puts a new entry there, whole or not at all, and durably.
    ///
    /// # Errors
    /// It is there already, or the system says no.
    pub fn add(&self, id: &ServiceId, text: &str) -> Result<PathBuf, AddError> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let path = self.path.join(format!("{id}.yaml"));
        // Not `.yaml` at its end: it is no entry yet. Whoever had the lock before may have left it.
        let temp = self.path.join(format!(".{id}.yaml.new"));
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| AddError { what, path, source }
        };
        match fs::remove_file(&temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &temp)(error));
            }
            _ => {}
        }
        self.write_new(&temp, text).map_err(failed("write", &temp))?;
        let placed = renameat_with(CWD, &temp, CWD, &path, RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
            .and_then(|()| self.dir.sync_all());
        if placed.is_err() {
            fs::remove_file(&temp).ok();
        }
        placed.map_err(failed("put in place", &path))?;
        Ok(path)
    }

    /// Whoever may look into the directory may read what is in it, whatever the umask.
    fn write_new(&self, path: &Path, text: &str) -> io::Result<()> {
        use io::Write as _;
        let may_look = self.dir.metadata()?.permissions().mode() & 0o044;
        let mut file = fs::File::create_new(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600 | may_look))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn read_skill(dir: &Path, skill: &SkillFile) -> Result<String, String> {
    let path = dir.join(skill.as_str());
    let shown = path.display();
    let bytes = read_bounded(&path, MAX_SKILL_BYTES as u64)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?
        .ok_or_else(|| format!("{shown} is larger than {MAX_SKILL_BYTES} bytes"))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))
}

/// The bytes of a file, if there are no more than that many.
fn read_bounded(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}
