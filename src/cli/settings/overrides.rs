//! Settings as flags and variables.

use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::listen::Address;
use crate::model::name::{AccountName, UserId};

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
    pub ops_listen: Option<Address>,
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
