//! What a user's homes need.

use std::collections::{BTreeMap, BTreeSet};

use super::super::action::{Content, Install, InstallReason, Slot};
use super::super::actual::{Installed, Piece};
use super::super::home::{HomeFacts, HomeLook};
use super::super::name::{AccountName, ServiceId, UserId};
use super::connection::not_looked;
use super::{Note, NoteKind, Subject, World};

/// A generation that is seen so far ahead of the recorded one is somebody's joke.
const MAX_LEAP: u64 = 1_000_000;

/// The homes that hold, or will hold, files of one user's: the present account's, and those of
/// accounts that the user had before.
pub(super) struct Homes<'a> {
    user: &'a UserId,
    present: Option<AccountName>,
    records: Option<&'a BTreeMap<AccountName, Installed>>,
    contents: BTreeMap<&'a ServiceId, Option<Content>>,
    /// Services that stay as they are in every home.
    kept: BTreeSet<&'a ServiceId>,
    /// Services that stay as they are in former homes.
    frozen: BTreeSet<&'a ServiceId>,
}

impl<'a> Homes<'a> {
    pub(super) fn of(world: &World<'a>, subject: &Subject<'a>) -> Self {
        Self {
            user: subject.id,
            present: subject.account().cloned(),
            records: world.actual.installed.get(subject.id),
            contents: BTreeMap::new(),
            kept: BTreeSet::new(),
            frozen: BTreeSet::new(),
        }
    }

    fn record(&self, account: &AccountName) -> Option<&'a Installed> {
        self.records.and_then(|records| records.get(account))
    }

    /// What was last put for this service: into the present home, and into a former one.
    pub(super) fn before(&self, service: &ServiceId) -> (Option<&'a Piece>, Option<&'a Piece>) {
        let records = self.records.into_iter().flat_map(BTreeMap::iter);
        let (mut present, mut former) = (None, None);
        for (account, record) in records {
            let piece = record.pieces.get(service);
            if Some(account) == self.present.as_ref() {
                present = piece;
            } else {
                former = former.or(piece);
            }
        }
        (present, former)
    }

    /// The service's part stays exactly as it is.
    pub(super) fn keep(&mut self, service: &'a ServiceId) {
        self.kept.insert(service);
    }

    /// What the present home gets of this service, and whether former homes keep theirs.
    pub(super) fn set(&mut self, service: &'a ServiceId, content: Option<Content>, frozen: bool) {
        self.contents.insert(service, content);
        if frozen {
            self.frozen.insert(service);
        }
    }

    /// The installs, former homes first: keys leave there before they come here.
    pub(super) fn finish(
        self,
        world: &World<'_>,
        subject: &Subject<'_>,
    ) -> (Vec<Install>, Vec<Note>) {
        let mut installs = Vec::new();
        let mut notes = Vec::new();
        let former = self.records.into_iter().flat_map(BTreeMap::iter);
        for (account, record) in
            former.filter(|(account, _)| Some(*account) != self.present.as_ref())
        {
            let look = world.actual.homes.get(account);
            installs.extend(self.former(account, record, look, &mut notes));
        }
        if let Some(account) = &self.present {
            installs.extend(self.present(account, subject.look, &mut notes));
        }
        (installs, notes)
    }

    fn former(
        &self,
        account: &AccountName,
        record: &Installed,
        look: Option<&HomeLook>,
        notes: &mut Vec<Note>,
    ) -> Option<Install> {
        if let Some(error) = not_looked(look) {
            // Whatever is put there takes something away.
            let text = format!("the files in the home of {account} are not removed yet: {error}");
            notes.push(self.note(NoteKind::Blocked, text));
            return None;
        }
        let stays = |service| self.kept.contains(service) || self.frozen.contains(service);
        let slots: BTreeMap<ServiceId, Slot> = record
            .pieces
            .iter()
            .map(|(service, piece)| {
                let after = stays(service).then(|| Content::Keep(piece.clone()));
                (service.clone(), Slot { before: Some(piece.clone()), after })
            })
            .collect();
        let why =
            if self.present.is_some() { InstallReason::Moved } else { InstallReason::Changed };
        self.install(account, Some(record), look, slots, Some(why), notes)
    }

    fn present(
        &self,
        account: &AccountName,
        look: Option<&HomeLook>,
        notes: &mut Vec<Note>,
    ) -> Option<Install> {
        let record = self.record(account);
        let piece =
            |service: &ServiceId| record.and_then(|record| record.pieces.get(service)).cloned();
        let kept = self.kept.iter().map(|service| (*service, piece(service).map(Content::Keep)));
        let decided = self.contents.iter().map(|(service, content)| (*service, content.clone()));
        let slots: BTreeMap<ServiceId, Slot> = kept
            .chain(decided)
            .map(|(service, after)| (service.clone(), Slot { before: piece(service), after }))
            .filter(|(_, slot)| slot.before.is_some() || slot.after.is_some())
            .collect();
        self.install(account, record, look, slots, None, notes)
    }

    /// The install, if this home needs one and can have one.
    fn install(
        &self,
        account: &AccountName,
        record: Option<&Installed>,
        look: Option<&HomeLook>,
        slots: BTreeMap<ServiceId, Slot>,
        cause: Option<InstallReason>,
        notes: &mut Vec<Note>,
    ) -> Option<Install> {
        if record.is_none() && slots.is_empty() {
            return None;
        }
        let facts = match look {
            // Should the home come back, its record brings it up again.
            Some(HomeLook::Absent(absence)) => {
                if absence.kind.may_hold_files() && slots.values().any(Slot::changes) {
                    let text = format!("what we put into {account} stays there: {}", absence.why);
                    notes.push(self.note(NoteKind::Remark, text));
                }
                return None;
            }
            Some(HomeLook::Seen(facts)) => Some(facts),
            Some(HomeLook::Unknown(_)) | None => None,
        };
        let mut why = BTreeSet::new();
        if slots.values().any(Slot::changes) {
            why.insert(cause.unwrap_or(InstallReason::Changed));
        }
        if record.is_some_and(|record| !record.confirmed) {
            why.insert(InstallReason::Unconfirmed);
        }
        if let Some((record, facts)) = record.zip(facts).filter(|(record, _)| record.confirmed) {
            why.extend(drift(record, facts).into_iter().map(InstallReason::Drift));
        }
        if let (Some(HomeLook::Unknown(error)), false) = (look, why.is_empty()) {
            notes.push(self.note(NoteKind::Remark, format!("could not look at the home: {error}")));
        }
        if let (Some(what), false) =
            (facts.and_then(|facts| facts.in_the_way.as_ref()), why.is_empty())
        {
            notes.push(self.note(NoteKind::Blocked, format!("the home of {account}: {what}")));
        }
        let recorded = record.map_or(0, |record| record.generation);
        let (seen, leap) = highest_seen(facts, recorded);
        if let Some(leap) = leap {
            let text = format!("generation {leap} was seen, far ahead of {recorded}: ignored");
            notes.push(self.note(NoteKind::Remark, text));
        }
        (!why.is_empty()).then(|| Install {
            user: self.user.clone(),
            account: account.clone(),
            uid: facts.map(|facts| facts.uid),
            leaves: self.present.as_ref() != Some(account),
            seen,
            slots,
            why: why.into_iter().collect(),
        })
    }

    fn note(&self, kind: NoteKind, text: String) -> Note {
        Note { user: Some(self.user.clone()), service: None, kind, text }
    }
}

impl Slot {
    /// Whether what is there differs from what should be.
    #[must_use]
    pub fn changes(&self) -> bool {
        match &self.after {
            None => self.before.is_some(),
            Some(Content::Keep(piece) | Content::Of(piece)) => self.before.as_ref() != Some(piece),
            Some(Content::New { .. }) => true,
        }
    }
}

/// How a home differs from what was put there.
fn drift(record: &Installed, facts: &HomeFacts) -> Vec<String> {
    let mut found = Vec::new();
    match &facts.env {
        None => found.push(".service_env is missing".to_owned()),
        Some(env) if env.file.digest != record.env => {
            found.push(".service_env was changed".to_owned());
        }
        Some(env) if !env.file.mode_ok => {
            found.push(".service_env has another mode or owner".to_owned());
        }
        Some(_) => {}
    }
    for (file, digest) in &record.skills {
        match facts.skills.get(file) {
            None => found.push(format!("{file} is missing")),
            Some(seen) if seen.digest != *digest => found.push(format!("{file} was changed")),
            Some(seen) if !seen.mode_ok => found.push(format!("{file} has another mode or owner")),
            Some(_) => {}
        }
    }
    let foreign = facts.skills.keys().filter(|file| !record.skills.contains_key(*file));
    found.extend(foreign.map(|file| format!("{file} should not be there")));
    if !facts.rules_mode_ok {
        found.push(".claude_rules has another mode".to_owned());
    }
    found
}

/// The highest generation seen in the home or at a laptop, and one that is too far ahead to be
/// believed.
fn highest_seen(facts: Option<&HomeFacts>, recorded: u64) -> (u64, Option<u64>) {
    let Some(facts) = facts else { return (0, None) };
    let in_home = facts.env.and_then(|env| env.generation);
    let at_laptops = facts.laptops.iter().map(|laptop| laptop.generation);
    let (believed, leaps): (Vec<u64>, Vec<u64>) =
        at_laptops.chain(in_home).partition(|seen| *seen <= recorded.saturating_add(MAX_LEAP));
    (believed.into_iter().max().unwrap_or(0), leaps.into_iter().max())
}
