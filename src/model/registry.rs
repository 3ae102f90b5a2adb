//! The services, and how to reach them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::name::{Email, EnvName, ServiceId, SkillFile, UserId};

/// Every service that `registry/` names, readable or not.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// One entry per file.
    pub entries: BTreeMap<ServiceId, Entry>,
}

/// One file of the registry.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Parsed, and at peace with its neighbours.
    Usable(Box<Service>),
    /// Not usable, and why. It blocks its own connections and nothing else.
    Broken(String),
}

impl Registry {
    /// The service, if its entry is usable.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        match self.entries.get(id) {
            Some(Entry::Usable(service)) => Some(service),
            Some(Entry::Broken(_)) | None => None,
        }
    }

    /// The usable services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.entries.keys().filter_map(|id| self.service(id))
    }

    /// How a token is revoked that was asked for at `then`: at the same address it is the service's
    /// present secret, authority and patience that count.
    #[must_use]
    pub fn present(&self, id: &ServiceId, then: Arc<Endpoint>) -> Arc<Endpoint> {
        match self.service(id) {
            Some(Service { endpoint, .. }) if endpoint.revoke_url == then.revoke_url => {
                Arc::new(Endpoint { contract: then.contract, ..endpoint.clone() })
            }
            _ => then,
        }
    }
}

/// One service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its id: the file's name without `.yaml`.
    pub id: ServiceId,
    /// For people.
    pub name: String,
    /// For people, one line.
    pub description: String,
    /// A file beside the entry.
    pub icon: Option<String>,
    /// Where to ask, and how.
    pub endpoint: Endpoint,
    /// How long a key is asked for, in days.
    pub ttl_days: u16,
    /// How long before expiry a key is renewed at the latest, in days.
    pub renew_before_days: u16,
    /// How long the old key lives beside a delivered new one, in days.
    pub grace_days: u16,
    /// What its variables and its skill look like in a home.
    pub rendition: Rendition,
    /// Who may be connected.
    pub allow: Allow,
    /// How hard we may press.
    pub limits: Limits,
    /// Disconnect everybody, under the guard.
    pub retired: bool,
}

/// Where and how a service is asked for tokens. A token remembers the endpoint that it was issued
/// at, so that its revoke can be paid when the registry has moved on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The version of the service contract that it speaks.
    pub contract: Contract,
    /// Absolute URL of the token exchange.
    pub exchange_url: String,
    /// Absolute URL of the revoke.
    pub revoke_url: String,
    /// Absolute URL of the list of tokens (v2).
    pub list_url: String,
    /// Absolute URL of the health check.
    pub health_url: String,
    /// The name of the shared secret, never the secret.
    pub secret: EnvName,
    /// A PEM file with the authority that signs the service's certificate, instead of the system's.
    pub ca_file: Option<String>,
    /// Total time for one call, in seconds.
    pub timeout_seconds: u16,
}

/// A version of the service contract.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// The original two calls: no idempotency, no revoke by our own name for a token.
    V1,
    /// Op ids, tombstones, list.
    V2,
}

/// Who may be connected to a service. Nobody, unless named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Addresses, or `*@domain`.
    pub emails: Vec<EmailPattern>,
    /// User ids.
    pub users: Vec<UserId>,
}

impl Allow {
    /// Whether this person may be connected.
    #[must_use]
    pub fn covers(&self, user: &UserId, email: &Email) -> bool {
        self.users.contains(user) || self.emails.iter().any(|pattern| pattern.covers(email))
    }
}

/// An address, or everybody of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmailPattern {
    /// Exactly this address.
    One(Email),
    /// `*@domain`, in lower case.
    Domain(String),
}

impl EmailPattern {
    fn covers(&self, email: &Email) -> bool {
        match self {
            Self::One(one) => one == email,
            Self::Domain(domain) => email.parts().1 == domain,
        }
    }
}

/// How hard we may press a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls under way at once.
    pub concurrency: NonZeroU32,
    /// Calls a minute.
    pub per_minute: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const EIGHT: NonZeroU32 = NonZeroU32::new(8).unwrap();
        const TEN_A_SECOND: NonZeroU32 = NonZeroU32::new(600).unwrap();
        Self { concurrency: EIGHT, per_minute: TEN_A_SECOND }
    }
}

/// What a service puts into a home, but for what differs from one connection to the next: the key
/// and the status line. Kept in the state under its digest, so that a plan can show what changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// The variables, in the order of the registry entry.
    pub env: Vec<(EnvName, ValueTemplate)>,
    /// The skill's file name.
    pub skill: SkillFile,
    /// The skill's text, with [`STATUS_MARK`] where the status line goes.
    pub skill_text: String,
}

/// Stands where the status line goes: a private-use character, which no template may contain.
pub const STATUS_MARK: char = '\u{E000}';

impl Rendition {
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut fields = vec![self.skill.as_str(), &self.skill_text];
        for (name, template) in &self.env {
            fields.push(name.as_str());
            fields.push(&template.before);
            fields.push(if template.key { "key" } else { "" });
            fields.push(&template.after);
        }
        Digest::of_fields(fields)
    }
}

/// The value of a variable: a fixed text, or one around the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueTemplate {
    /// What stands before the key; the whole value when there is none.
    pub before: String,
    /// Whether the key stands here.
    pub key: bool,
    /// What stands after it.
    pub after: String,
}

impl ValueTemplate {
    /// The value with this in the key's place.
    #[must_use]
    pub fn with(&self, key: &str) -> String {
        let key = if self.key { key } else { "" };
        format!("{}{key}{}", self.before, self.after)
    }
}
