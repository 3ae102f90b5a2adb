//! Changes the text of `desired.yaml` in place: comments, order and formatting of everything else
//! stay as they are, byte for byte.
//!
//! Each user's lines are cut out, edited alone and put back, since editing the whole of a large
//! file takes seconds. No edit is believed: what comes out is read again by the strict reader and
//! must mean the old state with the changes, and nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::str::FromStr;

use jiff::Timestamp;
use yaml_edit::{Document, Mapping};

use super::change::{Change, ChangeError};
use super::desired::{Desired, DesiredUser};
use super::name::{ServiceId, UserId};
use super::user_blocks::{self, Block, Layout};
use super::yaml::YamlError;
use super::yaml_path;

/// What came of the changes.
#[derive(Debug)]
pub struct EditedText {
    /// The new text; `None` when it is the old one.
    pub text: Option<String>,
    /// For each change in order, whether it changed anything.
    pub outcomes: Vec<Result<bool, ChangeError>>,
    /// What the new text says of the users whom the changes are about, as far as it names them.
    pub users: Users,
}

/// Why a text was not edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditTextError {
    /// It is wrong already.
    #[error(transparent)]
    Invalid(Box<YamlError>),
    /// It is right, but written so that the edit could not be made and proved.
    #[error(
        "line {line}: the lines of {user} are written in a form that cannot be edited safely; \
         change them by hand to:\n{by_hand}"
    )]
    Form {
        /// Whose.
        user: UserId,
        /// Where they begin.
        line: u32,
        /// What to write in their place.
        by_hand: String,
    },
}

impl From<YamlError> for EditTextError {
    fn from(error: YamlError) -> Self {
        Self::Invalid(Box::new(error))
    }
}

/// What a text says of users, without line numbers.
pub type Users = BTreeMap<UserId, DesiredUser>;

/// Makes the changes. `known` says that the whole text is known to be right, so that the parts which
/// are not touched need not be read again; nor need those of the users of whom is given what it says.
///
/// # Errors
/// When the text is wrong, or its form is too odd; then nothing is changed.
pub fn edit(
    text: &str,
    changes: &[Change],
    known: Option<&Users>,
) -> Result<EditedText, EditTextError> {
    let layout = user_blocks::scan(text);
    let in_parts = known.zip(layout.as_ref()).filter(|_| text.len() > user_blocks::SMALL);
    let whole = in_parts.is_none();
    let before = match in_parts {
        Some((known, layout)) => touched(text, changes, known, layout)?,
        None => Desired::parse(text)?.without_lines(),
    };
    let mut after = before.clone();
    let outcomes: Vec<_> = changes.iter().map(|change| change.apply(&mut after)).collect();
    if after == before {
        return Ok(EditedText { text: None, outcomes, users: Users::new() });
    }
    let effective = changes.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Ok(true));
    let changes: Vec<&Change> = effective.map(|(change, _)| change).collect();
    let edits = Edits { text, before: &before, after: &after, changes: &changes };
    let edited = edits.make(layout.as_ref())?;
    if whole && Desired::parse(&edited).map(Desired::without_lines).as_ref() != Ok(&after) {
        return Err(edits.form(edits.first_changed()));
    }
    let users = changes.iter().filter_map(|change| after.users.remove_entry(change.user()));
    Ok(EditedText { text: Some(edited), users: users.collect(), outcomes })
}

/// What the text says of the users whom the changes are about.
fn touched(
    text: &str,
    changes: &[Change],
    known: &Users,
    layout: &Layout<'_>,
) -> Result<Desired, YamlError> {
    let (mut users, mut unknown) = (Users::new(), HashSet::new());
    for id in changes.iter().map(Change::user) {
        if let Some(user) = known.get(id) {
            users.insert(id.clone(), user.clone());
        } else {
            unknown.insert(id.as_str());
        }
    }
    let mut desired = layout.read(text, |user| unknown.contains(user))?.without_lines();
    desired.users.append(&mut users);
    Ok(desired)
}

struct Edits<'a> {
    text: &'a str,
    before: &'a Desired,
    after: &'a Desired,
    changes: &'a [&'a Change],
}

impl Edits<'_> {
    fn make(&self, layout: Option<&Layout<'_>>) -> Result<String, EditTextError> {
        match layout {
            Some(Layout::Blocks { indent, users }) => self.in_blocks(indent, users),
            Some(Layout::Nobody { braces, line_end }) => {
                let (text, eol) = (self.text, self.line_break());
                let mut edited = text[..braces.start].to_owned();
                edited.push_str(&text[braces.end..*line_end]);
                edited.push_str(eol);
                edited.push_str(self.new_users("  ").trim_end_matches(['\r', '\n']));
                edited.push_str(&text[*line_end..]);
                Ok(edited)
            }
            None => self.in_whole(),
        }
    }

    /// The users who differ, and how they were.
    fn changed(&self) -> impl Iterator<Item = (&UserId, Option<&DesiredUser>)> {
        let users = self.after.users.iter().map(|(id, user)| (id, self.before.users.get(id), user));
        users.filter(|(_, before, after)| *before != Some(*after)).map(|(id, old, _)| (id, old))
    }

    fn first_changed(&self) -> &UserId {
        self.changed().next().map_or_else(|| self.changes[0].user(), |(id, _)| id)
    }

    fn in_blocks(&self, indent: &str, users: &[Block<'_>]) -> Result<String, EditTextError> {
        let known = self.changed().filter(|(_, before)| before.is_some());
        let mut known: HashMap<&str, &UserId> = known.map(|(id, _)| (id.as_str(), id)).collect();
        let mut pieces = Vec::new();
        for block in users {
            let Some(id) = known.remove(block.user) else { continue };
            let edited = self.block(id, indent, &self.text[block.range.clone()]);
            pieces.push((block.range.clone(), edited.ok_or_else(|| self.form(id))?));
        }
        if let Some(id) = known.into_values().next() {
            return Err(self.form(id));
        }
        if let Some(last) = users.last() {
            let end = last.range.end;
            let new = self.appended(indent, end);
            self.prove_new(&new)?;
            pieces.push((end..end, new));
        }
        let mut edited = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for (range, piece) in pieces {
            edited.push_str(&self.text[at..range.start]);
            edited.push_str(&piece);
            at = range.end;
        }
        edited.push_str(&self.text[at..]);
        Ok(edited)
    }

    /// The lines of new users, to stand behind the last line that ends at `end`.
    fn appended(&self, indent: &str, end: usize) -> String {
        let lines = self.new_users(indent);
        if lines.is_empty() || self.text[..end].ends_with('\n') {
            return lines;
        }
        // The file has no line break at its end; it gets none.
        format!("{}{}", self.line_break(), lines.trim_end_matches(['\r', '\n']))
    }

    /// The lines of new users say what they should.
    fn prove_new(&self, lines: &str) -> Result<(), EditTextError> {
        let new = || self.changed().filter(|(_, before)| before.is_none());
        let Some((first, _)) = new().next() else { return Ok(()) };
        let read = read_alone(lines.trim_start_matches(['\r', '\n']));
        let right = read
            .is_ok_and(|read| new().all(|(id, _)| read.users.get(id) == self.after.users.get(id)));
        if right { Ok(()) } else { Err(self.form(first)) }
    }

    fn new_users(&self, indent: &str) -> String {
        let new = self.changed().filter(|(_, before)| before.is_none());
        new.map(|(id, _)| written(id, &self.after.users[id], indent, self.line_break())).collect()
    }

    fn line_break(&self) -> &'static str {
        let first = self.text.find('\n');
        let crlf = first.is_some_and(|at| self.text[..at].ends_with('\r'));
        if crlf { "\r\n" } else { "\n" }
    }

    /// One user's lines after the changes, if that can be proved.
    fn block(&self, id: &UserId, indent: &str, lines: &str) -> Option<String> {
        let edited = match self.rewritten(id, indent, lines) {
            Some(edited) => edited,
            None => self.edited(id, lines)?,
        };
        let read = read_alone(&edited).ok()?;
        let right = read.users.len() == 1 && read.users.get(id) == self.after.users.get(id);
        right.then_some(edited)
    }

    /// The same, if this program wrote the lines as they are: then there is nothing in them to keep,
    /// and they are written anew, which is quicker.
    fn rewritten(&self, id: &UserId, indent: &str, lines: &str) -> Option<String> {
        let written = |of: &Desired| {
            of.users.get(id).map(|user| written(id, user, indent, self.line_break()))
        };
        (written(self.before)? == lines).then(|| written(self.after))?
    }

    fn edited(&self, id: &UserId, lines: &str) -> Option<String> {
        let head = format!("users:{}", self.line_break());
        let edited = self.with_changes(id, &format!("{head}{lines}"))?;
        let edited = edited.strip_prefix(&head)?.to_owned();
        self.keeps_comments(id, lines, &edited).then_some(edited)
    }

    fn in_whole(&self) -> Result<String, EditTextError> {
        let mut edited = self.text.to_owned();
        for (id, _) in self.changed() {
            let next = self.with_changes(id, &edited).ok_or_else(|| self.form(id))?;
            if !self.keeps_comments(id, &edited, &next) {
                return Err(self.form(id));
            }
            edited = next;
        }
        Ok(edited)
    }

    /// Every comment is still there, but for those on the lines of a connection that is gone.
    fn keeps_comments(&self, id: &UserId, old: &str, new: &str) -> bool {
        let mut left = yaml_path::comments(new).into_iter();
        let removes = self
            .changes
            .iter()
            .any(|change| matches!(change, Change::Disconnect { user, .. } | Change::Offboard { user } if user == id));
        let old = yaml_path::comments(old);
        if removes {
            let old = &mut old.into_iter();
            left.all(|comment| old.any(|other| other == comment))
        } else {
            left.eq(old)
        }
    }

    /// A text with `users:` at its top after this user's changes.
    fn with_changes(&self, id: &UserId, text: &str) -> Option<String> {
        let document = Document::from_str(text).ok()?;
        let users = document.as_mapping()?.get_mapping("users")?;
        let person = child(&users, id.as_str())?;
        let connections = child(&person, "connections")?;
        for change in self.changes.iter().filter(|change| change.user() == id) {
            change_connections(&connections, change)?;
            if matches!(change, Change::Offboard { .. }) {
                person.set("disabled", true);
            }
        }
        Some(document.to_string())
    }

    fn form(&self, id: &UserId) -> EditTextError {
        let place = yaml_path::place_of(self.text, &["users", id.as_str()]);
        let by_hand = written(id, &self.after.users[id], "  ", "\n");
        EditTextError::Form { user: id.clone(), line: place.map_or(1, |place| place.line), by_hand }
    }
}

/// The map under a key, made if it is not there.
fn child(map: &Mapping, key: &str) -> Option<Mapping> {
    if map.get(key).is_none() {
        map.set(key, Mapping::new_flow());
    }
    map.get_mapping(key)
}

fn change_connections(connections: &Mapping, change: &Change) -> Option<()> {
    match change {
        Change::Connect { service, ttl_days, .. } => {
            let wish = child(connections, service.as_str())?;
            if let Some(days) = ttl_days {
                wish.set("ttl_days", i64::from(*days));
            }
        }
        Change::Disconnect { service, .. } => {
            connections.remove(service.as_str());
        }
        Change::Offboard { .. } => {
            let services: Vec<String> =
                connections.keys().filter_map(|key| Some(key.as_scalar()?.as_string())).collect();
            for service in services {
                connections.remove(service.as_str());
            }
        }
        Change::Rotate { service, at, leaked, .. } => {
            let key = if *leaked { "revoke_issued_before" } else { "rotate_after" };
            set_time(connections, service, key, *at)?;
        }
        Change::Retry { service, at, .. } => set_time(connections, service, "retried_at", *at)?,
    }
    Some(())
}

fn set_time(connections: &Mapping, service: &ServiceId, key: &str, at: Timestamp) -> Option<()> {
    // A change that made no sense was reported, and is passed over here too.
    let Some(wish) = connections.get_mapping(service.as_str()) else { return Some(()) };
    // Taken from a document, since a time that is made anew is written with a tag.
    let time = Document::from_str(&format!("at: {at}\n")).ok()?.get("at")?;
    wish.set(key, &time);
    Some(())
}

/// A user's lines as this program writes them.
fn written(id: &UserId, user: &DesiredUser, indent: &str, eol: &str) -> String {
    let deeper = indent.repeat(2);
    let disabled =
        if user.disabled { format!("{deeper}disabled: true{eol}") } else { String::new() };
    let id = quoted(id.as_str());
    let mut lines = format!("{indent}{id}:{eol}{disabled}{deeper}connections:");
    if user.connections.is_empty() {
        lines.push_str(" {}");
    }
    lines.push_str(eol);
    for (service, wish) in &user.connections {
        let mut fields = Vec::new();
        fields.extend(wish.ttl_days.map(|days| format!("ttl_days: {days}")));
        fields.extend(wish.rotate_after.map(|at| format!("rotate_after: {at}")));
        fields.extend(wish.revoke_issued_before.map(|at| format!("revoke_issued_before: {at}")));
        fields.extend(wish.paused.then(|| "paused: true".to_owned()));
        fields.extend(wish.retried_at.map(|at| format!("retried_at: {at}")));
        let fields = fields.join(", ");
        let fields = if fields.is_empty() { "{}".to_owned() } else { format!("{{ {fields} }}") };
        let service = quoted(service.as_str());
        let _ = write!(lines, "{indent}{deeper}{service}: {fields}{eol}"); // a String takes all
    }
    lines
}

/// A name as a key: in quotes if YAML would not read it as a text.
fn quoted(name: &str) -> Cow<'_, str> {
    match name {
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" => {
            format!("\"{name}\"").into()
        }
        _ => name.into(),
    }
}

/// What one user's lines say.
fn read_alone(lines: &str) -> Result<Desired, YamlError> {
    user_blocks::read_lines(lines).map(Desired::without_lines)
}
