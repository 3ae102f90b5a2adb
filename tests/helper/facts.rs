//! Why a home is not served: each is a fact of its own, with a text that names the way out.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use service_connector::model::home::{AbsenceKind, HomeLook};
use service_connector::wire::{Answer, PutError, Reply, Said};

use crate::server::{ANALYSTS, PORTAL, on_a_server};
use crate::talk::{self, absence, files, holds, look, put, seen};

#[test]
fn files_come_into_a_home_and_go_again() {
    on_a_server("files_come_into_a_home_and_go_again", |server| {
        talk::install(server);
        let home = server.account("alice", 1500, &[ANALYSTS]);
        fs::create_dir(home.join(".claude_rules")).unwrap();
        fs::write(home.join(".claude_rules/km_other.md"), "another program's").unwrap();
        fs::write(home.join(".claude_rules/sc_old.md"), "unwanted").unwrap();
        chown(home.join(".claude_rules"), Some(1500), Some(1500)).unwrap();
        let set = files(1, &["sc_crm.md", "sc_invoicing.md"]);
        assert!(put("alice", &set).unwrap().changed);
        holds(&home, 1500, &set);
        assert!(!put("alice", &set).unwrap().changed, "it is so already");
        assert_eq!(seen("alice").uid, 1500);
        assert!(!home.join(".claude_rules/sc_old.md").exists());
        let empty = files(2, &[]);
        put("alice", &empty).unwrap();
        holds(&home, 1500, &empty);
        let names: Vec<_> = fs::read_dir(home.join(".claude_rules")).unwrap().collect();
        assert_eq!(names.len(), 1, "only another program's is left");
    });
}

#[test]
fn each_reason_not_to_serve_a_home_is_told_apart() {
    on_a_server("each_reason_not_to_serve_a_home_is_told_apart", |server| {
        use AbsenceKind as Kind;
        talk::install(server);
        let alice = server.account("alice", 1500, &[ANALYSTS]);
        server.account("guest", 1501, &[]);
        server.account("twin", 1502, &[ANALYSTS]);
        server.account("ghost", 65535, &[ANALYSTS]);
        server.system_user("daemon2", &[ANALYSTS]);
        append_account("twin2", 1502);
        append_account("rootless", 1503);
        let is = |account: &str, kind: Kind, told: &str| {
            let absence = absence(account);
            assert_eq!(absence.kind, kind, "{}", absence.why);
            assert!(absence.why.contains(told), "{}", absence.why);
            match put(account, &files(1, &[])) {
                Err(PutError::Absent(put)) => assert_eq!(put, absence),
                other => panic!("{other:?}"),
            }
        };
        is("missing", Kind::NoAccount, "there is no account missing");
        is("guest", Kind::NotInGroup, "adduser guest analysts");
        is("twin2", Kind::NotUnique, "twin");
        is("root", Kind::UidTooLow, "uid 0");
        is("daemon2", Kind::UidTooLow, "system");
        is("ghost", Kind::UidTooLow, "65535");
        is(PORTAL, Kind::UidTooLow, "system");
        server.leaves("alice", ANALYSTS);
        is("alice", Kind::NotInGroup, "analysts");
        assert!(!alice.join(".service_env").exists());
    });
}

#[test]
fn a_home_that_is_missing_or_somebody_elses_is_not_a_person_who_left() {
    on_a_server("a_home_that_is_missing_or_somebody_elses_is_not_a_person_who_left", |server| {
        talk::install(server);
        let alice = server.account("alice", 1500, &[ANALYSTS]);
        let bob = server.account("bob", 1501, &[ANALYSTS]);
        chown(&alice, Some(1501), Some(1501)).unwrap();
        let not_owned = absence("alice");
        assert_eq!(not_owned.kind, AbsenceKind::NotOwned);
        assert!(not_owned.why.contains("1501"), "{}", not_owned.why);
        fs::remove_dir(&bob).unwrap();
        let no_home = absence("bob");
        assert_eq!(no_home.kind, AbsenceKind::NoHome);
        assert!(no_home.why.contains("/home/bob"), "{}", no_home.why);
        assert!(!no_home.kind.is_leaving() && !not_owned.kind.is_leaving());
        // A link in the place of a home leads nowhere, wherever it leads.
        std::os::unix::fs::symlink("/home/alice", &bob).unwrap();
        assert!(matches!(look("bob"), HomeLook::Unknown(text) if text.contains("a link")));
    });
}

#[test]
fn the_keys_of_one_uid_are_not_put_for_another() {
    on_a_server("the_keys_of_one_uid_are_not_put_for_another", |server| {
        use service_connector::wire::{Asked, Request, line};
        talk::install(server);
        let home = server.account("alice", 1500, &[ANALYSTS]);
        let files = files(1, &[]);
        let what = Asked::Put { uid: Some(1400), files: &files };
        let request = Request { id: 9, account: "alice".parse().unwrap(), what };
        let said = talk::say(&line(&request).unwrap());
        let [Said::Reply(Reply { id: 9, answer: Answer::Put(Err(PutError::Refused(why))) })] =
            &said[..]
        else {
            panic!("{said:?}")
        };
        assert!(why.contains("uid 1400"), "{why}");
        assert!(!home.join(".service_env").exists());
    });
}

#[test]
fn one_accounts_trouble_is_that_accounts_alone() {
    on_a_server("one_accounts_trouble_is_that_accounts_alone", |server| {
        talk::install(server);
        let mut input = Vec::new();
        for n in 0..60 {
            let name = format!("user{n}");
            match n % 3 {
                0 => drop(server.account(&name, 1500 + n, &[ANALYSTS])),
                1 => drop(server.account(&name, 1500 + n, &[])),
                _ => {}
            }
            let set = files(1, &["sc_crm.md"]);
            input.extend(talk::put_line(n.into(), &name, &set));
        }
        let mut said = talk::say(&input);
        assert_eq!(said.len(), 60);
        said.sort_by_key(|said| match said {
            Said::Reply(reply) => reply.id,
            Said::Stopped(why) => panic!("{why}"),
        });
        for (n, said) in said.into_iter().enumerate() {
            let Said::Reply(Reply { id, answer: Answer::Put(done) }) = said else { panic!() };
            assert_eq!(id, n as u64);
            let kind = done.err().map(|error| match error {
                PutError::Absent(absence) => absence.kind,
                other => panic!("{other}"),
            });
            let expected =
                [None, Some(AbsenceKind::NotInGroup), Some(AbsenceKind::NoAccount)][n % 3];
            assert_eq!(kind, expected, "user{n}");
        }
        assert!(Path::new("/home/user57/.claude_rules/sc_crm.md").exists());
    });
}

fn append_account(name: &str, uid: u32) {
    let mut text = fs::read_to_string("/etc/passwd").unwrap();
    writeln!(text, "{name}:x:{uid}:{uid}::/home/{name}:/bin/bash").unwrap();
    fs::write("/etc/passwd", text).unwrap();
}
