//! The strict reader of YAML files, and what can be told of a place where one is wrong.
//!
//! Of YAML only maps, lists, texts, numbers and booleans are taken: no anchors, aliases, merge
//! keys or tags, one document, no key twice.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_saphyr::{Budget, Error, Options, Spanned, budget::BudgetBreach};

use super::yaml_path;
pub use super::yaml_path::Place;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
const MAX_DEPTH: usize = 32;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The keys that lead there (`users.john.connections.crm`); empty at the top.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
    /// Where it stands, in bytes of the whole text.
    pub range: Range<usize>,
    /// The text of the line, without its end.
    pub source_line: String,
}

impl std::error::Error for YamlError {}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl YamlError {
    /// An error found at a place of this text, after it was read or while it is.
    #[must_use]
    pub fn at(text: &str, place: Place, message: impl Into<String>) -> Self {
        let key = yaml_path::key_at(text, place);
        let (source_line, range) = line_and_range(text, place);
        Self {
            line: place.line,
            column: place.column,
            key,
            message: message.into(),
            range,
            source_line,
        }
    }

    /// The same error in a text that has this many bytes and lines more in front.
    #[must_use]
    pub fn moved(mut self, lines: u32, bytes: usize) -> Self {
        self.line += lines;
        self.range = self.range.start + bytes..self.range.end + bytes;
        self
    }
}

/// The line's text, and the byte range from the place to the end of the word there.
fn line_and_range(text: &str, place: Place) -> (String, Range<usize>) {
    let mut start = 0;
    for line in text.split_inclusive('\n').take(place.line as usize - 1) {
        start += line.len();
    }
    let line = text[start..].split(['\n', '\r']).next().unwrap_or("");
    let column = place.column as usize - 1;
    let from = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let word = line[from..].find([' ', ',', '}', ']']).filter(|len| *len > 0);
    let end = word.unwrap_or(line.len() - from) + from;
    (line.to_owned(), start + from..start + end)
}

/// The text of a file, which must be UTF-8.
///
/// # Errors
/// Names the first byte that is not.
pub fn utf8(bytes: &[u8]) -> Result<&str, YamlError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = good.matches('\n').count() + 1;
        let last = good.rsplit('\n').next().unwrap_or("");
        let place = Place::counted(line, last.chars().count() + 1);
        let start = error.valid_up_to();
        YamlError {
            line: place.line,
            column: place.column,
            key: String::new(),
            message: "these bytes are not UTF-8: save the file as UTF-8".to_owned(),
            range: start..start + error.error_len().unwrap_or(1),
            source_line: last.to_owned(),
        }
    })
}

/// Reads a text strictly.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    refuse_bytes(text)?;
    // The reader lets `!!str` and its like through; only a text with a `!` can hold one.
    if text.contains('!')
        && let Some(place) = yaml_path::first_tag(text)
    {
        return Err(YamlError::at(text, place, "tags (`!…`) are not allowed"));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| explain(text, &error))
}

fn refuse_bytes(text: &str) -> Result<(), YamlError> {
    if text.len() > MAX_BYTES {
        let message = format!("{} bytes; at most {MAX_BYTES} (64 MiB) are read", text.len());
        // Not `at`: the text is not walked when it is too large to read.
        let (source_line, range) = (String::new(), 0..0);
        return Err(YamlError {
            line: 1,
            column: 1,
            key: String::new(),
            message,
            range,
            source_line,
        });
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        let column = text[..at].rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let place = Place::counted(line, column);
        return Err(YamlError::at(text, place, "a NUL byte; the file is damaged or not a text"));
    }
    Ok(())
}

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_anchors = 0;
    budget.max_aliases = 0;
    budget.max_merge_keys = 0;
    budget.max_documents = 1;
    budget.max_depth = MAX_DEPTH;
    // The size is bounded already; these have room for whatever fits into it.
    budget.max_nodes = MAX_BYTES;
    budget.max_events = 2 * MAX_BYTES;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.with_snippet = false;
    options
}

fn explain(text: &str, error: &Error) -> YamlError {
    let error = error.without_snippet();
    let place = error.location().map_or(Place::START, Place::from);
    let mut found = YamlError::at(text, place, message(text, place, error));
    if matches!(error, Error::SerdeMissingField { .. }) {
        found.key = yaml_path::container_at(text, place);
    }
    found
}

fn message(text: &str, place: Place, error: &Error) -> String {
    match error {
        Error::Eof { .. } => "nothing stands here: the file is empty or ends too early".to_owned(),
        Error::Budget { breach, .. } => over_budget(breach),
        Error::MultipleDocuments { .. } => SECOND_DOCUMENT.to_owned(),
        Error::UnknownAnchor { .. } => "aliases (`*name`) are not allowed".to_owned(),
        Error::UnsupportedTag { .. } => "tags (`!…`) are not allowed".to_owned(),
        Error::Unexpected { expected, .. } => unexpected(text, place, expected),
        Error::InvalidBooleanStrict { .. } => "`true` or `false` belongs here".to_owned(),
        Error::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => {
            "a whole number belongs here".to_owned()
        }
        Error::NullIntoString { .. } => {
            "nothing (null) stands here; a text belongs here".to_owned()
        }
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("`{}` is not known here; known are: {}", shown(field), expected.join(", "))
        }
        Error::DuplicateMappingKey { key, .. } => duplicate(text, place, key.as_deref()),
        other => reworded(other),
    }
}

const SECOND_DOCUMENT: &str = "a second document begins here; one file holds one";

fn over_budget(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Anchors { .. } => "anchors (`&name`) are not allowed".to_owned(),
        BudgetBreach::Aliases { .. } => "aliases (`*name`) are not allowed".to_owned(),
        BudgetBreach::MergeKeys { .. } => "merge keys (`<<`) are not allowed".to_owned(),
        BudgetBreach::Documents { .. } => SECOND_DOCUMENT.to_owned(),
        BudgetBreach::Depth { .. } => too_deep(),
        other => format!("the file is too large: {other:?}"),
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

fn unexpected(text: &str, place: Place, expected: &str) -> String {
    let (what, empty) = match expected {
        "mapping start" => ("a map", " (`{}` is an empty one)"),
        "sequence start" => ("a list", " (`[]` is an empty one)"),
        "string scalar" | "scalar" => ("a text or a number", ""),
        other => return format!("{other} belongs here"),
    };
    if yaml_path::is_null_at(text, place) {
        format!("nothing (null) stands here; {what} belongs here{empty}")
    } else {
        format!("{what} belongs here{empty}")
    }
}

fn duplicate(text: &str, place: Place, key: Option<&str>) -> String {
    let key = shown(key.unwrap_or("this key"));
    match yaml_path::first_line_of_key(text, place) {
        Some(line) => format!("`{key}` stands here a second time; the first is on line {line}"),
        None => format!("`{key}` stands here a second time"),
    }
}

/// The reader's own words, without the place that it adds to them.
fn reworded(error: &Error) -> String {
    let text = error.to_string();
    if text.contains("tabs disallowed") {
        return "a tab stands in the indentation; only spaces may".to_owned();
    }
    // The parser's own limit, which it meets before the budget sees what is inside.
    if text.contains("recursion limit exceeded") {
        return too_deep();
    }
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    text[..cut].to_owned()
}

/// Someone else's text, escaped and not endless.
#[must_use]
pub fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// A map as it is written: in order, each key with its place.
#[derive(Debug)]
pub struct Entries<K, V>(pub Vec<(Spanned<K>, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for InOrder<K, V> {
            type Value = Entries<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// A list as it is written; unlike `Vec`, null is not an empty one.
///
/// # Errors
/// When an element is wrong.
pub fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct InOrder<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Err(E::custom("nothing (null) stands here; a list belongs here (`[]` is an empty one)"))
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(InOrder(PhantomData))
}

/// `version: 1`, the only one known.
#[derive(Debug)]
pub struct Version1;

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            other => Err(de::Error::custom(format!(
                "version {other} is not known; this program reads version 1"
            ))),
        }
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounded<const MIN: u16, const MAX: u16>(pub u16);

impl<'de, const MIN: u16, const MAX: u16> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u16::try_from(number).ok().filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or_else(|| {
            de::Error::custom(format!("{number} is out of range; {MIN} to {MAX} are allowed"))
        })
    }
}

/// A field that may be left out, but not be null: `Option` alone would take `field: ~` for left
/// out, which is most likely a mistake.
///
/// # Errors
/// When the value is wrong.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
