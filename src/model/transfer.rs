//! Moving a state over from `connections.json`, the file of the plan that came before:
//! `{user: {service: {connected, api_key, token_id, connected_at, expires_at}}}`.
//!
//! All of it or nothing: who would lose a key, or get another one, because of a wrong entry should
//! hear of it before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::error::Category;

use super::actual::Actual;
use super::desired::{Desired, People};
use super::json::Json;
use super::name::{EnvValue, ServiceId, UserId};
use super::outcome::{NewGrant, RawGrant};
use super::registry::{Entry, Registry, Service};
use super::secret::Secret;
use super::token::{Ask, Binding};

const FIELDS: [&str; 5] = ["connected", "api_key", "token_id", "connected_at", "expires_at"];

/// A token that another program asked for, and that is ours from now on.
pub struct Arrival {
    /// Whose.
    pub user: UserId,
    /// Of which service.
    pub service: ServiceId,
    /// Whom it is bound to.
    pub binding: Binding,
    /// What was asked, as far as can be told.
    pub ask: Ask,
    /// What was granted.
    pub grant: NewGrant,
}

/// What there is to take over.
#[derive(Default)]
pub struct Arrivals {
    /// The tokens.
    pub tokens: Vec<Arrival>,
    /// The connections whose token is here already: taken over before.
    pub already: usize,
    /// The connections that the file says are not connected.
    pub not_connected: usize,
}

/// Why nothing is taken over. It never shows a value of the file.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// It is not JSON at all.
    #[error("line {line}, column {column}: this is not JSON")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A name twice in one object.
    #[error("before line {line}, column {column}: a name stands twice in one object")]
    Twice {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// These entries are wrong.
    #[error("nothing was imported:\n{}", .0.join("\n"))]
    Entries(Vec<String>),
}

/// What the entries are judged by.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Who should be connected to what.
    pub desired: &'a Desired,
    /// Who is who.
    pub people: &'a People,
    /// The services.
    pub registry: &'a Registry,
    /// What is there.
    pub actual: &'a Actual,
    /// When.
    pub now: Timestamp,
}

/// Reads the file and judges every entry.
///
/// # Errors
/// All that is wrong, each with its user and service; then nothing may be taken over.
pub fn read(bytes: &[u8], ground: &Ground<'_>) -> Result<Arrivals, ArrivalError> {
    let json: Json = serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            // The only complaint that the reader of `Json` has.
            Category::Data => ArrivalError::Twice { line, column },
            _ => ArrivalError::NotJson { line, column },
        }
    })?;
    let Json::Object(users) = json else {
        return Err(ArrivalError::Entries(vec!["it is not an object of users".to_owned()]));
    };
    let (mut arrivals, mut wrong) = (Arrivals::default(), Vec::new());
    let mut token_ids: BTreeSet<(ServiceId, String)> = BTreeSet::new();
    for (user, services) in users {
        let Json::Object(services) = services else {
            wrong.push(format!("{user}: is not an object of services"));
            continue;
        };
        for (service, fields) in services {
            match judge(&user, &service, &fields, ground) {
                Ok(Judged::NotConnected) => arrivals.not_connected += 1,
                Ok(Judged::Already) => arrivals.already += 1,
                Ok(Judged::Arrives(arrival)) => {
                    let id = (arrival.service.clone(), arrival.grant.token_id.to_string());
                    if token_ids.insert(id) {
                        arrivals.tokens.push(*arrival);
                    } else {
                        let why = "token_id is that of another entry: each key has its own";
                        wrong.push(format!("{user}, {service}: {why}"));
                    }
                }
                Err(why) => wrong.push(format!("{user}, {service}: {why}")),
            }
        }
    }
    if wrong.is_empty() { Ok(arrivals) } else { Err(ArrivalError::Entries(wrong)) }
}

enum Judged {
    NotConnected,
    Already,
    Arrives(Box<Arrival>),
}

fn judge(user: &str, service: &str, fields: &Json, ground: &Ground<'_>) -> Result<Judged, String> {
    let Json::Object(object) = fields else { return Err("is not an object".to_owned()) };
    if let Some(unknown) = object.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("`{unknown}` is not a field; there are: {}", FIELDS.join(", ")));
    }
    match fields.get("connected") {
        Some(Json::Bool(false)) => return Ok(Judged::NotConnected),
        Some(Json::Bool(true)) => {}
        _ => return Err("connected must be true or false".to_owned()),
    }
    let user: UserId = user.parse().map_err(|error| format!("the user's name: {error}"))?;
    let id: ServiceId = service.parse().map_err(|error| format!("the service's name: {error}"))?;
    let service = usable(&id, ground.registry)?;
    let binding = binding(&user, service, ground)?;
    let text = |name: &str| fields.text(name).ok_or_else(|| format!("{name} must be a text"));
    let asked_at: Timestamp = text("connected_at")?
        .parse()
        .map_err(|_| "connected_at is not a time (RFC 3339)".to_owned())?;
    if asked_at > ground.now {
        return Err("connected_at is in the future".to_owned());
    }
    let raw = RawGrant {
        api_key: Secret::new(text("api_key")?.to_owned()),
        token_id: text("token_id")?.to_owned(),
        expires_at: text("expires_at")?.to_owned(),
        user_email: None,
    };
    let grant = raw.judge(&binding.email, ground.now).map_err(|why| {
        format!("{why}; take the entry out, and {user} connects again afterwards")
    })?;
    fits_the_home(&grant.api_key, service)?;
    refuse_doomed(&user, &id, asked_at, ground)?;
    let tokens = ground.actual.tokens_of(&user, &id);
    let holds = |token: &super::token::Token| {
        token.grant.as_ref().is_some_and(|held| held.token_id == grant.token_id)
    };
    if tokens.iter().any(holds) {
        return Ok(Judged::Already);
    }
    if !tokens.is_empty() {
        return Err("there is another key already: disconnect first, or take the entry out".into());
    }
    if held_by_another(&id, &grant, ground.actual) {
        return Err("token_id is that of another connection here".to_owned());
    }
    let life = grant.expires_at.duration_since(asked_at).as_hours() / 24;
    let ttl_days = u16::try_from(life.clamp(1, 365)).unwrap_or(365); // clamped
    let ask = Ask { endpoint: Arc::new(service.endpoint.clone()), ttl_days, at: asked_at };
    Ok(Judged::Arrives(Box::new(Arrival { user, service: id, binding, ask, grant })))
}

fn usable<'a>(id: &ServiceId, registry: &'a Registry) -> Result<&'a Service, String> {
    match registry.entries.get(id) {
        Some(Entry::Usable(service)) if service.retired => {
            Err("the service is retired: take the entry out; its key ends by itself".to_owned())
        }
        Some(Entry::Usable(service)) => Ok(service),
        Some(Entry::Broken(why)) => Err(format!("the registry entry is not usable: {why}")),
        None => Err("the service is not in the registry: add its entry first".to_owned()),
    }
}

/// Whom the token will be bound to. A token that nobody may have would be revoked at once.
fn binding(user: &UserId, service: &Service, ground: &Ground<'_>) -> Result<Binding, String> {
    let person = ground.people.person(user).map_err(|no_person| no_person.to_string())?;
    if !service.allow.covers(user, &person.email) {
        return Err(format!("{} is not covered by `allow` of the registry entry", person.email));
    }
    Ok(Binding { account: person.account, uid: None, email: person.email })
}

fn fits_the_home(key: &EnvValue, service: &Service) -> Result<(), String> {
    for (name, template) in &service.rendition.env {
        let value = zeroize::Zeroizing::new(template.with(key.expose()));
        EnvValue::parse(&value).map_err(|error| format!("{name} could not hold it: {error}"))?;
    }
    Ok(())
}

/// What the next pass would take away again.
fn refuse_doomed(
    user: &UserId,
    service: &ServiceId,
    asked_at: Timestamp,
    ground: &Ground<'_>,
) -> Result<(), String> {
    let Some(entry) = ground.desired.users.get(user) else { return Ok(()) };
    if entry.disabled {
        return Err("the user is disabled in desired.yaml: take the entry out".to_owned());
    }
    let wish = entry.connections.get(service);
    match wish.and_then(|wish| wish.revoke_issued_before) {
        Some(limit) if asked_at < limit => {
            Err("desired.yaml says revoke_issued_before, and the key is older".to_owned())
        }
        _ => Ok(()),
    }
}

fn held_by_another(service: &ServiceId, grant: &NewGrant, actual: &Actual) -> bool {
    let held = actual.tokens.values().filter_map(|of_user| of_user.get(service)).flatten();
    held.filter_map(|token| token.grant.as_ref()).any(|held| held.token_id == grant.token_id)
}

/// One connection of an export.
#[derive(serde::Serialize)]
pub struct Departure<'a> {
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    token_id: &'a str,
    connected_at: String,
    expires_at: String,
}

/// What `connections.json` says of a state: of each connection the newest key that works. Where
/// `key_of` gives none, its fingerprint stands.
pub fn departures<'a>(
    actual: &'a Actual,
    key_of: impl Fn(&super::name::OpId) -> Option<&'a Secret>,
) -> BTreeMap<&'a UserId, BTreeMap<&'a ServiceId, Departure<'a>>> {
    let mut users: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (user, services) in &actual.tokens {
        for (service, tokens) in services {
            let newest = tokens.iter().rev().find(|token| token.phase.is_live());
            let Some((token, grant)) =
                newest.and_then(|token| Some((token, token.grant.as_ref()?)))
            else {
                continue;
            };
            let api_key = key_of(&token.op).map(Secret::expose);
            let departure = Departure {
                connected: true,
                fingerprint: api_key.is_none().then(|| grant.fingerprint.to_string()),
                api_key,
                token_id: grant.token_id.as_str(),
                connected_at: token.ask.at.to_string(),
                expires_at: grant.expires_at.to_string(),
            };
            users.entry(user).or_default().insert(service, departure);
        }
    }
    users
}
