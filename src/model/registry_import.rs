//! Registry entries from `service_connectors.json`, the list of services of the plan that came
//! before.

use serde::Deserialize;
use url::Url;

use super::name::{EnvName, ServiceId, SkillFile};

/// One service of the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connector {
    id: ServiceId,
    name: String,
    description: String,
    token_exchange_url: String,
    token_revoke_url: String,
    env_var_name: EnvName,
    skill_file: SkillFile,
    enabled: bool,
}

/// A registry entry to be.
#[derive(Debug)]
pub struct NewEntry {
    /// The service.
    pub id: ServiceId,
    /// The text of its file.
    pub text: String,
    /// The skill that it names.
    pub skill: SkillFile,
    /// What a person should know of it.
    pub remarks: Vec<String>,
}

/// Why there are no entries.
#[derive(Debug, thiserror::Error)]
pub enum RegistryImportError {
    /// The list cannot be read.
    #[error("{path}: {message}")]
    List {
        /// Which part of it, such as `[2].enabled`.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// A service of it cannot become an entry.
    #[error("{id}: {message}")]
    Service {
        /// Which.
        id: ServiceId,
        /// Why.
        message: String,
    },
}

/// Reads the list. `allow` is who may be connected to each of them.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(bytes: &[u8], allow: &[String]) -> Result<Vec<NewEntry>, RegistryImportError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let list: Vec<Connector> = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| list_error(error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| list_error("after the list".to_owned(), &error))?;
    let mut entries: Vec<NewEntry> = Vec::with_capacity(list.len());
    for connector in &list {
        let id = &connector.id;
        let wrong = |message| RegistryImportError::Service { id: id.clone(), message };
        if entries.iter().any(|entry| entry.id == *id) {
            return Err(wrong("it stands twice in the list".to_owned()));
        }
        entries.push(connector.entry(allow).map_err(wrong)?);
    }
    Ok(entries)
}

fn list_error(path: String, error: &serde_json::Error) -> RegistryImportError {
    RegistryImportError::List { path, message: error.to_string() }
}

impl Connector {
    fn entry(&self, allow: &[String]) -> Result<NewEntry, String> {
        let exchange = address("token_exchange_url", &self.token_exchange_url)?;
        let revoke = address("token_revoke_url", &self.token_revoke_url)?;
        if exchange.origin() != revoke.origin() {
            return Err("token_exchange_url and token_revoke_url are not on one host".to_owned());
        }
        let variable = self.env_var_name.as_str();
        let Some((prefix, _)) = variable.split_once('_') else {
            return Err(format!("env_var_name `{variable}` has no prefix such as PO_"));
        };
        let patterns: Vec<String> = allow.iter().map(|pattern| quoted(pattern)).collect();
        let mut lines = vec![
            format!("id: {}", self.id),
            format!("name: {}", quoted(&self.name)),
            format!("description: {}", quoted(&self.description)),
            format!("base_url: {}", quoted(&exchange.origin().ascii_serialization())),
            "contract: v1".to_owned(),
        ];
        lines.extend(endpoints(exchange.path(), revoke.path()));
        lines.extend([
            format!("secret: SC_SECRET_{}", self.id.as_str().to_uppercase()),
            format!("env_prefix: {prefix}_"),
            "env:".to_owned(),
            format!("  {variable}: \"{{{{ api_key }}}}\""),
            format!("  {prefix}_BASE_URL: \"{{{{ base_url }}}}\""),
            format!("skill: {}", self.skill_file),
            format!("allow: {{ emails: [{}], users: [] }}", patterns.join(", ")),
        ]);
        if !self.enabled {
            lines.push("retired: true".to_owned());
        }
        let text = lines.join("\n") + "\n";
        let remarks = self.remarks(allow, exchange.path());
        Ok(NewEntry { id: self.id.clone(), text, skill: self.skill_file.clone(), remarks })
    }

    fn remarks(&self, allow: &[String], exchange_path: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        if !self.enabled {
            remarks.push("it was not enabled: retired".to_owned());
        }
        if allow.is_empty() {
            remarks.push("nobody may be connected yet: fill `allow`".to_owned());
        }
        if exchange_path != EXCHANGE {
            remarks.push("its health check is taken to be /api/health: see `health`".to_owned());
        }
        remarks
    }
}

const EXCHANGE: &str = "/api/internal/token-exchange";
const REVOKE: &str = "/api/internal/token-revoke";

/// An address that is a host and a path, and no more.
fn address(field: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{field}: {error}"))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if plain && url.query().is_none() && url.fragment().is_none() && url.has_host() {
        Ok(url)
    } else {
        Err(format!("{field} must be a host and a path, and no more"))
    }
}

/// Paths other than the usual ones.
fn endpoints(exchange: &str, revoke: &str) -> Option<String> {
    let given = [("exchange", exchange, EXCHANGE), ("revoke", revoke, REVOKE)];
    let unusual = given.iter().filter(|(_, path, usual)| path != usual);
    let paths: Vec<String> =
        unusual.map(|(name, path, _)| format!("{name}: {}", quoted(path))).collect();
    (!paths.is_empty()).then(|| format!("endpoints: {{ {} }}", paths.join(", ")))
}

/// A text as YAML reads it back: a JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
