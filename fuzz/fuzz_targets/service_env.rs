//! `.service_env` as it is seen in a home: any bytes are taken, ours alone are whole, and what was
//! written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use service_connector::model::digest::Digest;
use service_connector::model::env_file::{EnvFile, HEADER, summarize};
use service_connector::model::name::{EnvName, EnvValue, SkillFile};

fuzz_target!(|bytes: &[u8]| {
    let seen = summarize(bytes);
    if seen.whole {
        assert!(bytes.starts_with(HEADER.as_bytes()) && seen.generation.is_some());
        for cut in 0..bytes.len() {
            assert!(!summarize(&bytes[..cut]).whole, "cut at {cut} it still passes for whole");
        }
    }
    let file = file(bytes);
    let text = file.render();
    let summary = summarize(text.as_bytes());
    assert!(summary.whole);
    assert_eq!(summary.generation, Some(file.generation));
    // As the simplest of readers takes it.
    let read: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let written = file.variables.iter().map(|(name, value)| (name.as_str(), value.expose()));
    assert!(read.into_iter().eq(written), "another value is read than was written");
    if let Some(at) = bytes.first() {
        // One byte changed anywhere is found.
        let mut changed = text.as_bytes().to_vec();
        let place = usize::from(*at) % changed.len();
        changed[place] ^= 1;
        assert!(!summarize(&changed).whole, "a changed byte at {place} is not seen");
    }
});

/// A file with the good names and values among the lines of the input.
fn file(bytes: &[u8]) -> EnvFile {
    let text = String::from_utf8_lossy(bytes);
    let mut file = EnvFile { generation: 0, skills: Vec::new(), variables: Vec::new() };
    for line in text.lines() {
        if let Some(generation) = line.strip_prefix("# generation ") {
            file.generation = generation.parse().unwrap_or(file.generation);
        } else if let Some((name, value)) = line.split_once('=') {
            let variable = name.parse::<EnvName>().ok().zip(EnvValue::parse(value).ok());
            file.variables.extend(variable);
        } else if let Some(Ok(skill)) = line.strip_prefix("# skill ").map(str::parse::<SkillFile>) {
            file.skills.push((skill, Digest::of(line)));
        }
    }
    file
}
