//! Parses one entry of the registry, and puts all entries together.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::env_template::{self, EnvPrefix};
use super::name::{Email, EnvName, ServiceId, SkillFile, UserId, is_domain};
use super::registry::{
    Allow, Contract, EmailPattern, Endpoint, Entry, Limits, Registry, Rendition, STATUS_MARK,
    Service, ValueTemplate,
};
use super::schema;
use super::service_url::{BaseUrl, UrlPath};
use super::skill_template::{self, MAX_SKILL_BYTES};
use super::yaml::{self, Bounded, Entries, Place, YamlError};

/// Where a service exchanges tokens, unless its entry says otherwise.
pub(super) const EXCHANGE_PATH: &str = "/api/internal/token-exchange";
/// Where it revokes them.
pub(super) const REVOKE_PATH: &str = "/api/internal/token-revoke";

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Its YAML is wrong.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// Its skill is.
    #[error("{file}: {message}")]
    Skill {
        /// The template's file name.
        file: SkillFile,
        /// What is wrong, with the line where that is known.
        message: String,
    },
}

/// An entry that is right by itself.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The service.
    pub service: Service,
    /// What all its variables begin with.
    pub env_prefix: EnvPrefix,
}

impl Service {
    /// Parses one entry: `stem` is the file's name without `.yaml`, `template` gives the text of
    /// the skill's template, or says why it cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        stem: &str,
        text: &str,
        template: impl FnOnce(&SkillFile) -> Result<String, String>,
    ) -> Result<Self, RegistryError> {
        parse(stem, text, template).map(|parsed| parsed.service)
    }
}

/// Parses one entry, and keeps what must be unique among all.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(
    stem: &str,
    text: &str,
    template: impl FnOnce(&SkillFile) -> Result<String, String>,
) -> Result<Parsed, RegistryError> {
    let raw: RawEntry = yaml::read(text)?;
    if raw.id.value.as_str() != stem {
        let message = format!("`{}` stands in {stem}.yaml: id and file name are one", raw.id.value);
        return Err(YamlError::at(text, Place::of(&raw.id), message).into());
    }
    let base_url = parsed(text, &raw.base_url, BaseUrl::parse)?;
    let env_prefix = parsed(text, &raw.env_prefix, EnvPrefix::parse)?;
    let (renew, ttl) = (&raw.renew_before_days, raw.ttl_days.0);
    if renew.value.0 >= ttl {
        let message = format!("must be less than ttl_days, which is {ttl}");
        return Err(YamlError::at(text, Place::of(renew), message).into());
    }
    let mut env = Vec::with_capacity(raw.env.0.len());
    for (name, value) in &raw.env.0 {
        env_template::check_name(&name.value, &env_prefix)
            .map_err(|message| YamlError::at(text, Place::of(name), message))?;
        let value = parsed(text, value, |value| env_template::parse_value(value, &base_url))?;
        env.push((name.value.clone(), value));
    }
    let service = raw.into_service(text, &base_url, env)?;
    let service = with_skill(service, &base_url, template)?;
    Ok(Parsed { service, env_prefix })
}

/// Parses a text that was read already; what is wrong is told at its place.
fn parsed<T>(
    text: &str,
    value: &Spanned<String>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, YamlError> {
    parse(&value.value).map_err(|message| YamlError::at(text, Place::of(value), message))
}

/// The JSON Schema of a registry entry.
#[must_use]
pub fn json_schema() -> Schema {
    schema::of::<RawEntry>("registry/<id>.yaml: a service")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    /// The file's name without `.yaml`
    #[schemars(with = "ServiceId")]
    id: Spanned<ServiceId>,
    /// For people
    #[schemars(with = "String")]
    name: Spanned<String>,
    /// For people, one line
    #[schemars(with = "String")]
    description: Spanned<String>,
    /// A file beside the entry
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    icon: Option<Spanned<String>>,
    /// Where the service is; https, except on this machine
    #[schemars(with = "String")]
    base_url: Spanned<String>,
    /// The version of the service contract that it keeps
    #[serde(default = "v2")]
    contract: Contract,
    /// Paths other than the contract's
    #[serde(default)]
    endpoints: RawEndpoints,
    /// The path of its health check, if it is not /api/health
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    health: Option<Spanned<String>>,
    /// A certificate authority of its own, PEM
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    ca_file: Option<Spanned<String>>,
    /// The name of the shared secret, such as `SC_SECRET_CRM`
    #[schemars(with = "String", regex(pattern = "^SC_SECRET_[A-Z0-9_]{1,54}$"))]
    secret: Spanned<EnvName>,
    /// How long a key is asked for, in days
    #[serde(default = "ttl_days")]
    ttl_days: Bounded<1, 365>,
    /// How long before its end a key is renewed at the latest, in days; less than `ttl_days`
    #[serde(default = "renew_before_days")]
    #[schemars(with = "Bounded<1, 364>")]
    renew_before_days: Spanned<Bounded<1, 364>>,
    /// How long the old key lives beside a delivered new one, in days
    #[serde(default = "grace_days")]
    grace_days: Bounded<0, 90>,
    /// What all its variables begin with, such as `PO_`
    #[schemars(with = "String", regex(pattern = "^[A-Z][A-Z0-9]*_$"))]
    env_prefix: Spanned<String>,
    /// The variables in people's homes: templates with `{{ api_key }}` and `{{ base_url }}`
    #[schemars(with = "Entries<EnvName, String>")]
    env: Entries<EnvName, Spanned<String>>,
    /// The template of its skill
    skill: SkillFile,
    /// Who may be connected; nobody, unless named
    #[serde(default)]
    allow: RawAllow,
    /// How hard it may be pressed
    #[serde(default)]
    limits: RawLimits,
    /// Disconnect everybody, under the guard
    #[serde(default)]
    retired: bool,
}

fn v2() -> Contract {
    Contract::V2
}

fn ttl_days() -> Bounded<1, 365> {
    Bounded(90)
}

fn renew_before_days() -> Spanned<Bounded<1, 364>> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned::new(Bounded(15), nowhere, nowhere)
}

fn grace_days() -> Bounded<0, 90> {
    Bounded(7)
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawEndpoints {
    /// The token exchange
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    exchange: Option<Spanned<String>>,
    /// The revoke
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    revoke: Option<Spanned<String>>,
    /// The list of tokens
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String")]
    tokens: Option<Spanned<String>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawAllow {
    /// Addresses, and `*@` with a domain for everybody of it
    #[serde(default, deserialize_with = "yaml::list")]
    #[schemars(with = "Vec<String>")]
    emails: Vec<Spanned<String>>,
    /// People by their ids
    #[serde(default, deserialize_with = "yaml::list")]
    users: Vec<UserId>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    /// Calls at once
    concurrency: Bounded<1, 256>,
    /// Calls a minute
    per_minute: Bounded<1, 60_000>,
    /// How long an answer may take, in seconds
    timeout_seconds: Bounded<1, 120>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { concurrency: Bounded(8), per_minute: Bounded(600), timeout_seconds: Bounded(10) }
    }
}

impl RawEntry {
    fn into_service(
        self,
        text: &str,
        base_url: &BaseUrl,
        env: Vec<(EnvName, ValueTemplate)>,
    ) -> Result<Service, YamlError> {
        let endpoint = self.endpoint(text, base_url)?;
        Ok(Service {
            id: self.id.value,
            name: parsed(text, &self.name, one_line)?,
            description: parsed(text, &self.description, one_line)?,
            icon: self.icon.map(|icon| parsed(text, &icon, file_name)).transpose()?,
            endpoint,
            ttl_days: self.ttl_days.0,
            renew_before_days: self.renew_before_days.value.0,
            grace_days: self.grace_days.0,
            rendition: Rendition { env, skill: self.skill, skill_text: String::new() },
            allow: self.allow.parse(text)?,
            limits: Limits {
                concurrency: not_zero(self.limits.concurrency.0),
                per_minute: not_zero(self.limits.per_minute.0),
            },
            retired: self.retired,
        })
    }

    fn endpoint(&self, text: &str, base_url: &BaseUrl) -> Result<Endpoint, YamlError> {
        let url = |given: &Option<Spanned<String>>, usual| {
            let path = match given {
                Some(path) => parsed(text, path, UrlPath::parse)?,
                None => UrlPath::fixed(usual),
            };
            Ok::<_, YamlError>(base_url.join(&path))
        };
        let secret = &self.secret;
        if secret.value.as_str().strip_prefix("SC_SECRET_").is_none_or(str::is_empty) {
            let message = "the name of a shared secret begins with SC_SECRET_";
            return Err(YamlError::at(text, Place::of(secret), message));
        }
        Ok(Endpoint {
            contract: self.contract,
            exchange_url: url(&self.endpoints.exchange, EXCHANGE_PATH)?,
            revoke_url: url(&self.endpoints.revoke, REVOKE_PATH)?,
            list_url: url(&self.endpoints.tokens, "/api/internal/tokens")?,
            health_url: url(&self.health, "/api/health")?,
            secret: secret.value.clone(),
            ca_file: self.ca_file.as_ref().map(|file| parsed(text, file, one_line)).transpose()?,
            timeout_seconds: self.limits.timeout_seconds.0,
        })
    }
}

impl RawAllow {
    fn parse(self, text: &str) -> Result<Allow, YamlError> {
        let patterns = self.emails.iter().map(|pattern| parsed(text, pattern, email_pattern));
        Ok(Allow { emails: patterns.collect::<Result<_, _>>()?, users: self.users })
    }
}

/// Parses an address, or `*@` and a domain.
pub(super) fn email_pattern(text: &str) -> Result<EmailPattern, String> {
    match text.strip_prefix("*@") {
        Some(domain) if is_domain(domain) => Ok(EmailPattern::Domain(domain.to_ascii_lowercase())),
        Some(domain) => Err(format!("`{}` is not a domain name", yaml::shown(domain))),
        None => text.parse::<Email>().map(EmailPattern::One).map_err(|error| error.to_string()),
    }
}

fn not_zero(number: u16) -> NonZeroU32 {
    NonZeroU32::new(number.into()).unwrap_or(NonZeroU32::MIN)
}

/// Parses a text that people see.
pub(super) fn one_line(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_control() || c == STATUS_MARK;
    if text.trim().is_empty() || text.chars().any(odd) || text.len() > 500 {
        Err("one line of 1 to 500 characters belongs here".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn file_name(text: &str) -> Result<String, String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"_-.".contains(&c);
    if !text.is_empty() && !text.starts_with('.') && text.len() <= 100 && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("the name of a file beside this one belongs here: a-z 0-9 . _ -".to_owned())
    }
}

/// Renders the skill, the status line excepted.
fn with_skill(
    mut service: Service,
    base_url: &BaseUrl,
    template: impl FnOnce(&SkillFile) -> Result<String, String>,
) -> Result<Service, RegistryError> {
    let file = service.rendition.skill.clone();
    let wrong = |message| RegistryError::Skill { file: file.clone(), message };
    let template = template(&file).map_err(wrong)?;
    skill_template::check(&template).map_err(wrong)?;
    let text = skill_template::render(&service, base_url, &template).map_err(wrong)?;
    if text.len() > MAX_SKILL_BYTES {
        return Err(wrong(format!("its text is larger than {MAX_SKILL_BYTES} bytes")));
    }
    service.rendition.skill_text = text;
    Ok(service)
}

impl Registry {
    /// Puts the entries together. Names in homes are shared among services: entries that clash
    /// are all broken, since nobody can tell which of them is meant.
    #[must_use]
    pub fn assemble(entries: Vec<(ServiceId, Result<Parsed, String>)>) -> Self {
        let clashes = clashes(entries.iter().filter_map(|(_, entry)| entry.as_ref().ok()));
        let entries = entries.into_iter().map(|(id, entry)| {
            let entry = match (entry, clashes.get(&id)) {
                (Err(why), _) => Entry::Broken(why),
                (Ok(_), Some(why)) => Entry::Broken(why.clone()),
                (Ok(parsed), None) => Entry::Usable(Box::new(parsed.service)),
            };
            (id, entry)
        });
        Self { entries: entries.collect() }
    }
}

/// Why entries cannot stand beside each other, by the id of each one involved.
pub(super) fn clashes<'a>(
    entries: impl Iterator<Item = &'a Parsed>,
) -> BTreeMap<ServiceId, String> {
    let mut owners: BTreeMap<(&str, &str), Vec<&ServiceId>> = BTreeMap::new();
    let mut secrets: BTreeMap<&str, Vec<&ServiceId>> = BTreeMap::new();
    for Parsed { service, env_prefix } in entries {
        secrets.entry(service.endpoint.secret.as_str()).or_default().push(&service.id);
        let rendition = &service.rendition;
        let names = rendition.env.iter().map(|(name, _)| ("the variable", name.as_str()));
        let others =
            [("the env_prefix", env_prefix.as_str()), ("the skill", rendition.skill.as_str())];
        for thing in names.chain(others) {
            owners.entry(thing).or_default().push(&service.id);
        }
    }
    let mut reasons = BTreeMap::new();
    for ((kind, name), ids) in owners.iter().filter(|(_, ids)| ids.len() > 1) {
        for id in ids {
            let other = ids.iter().find(|other| other != &id).map_or("", |other| other.as_str());
            let reason = format!("{kind} {name} is also that of `{other}`");
            reasons.entry((*id).clone()).or_insert(reason);
        }
    }
    // Either service would be shown the other's secret.
    for (name, ids) in &secrets {
        let Some(first) = name.strip_suffix("_NEXT") else { continue };
        if let Some(others) = secrets.get(first) {
            let reason =
                format!("the secret {name} is what is to follow {first} of another service");
            for id in ids.iter().chain(others) {
                reasons.entry((*id).clone()).or_insert_with(|| reason.clone());
            }
        }
    }
    reasons
}
