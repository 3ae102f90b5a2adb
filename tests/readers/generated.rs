//! Values that the writer takes, and files of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use service_connector::model::digest::Digest;
use service_connector::model::env_file::EnvFile;
use service_connector::model::name::{EnvName, EnvValue};

/// What every name begins with.
pub const PREFIX: &str = "RD_";

/// So many values are of random characters, beside those of the other kinds.
const RANDOM: usize = 2000;
const LONGEST: usize = 4096;

/// Words that some format takes for something else than a text.
const WORDS: &[&str] = &[
    "null",
    "Null",
    "NULL",
    "nil",
    "None",
    "undefined",
    "true",
    "false",
    "True",
    "FALSE",
    "yes",
    "no",
    "on",
    "off",
    "NaN",
    "Infinity",
    "-Infinity",
    ".inf",
    ".nan",
    "0",
    "00",
    "007",
    "-0",
    "+1",
    "1.0",
    "1.",
    ".5",
    "1e5",
    "1E-5",
    "0x10",
    "0b1",
    "0o7",
    "1_000",
    "12:30:00",
    "2026-12-24",
    "export",
    "set",
    "-",
    "--",
    "-n",
    "-e",
    "--help",
    "%",
    "%s",
    "%d%s",
    "%%",
    "%n",
    "%h/%u",
    "%7B",
    "@",
    "@a",
    "@@",
    ":",
    "::",
    ":-a",
    ":+a",
    ",",
    ",,",
    "..",
    "/",
    "//",
    "./a",
    "/etc/passwd",
    "a/../b",
    "C:/a",
    "a,b",
    "a:b",
    "a@b.c",
    "https://a.b:80/c%20d",
    "+a",
    "_",
    "__",
    "a+",
    "a=",
    "a==",
    "-=",
    "%==",
    "/==",
    "YWJj",
    "YWI=",
    "YQ==",
    "pk_live_abc-123",
];

/// Every character alone, every pair of them, words, and random texts up to the longest; with and
/// without `=` at the end. What the writer does not take is left out.
pub fn values(random: &mut fastrand::Rng) -> Vec<String> {
    let alphabet = alphabet();
    let mut found: Vec<String> = WORDS.iter().map(|&word| word.to_owned()).collect();
    for &first in &alphabet {
        found.extend(TAILS.iter().map(|tail| format!("{first}{tail}")));
        found.extend(alphabet.iter().map(|second| format!("{first}{second}")));
    }
    let longest: String = text(random, &alphabet, LONGEST);
    found.extend(TAILS.iter().map(|tail| format!("{longest}{tail}")));
    found.retain(|value| is_taken(value));
    let more = std::iter::repeat_with(|| one(random, &alphabet)).filter(|value| is_taken(value));
    found.extend(more.take(RANDOM));
    random.shuffle(&mut found);
    found
}

const TAILS: &[&str] = &["", "=", "=="];

fn is_taken(value: &str) -> bool {
    EnvValue::parse(value).is_ok()
}

/// The characters that the writer takes in the middle of a value.
fn alphabet() -> Vec<char> {
    let all = '\u{1}'..='\u{ff}';
    all.filter(|c| is_taken(&format!("a{c}a"))).collect()
}

fn one(random: &mut fastrand::Rng, alphabet: &[char]) -> String {
    let most = match random.u8(..10) {
        0 => LONGEST,
        1..=3 => 300,
        _ => 48,
    };
    let length = random.usize(1..=most);
    let tail = TAILS[random.usize(..TAILS.len())];
    text(random, alphabet, length) + tail
}

/// Half of such texts are made of a few characters only, so that these meet each other often.
fn text(random: &mut fastrand::Rng, alphabet: &[char], length: usize) -> String {
    let few: Vec<char> = (0..4).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
    let from = if random.bool() { alphabet } else { &few };
    (0..length).map(|_| from[random.usize(..from.len())]).collect()
}

/// A file as the program writes it, and what is in it.
pub struct Sample {
    pub path: PathBuf,
    pub variables: BTreeMap<String, String>,
}

impl Sample {
    /// Writes a file of these values under names of all lengths.
    pub fn write(directory: &Path, number: usize, values: &[String]) -> Self {
        let variables: Vec<(EnvName, EnvValue)> = values
            .iter()
            .enumerate()
            .map(|(at, value)| (name(at), EnvValue::parse(value).unwrap()))
            .collect();
        let written = variables
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.expose().to_owned()))
            .collect();
        let skills = vec![("sc_crm.md".parse().unwrap(), Digest::of("a skill"))];
        let file = EnvFile { generation: number as u64 + 1, skills, variables };
        let path = directory.join(format!("{number}.env"));
        fs::write(&path, file.render().as_bytes()).unwrap();
        Self { path, variables: written }
    }
}

fn name(at: usize) -> EnvName {
    let stem = format!("{PREFIX}{at}_");
    let rest = "LONG_NAME_".chars().cycle().take(at % (65 - stem.len()));
    let name: String = stem.chars().chain(rest).collect();
    name.parse().unwrap()
}
