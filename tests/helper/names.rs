//! Many names and uids: none is served outside the rule.

use std::fmt::Write as _;
use std::fs;

use service_connector::model::home::HomeLook;
use service_connector::model::name::AccountName;
use service_connector::wire::{Answer, Reply, Said};

use crate::server::{ANALYSTS, on_a_server};
use crate::talk;

/// An account as the test makes it, and so knows whether it is to be served.
struct Made {
    name: String,
    uid: u32,
    is_member: bool,
}

const COUNT: usize = 10_000;
const MIN_UID: u32 = 1200;

#[test]
fn of_ten_thousand_names_and_uids_none_is_served_outside_the_rule() {
    on_a_server("of_ten_thousand_names_and_uids_none_is_served_outside_the_rule", |server| {
        talk::install(server);
        let conf = format!("group = {ANALYSTS}\nmin_uid = {MIN_UID}\n");
        server.root_file(talk::CONFIG, &conf);
        let made: Vec<Made> = (0..300).map(make).collect();
        let (mut passwd, mut members) = (String::new(), Vec::new());
        for Made { name, uid, is_member } in &made {
            writeln!(passwd, "{name}:x:{uid}:{uid}::/home/{name}:/bin/sh").unwrap();
            if *is_member {
                members.push(name.as_str());
            }
        }
        let others = fs::read_to_string("/etc/passwd").unwrap();
        fs::write("/etc/passwd", others + &passwd).unwrap();
        fs::write("/etc/group", format!("root:x:0:\n{ANALYSTS}:x:699:{}\n", members.join(",")))
            .unwrap();
        for Made { name, uid, .. } in &made {
            if let Ok(()) = fs::create_dir(format!("/home/{name}")) {
                std::os::unix::fs::chown(format!("/home/{name}"), Some(*uid), None).unwrap();
            }
        }
        let names: Vec<String> = (0..COUNT).map(|n| name(n, &made)).collect();
        let asked: Vec<&String> =
            names.iter().filter(|name| name.parse::<AccountName>().is_ok()).collect();
        assert!(asked.len() > 1_000 && asked.len() < COUNT, "of both kinds: {}", asked.len());
        let lines = (0..).zip(&asked).flat_map(|(id, name)| talk::look_line(id, name));
        let said = talk::say(&lines.collect::<Vec<u8>>());
        assert_eq!(said.len(), asked.len());
        let mut served = 0;
        for said in said {
            let Said::Reply(Reply { id, answer: Answer::Look(look) }) = said else {
                panic!("{said:?}")
            };
            let name = asked[usize::try_from(id).unwrap()];
            let found = made.iter().find(|made| made.name == *name);
            let is_unique = |made: &Made| {
                let first = others_first(made.uid);
                first.is_none_or(|first| first == made.name)
            };
            let may = found.is_some_and(|made| {
                made.is_member
                    && made.uid >= MIN_UID
                    && ![65534, 65535, u32::MAX - 1].contains(&made.uid)
                    && is_unique(made)
            });
            assert_eq!(matches!(look, HomeLook::Seen(_)), may, "{name}: {look:?}");
            served += usize::from(may);
        }
        assert!(served > 50, "{served} were served");
        for name in names.iter().filter(|name| name.parse::<AccountName>().is_err()).take(500) {
            is_refused(name);
        }
    });
}

/// The name that the system gives to this uid.
fn others_first(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let owner = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(owner)
}

fn make(n: u32) -> Made {
    let uid = match fastrand::u32(0..10) {
        0 => fastrand::u32(0..1000),
        1 => fastrand::u32(1000..MIN_UID),
        2 => [65534, 65535, u32::MAX - 1][fastrand::usize(..3)],
        3 => 2000,
        _ => fastrand::u32(MIN_UID..70_000),
    };
    let name = match fastrand::u32(0..4) {
        0 => format!("a{n}.b-c_"),
        1 => format!("_{n}"),
        _ => format!("user{n}"),
    };
    Made { name, uid, is_member: fastrand::u32(0..4) > 0 }
}

/// A name: one of those, one like those, or whatever a stranger would try.
fn name(n: usize, made: &[Made]) -> String {
    let known = &made[n % made.len()].name;
    let odd = ["root", "0", "--help", "-1", "", ".", "..", "daemon", "nobody", "sync", "+", "*"];
    match fastrand::u32(0..8) {
        0 | 1 => known.clone(),
        2 => odd[fastrand::usize(..odd.len())].to_owned(),
        3 => format!("{known}{}", fastrand::char('!'..='~')),
        4 => known.to_uppercase(),
        5 => format!("../{known}"),
        6 => (0..fastrand::usize(1..40)).map(|_| fastrand::char(' '..='~')).collect(),
        _ => (0..fastrand::usize(1..12)).map(|_| fastrand::char('\u{1}'..='\u{2fff}')).collect(),
    }
}

/// A name that is none is refused in both forms.
fn is_refused(name: &str) {
    let line = serde_json::json!({"id": 1, "account": name, "what": "look"}).to_string() + "\n";
    let said = talk::say(line.as_bytes());
    assert!(matches!(&said[..], [Said::Stopped(_)]), "{name:?}: {said:?}");
    let words = [name, "/etc/hostname", "/tmp"];
    let output = std::process::Command::new(talk::HELPER).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{name:?}");
}
