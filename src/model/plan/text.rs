//! A plan as text for people. No secret is in it: keys are shown by their fingerprints.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use anstyle::{AnsiColor, Style};

use super::super::action::{Action, End, EndKind, Install, Issue, IssueOp, IssueReason, Revoke};
use super::super::name::{ServiceId, UserId};
use super::super::token::Phase;
use super::files::{self, FilesChange, Hunk, Renditions, Side, SkillChange, key_name};
use super::summary::Summary;
use super::{Loss, LossKind, Note, NoteKind, View};

/// How the parts of a text are painted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    /// What comes.
    pub add: Style,
    /// What changes.
    pub change: Style,
    /// What goes.
    pub remove: Style,
    /// Names of users, the summary.
    pub strong: Style,
    /// Reasons and unchanged lines.
    pub faint: Style,
    /// What needs somebody's eye.
    pub warn: Style,
}

impl Palette {
    /// No colour at all.
    pub const PLAIN: Self = Self {
        add: Style::new(),
        change: Style::new(),
        remove: Style::new(),
        strong: Style::new(),
        faint: Style::new(),
        warn: Style::new(),
    };

    /// The colours of a terminal.
    pub const COLOURED: Self = Self {
        add: AnsiColor::Green.on_default(),
        change: AnsiColor::Yellow.on_default(),
        remove: AnsiColor::Red.on_default(),
        strong: Style::new().bold(),
        faint: Style::new().dimmed(),
        warn: AnsiColor::Magenta.on_default().bold(),
    };
}

/// The plan as text: user by user, then what is held and how to approve it, then a summary line.
#[must_use]
pub fn text(view: &View<'_>, palette: &Palette) -> String {
    let mut page = Page { view, palette, renditions: Renditions::of(view), text: String::new() };
    page.sections();
    page.held();
    page.end();
    page.text
}

/// What a plan says of one user; of none: of the whole.
#[derive(Default)]
struct Section<'a> {
    actions: Vec<&'a Action>,
    notes: Vec<&'a Note>,
}

struct Page<'a> {
    view: &'a View<'a>,
    palette: &'a Palette,
    renditions: Renditions<'a>,
    text: String,
}

impl Page<'_> {
    fn line(&mut self, line: impl Display) {
        let _ = writeln!(self.text, "{line}"); // a String takes all
    }

    fn sections(&mut self) {
        let mut sections: BTreeMap<Option<&UserId>, Section<'_>> = BTreeMap::new();
        let plan = self.view.plan;
        for action in &plan.actions {
            sections.entry(Some(action.user())).or_default().actions.push(action);
        }
        for note in &plan.notes {
            sections.entry(note.user.as_ref()).or_default().notes.push(note);
        }
        for (user, section) in sections {
            let Palette { strong, .. } = self.palette;
            match user {
                Some(user) => self.line(format_args!("{strong}{user}{strong:#}")),
                None if section.notes.iter().all(|note| note.service.is_some()) => {
                    self.line(format_args!("{strong}services{strong:#}"));
                }
                None => self.line(format_args!("{strong}in general{strong:#}")),
            }
            for action in section.actions {
                self.action(action);
            }
            for note in section.notes {
                self.note(note);
            }
            self.line("");
        }
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Issue(issue) => self.issue(issue),
            Action::Install(install) => self.install(install),
            Action::Revoke(revoke) => self.revoke(revoke),
            Action::End(end) => self.ended(end),
        }
    }

    fn step(&mut self, sign: char, what: impl Display, why: impl Display) {
        let Palette { add, change, remove, faint, .. } = self.palette;
        let style = match sign {
            '+' => add,
            '-' => remove,
            _ => change,
        };
        let why = clean(&why.to_string());
        self.line(format_args!("  {style}{sign} {what}{style:#} {faint}({why}){faint:#}"));
    }

    fn issue(&mut self, issue: &Issue) {
        let Issue { service, op, ask, why, .. } = issue;
        let asked = format!("a key for {}", count(ask.ttl_days.into(), "day"));
        let (sign, what) = match (op, why) {
            (IssueOp::Resume(op), _) => ('+', format!("ask again for {asked}, as {}", op.short())),
            (IssueOp::New, IssueReason::Connected) => ('+', format!("issue {asked}")),
            (IssueOp::New, IssueReason::RenewalDue(_)) => ('~', self.replace(issue, "renew")),
            (IssueOp::New, _) => ('~', self.replace(issue, "replace")),
        };
        self.step(sign, format_args!("{service}: {what}"), why);
    }

    /// What replaces the newest key that works.
    fn replace(&self, issue: &Issue, verb: &str) -> String {
        let tokens = self.view.actual.tokens_of(&issue.user, &issue.service);
        let newest = tokens.iter().rev().find(|token| token.phase.is_live());
        let old = match newest {
            Some(token) => key_name(self.view, &issue.user, &issue.service, &token.op),
            None => "the key".to_owned(),
        };
        format!("{verb} {old} with one for {}", count(issue.ask.ttl_days.into(), "day"))
    }

    fn revoke(&mut self, revoke: &Revoke) {
        let Revoke { user, service, op, after_delivery, phase, why, .. } = revoke;
        let key = key_name(self.view, user, service, op);
        let verb = if *phase == Phase::Issuing { "take back" } else { "revoke" };
        let when = if *after_delivery { " once the new one is in the home" } else { "" };
        self.step('-', format_args!("{service}: {verb} {key}{when}"), why);
    }

    fn ended(&mut self, end: &End) {
        let End { user, service, op, how } = end;
        let key = key_name(self.view, user, service, op);
        let what = match how {
            EndKind::Expired(_) => "is over",
            EndKind::Lost(_) => "is given up",
        };
        self.step('-', format_args!("{service}: {key} {what}"), how);
    }

    fn install(&mut self, install: &Install) {
        let why: Vec<String> = install.why.iter().map(ToString::to_string).collect();
        let account = &install.account;
        let what = if install.leaves { "clear the home of" } else { "install into the home of" };
        self.step('~', format_args!("{what} {account}"), why.join("; "));
        let change = files::change(self.view, &self.renditions, install);
        self.files(&change);
    }

    fn files(&mut self, change: &FilesChange) {
        if change.env.is_empty() && change.skills.is_empty() {
            let faint = self.palette.faint;
            self.line(format_args!("      {faint}the same contents again{faint:#}"));
        }
        if !change.env.is_empty() {
            self.diff(".service_env", &change.env);
        }
        let (add, remove) = (self.palette.add, self.palette.remove);
        for (file, change) in &change.skills {
            match change {
                SkillChange::New(lines) => {
                    let lines = count(*lines, "line");
                    self.line(format_args!("      {add}+ {file} (new, {lines}){add:#}"));
                }
                SkillChange::Gone => {
                    self.line(format_args!("      {remove}- {file} (removed){remove:#}"));
                }
                SkillChange::Changed(hunks) => self.diff(&format!(".claude_rules/{file}"), hunks),
            }
        }
        for service in &change.gaps {
            self.line(format_args!(
                "      {service}: the old lines leave before the new key comes"
            ));
        }
    }

    fn diff(&mut self, file: &str, hunks: &[Hunk]) {
        let Palette { add, remove, strong, faint, .. } = self.palette;
        self.line(format_args!("      {strong}--- {file}{strong:#}"));
        self.line(format_args!("      {strong}+++ {file}{strong:#}"));
        for hunk in hunks {
            self.line(format_args!("      {faint}{}{faint:#}", hunk.header));
            for (side, line) in &hunk.lines {
                let (style, sign) = match side {
                    Side::Before => (remove, '-'),
                    Side::After => (add, '+'),
                    Side::Both => (faint, ' '),
                };
                let line = format!("{sign}{line}");
                self.line(format_args!("      {style}{}{style:#}", line.trim_end()));
            }
        }
    }

    fn note(&mut self, note: &Note) {
        let Palette { warn, faint, .. } = self.palette;
        let about = note.service.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        let text = clean(&note.text);
        match note.kind {
            NoteKind::Blocked => {
                self.line(format_args!("  {warn}! {about}blocked: {text}{warn:#}"));
            }
            NoteKind::Waiting(_) => {
                self.line(format_args!("  {faint}. {about}waiting: {text}{faint:#}"));
            }
            NoteKind::Remark => self.line(format_args!("  {faint}. {about}{text}{faint:#}")),
        }
    }

    fn held(&mut self) {
        let held = self.view.held;
        if held.is_empty() {
            return;
        }
        let warn = self.palette.warn;
        self.line(format_args!("{warn}held by the guard: {}{warn:#}", clean(&held.why.join("; "))));
        for loss in &held.losses {
            self.loss(loss);
        }
        let digest = held.digest();
        self.line("  All of these stay exactly as they are. If they shall go:");
        self.line(format_args!("  service-connector approve {digest}"));
        self.line("");
    }

    fn loss(&mut self, loss: &Loss) {
        let Loss { user, service, ops, kind } = loss;
        let keys: Vec<String> =
            ops.iter().map(|op| key_name(self.view, user, service, op)).collect();
        let what = match (kind, keys.is_empty()) {
            (LossKind::Stray, _) => format!("{}, which the state does not know", keys.join(", ")),
            (_, true) => "its lines in the home".to_owned(),
            (LossKind::Removal, _) => keys.join(", "),
            (LossKind::Expiry, _) => format!("{}, whose time is over", keys.join(", ")),
        };
        let Palette { remove, .. } = self.palette;
        self.line(format_args!("  {remove}- {}: {what}{remove:#}", Of(user, service)));
    }

    fn end(&mut self) {
        let summary = Summary::of(self.view);
        let strong = self.palette.strong;
        let digest = if summary.is_idle() {
            String::new()
        } else {
            format!(" Digest {}", self.view.plan.digest(self.view.actual).short())
        };
        self.line(format_args!("{strong}{summary}{digest}{strong:#}"));
    }
}

/// A connection's name.
struct Of<'a>(&'a UserId, &'a ServiceId);

impl Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// So many of these.
fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// Without control characters: some of what is shown came from a service.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
