//! Settings as the configuration file has them.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema};
use serde::Deserialize;

use super::{LogFormat, SettingsError};
use crate::identity::IdentityConfig;
use crate::installer::{Homes, Reach};
use crate::listen::Address;
use crate::model::name::{AccountName, UserId};
use crate::model::yaml::{self, Version1};
use crate::web::HostName;

/// The names of hosts.
const HOST: &str = r"^(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*)$";

/// The JSON Schema of `service-connector.yaml`.
pub fn json_schema() -> Schema {
    crate::model::schema::of::<File>("service-connector.yaml: where everything is")
}

/// The configuration file. It holds no secret, only where to find them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "version")]
    _version: Option<Version1>,
    /// Whom root's process becomes before it touches anything but the configuration
    pub(super) user: Option<AccountName>,
    /// Who should be connected to what
    pub(super) desired: Option<PathBuf>,
    /// Who is who
    pub(super) people: Option<PathBuf>,
    /// The services, one file each
    pub(super) registry: Option<PathBuf>,
    /// The skill templates
    pub(super) skills: Option<PathBuf>,
    /// Where the state is kept
    pub(super) state: Option<PathBuf>,
    /// The key that seals keys at rest
    pub(super) sealing_key: Option<PathBuf>,
    /// Where people's homes are
    pub(super) homes: Option<HomesEntry>,
    /// A directory with one file for each shared secret
    pub(super) secrets: Option<PathBuf>,
    /// How much a plan may take away
    pub(super) guard: Option<Guard>,
    /// By what a request to the portal may say whose it is
    #[serde(default)]
    pub(super) identity: IdentityConfig,
    /// Who may see everybody and offboard people in the portal, by user id
    #[serde(default, deserialize_with = "yaml::list")]
    pub(super) admins: Vec<UserId>,
    /// What somebody is told whose address is nobody's in people.yaml: whom to ask
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String", length(min = 1))]
    pub(super) unknown_person: Option<String>,
    /// The names that the portal is reached by; without, any over its Unix socket, and this machine's
    /// over TCP
    #[serde(default, deserialize_with = "yaml::list")]
    #[schemars(with = "Vec<String>", inner(regex(pattern = HOST)))]
    pub(super) hosts: Vec<HostName>,
    /// Seconds between two looks at everything while watching
    pub(super) look_every_seconds: Option<NonZeroU32>,
    /// While watching, where metrics and health are served: `127.0.0.1:PORT`, `[::1]:PORT` or
    /// `unix:PATH`
    #[schemars(with = "Option<String>")]
    pub(super) ops_listen: Option<Address>,
    /// What the log on standard error looks like
    pub(super) log_format: Option<LogFormat>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HomesEntry {
    /// The directory of the homes, which are our own uid's
    pub(super) direct: Option<PathBuf>,
    /// Homes of their accounts: the socket of the helper
    pub(super) socket: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by `sudo -n`
    pub(super) sudo: Option<PathBuf>,
    /// Homes of their accounts: the helper, to be started by a reconciler that is root itself
    pub(super) helper: Option<PathBuf>,
    /// Whether homes that are not there are made
    pub(super) create: Option<bool>,
}

impl HomesEntry {
    pub(super) fn ways(&self) -> usize {
        [&self.direct, &self.socket, &self.sudo, &self.helper].into_iter().flatten().count()
    }

    /// Paths as meant from this directory.
    pub(super) fn from(self, base: &Path) -> Self {
        let from = |path: Option<PathBuf>| path.map(|path| base.join(path));
        Self {
            direct: from(self.direct),
            socket: from(self.socket),
            sudo: from(self.sudo),
            helper: from(self.helper),
            create: self.create,
        }
    }

    pub(super) fn homes(self, create: Option<bool>) -> Result<Homes, SettingsError> {
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
pub(super) struct Guard {
    /// So many connections may always go
    pub(super) at_least: Option<usize>,
    /// And so many of a hundred
    pub(super) percent: Option<usize>,
    /// Whether an admin may approve in the portal what is held; a shell on the server is needed
    /// without
    #[serde(default)]
    pub(super) portal_may_approve: bool,
}
