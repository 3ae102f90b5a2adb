//! What the portal answers, as JSON. Field names are stable within a version; new fields may come. No
//! key is in any of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::card::{Can, Standing, State};
use crate::model::digest::Digest;
use crate::model::home::LaptopSeen;
use crate::model::name::{Email, EnvName, LaptopId, ServiceId, SkillFile, UserId};
use crate::model::registry::Service;

/// The version of these field names.
pub const VERSION: u8 = 1;

/// All that one person's card shows.
#[derive(Debug, Serialize, ToSchema)]
pub struct CardJson {
    /// The version of these field names.
    pub version: u8,
    /// Who asks.
    pub user: UserJson,
    /// The revision of the desired state: what `If-Match` takes.
    #[schema(value_type = String)]
    pub revision: Digest,
    /// When this was so.
    pub at: Timestamp,
    /// Where the page is.
    pub page: String,
    /// Something that concerns all of it; null: nothing.
    pub notice: Option<String>,
    /// The newest generation of the person's files that was put; null: none yet.
    pub generation: Option<u64>,
    /// The person's laptops.
    pub laptops: Vec<LaptopJson>,
    /// The services, by id.
    pub services: Vec<ServiceJson>,
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserJson {
    /// The id in the desired state.
    #[schema(value_type = String)]
    pub id: UserId,
    /// The address that the services know.
    #[schema(value_type = String)]
    pub email: Email,
    /// Whether the fleet may be seen.
    pub admin: bool,
    /// Whether the person is offboarded.
    pub disabled: bool,
}

/// A laptop, as its sync has shown itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaptopJson {
    /// What tells it from the others.
    #[schema(value_type = String)]
    pub id: LaptopId,
    /// The generation that it holds.
    pub generation: u64,
    /// When it was last heard of.
    pub at: Timestamp,
    /// Whether that is the newest.
    pub current: bool,
}

impl LaptopJson {
    /// What is shown of a laptop, while this is the newest generation.
    #[must_use]
    pub fn of(seen: &LaptopSeen, newest: Option<u64>) -> Self {
        let LaptopSeen { laptop, generation, at } = seen;
        let current = newest.is_some_and(|newest| *generation >= newest);
        Self { id: laptop.clone(), generation: *generation, at: *at, current }
    }
}

/// A service, and how the person is connected to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceJson {
    /// The service.
    #[schema(value_type = String)]
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    pub description: String,
    /// Where its picture is; null: it has none.
    pub icon: Option<String>,
    /// How the connection stands.
    pub state: State,
    /// Whether a key that works is in the person's files on the server.
    pub connected: bool,
    /// Whether the desired state has it.
    pub wanted: bool,
    /// What is to be said of the state; empty: nothing.
    pub message: String,
    /// Since when the key in use is issued.
    pub connected_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When what failed is tried again by itself.
    pub retry_at: Option<Timestamp>,
    /// Until when a key that was replaced lives on.
    pub old_key_until: Option<Timestamp>,
    /// For how many days keys are asked for.
    pub ttl_days: Option<u16>,
    /// The variables that come and go with the connection.
    #[schema(value_type = Vec<String>)]
    pub variables: Vec<EnvName>,
    /// The skill that comes and goes with it.
    #[schema(value_type = Option<String>)]
    pub skill: Option<SkillFile>,
    /// The generation of the person's files that brought the key in use.
    pub generation: Option<u64>,
    /// How many laptops have it.
    pub laptops: usize,
    /// What the person can do.
    pub can: Vec<Can>,
}

impl ServiceJson {
    /// What is shown of a service. `page` is where the page is, `wish_days` what is desired instead of
    /// the registry's days.
    #[must_use]
    pub fn of(
        id: &ServiceId,
        standing: Standing<'_>,
        wanted: bool,
        wish_days: Option<u16>,
        laptops: &[LaptopJson],
        page: &str,
    ) -> Self {
        let service = standing.service;
        let key = standing.key;
        let generation = key.and_then(|key| key.generation);
        let has = |laptop: &&LaptopJson| generation.is_some_and(|of| laptop.generation >= of);
        Self {
            id: id.clone(),
            name: service.map_or_else(|| id.to_string(), |service| service.name.clone()),
            description: service.map(|service| service.description.clone()).unwrap_or_default(),
            icon: icon(service, page),
            state: standing.state,
            connected: key.is_some(),
            wanted,
            message: standing.message,
            connected_at: key.map(|key| key.since),
            expires_at: key.and_then(|key| key.until),
            retry_at: standing.retry_at,
            old_key_until: standing.old_key_until,
            ttl_days: wish_days.or(service.map(|service| service.ttl_days)),
            variables: service
                .map(|service| service.rendition.env.iter().map(|(name, _)| name.clone()).collect())
                .unwrap_or_default(),
            skill: service.map(|service| service.rendition.skill.clone()),
            generation,
            laptops: laptops.iter().filter(has).count(),
            can: standing.can,
        }
    }
}

fn icon(service: Option<&Service>, page: &str) -> Option<String> {
    let service = service.filter(|service| service.icon.is_some())?;
    Some(format!("{page}/icons/{}.svg", service.id))
}

/// What `connect` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectJson {
    /// To what.
    #[schema(value_type = String)]
    pub service_id: ServiceId,
    /// How many days keys should live, 1 to 365.
    #[serde(default)]
    pub ttl_days: Option<u16>,
}

/// What `disconnect` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceOnlyJson {
    /// From what.
    #[schema(value_type = String)]
    pub service_id: ServiceId,
}

/// What `rotate` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateJson {
    /// Of which service.
    #[schema(value_type = String)]
    pub service_id: ServiceId,
    /// The key leaked: it is revoked at once.
    #[serde(default)]
    pub leaked: bool,
}

/// What `offboard` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OffboardJson {
    /// Whom.
    #[schema(value_type = String)]
    pub user: UserId,
}

/// What `approve` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveJson {
    /// The digest of what is held.
    #[schema(value_type = String)]
    pub digest: Digest,
}

/// An edit that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneJson {
    /// True.
    pub ok: bool,
    /// What follows, in a sentence.
    pub message: String,
    /// How the connection stands; null where it is of none, or cannot be told now.
    pub state: Option<State>,
    /// Whether the desired state had to be changed.
    pub changed: bool,
    /// Its revision now.
    #[schema(value_type = String)]
    pub revision: Digest,
    /// All of the connection; null as `state`.
    pub service: Option<ServiceJson>,
}

/// How a service is, as the last pass found it.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthJson {
    /// The version of these field names.
    pub version: u8,
    /// Which service.
    #[schema(value_type = String)]
    pub service_id: ServiceId,
    /// How it is.
    pub status: HealthStatus,
    /// What is wrong; empty: nothing.
    pub message: String,
    /// When it was last called; null: not lately.
    pub at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub took_ms: Option<u64>,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Nothing is wrong, as far as is known.
    Ok,
    /// It does not answer.
    Down,
    /// It refuses our shared secret.
    SecretRefused,
    /// Its clock and ours are apart.
    ClockSkew,
    /// No pass has called it yet.
    Unknown,
}

/// The fleet, a page of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetJson {
    /// The version of these field names.
    pub version: u8,
    /// When this was so.
    pub at: Timestamp,
    /// The revision of the desired state.
    #[schema(value_type = String)]
    pub revision: Digest,
    /// How many connections match.
    pub total: usize,
    /// Which page this is, from 1.
    pub page: usize,
    /// How many a page has at most.
    pub per_page: usize,
    /// How many there are in each state, of those that match all but the state.
    pub counts: BTreeMap<State, usize>,
    /// The services.
    pub services: Vec<FleetServiceJson>,
    /// The connections of this page, by user and service.
    pub connections: Vec<ConnectionJson>,
    /// Revokes that are owed, oldest first: the first thousand.
    pub debts: Vec<DebtJson>,
    /// What the guard holds; null: nothing.
    pub held: Option<HeldJson>,
    /// How many keys end by themselves on which day.
    pub expiries: Vec<ExpiryJson>,
    /// The last pass; null: none yet.
    pub last_pass: Option<LastPassJson>,
}

/// A service, for those who see the fleet.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FleetServiceJson {
    /// Which.
    #[schema(value_type = String)]
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// How many keys work.
    pub connections: usize,
    /// How it is.
    pub health: HealthStatus,
    /// What is wrong; empty: nothing.
    pub message: String,
    /// Keys of contract v1 that may exist, and nobody can tell.
    pub possible_orphans: usize,
}

/// A connection, for those who see the fleet.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConnectionJson {
    /// Whose.
    #[schema(value_type = String)]
    pub user: UserId,
    /// To which service.
    #[schema(value_type = String)]
    pub service: ServiceId,
    /// How it stands.
    pub state: State,
    /// What is to be said of it.
    pub message: String,
    /// When the key in use ends.
    pub expires_at: Option<Timestamp>,
    /// Since when it is issued.
    pub connected_at: Option<Timestamp>,
}

/// A revoke that is owed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DebtJson {
    /// Whose.
    #[schema(value_type = String)]
    pub user: UserId,
    /// Of which service.
    #[schema(value_type = String)]
    pub service: ServiceId,
    /// Since when.
    pub since: Timestamp,
    /// Why it is not paid; null: it was not tried yet.
    pub why: Option<String>,
}

/// What the guard holds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HeldJson {
    /// What an approval names.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// How many connections.
    pub connections: usize,
    /// Why.
    pub why: Vec<String>,
    /// Whether it can be approved here.
    pub may_approve: bool,
}

/// Keys that end on one day.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ExpiryJson {
    /// The day, UTC.
    pub date: String,
    /// Of which service.
    #[schema(value_type = String)]
    pub service: ServiceId,
    /// How many.
    pub tokens: usize,
}

/// The last pass.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LastPassJson {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// What it came to, as an exit code of `reconcile`.
    pub exit: u8,
    /// In a line.
    pub summary: String,
}

/// The plan of the last pass of everything.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownPlanJson {
    /// The version of these field names.
    pub version: u8,
    /// When it was made; null: no pass has recorded one.
    pub at: Option<Timestamp>,
    /// The plan as `plan --json` prints it, of a large one the beginning.
    #[schema(value_type = Option<Object>)]
    pub plan: Option<Value>,
}

/// What went wrong (RFC 9457), with the field `error` besides.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemJson {
    /// `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
    /// The same as `detail`.
    pub error: String,
}
