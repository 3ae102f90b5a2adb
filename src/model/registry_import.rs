//! Makes registry entries of a `service_connectors.json`: a list of services, as they were
//! described before there was a registry. Its services speak contract v1.

mod urls;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::env_template::{self, EnvPrefix};
use super::name::{EnvName, ServiceId, SkillFile};
use super::registry_entry::{self, Parsed, RegistryError};
use super::yaml::shown;
use urls::{Address, Urls};

/// Stands for a skill that is not written yet while its entry is checked.
const STAND_IN: &str = "To be written.\n";

/// Why nothing is imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON, or not of the shape that is expected.
    #[error("{place}{message}")]
    Json {
        /// Where, with a colon; empty where the error itself says it.
        place: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// A service is wrong.
    #[error("{at}, `{field}`: {message}")]
    Field {
        /// Which service.
        at: At,
        /// Its field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// What would be written is not a registry entry.
    #[error("{at} makes no registry entry")]
    Entry {
        /// Which service.
        at: At,
        /// What the reader of the registry says.
        #[source]
        source: Box<RegistryError>,
    },
    /// It clashes with another service.
    #[error(
        "{at}: {why}. In people's homes all services stand side by side: each needs a `skill_file` \
         and an `env_var_name` of its own, which differ before the first `_`"
    )]
    Clash {
        /// Which service.
        at: At,
        /// With what.
        why: String,
    },
    /// Someone whom `--allow` names cannot be anybody.
    #[error("--allow {pattern}: {message}; an e-mail address or *@domain belongs here", pattern = shown(pattern))]
    Allow {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        message: String,
    },
    /// An entry is there already, and another one.
    #[error(
        "{} in the registry already, and not as the import would write: nothing is overwritten. \
         Take it out of the list that is imported, or move the entry away",
        listed(.0)
    )]
    Exists(Vec<ServiceId>),
    /// With this entry of the registry nothing can be compared.
    #[error("the entry `{id}`, which is in the registry already, is not usable: correct it first")]
    Unusable {
        /// The entry.
        id: ServiceId,
        /// What is wrong.
        #[source]
        source: Box<RegistryError>,
    },
}

/// A service of the list.
#[derive(Debug, Clone)]
pub struct At {
    number: usize,
    id: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} (`{}`)", self.number, shown(&self.id))
    }
}

/// An entry to be written.
#[derive(Debug)]
pub struct NewEntry {
    /// Its service.
    pub id: ServiceId,
    /// The text of its file.
    pub text: String,
    /// The name of its shared secret.
    pub secret: EnvName,
    /// The name of its skill.
    pub skill: SkillFile,
    /// Whether that skill is there.
    pub has_skill: bool,
    /// Whether it was not enabled.
    pub retired: bool,
    at: At,
    parsed: Parsed,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    id: String,
    name: String,
    description: String,
    token_exchange_url: String,
    token_revoke_url: String,
    env_var_name: String,
    skill_file: String,
    enabled: bool,
}

/// Makes an entry of each service of the list. `allow` holds the patterns of the e-mail addresses
/// that each service is for; `template` gives the text of a skill's template, or `None` when it is
/// not there.
///
/// # Errors
/// The first thing that is wrong.
pub fn convert(
    json: &[u8],
    allow: &[String],
    template: impl Fn(&SkillFile) -> Result<Option<String>, String>,
) -> Result<Vec<NewEntry>, ImportError> {
    for pattern in allow {
        registry_entry::email_pattern(pattern).map_err(|message| {
            let pattern = pattern.clone();
            ImportError::Allow { pattern, message }
        })?;
    }
    let mut first = BTreeMap::new();
    let mut entries = Vec::new();
    for (index, raw) in parse(json)?.iter().enumerate() {
        let at = At { number: index + 1, id: raw.id.clone() };
        if let Some(earlier) = first.insert(raw.id.clone(), at.number) {
            let message = format!("is also that of service {earlier}");
            return Err(ImportError::Field { at, field: "id", message });
        }
        entries.push(raw.entry(at, allow, &template)?);
    }
    clash(&entries, &[])?;
    Ok(entries)
}

/// Which of the entries are there already, just as they are to be written. `there` holds the texts
/// of the entries of the registry.
///
/// # Errors
/// One is there and reads otherwise, or clashes with another one that is there.
pub fn compare(
    entries: &[NewEntry],
    there: &BTreeMap<ServiceId, String>,
    template: impl Fn(&SkillFile) -> Result<Option<String>, String>,
) -> Result<Vec<bool>, ImportError> {
    let found = |entry: &NewEntry| there.get(&entry.id);
    let differs = |entry: &&NewEntry| found(entry).is_some_and(|text| *text != entry.text);
    let differing: Vec<_> = entries.iter().filter(differs).map(|entry| entry.id.clone()).collect();
    if !differing.is_empty() {
        return Err(ImportError::Exists(differing));
    }
    let others = there.iter().filter(|(id, _)| entries.iter().all(|entry| entry.id != **id));
    let others = others.map(|(id, text)| {
        // A skill that is wrong or missing says nothing about the names.
        let skill = |file: &SkillFile| {
            let text = template(file).ok().flatten();
            Ok(text.unwrap_or_else(|| STAND_IN.to_owned()))
        };
        registry_entry::parse(id.as_str(), text, skill)
            .map_err(|source| ImportError::Unusable { id: id.clone(), source: source.into() })
    });
    clash(entries, &others.collect::<Result<Vec<_>, _>>()?)?;
    Ok(entries.iter().map(|entry| found(entry).is_some()).collect())
}

fn clash(entries: &[NewEntry], others: &[Parsed]) -> Result<(), ImportError> {
    let all = entries.iter().map(|entry| &entry.parsed).chain(others);
    let mut reasons = registry_entry::clashes(all);
    let clashing = entries.iter().find_map(|entry| Some((entry, reasons.remove(&entry.id)?)));
    match clashing {
        Some((entry, why)) => Err(ImportError::Clash { at: entry.at.clone(), why }),
        None => Ok(()),
    }
}

fn parse(json: &[u8]) -> Result<Vec<RawService>, ImportError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let services = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = place(error.path());
        ImportError::Json { place, message: visible(&error.into_inner().to_string()) }
    })?;
    reader.end().map_err(|error| ImportError::Json {
        place: String::new(),
        message: format!("after the list: {error}"),
    })?;
    Ok(services)
}

/// Which service and which field, counted as people do.
fn place(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |mut place, segment| {
        // Writing to a text does not fail.
        let _ = match segment {
            Segment::Seq { index } => write!(place, "service {}: ", index + 1),
            Segment::Map { key } => write!(place, "`{}`: ", shown(key)),
            Segment::Enum { .. } | Segment::Unknown => Ok(()),
        };
        place
    })
}

/// Somebody else's characters go to a terminal.
fn visible(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

fn listed(ids: &[ServiceId]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    format!("{} {}", ids.join(", "), if ids.len() == 1 { "is" } else { "are" })
}

impl RawService {
    fn entry(
        &self,
        at: At,
        allow: &[String],
        template: impl Fn(&SkillFile) -> Result<Option<String>, String>,
    ) -> Result<NewEntry, ImportError> {
        let wrong = |field| {
            let at = at.clone();
            move |message| ImportError::Field { at, field, message }
        };
        let id: ServiceId = named(&self.id).map_err(wrong("id"))?;
        registry_entry::one_line(&self.name).map_err(wrong("name"))?;
        registry_entry::one_line(&self.description).map_err(wrong("description"))?;
        let skill: SkillFile = named(&self.skill_file).map_err(wrong("skill_file"))?;
        let exchange = Address::parse(&self.token_exchange_url);
        let exchange = exchange.map_err(wrong("token_exchange_url"))?;
        let revoke = Address::parse(&self.token_revoke_url).map_err(wrong("token_revoke_url"))?;
        let urls = Urls::of(exchange, revoke).map_err(wrong("token_revoke_url"))?;
        let variables = Variables::of(&self.env_var_name).map_err(wrong("env_var_name"))?;
        let text = self.text(&urls, &variables, allow);
        let found = template(&skill).map_err(wrong("skill_file"))?;
        let has_skill = found.is_some();
        let skill_text = Ok(found.unwrap_or_else(|| STAND_IN.to_owned()));
        let parsed = registry_entry::parse(id.as_str(), &text, |_| skill_text)
            .map_err(|source| ImportError::Entry { at: at.clone(), source: source.into() })?;
        let secret = parsed.service.endpoint.secret.clone();
        Ok(NewEntry { id, text, secret, skill, has_skill, retired: !self.enabled, at, parsed })
    }

    fn text(&self, urls: &Urls, variables: &Variables, allow: &[String]) -> String {
        let Variables { key, prefix, base } = variables;
        let (id, skill) = (&self.id, &self.skill_file);
        let [name, description, address] =
            [&self.name, &self.description, &urls.base].map(|text| quoted(text));
        let retired = if self.enabled { "" } else { "retired: true\n" };
        format!(
            "id: {id}\nname: {name}\ndescription: {description}\nbase_url: {address}\n\
             contract: v1\n{endpoints}secret: SC_SECRET_{secret}\nenv_prefix: {prefix}\nenv:\n  \
             {key}: \"{{{{ api_key }}}}\"\n  {base}: \"{{{{ base_url }}}}\"\nskill: {skill}\n\
             allow: {{ emails: {emails}, users: [] }}\n{retired}",
            endpoints = urls.endpoints(),
            secret = id.to_ascii_uppercase(),
            prefix = prefix.as_str(),
            emails = Value::from(allow),
        )
    }
}

fn named<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A text as YAML takes it, whatever is in it: JSON's quotes and escapes are also YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What a service sets in homes.
struct Variables {
    key: EnvName,
    prefix: EnvPrefix,
    base: EnvName,
}

impl Variables {
    /// `PO_API_KEY` goes with the prefix `PO_` and with `PO_BASE_URL`.
    fn of(text: &str) -> Result<Self, String> {
        let key: EnvName = named(text)?;
        let Some((word, _)) = text.split_once('_') else {
            return Err(format!("`{key}` has no prefix such as the PO_ of PO_API_KEY"));
        };
        let prefix = EnvPrefix::parse(&format!("{word}_"))?;
        env_template::check_name(&key, &prefix)?;
        let base: EnvName = named(&format!("{word}_BASE_URL"))?;
        if base == key {
            return Err(format!("{base} is to hold the address, so it cannot hold the key"));
        }
        Ok(Self { key, prefix, base })
    }
}
