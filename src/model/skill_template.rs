//! The template of a skill.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};

use super::registry::{STATUS_MARK, Service, ValueTemplate};
use super::service_url::BaseUrl;

/// The largest skill, in bytes.
pub const MAX_SKILL_BYTES: usize = 64 << 10;

/// Checks a template before it is rendered.
///
/// # Errors
/// Says what is wrong, for people.
pub fn check(template: &str) -> Result<(), String> {
    if template.trim().is_empty() {
        return Err("the template is empty".to_owned());
    }
    if template.len() > MAX_SKILL_BYTES {
        return Err(format!("the template is larger than {MAX_SKILL_BYTES} bytes"));
    }
    let odd = |c: char| c == STATUS_MARK || (c.is_control() && c != '\n' && c != '\t');
    match template.lines().position(|line| line.chars().any(odd)) {
        Some(line) => Err(format!("line {}: a control or private-use character", line + 1)),
        None => Ok(()),
    }
}

/// Renders a template with [`STATUS_MARK`] in the place of the status line. The names that it may
/// use are `service.{id,name,description,base_url}`, `env.{api_key,base_url}` (the *names* of the
/// variables that hold just the key and just the address) and `status`.
///
/// # Errors
/// Says what is wrong, for people.
pub fn render(service: &Service, base_url: &BaseUrl, template: &str) -> Result<String, String> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .map_err(|error| error.to_string())?,
    );
    let names = |wanted: &dyn Fn(&ValueTemplate) -> bool| {
        service.rendition.env.iter().find(|(_, value)| wanted(value)).map(|(name, _)| name.as_str())
    };
    let mut env = BTreeMap::new();
    let is_key = |value: &ValueTemplate| value.key && value.with("").is_empty();
    env.extend(names(&is_key).map(|name| ("api_key", name.to_owned())));
    let is_base = |value: &ValueTemplate| !value.key && value.before == base_url.as_str();
    env.extend(names(&is_base).map(|name| ("base_url", name.to_owned())));
    let fields = context! {
        service => context! {
            id => service.id.as_str(),
            name => service.name.as_str(),
            description => service.description.as_str(),
            base_url => base_url.as_str(),
        },
        env,
        status => STATUS_MARK.to_string(),
    };
    engine.render_str(template, fields).map_err(|error| {
        let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
        let detail = error.detail().map_or(String::new(), |detail| format!(": {detail}"));
        format!("{line}{}{detail}", error.kind())
    })
}
