//! The variables that a registry entry gives to a home: which names, and what their values are.

use super::name::{EnvName, EnvValue};
use super::registry::ValueTemplate;
use super::service_url::BaseUrl;
use super::yaml::shown;

/// What every variable of one service begins with, such as `PO_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvPrefix(String);

impl EnvPrefix {
    /// Parses a prefix.
    ///
    /// # Errors
    /// Says what a prefix is, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_prefix = text.strip_suffix('_').is_some_and(|word| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.len() <= 32
                && word.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        });
        if is_prefix {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{}` is not a prefix such as PO_: A-Z 0-9, then one _", shown(text)))
        }
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names that steer the shell, the loader, an interpreter or an agent. A service that could set
/// one would run its own code on laptops, or send an agent's traffic elsewhere.
const DENIED: &[&str] = &[
    "BASH_ENV",
    "EDITOR",
    "ENV",
    "HISTFILE",
    "HOME",
    "IFS",
    "LANG",
    "LOGNAME",
    "MAIL",
    "PAGER",
    "PATH",
    "PROMPT_COMMAND",
    "SHELL",
    "SHELLOPTS",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "VISUAL",
];
const DENIED_PREFIXES: &[&str] = &[
    "ANTHROPIC_",
    "AWS_",
    "AZURE_",
    "BASH_",
    "CARGO_",
    "CLAUDE_",
    "CURL_",
    "DBUS_",
    "DOCKER_",
    "DYLD_",
    "GCONV_",
    "GEMINI_",
    "GIT_",
    "GLIBC_",
    "GNUPG",
    "GOOGLE_",
    "JAVA_",
    "JDK_",
    "KUBE",
    "LC_",
    "LD_",
    "MALLOC_",
    "MCP_",
    "NODE_",
    "NPM_",
    "OLLAMA_",
    "OPENAI_",
    "OPENSSL_",
    "PERL",
    "PIP_",
    "PYTHON",
    "REQUESTS_",
    "RUBY",
    "RUST",
    "SC_",
    "SSH_",
    "SSL_",
    "SUDO_",
    "UV_",
    "XDG_",
    "ZDOT",
];
const DENIED_SUFFIXES: &[&str] = &["_PROXY"];

/// Checks that a service of this prefix may set this variable.
///
/// # Errors
/// Says why not, for people.
pub fn check_name(name: &EnvName, prefix: &EnvPrefix) -> Result<(), String> {
    let text = name.as_str();
    let denied = DENIED.contains(&text)
        || DENIED_PREFIXES.iter().any(|start| text.starts_with(start))
        || DENIED_SUFFIXES.iter().any(|end| text.ends_with(end));
    if denied {
        return Err(format!("{name} steers shells, programs or agents: no service may set it"));
    }
    match text.strip_prefix(prefix.as_str()) {
        Some(rest) if !rest.is_empty() => Ok(()),
        _ => Err(format!("{name} must begin with this service's env_prefix, {}", prefix.as_str())),
    }
}

/// A key as services issue them: stands for the real one when a template is checked.
const SAMPLE_KEY: &str = "pk_live_abc123";

/// Parses the value of a variable: a text around at most one `{{ api_key }}`, and around
/// `{{ base_url }}`.
///
/// # Errors
/// Says what is not allowed, for people.
pub fn parse_value(text: &str, base_url: &BaseUrl) -> Result<ValueTemplate, String> {
    let mut template = ValueTemplate { before: String::new(), key: false, after: String::new() };
    let mut rest = text;
    while let Some((fixed, name, after)) = next_placeholder(rest)? {
        let end = end_of(&mut template);
        end.push_str(fixed);
        match name {
            "base_url" => end.push_str(base_url.as_str()),
            "api_key" if template.key => return Err("{{ api_key }} stands here twice".to_owned()),
            "api_key" => template.key = true,
            other => {
                return Err(format!(
                    "`{}` is not known; {{{{ api_key }}}} and {{{{ base_url }}}} are",
                    shown(other)
                ));
            }
        }
        rest = after;
    }
    end_of(&mut template).push_str(rest);
    EnvValue::parse(&template.with(SAMPLE_KEY))
        .map_err(|error| format!("the value cannot be written without quotes: {error}"))?;
    Ok(template)
}

/// Where the next text goes.
fn end_of(template: &mut ValueTemplate) -> &mut String {
    if template.key { &mut template.after } else { &mut template.before }
}

/// What stands before the first `{{ name }}`, the name, and what stands after it.
fn next_placeholder(text: &str) -> Result<Option<(&str, &str, &str)>, String> {
    let Some((before, rest)) = text.split_once("{{") else { return Ok(None) };
    let (name, after) = rest.split_once("}}").ok_or("`{{` without `}}`")?;
    Ok(Some((before, name.trim(), after)))
}
