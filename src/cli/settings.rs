//! Where everything is: `service-connector.yaml`, `SC_…` variables and flags.

mod trust;

use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use crate::exchange::Secrets;
use crate::identity::IdentityConfig;
use crate::installer::{Homes, Installer, Reach};
use crate::model::guard::Limits;
use crate::model::name::{AccountName, EnvName, UserId};
use crate::model::plan::Scope;
use crate::model::yaml::{self, Version1, YamlError};
use crate::observe::Places;
use crate::ops::OpsAddress;
use crate::reconcile::Pass;

const FILE: &str = "service-connector.yaml";
/// How often everything is looked at while watching, unless somebody says otherwise.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// What somebody is told whom `people.yaml` does not know, unless somebody says otherwise.
const UNKNOWN_PERSON: &str = "You are logged in, but not on the list of people that services can \
                              be connected for. Ask whoever runs this portal to add you.";
const SYSTEM_DIR: &str = "/etc/service-connector";

/// Settings of the configuration file, each as a flag or a variable.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Settings (each also in service-connector.yaml)")]
pub struct Overrides {
    /// The configuration file [default: /etc/service-connector/, else the working directory]
    #[arg(long, global = true, env = "SC_CONFIG", value_name = "FILE", hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// Whom root's process becomes before it touches anything but the configuration
    #[arg(long, global = true, env = "SC_RUN_AS", value_name = "USER", hide_short_help = true)]
    pub run_as: Option<AccountName>,
    /// Who should be connected to what [default: state/desired.yaml]
    #[arg(long, global = true, env = "SC_DESIRED", value_name = "FILE", hide_short_help = true)]
    pub desired: Option<PathBuf>,
    /// Who is who [default: state/people.yaml]
    #[arg(long, global = true, env = "SC_PEOPLE", value_name = "FILE", hide_short_help = true)]
    pub people: Option<PathBuf>,
    /// The services, one file each [default: registry]
    #[arg(long, global = true, env = "SC_REGISTRY", value_name = "DIR", hide_short_help = true)]
    pub registry: Option<PathBuf>,
    /// The skill templates [default: skills]
    #[arg(long, global = true, env = "SC_SKILLS", value_name = "DIR", hide_short_help = true)]
    pub skills: Option<PathBuf>,
    /// Where the state is kept [default: state]
    #[arg(long, global = true, env = "SC_STATE", value_name = "DIR", hide_short_help = true)]
    pub state: Option<PathBuf>,
    /// The key that seals keys at rest [default: sealing.key in the state directory]
    #[arg(
        long,
        global = true,
        env = "SC_SEALING_KEY",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub sealing_key: Option<PathBuf>,
    /// The directory of the homes, which are our own uid's [default: state/homes]
    #[arg(long, global = true, env = "SC_HOMES", value_name = "DIR", hide_short_help = true)]
    pub homes: Option<PathBuf>,
    /// Homes of their accounts: the socket of the helper
    #[arg(
        long,
        global = true,
        env = "SC_HOMES_SOCKET",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub homes_socket: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by `sudo -n`
    #[arg(long, global = true, env = "SC_HOMES_SUDO", value_name = "FILE", hide_short_help = true)]
    pub homes_sudo: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by a reconciler that is root itself
    #[arg(
        long,
        global = true,
        env = "SC_HOMES_HELPER",
        value_name = "FILE",
        hide_short_help = true
    )]
    pub homes_helper: Option<PathBuf>,
    /// Whether homes that are not there are made [default: true]
    #[arg(
        long,
        global = true,
        env = "SC_HOMES_CREATE",
        value_name = "BOOL",
        hide_short_help = true
    )]
    pub homes_create: Option<bool>,
    /// A directory with one file for each shared secret, looked at before the environment
    #[arg(long, global = true, env = "SC_SECRETS", value_name = "DIR", hide_short_help = true)]
    pub secrets: Option<PathBuf>,
    /// How many connections a plan may always take away [default: 5]
    #[arg(
        long,
        global = true,
        env = "SC_GUARD_AT_LEAST",
        value_name = "N",
        hide_short_help = true
    )]
    pub guard_at_least: Option<usize>,
    /// And how many of a hundred [default: 10]
    #[arg(long, global = true, env = "SC_GUARD_PERCENT", value_name = "N", hide_short_help = true)]
    pub guard_percent: Option<usize>,
    /// Seconds between two looks at everything while watching, though nothing says that anything
    /// changed [default: 3600]
    #[arg(
        long,
        global = true,
        env = "SC_LOOK_EVERY_SECONDS",
        value_name = "N",
        hide_short_help = true
    )]
    pub look_every_seconds: Option<NonZeroU32>,
    /// Who may see everybody and offboard people in the portal, by user id, comma between them
    /// [default: nobody]
    #[arg(
        long,
        global = true,
        env = "SC_ADMINS",
        value_name = "USERS",
        value_delimiter = ',',
        hide_short_help = true
    )]
    pub admins: Option<Vec<UserId>>,
    /// While watching, where metrics and health are served: `127.0.0.1:PORT`, `[::1]:PORT` or
    /// `unix:PATH`
    /// [default: nowhere]
    #[arg(
        long,
        global = true,
        env = "SC_OPS_LISTEN",
        value_name = "ADDRESS",
        hide_short_help = true
    )]
    pub ops_listen: Option<OpsAddress>,
    /// What the log on standard error looks like [default: text]
    #[arg(
        long,
        global = true,
        env = "SC_LOG_FORMAT",
        value_name = "FORMAT",
        hide_short_help = true
    )]
    pub log_format: Option<LogFormat>,
}

/// What the log looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, with the spans that it is in.
    Json,
}

/// The JSON Schema of `service-connector.yaml`.
pub fn json_schema() -> Schema {
    crate::model::schema::of::<File>("service-connector.yaml: where everything is")
}

/// The configuration file. It holds no secret, only where to find them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: Option<Version1>,
    /// Whom root's process becomes before it touches anything but the configuration
    user: Option<AccountName>,
    /// Who should be connected to what
    desired: Option<PathBuf>,
    /// Who is who
    people: Option<PathBuf>,
    /// The services, one file each
    registry: Option<PathBuf>,
    /// The skill templates
    skills: Option<PathBuf>,
    /// Where the state is kept
    state: Option<PathBuf>,
    /// The key that seals keys at rest
    sealing_key: Option<PathBuf>,
    /// Where people's homes are
    homes: Option<HomesEntry>,
    /// A directory with one file for each shared secret
    secrets: Option<PathBuf>,
    /// How much a plan may take away
    guard: Option<Guard>,
    /// By what a request to the portal may say whose it is
    #[serde(default)]
    identity: IdentityConfig,
    /// Who may see everybody and offboard people in the portal, by user id
    #[serde(default, deserialize_with = "yaml::list")]
    admins: Vec<UserId>,
    /// What somebody is told whose address is nobody's in people.yaml: whom to ask
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String", length(min = 1))]
    unknown_person: Option<String>,
    /// Seconds between two looks at everything while watching
    look_every_seconds: Option<NonZeroU32>,
    /// While watching, where metrics and health are served: `127.0.0.1:PORT`, `[::1]:PORT` or
    /// `unix:PATH`
    #[schemars(with = "Option<String>")]
    ops_listen: Option<OpsAddress>,
    /// What the log on standard error looks like
    log_format: Option<LogFormat>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HomesEntry {
    /// The directory of the homes, which are our own uid's
    direct: Option<PathBuf>,
    /// Homes of their accounts: the socket of the helper
    socket: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by `sudo -n`
    sudo: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by a reconciler that is root itself
    helper: Option<PathBuf>,
    /// Whether homes that are not there are made
    create: Option<bool>,
}

impl HomesEntry {
    fn ways(&self) -> usize {
        [&self.direct, &self.socket, &self.sudo, &self.helper].into_iter().flatten().count()
    }

    /// Paths as meant from this directory.
    fn from(self, base: &Path) -> Self {
        let from = |path: Option<PathBuf>| path.map(|path| base.join(path));
        Self {
            direct: from(self.direct),
            socket: from(self.socket),
            sudo: from(self.sudo),
            helper: from(self.helper),
            create: self.create,
        }
    }

    fn homes(self, create: Option<bool>) -> Result<Homes, SettingsError> {
        if self.ways() > 1 {
            return Err(SettingsError::TwoWays);
        }
        let reach = self.socket.map(Reach::Socket).or(self.sudo.map(Reach::Sudo));
        if let Some(reach) = reach.or(self.helper.map(Reach::Started)) {
            return Ok(Homes::Helper(reach));
        }
        let dir = self.direct.unwrap_or_else(|| PathBuf::from("state/homes"));
        Ok(Homes::Direct { dir, create: create.or(self.create).unwrap_or(true) })
    }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Guard {
    /// So many connections may always go
    at_least: Option<usize>,
    /// And so many of a hundred
    percent: Option<usize>,
    /// Whether an admin may approve in the portal what is held; a shell on the server is needed
    /// without
    #[serde(default)]
    portal_may_approve: bool,
}

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
#[allow(dead_code, reason = "the portal reads what is its own")]
pub struct Settings {
    /// The files and directories.
    pub places: Places,
    /// Whom root's process becomes.
    pub run_as: Option<AccountName>,
    /// How often everything is looked at while watching.
    pub look_every: Duration,
    /// Where metrics and health are served while watching.
    pub ops_listen: Option<OpsAddress>,
    /// What the log looks like.
    pub log_format: LogFormat,
    /// By what a request to the portal may say whose it is. Paths are as they are to be opened.
    pub identity: IdentityConfig,
    /// Who may see everybody and offboard people in the portal.
    pub admins: Vec<UserId>,
    /// What somebody is told whose address is nobody's in `people.yaml`.
    pub unknown_person: String,
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
    pub fn find(flags: Overrides) -> Result<Self, SettingsError> {
        let path = config_path(flags.config.as_deref())?;
        let file = path.as_deref().map(read).transpose()?.unwrap_or_default();
        // Paths in the file are meant from where the file is.
        let base = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
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
        let guard = file.guard.unwrap_or_default();
        let pick = |flag: Option<PathBuf>, file: Option<PathBuf>| {
            flag.or_else(|| file.map(|path| base.join(path)))
        };
        let or =
            |found: Option<PathBuf>, default: &str| found.unwrap_or_else(|| PathBuf::from(default));
        let state = or(pick(flags.state, file.state), "state");
        let sealing_key = pick(flags.sealing_key, file.sealing_key);
        let places = Places {
            desired: or(pick(flags.desired, file.desired), "state/desired.yaml"),
            people: or(pick(flags.people, file.people), "state/people.yaml"),
            registry: or(pick(flags.registry, file.registry), "registry"),
            skills: or(pick(flags.skills, file.skills), "skills"),
            sealing_key: sealing_key.unwrap_or_else(|| state.join("sealing.key")),
            state,
        };
        let defaults = Limits::default();
        Ok(Self {
            places,
            run_as: flags.run_as.or(file.user),
            look_every: flags
                .look_every_seconds
                .or(file.look_every_seconds)
                .map_or(LOOK_EVERY, |seconds| Duration::from_secs(u64::from(seconds.get()))),
            ops_listen: flags.ops_listen.or(file.ops_listen.map(|address| address.from(&base))),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            identity: file.identity.from(&base),
            admins: flags.admins.unwrap_or(file.admins),
            unknown_person: file.unknown_person.unwrap_or_else(|| UNKNOWN_PERSON.to_owned()),
            portal_may_approve: guard.portal_may_approve,
            homes: named.homes(flags.homes_create)?,
            secrets: pick(flags.secrets, file.secrets),
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
            exchange: Arc::default(),
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
