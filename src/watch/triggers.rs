//! What wakes the loop from outside, and of whom it speaks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::Span;

use super::files::Files;
use crate::model::name::UserId;
use crate::model::plan::Scope;
use crate::model::user_blocks::{self, Layout};
use crate::observe::Places;

/// So many users are looked at one by one; of more, it is quicker to look at everything.
const MANY: usize = 1000;

/// A pass that one change wanted may read the file in the middle of changes that come so soon
/// after, and are seen as one.
const JUST_BEFORE: Duration = Duration::from_millis(500);

/// Why everything is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The loop began.
    Start,
    /// A file changed, and it may be about anybody.
    Files,
    /// Somebody asked.
    Asked,
    /// Something is due that is not one user's.
    Due,
    /// It is time for it.
    Look,
    /// The last one failed.
    Retry,
    /// The last one was ended.
    Ended,
    /// A sweep found something to act upon.
    Sweep,
    /// The guard holds something of single users.
    Held,
}

/// What is to be looked at.
#[derive(Default)]
pub(super) struct Wanted {
    /// Everything, and why.
    pub(super) all: Option<Why>,
    /// These users.
    pub(super) users: BTreeSet<UserId>,
}

impl Wanted {
    pub(super) fn all(why: Why) -> Self {
        Self { all: Some(why), users: BTreeSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_none() && self.users.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.all = self.all.or(other.all);
        self.users.extend(other.users);
    }

    /// What a pass is about, and the span that it is logged in.
    pub(super) fn begin(self) -> (Span, Scope) {
        let why = match self.all {
            None if self.users.len() <= MANY => None,
            why => Some(why.unwrap_or(Why::Files)),
        };
        let span = if let Some(why) = why {
            tracing::info_span!("pass", ?why)
        } else {
            tracing::info_span!("pass", users = self.users.len())
        };
        span.in_scope(|| tracing::info!("a pass begins"));
        (span, why.map_or_else(|| Scope::of_users(self.users), |_| Scope::default()))
    }
}

/// Files and whoever asks.
pub(super) struct Triggers {
    files: Files,
    desired: PathBuf,
    said: Option<Said>,
    /// Whose lines changed last, and when that was seen.
    last: (Instant, BTreeSet<UserId>),
    asked: watch::Receiver<u64>,
    send: mpsc::UnboundedSender<Wanted>,
}

impl Triggers {
    /// What changes from now on is sent.
    pub(super) fn new(
        places: &Places,
        asked: watch::Receiver<u64>,
        send: mpsc::UnboundedSender<Wanted>,
    ) -> Self {
        let files = Files::watch(watched(places));
        let desired = places.desired.clone();
        let said = Said::read(&desired);
        let last = (Instant::now(), BTreeSet::new());
        Self { files, desired, said, last, asked, send }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wanted = tokio::select! {
                changed = self.files.changed() => self.of_files(&changed),
                asked = self.asked.changed() => match asked {
                    Ok(()) => Wanted::all(Why::Asked),
                    Err(_) => return,
                },
            };
            if !wanted.is_empty() && self.send.send(wanted).is_err() {
                return;
            }
        }
    }

    fn of_files(&mut self, changed: &BTreeSet<PathBuf>) -> Wanted {
        let said = Said::read(&self.desired);
        let users = match (&self.said, &said) {
            (Some(former), Some(said)) => said.changed_since(former),
            _ => None,
        };
        self.said = said;
        let users = users.filter(|_| changed.iter().all(|path| *path == self.desired));
        // What is as it was has been something else in between, and a pass may have acted on that.
        let Some(users) = users.filter(|users| !users.is_empty()) else {
            return Wanted::all(Why::Files);
        };
        let (at, last) = std::mem::replace(&mut self.last, (Instant::now(), users.clone()));
        // So may one of those whose lines changed just before.
        let just_before = if at.elapsed() < JUST_BEFORE { last } else { BTreeSet::new() };
        Wanted { all: None, users: &users | &just_before }
    }
}

/// What `desired.yaml` said, by user: fingerprints.
struct Said {
    users: BTreeMap<UserId, u64>,
    /// Of the lines that are no user's.
    rest: u64,
}

/// Random, so that nobody makes two texts with one fingerprint.
static FINGERPRINTS: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);

impl Said {
    /// None where the text does not tell at a glance.
    fn read(path: &PathBuf) -> Option<Self> {
        Self::of(&fs::read_to_string(path).ok()?)
    }

    fn of(text: &str) -> Option<Self> {
        let Layout::Blocks { users: blocks, .. } = user_blocks::scan(text)? else { return None };
        let mut users = BTreeMap::new();
        let (mut rest, mut end) = (String::new(), 0);
        for block in blocks {
            rest.push_str(&text[end..block.range.start]);
            end = block.range.end;
            let lines = FINGERPRINTS.hash_one(&text[block.range]);
            if users.insert(block.user.parse().ok()?, lines).is_some() {
                return None;
            }
        }
        rest.push_str(&text[end..]);
        Some(Self { users, rest: FINGERPRINTS.hash_one(rest) })
    }

    /// Whose lines came, went or changed; none: it may be anybody's.
    fn changed_since(&self, former: &Self) -> Option<BTreeSet<UserId>> {
        if self.rest != former.rest {
            return None;
        }
        let differs =
            |one: &Self, other: &Self, user: &UserId| one.users.get(user) != other.users.get(user);
        let here = self.users.keys().filter(|user| differs(self, former, user));
        let gone = former.users.keys().filter(|user| !self.users.contains_key(*user));
        Some(here.chain(gone).cloned().collect())
    }
}

/// What a pass reads: two files, and all files of two directories.
fn watched(places: &Places) -> Vec<PathBuf> {
    let Places { desired, people, registry, skills, .. } = places.clone();
    vec![desired, people, registry, skills]
}
