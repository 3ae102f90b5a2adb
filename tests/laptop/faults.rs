//! What goes wrong on the way: never a wipe, never half.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::kit::{Files, Laptop, SCRIPT, program};

const NAMES: &[&str] = &["PO_API_KEY", "PO_BASE_URL"];

/// A laptop that holds generation 2, while the server has 3.
fn laptop() -> Laptop {
    let laptop = Laptop::new();
    laptop.write(".env", "MINE=1\r\nOTHER=2");
    laptop.write(".claude/rules/km_other.md", "another program's");
    Files::new(2, NAMES, &["sc_crm.md", "sc_po.md"]).put(&laptop.home());
    laptop.sync();
    Files::new(3, NAMES, &["sc_inv.md", "sc_po.md"]).put(&laptop.home());
    laptop
}

/// A sync that must change nothing, and say so.
#[track_caller]
fn refuses(laptop: &Laptop, why: &str) {
    let before = laptop.contents();
    let ran = laptop.run(&[]).expect(1).says(why).says("Nothing was changed");
    ran.says("generation 2, synced just now").says("sc_po.md: active until 2027-02-18");
    assert_eq!(laptop.contents(), before);
}

/// The whole answer of the server, by a fake `ssh` that then does something with it.
fn answer(laptop: &Laptop, then: &str) {
    laptop.ssh(&format!(
        "cd \"$SERVERS_HOME\" && HOME=$SERVERS_HOME sh -c \"$last\" >\"$LAPTOP/answer\" && {then}"
    ));
}

#[test]
fn an_answer_that_is_cut_off_anywhere_changes_nothing() {
    let laptop = laptop();
    answer(&laptop, "cat \"$LAPTOP/answer\"");
    laptop.run(&["--check"]).expect(2);
    let length = fs::read(laptop.path("answer")).unwrap().len();
    let before = laptop.contents();
    // The last newline alone may be missing.
    let step = if std::env::var_os("SC_TESTS_FULL").is_some() { 1 } else { 2 };
    let offsets: Vec<usize> = (0..length - 1).step_by(step).collect();
    assert!(offsets.len() >= 250, "of {length} bytes");
    for (number, at) in offsets.into_iter().enumerate() {
        let code = [0, 1, 255][number % 3];
        answer(&laptop, &format!("head -c {at} \"$LAPTOP/answer\"; exit {code}"));
        laptop.run(&[]).expect(1).says("Nothing was changed");
        assert_eq!(laptop.contents(), before, "cut at {at}");
    }
    answer(&laptop, "cat \"$LAPTOP/answer\"");
    laptop.sync();
}

#[test]
fn a_byte_that_changed_on_the_way_changes_nothing() {
    let laptop = laptop();
    answer(&laptop, "cat \"$LAPTOP/answer\"");
    laptop.run(&["--check"]).expect(2);
    let text = fs::read_to_string(laptop.path("answer")).unwrap();
    let begin = text.find("data\n").unwrap() + 5;
    let before = laptop.contents();
    for _ in 0..40 {
        let at = fastrand::usize(begin..text.rfind("service-connector ").unwrap() - 1);
        answer(
            &laptop,
            &format!(
                "head -c {at} \"$LAPTOP/answer\"; printf X; tail -c +{} \"$LAPTOP/answer\"",
                at + 2
            ),
        );
        if text.as_bytes()[at] != b'X' {
            laptop.run(&[]).expect(1).says("Nothing was changed");
            assert_eq!(laptop.contents(), before, "changed at {at}");
        }
    }
}

#[test]
fn what_is_not_an_answer_is_no_disconnect() {
    let laptop = laptop();
    for (does, says) in [
        ("echo 'ssh: connect to host: Connection refused' >&2; exit 255", "Connection refused"),
        ("echo 'Permission denied (publickey).' >&2; exit 255", "Permission denied"),
        ("exit 255", "ssh ended with 255"),
        ("exit 0", "sent nothing that the sync knows"),
        ("exit 1", "ssh ended with 1"),
        ("echo 'This account is currently not available.'; exit 1", "ssh ended with 1"),
        ("cat /dev/null", "sent nothing"),
        ("head -c 300000 /dev/urandom", "sent nothing"),
        ("echo '# end 0 variables sha256 0'", "sent nothing"),
        ("kill -9 $$", "ssh ended with"),
    ] {
        laptop.ssh(does);
        refuses(&laptop, says);
    }
}

#[test]
fn a_whole_answer_of_a_connection_that_broke_is_not_believed() {
    let laptop = laptop();
    for code in [1, 255] {
        answer(&laptop, &format!("cat \"$LAPTOP/answer\"; exit {code}"));
        refuses(&laptop, &format!("ssh ended with {code}"));
    }
}

#[test]
fn noise_around_the_answer_is_skipped() {
    let laptop = laptop();
    let stale = "service-connector 1-1 begin\nnone\nservice-connector 1-1 end";
    let noise = "printf 'Welcome!\\r\\nPO_API_KEY=x\\n# end 0 variables\\nno newline'";
    answer(
        &laptop,
        &format!("{noise}; printf '\\n{stale}\\nrest'; cat \"$LAPTOP/answer\"; echo bye"),
    );
    laptop.sync();
    assert!(laptop.env().contains("# generation 3\n"));
}

#[test]
fn an_older_generation_is_refused_and_a_file_that_vanished_too() {
    let laptop = laptop();
    Files::new(1, NAMES, &["sc_po.md"]).put(&laptop.home());
    refuses(&laptop, "generation 1, which is older than 2");
    Files::new(1, &[], &[]).put(&laptop.home());
    refuses(&laptop, "generation 1, which is older than 2");
    fs::remove_file(laptop.home().join(".service_env")).unwrap();
    refuses(&laptop, "there is no .service_env on data-analyst");
    fs::create_dir(laptop.home().join(".service_env")).unwrap();
    refuses(&laptop, ".service_env cannot be read");
}

#[test]
fn the_first_sync_of_somebody_without_connections_is_quiet() {
    let laptop = Laptop::new();
    let ran = laptop.sync();
    assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (1, ""));
    assert!(laptop.contents().is_empty());
}

#[test]
fn after_a_disconnect_an_older_generation_brings_no_key_back() {
    let laptop = laptop();
    Files::new(4, &[], &[]).put(&laptop.home());
    laptop.sync();
    Files::new(3, NAMES, &[]).put(&laptop.home());
    laptop.run(&[]).expect(1).says("older than 4");
    assert_eq!(laptop.env(), "MINE=1\r\nOTHER=2");
}

#[test]
fn files_that_do_not_belong_together_are_refused_and_a_put_under_way_is_waited_for() {
    let laptop = laptop();
    let skill = laptop.home().join(".claude_rules/sc_po.md");
    let right = fs::read(&skill).unwrap();
    fs::write(&skill, "of another generation").unwrap();
    let mut syncing = laptop.command(&["--quiet"]).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(syncing.try_wait().unwrap().is_none(), "it waits");
    fs::write(&skill, right).unwrap();
    assert!(syncing.wait().unwrap().success());
    assert!(laptop.env().contains("# generation 3\n"));
}

/// Each of these that the script starts is a step at which it may be killed.
const TOOLS: [&str; 11] =
    ["mkdir", "wc", "tr", "sha256sum", "date", "mv", "rm", "cat", "head", "cp", "tail"];

/// Runs a sync that is killed when it starts its tool of this number. Returns whether it ended before.
fn sync_killed_at(laptop: &Laptop, step: usize) -> bool {
    let killer = format!(
        "n=$(cat \"$LAPTOP/step\" 2>/dev/null || echo 0)\n\
         echo $((n + 1)) >\"$LAPTOP/step\"\n\
         if [ \"$n\" = {step} ]; then kill -9 \"$(cat \"$LAPTOP/pid\")\"; exit 1; fi\n"
    );
    for name in TOOLS {
        let text = format!("#!/bin/sh\nPATH=$REAL\n{killer}exec {name} \"$@\"\n");
        program(&laptop.path(&format!("bin/{name}")), &text);
    }
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap();
    command
        .args(["-c", "echo $$ >\"$LAPTOP/pid\"; exec dash \"$1\"", "sh", SCRIPT])
        .current_dir(laptop.path("project"))
        .env_clear()
        .env("PATH", format!("{}:{path}", laptop.path("bin").display()))
        .env("REAL", path)
        .env("HOME", laptop.path("config"))
        .env("LAPTOP", laptop.path(""))
        .env("SERVERS_HOME", laptop.home());
    let ended = command.output().unwrap().status.success();
    for name in TOOLS {
        fs::remove_file(laptop.path(&format!("bin/{name}"))).unwrap();
    }
    ended
}

/// The generation of a block that is whole, below lines that are as they were.
fn generation(laptop: &Laptop) -> String {
    let text = laptop.env();
    assert!(text.starts_with("MINE=1\r\nOTHER=2\n# --- SERVICE CONNECTOR START ---\n"), "{text:?}");
    assert!(text.ends_with("# --- SERVICE CONNECTOR END ---\n"), "{text:?}");
    let generation = text.lines().find_map(|line| line.strip_prefix("# generation ")).unwrap();
    generation.to_owned()
}

#[test]
fn a_sync_that_is_killed_anywhere_leaves_the_old_or_the_new_and_the_next_one_mends() {
    let mut seen = BTreeSet::new();
    for step in 0.. {
        assert!(step < 90, "the steps come to an end");
        let laptop = laptop();
        let ended = sync_killed_at(&laptop, step);
        seen.insert(generation(&laptop));
        laptop.sync();
        assert_eq!(generation(&laptop), "3");
        let left = laptop.contents();
        let names: Vec<_> = left.iter().map(|(path, _)| path.file_name().unwrap()).collect();
        assert_eq!(names, ["km_other.md", "sc_inv.md", "sc_po.md", ".env"], "after step {step}");
        if ended {
            assert!(step > 20, "it was killed at {step} steps");
            break;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["2", "3"]);
}
