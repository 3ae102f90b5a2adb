//! What we write into `.service_env` is read back, byte for byte, by every program that people
//! read such files with: shells, dotenv libraries, systemd and docker. Whatever value the writer
//! takes may be generated here, so that a wider alphabet is tried as soon as it is allowed.

mod docker;
mod generated;
#[path = "../support/node.rs"]
mod node;
#[path = "../support/python.rs"]
mod python;
mod reader;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use generated::Sample;
use reader::READERS;

/// The values of one reader, at least.
const ENOUGH: usize = 2000;
/// What fits into the environment of one process, with room to spare.
const VARIABLES_A_FILE: usize = 900;

/// What a reader found: the variables that begin as ours do.
type Read = BTreeMap<String, String>;

#[test]
fn every_reader_finds_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let seed = fastrand::u64(..);
    let values = generated::values(&mut fastrand::Rng::with_seed(seed));
    let samples: Vec<Sample> = values
        .chunks(VARIABLES_A_FILE)
        .enumerate()
        .map(|(number, values)| Sample::write(directory.path(), number, values))
        .collect();
    let mut wrong = Vec::new();
    for reader in READERS {
        let read: Vec<Result<Read, String>> =
            samples.iter().map(|sample| (reader.read)(&sample.path)).collect();
        let differ: Vec<String> = samples
            .iter()
            .zip(&read)
            .flat_map(|(sample, read)| differences(sample, read))
            .collect();
        let same = values.len() - differ.len().min(values.len());
        say(&format!("{:<24} {same} of {} values alike", (reader.name)(), values.len()));
        wrong.extend(differ.iter().take(3).map(|what| format!("{}: {what}", (reader.name)())));
    }
    assert!(values.len() >= ENOUGH, "only {} values", values.len());
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_of_nobodys_connections_is_read_as_no_variables() {
    let directory = tempfile::tempdir().unwrap();
    let sample = Sample::write(directory.path(), 0, &[]);
    for reader in READERS {
        let read = (reader.read)(&sample.path).unwrap();
        assert!(read.is_empty(), "{}: {read:?}", (reader.name)());
    }
}

/// Each variable that was read otherwise than it was written, and each that nobody wrote.
fn differences(sample: &Sample, read: &Result<Read, String>) -> Vec<String> {
    let read = match read {
        Ok(read) => read,
        Err(why) => return sample.variables.keys().map(|_| why.clone()).collect(),
    };
    let changed = sample.variables.iter().filter(|(name, value)| read.get(*name) != Some(value));
    let changed = changed.map(|(name, value)| {
        let found = read.get(name).map_or_else(|| "nothing".to_owned(), |found| abridged(found));
        format!("{} is read as {found}", abridged(value))
    });
    let foreign = read.keys().filter(|name| !sample.variables.contains_key(*name));
    changed.chain(foreign.map(|name| format!("{name} was never written"))).collect()
}

fn abridged(value: &str) -> String {
    let length = value.chars().count();
    if length <= 80 {
        return format!("{value:?}");
    }
    let begin: String = value.chars().take(70).collect();
    format!("{begin:?}… of {length} characters")
}

/// Says it although the test passes, when cargo would keep it to itself.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}")); // nobody is there to hear it
}

/// The file's text.
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
