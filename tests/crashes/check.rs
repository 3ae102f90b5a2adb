//! What must hold at the instant of a crash, and what must hold once two passes have run.

use std::collections::BTreeSet;
use std::fs;

use jiff::Timestamp;
use service_connector::model::desired::Desired;
use service_connector::model::digest::Digest;
use service_connector::model::env_file;
use service_connector::store::{Store, StoreError};

use crate::scene::Scene;
use crate::story::{RECONCILE, Story};

pub const JOHN: &str = "john@your-domain.com";
pub const PETR: &str = "petr.novak@your-domain.com";
const HOME: &str = "homes/john";
const PETRS_HOME: &str = "homes/petr_novak";

/// What was so before anything was killed.
pub struct Before {
    desired: String,
    /// The key in john's home.
    key: Option<String>,
    petrs_env: Option<Vec<u8>>,
}

/// What a run that nobody killed leaves.
pub struct Undisturbed {
    modes: BTreeSet<(String, u32)>,
    issued: usize,
}

type Complaints = Vec<String>;

impl Before {
    pub fn of(scene: &Scene) -> Self {
        Self {
            desired: fs::read_to_string(scene.file("desired/desired.yaml")).unwrap(),
            key: key_in(scene, HOME),
            petrs_env: fs::read(scene.file(PETRS_HOME).join(".service_env")).ok(),
        }
    }
}

impl Undisturbed {
    pub fn of(scene: &Scene) -> Self {
        Self { modes: shape(scene), issued: scene.issued(JOHN).len() }
    }
}

/// What is wrong at the instant of a crash.
pub fn after_crash(scene: &Scene, story: &Story, before: &Before) -> Complaints {
    let mut wrong = Complaints::new();
    for home in [HOME, PETRS_HOME] {
        if let Ok(bytes) = fs::read(scene.file(home).join(".service_env"))
            && !env_file::summarize(&bytes).whole
        {
            wrong.push(format!("the .service_env in {home} is torn"));
        }
    }
    if before.key.is_some() && key_in(scene, HOME).is_none() && !ends_without_lines(story) {
        wrong.push("john's home has no key any more".to_owned());
    }
    if let Some(key) = key_in(scene, HOME).filter(|_| story.never_without)
        && scene.status_of(&key) != 200
    {
        wrong.push("the key in john's home does not work".to_owned());
    }
    wrong.extend(desired_is_torn(scene, story, before));
    // A copy of the state, since even a reader may mend what a crash left in it.
    let copy = scene.copy_of_state();
    let state = copy.path().join("state");
    let (code, said) = scene.run(&["plan", "--state", state.to_str().unwrap()]);
    let waits = story.fault.is_some() && code == Some(4);
    if code != Some(0) && code != Some(2) && !waits {
        wrong.push(format!("plan ends with {code:?}: {said}"));
    }
    if let Ok(store) = Store::open_to_read(&state) {
        wrong.extend(store.faults().unwrap());
    }
    wrong.extend(too_open(scene));
    wrong.extend(unknown_tokens(scene));
    wrong
}

/// What is wrong when it was run again.
pub fn converge(
    scene: &Scene,
    story: &Story,
    before: &Before,
    undisturbed: Option<&Undisturbed>,
) -> Complaints {
    let mut wrong = Complaints::new();
    if story.is_edit() {
        let (code, said) = scene.run(story.killed);
        if code != Some(0) {
            wrong.push(format!("the edit cannot be made again ({code:?}): {said}"));
        }
    }
    if !story.then.is_empty() {
        scene.must(story.then);
    }
    wrong.extend(passes(scene, story));
    wrong.extend(keys(scene, story, before));
    wrong.extend(homes(scene, story, before));
    wrong.extend(unknown_tokens(scene));
    wrong.extend(too_open(scene));
    if let Some(Undisturbed { modes, issued }) = undisturbed {
        let (now, ever) = (shape(scene), scene.issued(JOHN).len());
        for (name, mode) in now.difference(modes) {
            wrong.push(format!(
                "{name} with mode {mode:o}, which an undisturbed run does not leave"
            ));
        }
        // Who changed their mind early enough has nothing.
        let missing = modes.difference(&now).filter(|_| story.then.is_empty());
        for (name, mode) in missing {
            wrong.push(format!("no {name} with mode {mode:o}, which an undisturbed run leaves"));
        }
        if ever > *issued || (ever < *issued && story.then.is_empty()) {
            wrong.push(format!("john was issued {ever} keys, and {issued} would have done"));
        }
    }
    wrong
}

/// At most two passes, then there is nothing to do.
fn passes(scene: &Scene, story: &Story) -> Complaints {
    let mut told = Complaints::new();
    // After a lost answer a connection waits a little before it is asked for again.
    let retry: &[&str] = if story.fault.is_some() { &["--retry-now"] } else { &[] };
    for _ in 0..2 {
        let pass = scene.run(&[RECONCILE, retry].concat());
        let plan = scene.run(&["plan"]);
        if (pass.0, plan.0) == (Some(0), Some(0)) {
            return Complaints::new();
        }
        told.push(format!(
            "a pass ended with {:?}: {}; then plan with {:?}: {}",
            pass.0, pass.1, plan.0, plan.1
        ));
    }
    told.insert(0, "two passes were not enough".to_owned());
    told
}

/// The service's own word: who has how many live tokens, and which keys work.
fn keys(scene: &Scene, story: &Story, before: &Before) -> Complaints {
    let mut wrong = Complaints::new();
    let now = Timestamp::now();
    for (email, expected) in [(JOHN, story.live), (PETR, 1)] {
        let live = scene.issued(email).iter().filter(|token| token.is_live(now)).count();
        if live != expected {
            wrong.push(format!("{live} keys of {email} are live instead of {expected}"));
        }
    }
    let key = key_in(scene, HOME);
    if key.is_some() != story.connects() {
        wrong.push(format!("whether john's home has a key: {}", key.is_some()));
    }
    let petrs = key_in(scene, PETRS_HOME);
    let works = |works| if works { 200 } else { 401 };
    let expected = [
        ("john's key", key.as_ref(), Some(200)),
        ("petr's key", petrs.as_ref(), Some(200)),
        ("john's old key", before.key.as_ref(), story.old_key_works.map(works)),
    ];
    for (whose, key, expected) in expected {
        if let Some((key, expected)) = key.zip(expected)
            && scene.status_of(key) != expected
        {
            wrong.push(format!("{whose} does not get {expected}"));
        }
    }
    if petrs.is_none() {
        wrong.push("petr has no key".to_owned());
    }
    if key.is_some() && key == before.key && story.old_key_works.is_some() {
        wrong.push("john's home still has the old key".to_owned());
    }
    wrong
}

/// The files in homes: whole, private, and the skills those of the manifest.
fn homes(scene: &Scene, story: &Story, before: &Before) -> Complaints {
    let mut wrong = Complaints::new();
    for (home, connected) in [(HOME, story.connects()), (PETRS_HOME, true)] {
        let env = scene.file(home).join(".service_env");
        if !connected && !story.then.is_empty() && !env.exists() {
            continue; // nothing ever came there
        }
        let bytes = fs::read(&env).unwrap_or_default();
        if !env_file::summarize(&bytes).whole {
            wrong.push(format!("the .service_env in {home} is not whole or not there"));
        }
        let named: BTreeSet<(String, String)> = String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| line.strip_prefix("# skill ")?.split_once(' '))
            .map(|(file, digest)| (file.to_owned(), digest.to_owned()))
            .collect();
        let rules = fs::read_dir(scene.file(home).join(".claude_rules")).into_iter().flatten();
        let there: BTreeSet<(String, String)> = rules
            .map(|file| file.unwrap().path())
            .map(|path| (file_name(&path), Digest::of(fs::read(&path).unwrap()).to_string()))
            .collect();
        if named != there || there.len() != usize::from(connected) {
            wrong.push(format!("the skills in {home} are {there:?}; .service_env says {named:?}"));
        }
    }
    if let Some(old) = &before.petrs_env
        && fs::read(scene.file(PETRS_HOME).join(".service_env")).ok().as_ref() != Some(old)
    {
        wrong.push("petr's .service_env is another one".to_owned());
    }
    wrong
}

/// Live tokens that the state neither holds nor owes.
fn unknown_tokens(scene: &Scene) -> Complaints {
    let now = Timestamp::now();
    let copy = scene.copy_of_state();
    let known: BTreeSet<String> = match Store::open_to_read(&copy.path().join("state")) {
        Ok(store) => store
            .load(now, None)
            .unwrap()
            .tokens
            .into_values()
            .flat_map(std::collections::BTreeMap::into_values)
            .flatten()
            .map(|token| token.op.to_string())
            .collect(),
        Err(StoreError::Missing(_)) => BTreeSet::new(),
        Err(error) => return vec![format!("the state cannot be read: {error:?}")],
    };
    let live = [JOHN, PETR].map(|email| scene.issued(email)).into_iter().flatten();
    live.filter(|token| token.is_live(now))
        .filter(|token| !token.client_ref.as_ref().is_some_and(|op| known.contains(op)))
        .map(|token| {
            format!("{} of {} is live, and nobody knows", token.token_id, token.user_email)
        })
        .collect()
}

/// `desired.yaml` is the old one or the new one.
fn desired_is_torn(scene: &Scene, story: &Story, before: &Before) -> Complaints {
    let text = fs::read_to_string(scene.file("desired/desired.yaml")).unwrap_or_default();
    let is_old = text == before.desired;
    let parsed = Desired::parse(&text).ok();
    let is_new = story.is_edit()
        && parsed.as_ref().is_some_and(|desired| {
            let john = desired.users.get("john").map_or(0, |john| john.connections.len());
            let rotates = text.contains("rotate_after");
            let petr = desired.users.get("petr").map_or(0, |petr| petr.connections.len());
            petr == 1
                && john == usize::from(story.connects())
                && (rotates || story.killed[0] != "rotate")
        });
    if parsed.is_some() && (is_old || is_new) {
        return Complaints::new();
    }
    vec![format!("desired.yaml is neither the old one nor the new one:\n{text}")]
}

/// Files with keys in them that others may read.
fn too_open(scene: &Scene) -> Complaints {
    let mut wrong = Complaints::new();
    for (name, mode) in scene.modes("homes").union(&scene.modes("state")) {
        let is_dir = scene.file(name).is_dir();
        let expected = match name.as_str() {
            _ if is_dir && name.starts_with("homes") => 0o700,
            _ if is_dir => continue,
            _ if name.starts_with("state/state.sqlite3") => 0o640,
            _ => 0o600,
        };
        // Where a mode is set after the file is made, it is too narrow for a moment.
        if mode & !expected != 0 {
            wrong.push(format!("{name} has mode {mode:o}"));
        }
    }
    wrong
}

/// Every name and its mode; where a name is a digest, that it is one.
fn shape(scene: &Scene) -> BTreeSet<(String, u32)> {
    let plain = |name: String| {
        let stem = name.strip_prefix("desired/history/").and_then(|name| name.get(..64));
        match stem.filter(|stem| stem.parse::<Digest>().is_ok()) {
            Some(stem) => name.replace(stem, "DIGEST"),
            None => name,
        }
    };
    scene.modes("").into_iter().map(|(name, mode)| (plain(name), mode)).collect()
}

/// Whether the home may have no lines for a while: before a leaked key's successor comes, and after
/// a disconnect.
fn ends_without_lines(story: &Story) -> bool {
    !story.never_without
}

fn key_in(scene: &Scene, home: &str) -> Option<String> {
    let text = fs::read_to_string(scene.file(home).join(".service_env")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PO_API_KEY=")).map(str::to_owned)
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
