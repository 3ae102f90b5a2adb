//! What a skill should tell an agent, and must never do.

use super::registry::{STATUS_MARK, Service};

/// Sections that every skill has: what people call it, and words of which one must stand in it.
const SECTIONS: &[(&str, &[&str])] = &[
    ("how to authenticate", &["authenticat", "authoriz", "bearer"]),
    ("the endpoints", &["endpoint", "/api/"]),
    ("what a 401 means", &["401"]),
    ("common patterns", &["pattern", "example"]),
    ("the data model", &["data model", "fields", "| field"]),
];

/// Programs that would show a key in a transcript, or to every account through the process list.
const SHOWS: &[&str] = &[
    "echo ",
    "printf ",
    "printenv ",
    "print(",
    "console.log(",
    "curl ",
    "wget ",
    "logging.",
    "logger.",
];
/// What makes a line harmless: it tests for the key's presence, or warns.
const HARMLESS: &[&str] = &["bool(", " in os.environ", "never", "Never", "not "];

/// What is missing in a service's skill, or wrong in it, for people.
#[must_use]
pub fn lint(service: &Service) -> Vec<String> {
    let rendition = &service.rendition;
    let text = rendition.skill_text.to_lowercase();
    let mut found = Vec::new();
    for (what, words) in SECTIONS {
        if !words.iter().any(|word| text.contains(word)) {
            found.push(format!("{}: does not say {what}", rendition.skill));
        }
    }
    if !rendition.skill_text.contains(STATUS_MARK) {
        found.push(format!("{}: has no status line ({{{{ status }}}})", rendition.skill));
    }
    let keys = rendition.env.iter().filter(|(_, value)| value.key).map(|(name, _)| name.as_str());
    let keys: Vec<&str> = keys.collect();
    if keys.is_empty() {
        found.push(format!("{}: no variable of the entry holds the key", service.id));
    }
    for key in &keys {
        if !rendition.skill_text.contains(key) {
            found.push(format!("{}: does not name the variable {key}", rendition.skill));
        }
    }
    found.extend(lines_that_show(service, &keys));
    found
}

/// The lines on which a key's value would be shown. A test for its presence shows nothing.
fn lines_that_show<'a>(
    service: &'a Service,
    keys: &'a [&str],
) -> impl Iterator<Item = String> + 'a {
    let lines = service.rendition.skill_text.lines().enumerate();
    lines.filter_map(move |(number, line)| {
        if HARMLESS.iter().any(|words| line.contains(words)) {
            return None;
        }
        let program = SHOWS.iter().find(|program| line.contains(**program))?;
        let (_, after) = line.split_once(program)?;
        let key = keys.iter().find(|key| after.contains(**key))?;
        let (file, number) = (&service.rendition.skill, number + 1);
        Some(format!("{file}: line {number}: `{}` with {key} shows the key", program.trim()))
    })
}
