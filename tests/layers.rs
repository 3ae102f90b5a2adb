//! The order of the modules is the order of the layers.

use std::fs;
use std::path::{Path, PathBuf};

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)
}

/// The `mod` lines of a file, in order.
fn modules(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// The files of a module: `name.rs`, and everything below `name/`.
fn files_of(dir: &Path, module: &str) -> Vec<PathBuf> {
    let mut files = vec![dir.join(format!("{module}.rs"))];
    let mut dirs = vec![dir.join(module)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.retain(|file| file.exists());
    files
}

/// Every use of a later module by an earlier one.
fn upward_uses(dir: &Path, modules: &[String], prefixes: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, module) in modules.iter().enumerate() {
        for file in files_of(dir, module) {
            let text = fs::read_to_string(&file).unwrap();
            for later in &modules[place + 1..] {
                let uses = |prefix: &&str| {
                    let path = format!("{prefix}{later}");
                    text.match_indices(&path).any(|(at, _)| {
                        let after = text[at + path.len()..].chars().next().unwrap_or(' ');
                        !after.is_alphanumeric() && after != '_'
                    })
                };
                if prefixes.iter().any(uses) {
                    found.push(format!("{} uses {later}", file.display()));
                }
            }
        }
    }
    found
}

#[test]
fn a_module_uses_only_those_above_it() {
    let modules = modules(&source("lib.rs"));
    assert!(modules.len() > 10, "lib.rs names its modules: {modules:?}");
    assert_eq!(upward_uses(&source(""), &modules, &["crate::"]), Vec::<String>::new());
}

#[test]
fn a_file_of_the_model_uses_only_those_above_it() {
    let modules = modules(&source("model/mod.rs"));
    assert!(modules.len() > 10, "model/mod.rs names its modules: {modules:?}");
    let prefixes = ["crate::model::", "super::super::", "use super::"];
    assert_eq!(upward_uses(&source("model"), &modules, &prefixes), Vec::<String>::new());
}

#[test]
fn the_model_uses_no_edge() {
    let edges = modules(&source("lib.rs"));
    let edges = edges.iter().filter(|module| *module != "model");
    for file in files_of(&source(""), "model") {
        let text = fs::read_to_string(&file).unwrap();
        for edge in edges.clone() {
            assert!(!text.contains(&format!("crate::{edge}::")), "{} {edge}", file.display());
        }
    }
}

#[test]
fn what_is_unsafe_is_in_one_file() {
    let unsafe_files: Vec<PathBuf> = modules(&source("lib.rs"))
        .iter()
        .flat_map(|module| files_of(&source(""), module))
        .filter(|file| fs::read_to_string(file).unwrap().contains("unsafe {"))
        .collect();
    assert_eq!(unsafe_files, [source("helper/fork.rs")]);
}
