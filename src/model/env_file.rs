//! The text of `.service_env`.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::digest::Digest;
use super::name::{EnvName, EnvValue, SkillFile};

/// The first line of every file of ours.
pub const HEADER: &str = "# Managed by service-connector. Changes are overwritten.";

/// Everything that goes into one `.service_env`.
pub struct EnvFile {
    /// Which version of the user's files this is; ties keys and skills together.
    pub generation: u64,
    /// The skills that belong to this generation, with the digest of their bytes.
    pub skills: Vec<(SkillFile, Digest)>,
    /// The variables, in order.
    pub variables: Vec<(EnvName, EnvValue)>,
}

impl EnvFile {
    /// The file's text: LF, ASCII, no quotes, no `export`. The end line makes a cut file
    /// recognisable: its digest is of every byte before it.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        // Sized first, so that growing leaves no copy of a key behind unwiped.
        let values: usize = self.variables.iter().map(|(_, value)| value.expose().len() + 66).sum();
        let mut text =
            Zeroizing::new(String::with_capacity(256 + 160 * self.skills.len() + values));
        let _ = writeln!(text, "{HEADER}\n# generation {}", self.generation); // a String takes all
        for (file, digest) in &self.skills {
            let _ = writeln!(text, "# skill {file} {digest}");
        }
        for (name, value) in &self.variables {
            let _ = writeln!(text, "{name}={}", value.expose());
        }
        let digest = Digest::of(text.as_bytes());
        let _ = writeln!(text, "# end {} variables sha256 {digest}", self.variables.len());
        text
    }
}

/// What can be told of a file without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSummary {
    /// The generation line's number, if there is one.
    pub generation: Option<u64>,
    /// Whether header, end line, count and digest are those of a whole file of ours.
    pub whole: bool,
}

/// Reads what can be told of a file. Any bytes are taken; only a whole file of ours is `whole`.
#[must_use]
pub fn summarize(bytes: &[u8]) -> EnvSummary {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return EnvSummary { generation: None, whole: false };
    };
    let generation = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .find_map(|line| line.strip_prefix("# generation "))
        .and_then(|number| number.parse().ok());
    EnvSummary { generation, whole: generation.is_some() && is_whole(text) }
}

fn is_whole(text: &str) -> bool {
    let Some(body) = text.strip_suffix('\n') else { return false };
    let Some(start) = body.rfind('\n').map(|newline| newline + 1) else { return false };
    let variables = text[..start].lines().filter(|line| !line.starts_with('#')).count();
    let end = format!("# end {variables} variables sha256 {}", Digest::of(&text[..start]));
    text.starts_with(HEADER) && body[start..] == end
}

/// The number of the first line, from 1, that could be read as anything but a comment or one
/// variable of ours; none if there is no such line.
#[must_use]
pub fn first_unfit_line(text: &str) -> Option<usize> {
    let is_fit = |line: &str| {
        let Some(line) = line.strip_suffix('\n') else { return false };
        let is_comment = line.starts_with('#') && line.bytes().all(|c| (b' '..=b'~').contains(&c));
        is_comment
            || line.split_once('=').is_some_and(|(name, value)| {
                name.parse::<EnvName>().is_ok() && EnvValue::parse(value).is_ok()
            })
    };
    text.split_inclusive('\n').position(|line| !is_fit(line)).map(|place| place + 1)
}
