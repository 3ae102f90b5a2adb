//! `connect`, `disconnect`, `rotate`: edits of the desired state.

use jiff::Timestamp;
use serde::Serialize;

use crate::desired_file::{DesiredFile, EditError, Edited};
use crate::editor;
use crate::model::change::Change;
use crate::model::digest::Digest;
use crate::model::name::{ServiceId, UserId};
use crate::model::plan::Scope;
use crate::model::registry::Entry;
use crate::nudge;
use crate::observe::IntentError;

use super::plan::FormArgs;
use super::report::say;
use super::settings::Settings;
use super::{Failure, block_on, plan, reconcile, who};

/// Connect a user to a service: an edit of the desired state. The next pass issues the key.
#[derive(clap::Args)]
pub struct ConnectArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// How many days keys should live (1 to 365) instead of the registry's default
    #[arg(long, value_name = "DAYS")]
    ttl_days: Option<u16>,
}

/// Disconnect a user from a service: an edit of the desired state. The next pass revokes the key.
#[derive(clap::Args)]
pub struct DisconnectArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Replace a user's key by a new one. The old key lives on for the service's grace, unless it
/// leaked.
#[derive(clap::Args)]
pub struct RotateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The key leaked: revoke it at once, without a grace
    #[arg(long)]
    leaked: bool,
}

/// Offboard a user: `disabled: true` in the desired state, and every connection goes. It survives
/// the user's next click. The next pass revokes the keys.
#[derive(clap::Args)]
pub struct OffboardArgs {
    /// The user's id, as in desired.yaml
    #[arg(value_name = "USER")]
    user: UserId,
    #[command(flatten)]
    then: ThenArgs,
}

/// What follows an edit.
#[derive(clap::Args, Default)]
struct ThenArgs {
    /// Run the user's pass at once
    #[arg(long)]
    now: bool,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct ConnectionArgs {
    /// The user's id, as in desired.yaml
    #[arg(value_name = "USER")]
    user: UserId,
    /// The service's id, as in the registry
    #[arg(value_name = "SERVICE")]
    service: ServiceId,
    #[command(flatten)]
    then: ThenArgs,
}

impl ConnectionArgs {
    fn new(user: &UserId, service: &ServiceId) -> Self {
        Self { user: user.clone(), service: service.clone(), then: ThenArgs::default() }
    }
}

impl ConnectArgs {
    pub fn new(user: &UserId, service: &ServiceId) -> Self {
        Self { connection: ConnectionArgs::new(user, service), ttl_days: None }
    }
}

impl DisconnectArgs {
    pub fn new(user: &UserId, service: &ServiceId) -> Self {
        Self { connection: ConnectionArgs::new(user, service) }
    }
}

impl RotateArgs {
    pub fn new(user: &UserId, service: &ServiceId) -> Self {
        Self { connection: ConnectionArgs::new(user, service), leaked: false }
    }
}

/// What an edit came to, for programs.
#[derive(Serialize)]
struct EditJson<'a> {
    version: u8,
    user: &'a UserId,
    service: Option<&'a ServiceId>,
    changed: bool,
    revision: Digest,
}

pub fn connect(settings: &Settings, args: &ConnectArgs) -> Result<u8, Failure> {
    let ConnectionArgs { user, service, .. } = &args.connection;
    refuse_unknown(settings, service)?;
    let change =
        Change::Connect { user: user.clone(), service: service.clone(), ttl_days: args.ttl_days };
    edit(settings, &args.connection, &change, "is to be connected to")
}

pub fn disconnect(settings: &Settings, args: &DisconnectArgs) -> Result<u8, Failure> {
    let ConnectionArgs { user, service, .. } = &args.connection;
    let change = Change::Disconnect { user: user.clone(), service: service.clone() };
    edit(settings, &args.connection, &change, "is to be disconnected from")
}

pub fn rotate(settings: &Settings, args: &RotateArgs) -> Result<u8, Failure> {
    let ConnectionArgs { user, service, .. } = &args.connection;
    // Not a time to come: the next pass is to act on it. And no finer than a person can read.
    let at = Timestamp::now().round(
        jiff::TimestampRound::new().smallest(jiff::Unit::Millisecond).mode(jiff::RoundMode::Trunc),
    )?;
    let (user, service) = (user.clone(), service.clone());
    let change = Change::Rotate { user, service, at, leaked: args.leaked };
    edit(settings, &args.connection, &change, "is to get a new key to")
}

/// A service that nobody knows would make the whole file unusable.
fn refuse_unknown(settings: &Settings, service: &ServiceId) -> Result<(), Failure> {
    let places = &settings.places;
    let loaded =
        crate::registry_dir::load(&places.registry, &places.skills).map_err(IntentError::from)?;
    match loaded.registry.entries.get(service) {
        Some(Entry::Usable(_)) => Ok(()),
        Some(Entry::Broken(why)) => Err(format!("the registry entry is not usable: {why}").into()),
        None => {
            let known: Vec<String> =
                loaded.registry.services().map(|service| service.id.to_string()).collect();
            let known = known.join(", ");
            Err(format!("there is no service `{service}` in the registry; there are: {known}")
                .into())
        }
    }
}

/// Makes the edit. A file that was saved by hand a moment ago is waited for.
fn edit_when_still(settings: &Settings, change: &Change) -> Result<Edited, EditError> {
    let file = DesiredFile::new(&settings.places.desired);
    editor::when_still(|| file.edit(change, &who(), None, Timestamp::now()))
}

fn edit(
    settings: &Settings,
    connection: &ConnectionArgs,
    change: &Change,
    verb: &str,
) -> Result<u8, Failure> {
    let ConnectionArgs { user, service, then } = connection;
    finish(settings, change, user, Some(service), then, &format!("{user} {verb} {service}"))
}

pub fn offboard(settings: &Settings, args: &OffboardArgs) -> Result<u8, Failure> {
    let OffboardArgs { user, then } = args;
    let change = Change::Offboard { user: user.clone() };
    finish(settings, &change, user, None, then, &format!("{user} is offboarded"))
}

/// Makes the edit, says so, and shows what follows or lets it follow.
fn finish(
    settings: &Settings,
    change: &Change,
    user: &UserId,
    service: Option<&ServiceId>,
    then: &ThenArgs,
    done: &str,
) -> Result<u8, Failure> {
    let edited = edit_when_still(settings, change)?;
    let revision = edited.revision.short();
    if then.json && !then.now {
        let (changed, revision) = (edited.changed, edited.revision);
        let body = EditJson { version: 1, user, service, changed, revision };
        say(&serde_json::to_string_pretty(&body)?);
        return Ok(0);
    }
    if !then.json {
        let already = if edited.changed { "" } else { "It was so already: " };
        say(&format!("{already}{done} (revision {revision})."));
    }
    if then.now {
        return reconcile::run(settings, &reconcile::Args::of_user(user, then.json));
    }
    // It sees the file change. A nudge would be a look at everybody, for one user's sake.
    if nudge::is_watched(&settings.places.state).unwrap_or(false) {
        let look = match service {
            Some(service) => format!("explain {user} {service}"),
            None => "status".to_owned(),
        };
        say(&format!(
            "The watcher acts on it now; `service-connector {look}` shows how it stands."
        ));
        return Ok(0);
    }
    let scope = Scope { service: service.cloned(), ..Scope::of_users([user.clone()]) };
    match block_on(settings.pass(scope).plan(None))? {
        Ok(planned) => {
            say("What the next pass (`service-connector reconcile`) will do:\n");
            plan::show(&planned, &FormArgs::default())?;
        }
        // The edit stands. Whoever may edit may not always look: before there is a state, the
        // homes are needed to tell, and they are not the portal's to see.
        Err(error) => anstream::eprintln!(
            "The edit is made; what the next pass will do cannot be told from here: {}",
            super::report::chain(&error)
        ),
    }
    Ok(0)
}
