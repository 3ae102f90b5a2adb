//! `desired.yaml` on disk: what is believed, and what an edit changes.
#![expect(clippy::format_push_string, reason = "texts are put together, not fast")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use service_connector::desired_file::{DesiredFile, Edit, EditError, LoadError};
use service_connector::desired_history::History;
use service_connector::model::change::{Change, ChangeError};
use service_connector::model::desired::Desired;
use service_connector::model::digest::Digest;
use service_connector::model::edit_text::{self, Users};
use service_connector::model::name::ServiceId;
use service_connector::model::user_blocks::{self, Layout};

const SAMPLE: &str = "\
# who has what
version: 1
users:
  # the first
  john:
    connections:
      purchase_orders: {}   # since May
      # money
      invoicing: { ttl_days: 30 }
      crm: { rotate_after: 2026-11-01T00:00:00Z }
  eva:
    disabled: true
    connections: {}
# the end
";

struct Scene {
    dir: tempfile::TempDir,
    file: DesiredFile,
}

impl Scene {
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("desired.yaml");
        fs::write(&path, text).unwrap();
        Self { dir, file: DesiredFile::new(path) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("desired.yaml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn edit(&self, change: &Change) -> Result<bool, EditError> {
        self.file.edit(change, "test", None, later()).map(|edited| edited.changed)
    }
}

/// When files written now have long been still.
fn later() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(60)
}

fn connect(user: &str, service: &str) -> Change {
    let (user, service) = (user.parse().unwrap(), service.parse().unwrap());
    Change::Connect { user, service, ttl_days: None }
}

fn disconnect(user: &str, service: &str) -> Change {
    Change::Disconnect { user: user.parse().unwrap(), service: service.parse().unwrap() }
}

fn rotate(user: &str, service: &str, leaked: bool) -> Change {
    let (user, service) = (user.parse().unwrap(), service.parse().unwrap());
    Change::Rotate { user, service, at: "2026-11-22T10:00:00Z".parse().unwrap(), leaked }
}

fn edited(text: &str, change: &Change) -> String {
    let result = edit_text::edit(text, std::slice::from_ref(change), None).unwrap();
    result.outcomes.into_iter().next().unwrap().unwrap();
    result.text.unwrap_or_else(|| text.to_owned())
}

#[test]
fn connecting_adds_one_line_and_disconnecting_takes_it_away() {
    let with = edited(SAMPLE, &connect("john", "hr"));
    let line = "      crm: { rotate_after: 2026-11-01T00:00:00Z }\n";
    assert_eq!(with, SAMPLE.replace(line, &format!("{line}      hr: {{}}\n")));
    assert_eq!(edited(&with, &disconnect("john", "hr")), SAMPLE);
    let without = edited(SAMPLE, &disconnect("john", "purchase_orders"));
    assert_eq!(without, SAMPLE.replace("      purchase_orders: {}   # since May\n", ""));
}

#[test]
fn a_new_user_is_added_behind_the_last() {
    let with = edited(SAMPLE, &connect("petr", "crm"));
    let new = "    connections: {}\n  petr:\n    connections:\n      crm: {}\n# the end\n";
    assert_eq!(with, SAMPLE.replace("    connections: {}\n# the end\n", new));
}

#[test]
fn the_first_user_of_all_is_written_in_lines() {
    let with = edited("version: 1\nusers: {} # nobody yet\n", &connect("john", "crm"));
    let lines = "users: # nobody yet\n  john:\n    connections:\n      crm: {}\n";
    assert_eq!(with, format!("version: 1\n{lines}"));
    assert_eq!(
        edited("version: 1\nusers: {}", &connect("john", "crm")),
        "version: 1\nusers:\n  john:\n    connections:\n      crm: {}"
    );
}

#[test]
fn rotating_writes_the_time_into_the_connection() {
    let with = edited(SAMPLE, &rotate("john", "invoicing", false));
    assert!(with.contains("invoicing: { ttl_days: 30, rotate_after: 2026-11-22T10:00:00Z }\n"));
    let with = edited(SAMPLE, &rotate("john", "crm", true));
    let crm = &Desired::parse(&with).unwrap().users["john"].connections["crm"];
    assert_eq!(crm.revoke_issued_before, Some("2026-11-22T10:00:00Z".parse().unwrap()));
    assert!(crm.rotate_after.is_some());
}

#[test]
fn names_that_yaml_would_read_as_something_else_are_written_as_names() {
    let mut text = SAMPLE.to_owned();
    for (user, service) in [("null", "true"), ("true", "null"), ("yes", "no"), ("john", "null")] {
        text = edited(&text, &connect(user, service));
    }
    let desired = Desired::parse(&text).unwrap();
    assert!(desired.users["null"].connections.contains_key("true"));
    assert!(desired.users["john"].connections.contains_key("null"));
}

#[test]
fn a_change_that_makes_no_sense_changes_nothing() {
    let scene = Scene::with(SAMPLE);
    let refused = scene.edit(&connect("eva", "crm")).unwrap_err();
    assert!(matches!(refused, EditError::Change(ChangeError::Disabled(_))), "{refused}");
    let refused = scene.edit(&rotate("john", "hr", false)).unwrap_err();
    assert!(matches!(refused, EditError::Change(ChangeError::NotConnected { .. })), "{refused}");
    assert!(!scene.edit(&disconnect("john", "hr")).unwrap());
    assert!(!scene.edit(&disconnect("nobody", "hr")).unwrap());
    assert!(!scene.edit(&connect("john", "crm")).unwrap());
    assert_eq!(scene.text(), SAMPLE);
}

#[test]
fn a_missing_file_is_an_error_for_readers_and_writers_and_is_not_made() {
    let scene = Scene::with(SAMPLE);
    fs::remove_file(scene.path()).unwrap();
    let error = scene.file.read(later()).unwrap_err();
    assert!(error.to_string().contains("`version: 1` and `users: {}`"), "{error}");
    let refused = scene.edit(&connect("john", "crm")).unwrap_err();
    assert!(matches!(refused, EditError::Load(LoadError::Missing(_))), "{refused}");
    assert!(!scene.path().exists());
    assert!(DesiredFile::new("/nonexistent/x/desired.yaml").read(later()).is_err());
}

#[test]
fn a_file_that_is_wrong_is_neither_read_nor_edited() {
    let wrong =
        ["", "# x\n", "version: 1\n", "version: 1\nusers:\n", "version: 1\nusers: {a: 1}\n"];
    for text in wrong {
        let scene = Scene::with(text);
        assert!(matches!(scene.file.read(later()), Err(LoadError::Invalid { .. })), "{text:?}");
        let refused = scene.edit(&connect("john", "crm")).unwrap_err();
        assert!(matches!(refused, EditError::Load(LoadError::Invalid { .. })), "{refused}");
        assert_eq!(scene.text(), text);
    }
    let scene = Scene::with("");
    fs::write(scene.path(), b"version: 1\nusers: \xff\n").unwrap();
    let error = scene.file.read(later()).unwrap_err().to_string();
    assert!(error.contains("line 2, column 8: these bytes are not UTF-8"), "{error}");
    fs::remove_file(scene.path()).unwrap();
    fs::create_dir(scene.path()).unwrap();
    assert!(matches!(scene.file.read(later()), Err(LoadError::Read { .. })));
}

#[test]
fn a_file_made_by_hand_is_taken_up_when_it_has_been_still_for_two_seconds() {
    let scene = Scene::with(SAMPLE);
    let now = Timestamp::now();
    let Err(LoadError::Settling { ready_in, .. }) = scene.file.read(now) else { panic!("settles") };
    assert!(ready_in <= Duration::from_secs(2) && ready_in > Duration::from_secs(1));
    let loaded = scene.file.read(later()).unwrap();
    assert!(loaded.by_hand);
    scene.file.adopt(&loaded, "reconcile", later()).unwrap();
    assert!(!scene.file.read(now).unwrap().by_hand);
}

#[test]
fn a_file_that_our_writer_made_is_good_at_once() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "hr")).unwrap();
    let loaded = scene.file.read(Timestamp::now()).unwrap();
    assert!(!loaded.by_hand);
    assert_eq!(loaded.revision, Digest::of(scene.text()));
    let entries = History::new(scene.dir.path().join("history")).entries().unwrap();
    assert_eq!(entries.len(), 2, "the hand-made one, and the edit");
    assert_eq!((entries[1].who.as_str(), entries[1].what.as_str()), ("test", "connect john hr"));
    assert_eq!(entries[1].revision, loaded.revision);
}

#[test]
fn every_beginning_of_a_good_file_is_refused() {
    let scene = Scene::with(SAMPLE);
    let loaded = scene.file.read(later()).unwrap();
    scene.file.adopt(&loaded, "reconcile", later()).unwrap();
    let mut cut_off = 0;
    for len in 0..SAMPLE.len() {
        scene.write(&SAMPLE[..len]);
        match scene.file.read(later()) {
            Err(LoadError::CutOff { .. }) => {
                cut_off += usize::from(Desired::parse(&SAMPLE[..len]).is_ok());
            }
            Err(_) => {}
            Ok(_) => panic!("the first {len} bytes were believed"),
        }
        assert!(scene.edit(&connect("john", "hr")).is_err());
    }
    assert!(cut_off > 20, "many beginnings are valid YAML: {cut_off}");
    scene.write(SAMPLE);
    scene.file.read(Timestamp::now()).unwrap();
}

#[test]
fn a_cut_that_is_meant_is_taken_up_with_one_more_line() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "hr")).unwrap();
    let shorter = &SAMPLE[..SAMPLE.find("  eva").unwrap()];
    scene.write(shorter);
    let error = scene.file.read(later()).unwrap_err().to_string();
    assert!(error.contains("service-connector disconnect"), "{error}");
    scene.write(&format!("{shorter}# meant\n"));
    assert_eq!(scene.file.read(later()).unwrap().desired.users.len(), 1);
}

#[test]
fn an_edit_of_another_revision_than_the_expected_is_refused() {
    let scene = Scene::with(SAMPLE);
    let revision = Digest::of(SAMPLE);
    let change = connect("john", "hr");
    let first = scene.file.edit(&change, "a", Some(revision), later()).unwrap();
    assert!(first.changed);
    let second = scene.file.edit(&connect("john", "x"), "b", Some(revision), later());
    assert!(matches!(second, Err(EditError::Conflict { now }) if now == first.revision));
}

#[test]
fn the_mode_is_kept_and_the_lock_is_the_groups() {
    let scene = Scene::with(SAMPLE);
    fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o664)).unwrap();
    scene.edit(&connect("john", "hr")).unwrap();
    let mode = |path: &str| {
        fs::metadata(scene.dir.path().join(path)).unwrap().permissions().mode() & 0o7777
    };
    assert_eq!(mode("desired.yaml"), 0o664);
    assert_eq!(mode(".desired.yaml.lock"), 0o660);
    assert_eq!(mode("history/log.jsonl"), 0o664);
    assert_eq!(mode("history"), 0o775);
}

#[test]
fn a_batch_is_one_write_and_one_that_makes_no_sense_stops_no_other() {
    let scene = Scene::with(SAMPLE);
    let changes = [
        connect("john", "hr"),
        connect("eva", "hr"),
        connect("petr", "hr"),
        disconnect("john", "crm"),
    ];
    let edits = changes.map(|change| Edit { change, who: "batch".to_owned() });
    let batch = scene.file.edit_batch(&edits, None, later()).unwrap();
    let done: Vec<bool> = batch.outcomes.iter().map(|o| *o == Ok(true)).collect();
    assert_eq!(done, [true, false, true, true]);
    let desired = scene.file.read(Timestamp::now()).unwrap().desired;
    assert_eq!(desired.users["john"].connections.len(), 3);
    assert!(desired.users["petr"].connections.contains_key("hr"));
    let entries = History::new(scene.dir.path().join("history")).entries().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.revision == batch.revision).count(), 3);
}

#[test]
fn what_somebody_changes_between_two_edits_stays() {
    let filling = "# filling\n".repeat(3000); // so that only the lines of who is edited are read
    let scene = Scene::with(&format!("{SAMPLE}{filling}"));
    for (service, days) in [("hr", 30), ("crm2", 31), ("hr", 32)] {
        scene.file.edit(&connect("john", service), "test", None, later()).unwrap();
        let (old, new) = (format!("ttl_days: {days}"), format!("ttl_days: {}", days + 1));
        scene.write(&scene.text().replace(&old, &new));
    }
    let another = DesiredFile::new(scene.path());
    scene.file.edit(&disconnect("john", "crm"), "test", None, later()).unwrap();
    another.edit(&disconnect("john", "purchase_orders"), "another", None, later()).unwrap();
    scene.file.edit(&disconnect("john", "hr"), "test", None, later()).unwrap();
    let john = &scene.file.read(Timestamp::now()).unwrap().desired.users["john"];
    assert_eq!(john.connections["invoicing"].ttl_days, Some(33));
    let services: Vec<&str> = john.connections.keys().map(ServiceId::as_str).collect();
    assert_eq!(services, ["crm2", "invoicing"]);
}

#[test]
fn sixty_four_writers_at_once_lose_nothing() {
    let scene = Scene::with(SAMPLE);
    std::thread::scope(|threads| {
        for n in 0..64 {
            let file = &scene.file;
            threads.spawn(move || {
                let change = connect(if n % 2 == 0 { "john" } else { "petr" }, &format!("s{n}"));
                file.edit(&change, "test", None, later()).unwrap();
            });
        }
    });
    let desired = scene.file.read(Timestamp::now()).unwrap().desired;
    assert_eq!(desired.users["john"].connections.len(), 3 + 32);
    assert_eq!(desired.users["petr"].connections.len(), 32);
    assert!(scene.text().contains("# since May\n"));
}

#[test]
fn the_history_keeps_at_most_twenty_contents_and_the_newest_is_the_last_good_one() {
    let scene = Scene::with(SAMPLE);
    let history = History::new(scene.dir.path().join("history"));
    for n in 0..30 {
        scene.edit(&connect("john", &format!("s{n}"))).unwrap();
        let copies = fs::read_dir(scene.dir.path().join("history")).unwrap().count() - 1;
        assert!(copies <= 20 && copies >= 16.min(n + 2), "{copies} after {n}");
        assert_eq!(history.last_good().unwrap().unwrap().1, scene.text().into_bytes());
    }
    assert_eq!(history.entries().unwrap().len(), 31);
}

#[test]
fn a_log_that_has_grown_long_is_cut_to_its_newer_half_and_the_last_edits_are_known() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "a")).unwrap();
    let log = scene.dir.path().join("history/log.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let first = text.lines().next().unwrap();
    let older = format!("{}\n", first.replace("by hand", "long ago"));
    let most = 2 << 20;
    let mut grown = older.repeat(most / older.len());
    grown.push_str(&text);
    fs::write(&log, &grown).unwrap();
    scene.edit(&connect("john", "b")).unwrap();
    let left = fs::metadata(&log).unwrap().len();
    assert!((1 << 19..=(1 << 20) + 1000).contains(&left), "{left}");
    let history = History::new(scene.dir.path().join("history"));
    let entries = history.entries().unwrap();
    let lines = fs::read_to_string(&log).unwrap().lines().count();
    assert_eq!(entries.len(), lines, "each line is whole");
    let last: Vec<_> = entries.iter().rev().take(3).map(|entry| entry.what.as_str()).collect();
    assert_eq!(last, ["connect john b", "connect john a", "by hand"]);
    assert!(!scene.file.read(Timestamp::now()).unwrap().by_hand);
    assert_eq!(history.last_good().unwrap().unwrap().1, scene.text().into_bytes());
}

#[test]
fn a_log_line_that_a_crash_cut_short_harms_no_other() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "a")).unwrap();
    let log = scene.dir.path().join("history/log.jsonl");
    let mut text = fs::read_to_string(&log).unwrap();
    text.push_str("{\"at\":\"2026-");
    fs::write(&log, text).unwrap();
    scene.edit(&connect("john", "b")).unwrap();
    assert!(!scene.file.read(Timestamp::now()).unwrap().by_hand);
    assert_eq!(History::new(scene.dir.path().join("history")).entries().unwrap().len(), 3);
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_file_and_it_is_known() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "a")).unwrap();
    let old = scene.text();
    scene.edit(&connect("john", "b")).unwrap();
    // As if the last rename had not happened: the history has both.
    scene.write(&old);
    let loaded = scene.file.read(Timestamp::now()).unwrap();
    assert!(!loaded.by_hand);
    fs::write(scene.dir.path().join(".desired.yaml.new"), "half").unwrap();
    scene.edit(&connect("john", "c")).unwrap();
    assert!(scene.text().contains("c: {}") && !scene.text().contains("b: {}"));
}

#[test]
fn the_same_where_the_writer_had_waited_while_another_wrote() {
    let scene = Scene::with(SAMPLE);
    scene.edit(&connect("john", "a")).unwrap();
    let old = scene.text();
    let after = SystemTime::now() + Duration::from_mins(5);
    let touch = || {
        let file = fs::File::options().write(true).open(scene.path()).unwrap();
        file.set_modified(after).unwrap();
    };
    touch();
    scene.edit(&connect("john", "b")).unwrap(); // at a time before that
    scene.write(&old);
    touch();
    assert!(!scene.file.read(Timestamp::now()).unwrap().by_hand);
}

#[test]
fn a_file_that_was_cut_back_to_an_older_revision_is_cut_off_all_the_same() {
    let scene = Scene::with("version: 1\nusers:\n");
    for user in ["a", "b", "c"] {
        scene.write(&format!("{}  {user}: {{ connections: {{}} }}\n", scene.text()));
        let loaded = scene.file.read(later()).unwrap();
        let before = Timestamp::now() - SignedDuration::from_secs(60);
        scene.file.adopt(&loaded, "a person", before).unwrap();
    }
    let whole = scene.text();
    for lines in [3, 4] {
        let cut: Vec<&str> = whole.split_inclusive('\n').take(lines).collect();
        scene.write(&cut.concat());
        let error = scene.file.read(later()).unwrap_err();
        assert!(matches!(error, LoadError::CutOff { .. }), "{lines} lines: {error}");
    }
}

#[test]
fn an_edit_that_the_history_cannot_take_changes_nothing() {
    let scene = Scene::with(SAMPLE);
    fs::create_dir_all(scene.dir.path().join("history/log.jsonl")).unwrap();
    assert!(scene.file.read(later()).is_err(), "nobody can tell whether it is good");
    assert!(scene.edit(&connect("john", "a")).is_err());
    assert_eq!(scene.text(), SAMPLE);
    assert!(!scene.dir.path().join(".desired.yaml.new").exists());
}

#[test]
fn a_link_in_the_files_place_is_not_followed() {
    let scene = Scene::with(SAMPLE);
    let other = scene.dir.path().join("secret");
    fs::rename(scene.path(), &other).unwrap();
    std::os::unix::fs::symlink(&other, scene.path()).unwrap();
    assert!(matches!(scene.file.read(later()), Err(LoadError::Read { .. })));
    assert!(scene.edit(&connect("john", "a")).is_err());
}

#[test]
fn odd_forms_are_edited_rightly_or_refused_with_what_to_write() {
    let (mut done, mut refused) = (0, 0);
    for text in [
        "---\nversion: 1\nusers:\n  john:\n    connections:\n      crm: {}\n",
        "version: 1\nusers:\n  ? john\n  : connections: {}\n",
        "version: 1\n? users\n: john: { connections: {} }\n",
        "\u{feff}version: 1\nusers:\n  john:\n    connections: {}\n",
        "version: 1\rusers:\r  john:\r    connections: {}\r",
        "version: 1\nusers:\n  john:\n    connections: {}\n...\n",
        "version: 1\nusers:\n  \"jo\\x68n\":\n    connections: {}\n",
        "{ version: 1, users: { john: { connections: { crm: {} } } } }\n",
        "{version: 1,\nusers: {john:\n{connections: {\ncrm: {}\n}}}}",
        "version: 1\nusers:\n  john:\n    connections:\n      crm: { rotate_after: >-\n        2026-01-01T00:00:00Z }\n",
        "version: 1\nusers:\n  john:\t# tab\n    connections: {}\n",
    ] {
        let Ok(before) = Desired::parse(text).map(Desired::without_lines) else { continue };
        for change in [connect("john", "hr"), connect("petr", "hr"), disconnect("john", "crm")] {
            let mut model = before.clone();
            change.apply(&mut model).unwrap();
            match edit_text::edit(text, std::slice::from_ref(&change), None) {
                Ok(edited) => {
                    let new = edited.text.unwrap_or_else(|| text.to_owned());
                    assert_eq!(Desired::parse(&new).unwrap().without_lines(), model, "{text}");
                    done += 1;
                }
                Err(error) => {
                    assert!(error.to_string().contains("by hand to:\n  "), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(done >= 15, "{done} done, {refused} refused");
}

/// A file of 100,000 connections: 20,000 users with 5 each.
fn large() -> String {
    let mut text = "version: 1\nusers:\n".to_owned();
    for user in 0..20_000 {
        text.push_str(&format!("  user{user}: # number {user}\n    connections:\n"));
        for service in 0..5 {
            text.push_str(&format!(
                "      service_{service}: {{ ttl_days: 30 }} # some remark of a person\n"
            ));
        }
    }
    text
}

#[test]
fn a_large_file_that_is_trusted_is_edited_in_the_users_lines_alone() {
    let text = large();
    let change = connect("user10000", "crm");
    let result = edit_text::edit(&text, std::slice::from_ref(&change), Some(&Users::new()))
        .unwrap()
        .text
        .unwrap();
    let at = text.find("  user10001:").unwrap();
    assert_eq!(result, format!("{}      crm: {{}}\n{}", &text[..at], &text[at..]));
}

/// How a file is written: each choice is one that people make.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent habits of people")]
struct Style {
    crlf: bool,
    indent: usize,
    deeper: usize,
    flow_users: bool,
    last_newline: bool,
    comments: bool,
    users: Vec<UserStyle>,
    version_last: bool,
}

#[derive(Debug, Clone)]
struct UserStyle {
    form: u8,
    quoted: bool,
    services: Vec<(u8, u8)>,
}

fn style() -> impl Strategy<Value = Style> {
    let services = prop::collection::vec((0..6u8, 0..5u8), 0..5);
    let user = (0..5u8, any::<bool>(), services).prop_map(|(form, quoted, services)| UserStyle {
        form,
        quoted,
        services,
    });
    let flags = any::<[bool; 4]>();
    (flags, 1..5usize, 1..5usize, prop::collection::vec(user, 1..5), prop::bool::weighted(0.2))
        .prop_map(
            |([crlf, last_newline, comments, version_last], indent, deeper, users, flow_users)| {
                Style {
                    crlf,
                    indent,
                    deeper,
                    flow_users,
                    last_newline,
                    comments,
                    users,
                    version_last,
                }
            },
        )
}

impl Style {
    fn text(&self) -> String {
        let mut text = String::new();
        let note = |text: &str| if self.comments { format!("{text}\n") } else { String::new() };
        if !self.version_last {
            text.push_str("version: 1\n");
        }
        text.push_str(&note("# everybody: { not, a map }"));
        if self.flow_users {
            let users: Vec<String> = self
                .users
                .iter()
                .enumerate()
                .map(|(n, user)| format!("u{n}: {}", user.flow()))
                .collect();
            text.push_str(&format!("users: {{ {} }}\n", users.join(", ")));
        } else {
            text.push_str("users:\n");
            for (n, user) in self.users.iter().enumerate() {
                text.push_str(&note(&format!("{}# it's user {n}'s \"own\" remark", " ".repeat(n))));
                self.user(&mut text, n, user);
            }
        }
        text.push_str(&note("\n   # the end"));
        if self.version_last {
            text.push_str("version: 1\n");
        }
        if !self.last_newline {
            text.pop();
        }
        if self.crlf { text.replace('\n', "\r\n") } else { text }
    }

    fn user(&self, text: &mut String, n: usize, user: &UserStyle) {
        let pad = |level: usize| " ".repeat(self.indent + level * self.deeper);
        let key = if user.quoted { format!("\"u{n}\"") } else { format!("u{n}") };
        let note = |text: &str| if self.comments { format!(" # {text}") } else { String::new() };
        let unique = user.unique();
        match user.form {
            0 => text.push_str(&format!("{}{key}: {}{}\n", pad(0), user.flow(), note("flow: {"))),
            1 if unique.is_empty() => text.push_str(&format!("{}{key}: {{}}\n", pad(0))),
            2 => {
                let services: Vec<String> =
                    unique.iter().map(|(s, w)| format!("s{s}: {}", wish(*w))).collect();
                let inner = services.join(&format!(",\n{}", pad(2)));
                text.push_str(&format!(
                    "{}{key}:\n{}connections: {{ {inner} }}{}\n",
                    pad(0),
                    pad(1),
                    note("}")
                ));
            }
            _ if unique.is_empty() => {
                text.push_str(&format!(
                    "{}{key}:{}\n{}connections: {{}}\n",
                    pad(0),
                    note("none"),
                    pad(1)
                ));
            }
            _ => {
                text.push_str(&format!(
                    "{}{key}:{}\n{}connections:\n",
                    pad(0),
                    note("some"),
                    pad(1)
                ));
                for (service, form) in unique {
                    if self.comments && form == 2 {
                        text.push_str(&format!("\n{}# about s{service}: {{}}\n", pad(2)));
                    }
                    if form == 4 {
                        text.push_str(&format!(
                            "{}s{service}:{}\n{}ttl_days: 9\n",
                            pad(2),
                            note("long"),
                            pad(3)
                        ));
                    } else {
                        text.push_str(&format!(
                            "{}s{service}: {}{}\n",
                            pad(2),
                            wish(form),
                            note("short")
                        ));
                    }
                }
            }
        }
    }
}

impl UserStyle {
    fn unique(&self) -> std::collections::BTreeMap<u8, u8> {
        self.services.iter().copied().collect()
    }

    fn flow(&self) -> String {
        let services: Vec<String> =
            self.unique().iter().map(|(s, w)| format!("s{s}: {}", wish(*w))).collect();
        if services.is_empty() {
            "{}".to_owned()
        } else {
            format!("{{connections: {{ {} }}}}", services.join(", "))
        }
    }
}

fn wish(form: u8) -> &'static str {
    ["{}", "{ ttl_days: 30 }", "{}", "{rotate_after: 2026-01-01T00:00:00Z,  paused: true}", "{ }"]
        [form as usize]
}

fn change() -> impl Strategy<Value = Change> {
    (0..6u8, 0..7u8, 0..7u8, 1..365u16).prop_map(|(user, service, kind, days)| {
        let (user, service) =
            (format!("u{user}").parse().unwrap(), format!("s{service}").parse().unwrap());
        let at = "2026-11-22T10:00:00Z".parse().unwrap();
        match kind {
            0 => Change::Connect { user, service, ttl_days: None },
            1 => Change::Connect { user, service, ttl_days: Some(days) },
            2 => Change::Disconnect { user, service },
            5 => Change::Offboard { user },
            6 => Change::Retry { user, service, at },
            _ => Change::Rotate { user, service, at, leaked: kind == 3 },
        }
    })
}

/// The lines of a text that speak neither of this service nor of the user as a whole.
fn others<'t>(text: &'t str, change: &Change, service: &str) -> Vec<&'t str> {
    let user = change.user();
    let keys = [format!("{user}:"), format!("\"{user}\":")];
    let speaks = |line: &&str| {
        line.trim() == "{}"
            || keys.iter().any(|key| line.trim_start().starts_with(key.as_str()))
            || [service, "ttl_days", "rotate_after", "revoke_issued", "retried_at", "connections"]
                .iter()
                .any(|word| line.contains(word))
    };
    text.split_inclusive('\n').filter(|line| !speaks(line)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_makes_the_change_in_the_model_and_keeps_every_other_byte(style in style(), change in change()) {
        let text = style.text();
        let mut model = Desired::parse(&text).unwrap().without_lines();
        let expected = change.apply(&mut model);
        let result = edit_text::edit(&text, std::slice::from_ref(&change), None).unwrap();
        prop_assert_eq!(&result.outcomes[0], &expected);
        let Some(new) = result.text else {
            prop_assert!(expected != Ok(true));
            return Ok(());
        };
        prop_assert_eq!(Desired::parse(&new).unwrap().without_lines(), model);
        // What differs is one piece, and what lies around it is the same.
        let same = |(a, b): &(u8, u8)| a == b;
        let front = text.bytes().zip(new.bytes()).take_while(same).count();
        let most = text.len().min(new.len()) - front;
        let back = text.bytes().rev().zip(new.bytes().rev()).take(most).take_while(same).count();
        let (old_piece, new_piece) = (&text[front..text.len() - back], &new[front..new.len() - back]);
        let bound = 120;
        match &change {
            Change::Connect { .. } | Change::Rotate { .. } | Change::Retry { .. } => prop_assert!(
                old_piece.len() < 30 && new_piece.len() < bound, "{old_piece:?} -> {new_piece:?}\n{text}"),
            Change::Disconnect { .. } => prop_assert!(
                new_piece.len() < 6 && old_piece.len() < bound, "{old_piece:?} -> {new_piece:?}\n{text}"),
            Change::Offboard { user } => {
                for other in (0..6).map(|n| format!("u{n}")).filter(|other| other != user.as_str()) {
                    prop_assert!(!old_piece.contains(&format!("{other}:")), "{old_piece:?}\n{text}");
                }
                return Ok(());
            }
        }
        // In a flow map over several lines, an entry shares its line with its neighbours.
        let user: usize = change.user().as_str()[1..].parse().unwrap();
        let shares = style.users.get(user).is_some_and(|user| user.form == 2);
        if style.last_newline && !style.flow_users && !shares {
            let service = match &change {
                Change::Connect { service, .. }
                | Change::Disconnect { service, .. }
                | Change::Rotate { service, .. }
                | Change::Retry { service, .. } => service,
                Change::Offboard { .. } => unreachable!("returned above"),
            };
            let service = service.as_str();
            prop_assert_eq!(others(&text, &change, service), others(&new, &change, service));
        }
        if style.crlf {
            prop_assert_eq!(new.matches('\n').count(), new.matches("\r\n").count());
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_way_and_the_whole_way_say_the_same(
        style in style(),
        changes in prop::collection::vec(change(), 1..8),
    ) {
        // A remark at the front makes the file large enough for the fast way.
        let mut text = format!("{}{}", "# filling\n".repeat(30_000), style.text());
        let mut known = Users::new();
        for change in &changes {
            let fast = edit_text::edit(&text, std::slice::from_ref(change), Some(&known)).unwrap();
            let whole = edit_text::edit(&text, std::slice::from_ref(change), None).unwrap();
            prop_assert_eq!(&fast.text, &whole.text);
            prop_assert_eq!(fast.outcomes, whole.outcomes);
            prop_assert_eq!(&fast.users, &whole.users);
            known.extend(fast.users);
            text = fast.text.unwrap_or(text);
        }
    }
}

const ODD: &[&str] = &[
    "\n",
    "\r",
    " ",
    "  ",
    "# x\r  u9: {}",
    "\n#  u9: {}\n",
    "\"",
    "'",
    "{",
    "}",
    "? ",
    "\t",
    "|\n",
    "u9: {}\n",
    ":",
    "\n  u9: {}",
    "\n u9: {}\n",
    "---\n",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    ", ",
    ">-\n",
    "\\",
    "[",
    "]",
    "#",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_blocks_that_are_found_are_the_users_whom_the_reader_sees(
        style in style(),
        odd in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(ODD.to_vec())), 0..3),
    ) {
        let mut text = style.text();
        for (at, piece) in odd {
            let at = at.index(text.len());
            if text.is_char_boundary(at) {
                text.insert_str(at, piece);
            }
        }
        let Ok(desired) = Desired::parse(&text).map(Desired::without_lines) else { return Ok(()) };
        match user_blocks::scan(&text) {
            Some(Layout::Blocks { users, .. }) => {
                prop_assert_eq!(users.len(), desired.users.len(), "{:?}", text);
                for block in users {
                    let alone = format!("version: 1\nusers:\n{}", &text[block.range]);
                    let alone = Desired::parse(&alone).map(Desired::without_lines);
                    let alone = alone.map_err(|error| TestCaseError::fail(format!("{error} {text:?}")))?;
                    prop_assert_eq!(alone.users.get(block.user), desired.users.get(block.user));
                }
            }
            Some(Layout::Nobody { .. }) => prop_assert!(desired.users.is_empty()),
            None => {}
        }
    }
}
