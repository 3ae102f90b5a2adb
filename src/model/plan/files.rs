//! What an install changes in a home, without a secret: lines of `.service_env` with fingerprints
//! in place of keys, and skills.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use similar::{Change, ChangeTag, TextDiff};

use super::super::action::{Content, Install, Slot};
use super::super::actual::Piece;
use super::super::digest::Digest;
use super::super::name::{OpId, ServiceId, SkillFile, UserId};
use super::super::registry::{Rendition, STATUS_MARK};
use super::View;

/// So many lines around a change are shown.
const CONTEXT: usize = 3;
/// Stands for what the service has yet to say.
const NEW: &str = "(new)";

/// The difference between two texts, line by line.
pub(super) struct Hunk {
    /// The lines that it is about (`@@ -1,4 +1,4 @@`).
    pub header: String,
    /// Each line with what happens to it.
    pub lines: Vec<(Side, String)>,
}

/// On which side of a difference a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
    Both,
}

/// What becomes of one skill.
pub(super) enum SkillChange {
    /// It comes; its number of lines.
    New(usize),
    /// It goes.
    Gone,
    /// Its text changes.
    Changed(Vec<Hunk>),
}

/// What an install changes.
pub(super) struct FilesChange {
    /// In `.service_env`, generation and digests left out.
    pub env: Vec<Hunk>,
    /// In `.claude_rules`.
    pub skills: BTreeMap<SkillFile, SkillChange>,
    /// Services whose old lines leave before their new key is there.
    pub gaps: Vec<ServiceId>,
}

/// The renditions that are known, by digest.
pub(super) struct Renditions<'a>(BTreeMap<Digest, &'a Rendition>);

impl<'a> Renditions<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let recorded = view.actual.renditions.iter().map(|(digest, known)| (*digest, known));
        let registry = view.registry.services().map(|s| (s.rendition.digest(), &s.rendition));
        Self(recorded.chain(registry).collect())
    }
}

/// What this install changes, as far as contents go.
pub(super) fn change(view: &View<'_>, known: &Renditions<'_>, install: &Install) -> FilesChange {
    let mut before = Files::default();
    let mut after = Files::default();
    for (service, slot) in &install.slots {
        let name = |op: &OpId| key_name(view, &install.user, service, op);
        if let Some(piece) = &slot.before {
            before.add(known, &Filling::of(piece, &name));
        }
        if let Some(content) = &slot.after {
            after.add(known, &Filling::after(content, &name));
        }
    }
    let mut skills = BTreeMap::new();
    let files: BTreeSet<&SkillFile> = before.skills.keys().chain(after.skills.keys()).collect();
    for file in files {
        let change = skill_change(before.skills.get(file), after.skills.get(file));
        skills.extend(change.map(|change| (file.clone(), change)));
    }
    let gaps = install.slots.iter().filter(|(_, slot)| has_gap(slot));
    FilesChange {
        env: hunks(&before.env, &after.env),
        skills,
        gaps: gaps.map(|(service, _)| service.clone()).collect(),
    }
}

/// Whether the old lines leave before the new ones come.
fn has_gap(slot: &Slot) -> bool {
    let had_lines = slot.before.as_ref().is_some_and(|piece| piece.op.is_some());
    had_lines && matches!(&slot.after, Some(new @ Content::New { .. }) if !new.keeps_lines())
}

/// What is shown in place of a key: its fingerprint, or before there is one, our name for it.
pub(super) fn key_name(view: &View<'_>, user: &UserId, service: &ServiceId, op: &OpId) -> String {
    let tokens = view.actual.tokens_of(user, service);
    let grant = tokens.iter().find(|token| token.op == *op).and_then(|token| token.grant.as_ref());
    match grant {
        Some(grant) => format!("key {}", grant.fingerprint),
        None => format!("ask {}", op.short()),
    }
}

/// A rendition with what differs from one connection to the next.
struct Filling {
    rendition: Digest,
    /// What is shown in place of the key; none: only the skill is there.
    key: Option<String>,
    status: String,
}

impl Filling {
    fn of(piece: &Piece, name: &dyn Fn(&OpId) -> String) -> Self {
        Self {
            rendition: piece.rendition,
            key: piece.op.as_ref().map(|op| format!("({})", name(op))),
            status: piece.status.to_string(),
        }
    }

    fn after(content: &Content, name: &dyn Fn(&OpId) -> String) -> Self {
        match content {
            Content::Keep(piece) | Content::Of(piece) => Self::of(piece, name),
            Content::New { rendition, .. } => Self {
                rendition: *rendition,
                key: Some(NEW.to_owned()),
                status: format!("active until {NEW}"),
            },
        }
    }
}

/// The files of one home.
#[derive(Default)]
struct Files {
    env: String,
    skills: BTreeMap<SkillFile, String>,
}

impl Files {
    fn add(&mut self, known: &Renditions<'_>, filling: &Filling) {
        let Some(rendition) = known.0.get(&filling.rendition) else { return };
        if let Some(key) = &filling.key {
            for (name, template) in &rendition.env {
                let _ = writeln!(self.env, "{name}={}", template.with(key)); // a String takes all
            }
        }
        let text = rendition.skill_text.replace(STATUS_MARK, &filling.status);
        self.skills.insert(rendition.skill.clone(), text);
    }
}

fn skill_change(before: Option<&String>, after: Option<&String>) -> Option<SkillChange> {
    match (before, after) {
        (None, Some(after)) => Some(SkillChange::New(after.lines().count())),
        (Some(_), None) => Some(SkillChange::Gone),
        (Some(before), Some(after)) if before != after => {
            Some(SkillChange::Changed(hunks(before, after)))
        }
        _ => None,
    }
}

fn hunks(before: &str, after: &str) -> Vec<Hunk> {
    let diff = TextDiff::from_lines(before, after);
    let mut hunks = Vec::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        let line = |change: Change<&str>| {
            let side = match change.tag() {
                ChangeTag::Delete => Side::Before,
                ChangeTag::Insert => Side::After,
                ChangeTag::Equal => Side::Both,
            };
            (side, change.value().trim_end_matches('\n').to_owned())
        };
        let lines = hunk.iter_changes().map(line).collect();
        hunks.push(Hunk { header: hunk.header().to_string(), lines });
    }
    hunks
}
