//! Who should be connected to what.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, de};

use super::name::{ServiceId, UserId};
pub use super::people::{NoPerson, People, Person};
use super::schema;
use super::yaml::{self, Bounded, Entries, Place, Version1, YamlError};
use super::yaml_path;

/// The desired state as `desired.yaml` says it, not yet resolved against people and registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Everybody whom the file names.
    pub users: BTreeMap<UserId, DesiredUser>,
}

/// One user of `desired.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredUser {
    /// Offboarded: nothing is issued, the portal refuses.
    pub disabled: bool,
    /// What the user should be connected to.
    pub connections: BTreeMap<ServiceId, Wish>,
    /// The line of the user's key, from 1.
    pub line: u32,
}

/// One connection of `desired.yaml`, with what is asked of it beyond the registry's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// How long keys should live, 1 to 365 days; the registry's default without.
    pub ttl_days: Option<u16>,
    /// Renew once this time has come, if the token is older.
    pub rotate_after: Option<Timestamp>,
    /// Tokens asked for before this are revoked at once, without a grace: a key leaked.
    pub revoke_issued_before: Option<Timestamp>,
    /// No issue, renewal or rotation; expiry and disconnect still count.
    pub paused: bool,
    /// Somebody asked then for another try: what failed before makes nothing wait.
    pub retried_at: Option<Timestamp>,
    /// The line of the connection's key, from 1.
    pub line: u32,
}

impl Desired {
    /// Reads `desired.yaml`. An empty file is an error, never "nobody".
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let raw: RawDesired = yaml::read(text)?;
        let users = raw.users.0.into_iter().map(|(id, user)| {
            let line = Place::of(&id).line;
            (id.value, user.at_line(line))
        });
        Ok(Self { users: users.collect() })
    }

    /// Refuses connections to services that nobody knows. `text` is what this was parsed from.
    ///
    /// # Errors
    /// The first such connection, with its place.
    pub fn check_services(
        &self,
        text: &str,
        known: impl Fn(&ServiceId) -> bool,
    ) -> Result<(), YamlError> {
        for (user, entry) in &self.users {
            if let Some((service, wish)) = entry.connections.iter().find(|(id, _)| !known(id)) {
                let path = ["users", user.as_str(), "connections", service.as_str()];
                let place = yaml_path::place_of(text, &path)
                    .unwrap_or(Place { line: wish.line.max(1), column: 1 });
                let message = format!("no service `{service}` is in the registry or the state");
                return Err(YamlError::at(text, place, message));
            }
        }
        Ok(())
    }

    /// The same, but for the line numbers: what two files must share to mean the same.
    #[must_use]
    pub fn without_lines(self) -> Self {
        self.with_lines(|_| 0)
    }

    /// The same, with other line numbers.
    #[must_use]
    pub fn with_lines(mut self, new: impl Fn(u32) -> u32) -> Self {
        for user in self.users.values_mut() {
            user.line = new(user.line);
            user.connections.values_mut().for_each(|wish| wish.line = new(wish.line));
        }
        self
    }
}

/// The JSON Schema of `desired.yaml`.
#[must_use]
pub fn json_schema() -> Schema {
    schema::of::<RawDesired>("desired.yaml: who should be connected to what")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawDesired {
    #[serde(rename = "version")]
    _version: Version1,
    /// Everybody, by their ids
    users: Entries<UserId, RawUser>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawUser {
    /// Offboarded: nothing is issued, and every connection goes
    #[serde(default)]
    disabled: bool,
    /// What the person should be connected to, by the services' ids
    #[serde(default)]
    connections: Entries<ServiceId, RawWish>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawWish {
    /// How long keys should live, in days, instead of the registry's `ttl_days`
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "Bounded<1, 365>")]
    ttl_days: Option<Bounded<1, 365>>,
    /// Replace the key once this time has come, with a grace for the old one
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "schema::Time")]
    rotate_after: Option<Instant>,
    /// The key leaked: what was issued before this time is revoked at once
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "schema::Time")]
    revoke_issued_before: Option<Instant>,
    /// No issue, renewal or rotation; expiry and disconnect still count
    #[serde(default)]
    paused: bool,
    /// Somebody asked then for another try: what failed before makes nothing wait
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "schema::Time")]
    retried_at: Option<Instant>,
}

impl RawUser {
    fn at_line(self, line: u32) -> DesiredUser {
        let connections = self.connections.0.into_iter().map(|(id, wish)| {
            let line = Place::of(&id).line;
            (id.value, wish.at_line(line))
        });
        DesiredUser { disabled: self.disabled, connections: connections.collect(), line }
    }
}

impl RawWish {
    fn at_line(self, line: u32) -> Wish {
        Wish {
            ttl_days: self.ttl_days.map(|days| days.0),
            rotate_after: self.rotate_after.map(|at| at.0),
            revoke_issued_before: self.revoke_issued_before.map(|at| at.0),
            paused: self.paused,
            retried_at: self.retried_at.map(|at| at.0),
            line,
        }
    }
}

/// A point in time with its offset from UTC (RFC 3339).
struct Instant(Timestamp);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            de::Error::custom(format!(
                "`{}` is not a time such as 2026-11-01T00:00:00Z",
                yaml::shown(&text)
            ))
        })
    }
}
