//! Where everything is: `service-connector.yaml`, `SC_…` variables and flags.

mod file;
mod overrides;
mod trust;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::exchange::Secrets;
use crate::identity::IdentityConfig;
use crate::installer::{Homes, Installer};
use crate::listen::Address;
use crate::model::guard::Limits;
use crate::model::name::{AccountName, EnvName, UserId};
use crate::model::plan::Scope;
use crate::model::yaml::{self, YamlError};
use crate::observe::Places;
use crate::reconcile::Pass;
use crate::web::HostName;

pub use file::json_schema;
pub use overrides::{LogFormat, Overrides};

use file::{File, HomesEntry};

const FILE: &str = "service-connector.yaml";
/// How often everything is looked at while watching, unless somebody says otherwise.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// What somebody is told whom `people.yaml` does not know, unless somebody says otherwise.
const UNKNOWN_PERSON: &str = "You are logged in, but not on the list of people that services can \
                              be connected for. Ask whoever runs this portal to add you.";
const SYSTEM_DIR: &str = "/etc/service-connector";

/// The configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong.
    #[error("the configuration {} is not usable", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: YamlError,
    },
    /// More than one way to the homes.
    #[error("homes are reached in one way: `direct`, `socket`, `sudo` or `helper`; leave one")]
    TwoWays,
    /// Somebody else may write it.
    #[error(
        "the configuration {} is not used: {what} is not yours alone to write{hint}", path.display()
    )]
    NotYours {
        /// The file.
        path: PathBuf,
        /// It, or its directory.
        what: String,
        /// What follows from that.
        hint: &'static str,
    },
}

/// Where everything is, decided.
pub struct Settings {
    /// The files and directories.
    pub places: Places,
    /// Whom root's process becomes.
    pub run_as: Option<AccountName>,
    /// How often everything is looked at while watching.
    pub look_every: Duration,
    /// Where metrics and health are served while watching.
    pub ops_listen: Option<Address>,
    /// What the log looks like.
    pub log_format: LogFormat,
    /// By what a request to the portal may say whose it is. Paths are as they are to be opened.
    pub identity: IdentityConfig,
    /// Who may see everybody and offboard people in the portal.
    pub admins: Vec<UserId>,
    /// What somebody is told whose address is nobody's in `people.yaml`.
    pub unknown_person: String,
    /// The names that the portal is reached by; none: see `hosts` of the file.
    pub hosts: Vec<HostName>,
    /// Whether an admin may approve in the portal what is held.
    pub portal_may_approve: bool,
    homes: Homes,
    secrets: Option<PathBuf>,
    limits: Limits,
}

impl Settings {
    /// Flags and variables, over the configuration file, over the defaults.
    ///
    /// # Errors
    /// The configuration cannot be read or is wrong.
    pub fn find(mut flags: Overrides) -> Result<Self, SettingsError> {
        let path = config_path(flags.config.as_deref())?;
        let mut file = path.as_deref().map(read).transpose()?.unwrap_or_default();
        // Paths in the file are meant from where the file is.
        let base = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        let places = places(&mut flags, &mut file, &base);
        let of_flags = HomesEntry {
            direct: flags.homes,
            socket: flags.homes_socket,
            sudo: flags.homes_sudo,
            helper: flags.homes_helper,
            create: None,
        };
        let of_file = file.homes.unwrap_or_default();
        // One way replaces another.
        let named = if of_flags.ways() > 0 {
            HomesEntry { create: of_file.create, ..of_flags }
        } else {
            of_file.from(&base)
        };
        let (guard, defaults) = (file.guard.unwrap_or_default(), Limits::default());
        let look_every = flags.look_every_seconds.or(file.look_every_seconds);
        Ok(Self {
            places,
            run_as: flags.run_as.or(file.user),
            look_every: look_every
                .map_or(LOOK_EVERY, |seconds| Duration::from_secs(u64::from(seconds.get()))),
            ops_listen: flags.ops_listen.or(file.ops_listen.map(|address| address.from(&base))),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            identity: file.identity.from(&base),
            admins: flags.admins.unwrap_or(file.admins),
            unknown_person: file.unknown_person.unwrap_or_else(|| UNKNOWN_PERSON.to_owned()),
            hosts: file.hosts,
            portal_may_approve: guard.portal_may_approve,
            homes: named.homes(flags.homes_create)?,
            secrets: flags.secrets.or_else(|| file.secrets.map(|path| base.join(path))),
            limits: Limits {
                at_least: flags.guard_at_least.or(guard.at_least).unwrap_or(defaults.at_least),
                percent: flags.guard_percent.or(guard.percent).unwrap_or(defaults.percent),
                approved: Vec::new(),
            },
        })
    }

    /// The shared secrets of these names.
    pub fn secrets<'a>(&self, names: impl IntoIterator<Item = &'a EnvName>) -> Secrets {
        Secrets::from_dir_or_env(self.secrets.as_deref(), names)
    }

    /// The homes.
    #[must_use]
    pub fn installer(&self) -> Installer {
        Installer::of(&self.homes)
    }

    /// A pass over this part of the world.
    #[must_use]
    pub fn pass(&self, scope: Scope) -> Pass {
        Pass {
            places: self.places.clone(),
            scope,
            limits: self.limits.clone(),
            installer: Arc::new(self.installer()),
            secrets_dir: self.secrets.clone(),
            portal_may_approve: self.portal_may_approve,
            exchange: Arc::default(),
            pace: Arc::default(),
            clock: Timestamp::now,
        }
    }

    /// The configuration file, if there is one.
    ///
    /// # Errors
    /// It lies in the working directory, and somebody else may write it.
    pub fn config(flags: &Overrides) -> Result<Option<PathBuf>, SettingsError> {
        config_path(flags.config.as_deref())
    }

    /// How homes are reached.
    pub fn homes(&self) -> &Homes {
        &self.homes
    }
}

/// The files and directories. What the file names is meant from where the file is.
fn places(flags: &mut Overrides, file: &mut File, base: &Path) -> Places {
    let pick = |flag: &mut Option<PathBuf>, file: &mut Option<PathBuf>| {
        flag.take().or_else(|| file.take().map(|path| base.join(path)))
    };
    let or =
        |found: Option<PathBuf>, default: &str| found.unwrap_or_else(|| PathBuf::from(default));
    let state = or(pick(&mut flags.state, &mut file.state), "state");
    let sealing_key = pick(&mut flags.sealing_key, &mut file.sealing_key);
    Places {
        desired: or(pick(&mut flags.desired, &mut file.desired), "state/desired.yaml"),
        people: or(pick(&mut flags.people, &mut file.people), "state/people.yaml"),
        registry: or(pick(&mut flags.registry, &mut file.registry), "registry"),
        skills: or(pick(&mut flags.skills, &mut file.skills), "skills"),
        sealing_key: sealing_key.unwrap_or_else(|| state.join("sealing.key")),
        state,
    }
}

fn config_path(named: Option<&Path>) -> Result<Option<PathBuf>, SettingsError> {
    if let Some(path) = named {
        return Ok(Some(path.to_owned()));
    }
    let system = Path::new(SYSTEM_DIR).join(FILE);
    if system.exists() {
        return Ok(Some(system));
    }
    let here = PathBuf::from(FILE);
    if !here.exists() {
        return Ok(None);
    }
    trust::check_here(&here)?;
    Ok(Some(here))
}

fn read(path: &Path) -> Result<File, SettingsError> {
    let wrong = |source| SettingsError::Wrong { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    trust::open(path)?
        .read_to_end(&mut bytes)
        .map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    yaml::read(yaml::utf8(&bytes).map_err(wrong)?).map_err(wrong)
}
