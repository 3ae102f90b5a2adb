//! Hostile files: `desired/`, `people/` and `registry/` beside this file, and those that are made
//! at run time. What is said of each of the first stands in `desired.txt` and so on (`UPDATE=1`
//! writes them anew).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use service_connector::example_service::Kind;

use crate::LIMITS;
use crate::files_made::{self, Made};
use crate::scene::{KINDS, Ran, Scene};

/// One kind of file, and what a wrong one of it means.
struct Target {
    /// The directory of the cases.
    kind: &'static str,
    /// Which file of the scene is replaced.
    file: &'static str,
    /// The exit code of a pass: an entry of the registry blocks its own connections alone.
    pass: i32,
}

const DESIRED: Target = Target { kind: "desired", file: "desired.yaml", pass: 1 };
const PEOPLE: Target = Target { kind: "people", file: "people.yaml", pass: 1 };
const REGISTRY: Target = Target { kind: "registry", file: "registry/crm.yaml", pass: 4 };

/// All that a pass could change.
#[derive(PartialEq)]
struct World {
    homes: BTreeMap<PathBuf, (Vec<u8>, u32, SystemTime)>,
    state: String,
    calls: Vec<(u64, u64)>,
}

fn world(scene: &Scene) -> World {
    let mut homes = scene.files();
    homes.retain(|path, _| path.starts_with(scene.path("homes")));
    assert!(homes.len() > 2, "there is something that could be lost");
    World {
        homes,
        state: scene.dump(),
        calls: KINDS.iter().map(|kind| scene.calls(*kind)).collect(),
    }
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

/// Every file of the kind with its bytes, by name.
fn on_disk(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(cases().join(kind)).unwrap();
    let case = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    };
    files.map(|file| case(file.unwrap().path())).collect()
}

fn converged() -> Scene {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.connect("john", Kind::Invoicing);
    scene.pass(0);
    scene.pass(0).says("Nothing to do");
    scene.limit(LIMITS);
    scene
}

/// Puts the bytes in the file's place, and says what is said of them. Nothing may come of it.
fn suffer(scene: &Scene, target: &Target, name: &str, bytes: &[u8], before: &World) -> String {
    let path = scene.path(target.file);
    fs::write(&path, bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();

    let validated = run(scene, name, &["validate"], 1);
    let said = said(scene, &validated.stderr);
    assert!(said.contains(target.file), "{name}: the file is not named: {said}");
    for args in [["plan"], ["reconcile"]] {
        let ran = run(scene, name, &args, target.pass);
        if target.pass == 1 {
            let first = validated.stderr.lines().next().unwrap();
            assert!(ran.stderr.contains(first), "{name}: {args:?} says another thing: {ran:?}");
        } else {
            ran.says("john").says("its registry entry is not usable");
        }
    }
    assert!(world(scene) == *before, "{name}: something was changed");
    said
}

fn run(scene: &Scene, name: &str, args: &[&str], code: i32) -> Ran {
    let ran = scene.run(args);
    assert_eq!(ran.code, code, "{name}: {args:?}:\n{}", ran.text());
    for text in [&ran.stdout, &ran.stderr] {
        assert!(!text.contains("panicked"), "{name}: {text}");
        assert!(text.len() < 8192, "{name}: {args:?} says {} bytes", text.len());
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(odd), "{name}: a control character: {text:?}");
    }
    ran
}

/// The error in one line: its place, what is wrong. The source line is left out.
fn said(scene: &Scene, stderr: &str) -> String {
    let root = format!("{}/", scene.root().display());
    let stderr = stderr.replace(&root, "");
    let mut lines = stderr.lines();
    let what = lines.next().unwrap_or_default();
    match lines.next().and_then(|line| line.trim().strip_prefix("--> ")) {
        Some(place) => format!("{place} {what}"),
        None => what.to_owned(),
    }
}

/// The same file as before: all is well again.
fn heals(scene: &Scene, target: &Target, good: &[u8], before: &World) {
    fs::write(scene.path(target.file), good).unwrap();
    let ran = scene.run(&["plan"]).expect(0);
    ran.says("Nothing to do");
    assert!(world(scene) == *before);
}

fn every_file_of(target: &Target, made: &[Made]) {
    let scene = converged();
    let good = fs::read(scene.path(target.file)).unwrap();
    let before = world(&scene);
    let mut found = String::new();
    for (name, bytes) in on_disk(target.kind) {
        let said = suffer(&scene, target, &name, &bytes, &before);
        writeln!(found, "{name}: {said}").unwrap();
    }
    let mut unlike = Vec::new();
    for Made { name, bytes, says } in made {
        let said = suffer(&scene, target, name, &bytes(&good), &before);
        if !said.contains(says) {
            unlike.push(format!("{name}: {says:?} is not in {said}"));
        }
    }
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
    heals(&scene, target, &good, &before);
    compare(target.kind, &found);
}

fn compare(kind: &str, found: &str) {
    let path = cases().join(format!("{kind}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "UPDATE=1 writes {} anew", path.display());
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn no_hostile_desired_state_changes_anything_and_each_is_told_with_its_place() {
    every_file_of(&DESIRED, &files_made::desired());
}

#[test]
fn no_hostile_people_file_changes_anything_and_each_is_told_with_its_place() {
    every_file_of(&PEOPLE, &files_made::people());
}

#[test]
fn no_hostile_registry_entry_changes_anything_and_each_is_told_with_its_place() {
    every_file_of(&REGISTRY, &files_made::registry());
}

#[test]
fn there_are_as_many_hostile_files_as_are_said_and_no_two_are_the_same() {
    let mut all = Vec::new();
    for target in [DESIRED, PEOPLE, REGISTRY] {
        all.extend(on_disk(target.kind).into_values());
    }
    let listed = all.len();
    all.sort();
    all.dedup();
    // The empty file is one of each kind.
    assert!(all.len() + 1 >= listed, "{} of {listed} differ", all.len());
    assert!(all.len() >= 180, "only {}", all.len());
}
