//! Trouble on the laptop itself: files that look like ours, full disks, other writers, signals.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::kit::{AWKS, END, Files, Laptop, SHELLS, START, program};

const NAMES: &[&str] = &["PO_API_KEY", "PO_BASE_URL"];

#[test]
fn a_rule_whose_name_could_not_be_ours_is_left_alone() {
    let laptop = Laptop::new();
    let long = format!("sc_{}.md", "a".repeat(61));
    let others =
        ["sc_team notes.md", "sc_My-Own.md", "sc_.md", "sc_*.md", "notes.md", "team.md", &long];
    for name in others {
        laptop.write(&format!(".claude/rules/{name}"), "mine");
    }
    for name in ["notes.md", "README.md", "CLAUDE.md"] {
        laptop.write(name, "mine");
    }
    laptop.write(".claude/rules/sc_gone.md", "of a service that is no more");
    Files::new(1, NAMES, &["sc_po.md"]).put(&laptop.home());
    laptop.sync().says("  - sc_gone.md");
    assert!(laptop.read(".claude/rules/sc_gone.md").is_none());
    Files::new(2, &[], &[]).put(&laptop.home());
    laptop.sync().says("  - sc_po.md");
    assert_eq!(laptop.contents().len(), others.len() + 3, "{:?}", laptop.contents());
}

/// An awk that loses the end of a file that it writes and says nothing, as some do on a full disk.
fn losing_awk(laptop: &Laptop, awk: &str, file: &str, stage: &str, keeps: usize) {
    let real = fs::read_link(laptop.path("bin/awk")).unwrap_or_else(|_| awk.into());
    let _ = fs::remove_file(laptop.path("bin/awk"));
    let word = if awk == "busybox" { "awk" } else { "" };
    let text = format!(
        "#!/bin/sh\n{} {word} \"$@\" || exit\ncase \" $* \" in *' {stage} '*) ;; *) exit 0 ;; esac\n\
         for f in .service_env.lock/*/{file}; do\n\
         [ ! -s \"$f\" ] || {{ head -c {keeps} \"$f\" >\"$LAPTOP/part\"; cat \"$LAPTOP/part\" >\"$f\"; }}\n\
         done\n",
        real.display()
    );
    program(&laptop.path("bin/awk"), &text);
}

#[test]
fn what_a_full_disk_cut_off_is_not_put_in_place() {
    for awk in AWKS {
        for (file, stage) in [
            ("block", "mode=plan"),
            ("ops", "mode=plan"),
            ("env", "stage=came"),
            ("body", "stage=came"),
            ("known", "stage=came"),
            ("expected", "stage=came"),
            ("answer", "stage=came"),
        ] {
            for keeps in [0, 20] {
                let laptop = Laptop::with(SHELLS[0], awk);
                laptop.write(".env", "MINE=1\n");
                Files::new(1, NAMES, &["sc_crm.md", "sc_po.md"]).put(&laptop.home());
                laptop.sync();
                Files::new(2, &["PO_API_KEY", "CRM_API_KEY"], &["sc_po.md"]).put(&laptop.home());
                let before = laptop.contents();
                losing_awk(&laptop, awk, file, stage, keeps);
                let ran = laptop.run(&[]);
                assert_eq!(ran.code, 1, "{awk} {file} {keeps}: {}{}", ran.stdout, ran.stderr);
                assert_eq!(laptop.contents(), before, "{awk} {file} {keeps}");
            }
        }
    }
}

#[test]
fn what_is_written_into_env_while_the_server_answers_is_kept() {
    let laptop = Laptop::new();
    laptop.write(".env", "MINE=1\n");
    Files::new(1, NAMES, &[]).put(&laptop.home());
    laptop.sync();
    Files::new(2, NAMES, &[]).put(&laptop.home());
    // Into the middle of the document, which was whole before.
    let edit = "sed '/^# generation/a SOMEBODYS=own' .env >.new && mv .new .env";
    laptop.ssh(&format!(
        "case $last in *N=*) {edit} ;; esac\n\
         cd \"$SERVERS_HOME\" && HOME=$SERVERS_HOME exec sh -c \"$last\""
    ));
    laptop.sync();
    let text = laptop.env();
    assert_eq!(text.matches("SOMEBODYS=own\n").count(), 1, "{text}");
    assert_eq!(text.matches("PO_API_KEY=").count(), 1, "{text}");
    assert!(text.contains("# generation 2\n"), "{text}");
}

#[test]
fn a_signal_leaves_no_key_in_a_temporary_file() {
    for shell in SHELLS {
        let laptop = Laptop::with(shell, "mawk");
        Files::new(1, NAMES, &["sc_po.md"]).put(&laptop.home());
        // Nobody reads what is said.
        for words in [&["--check"][..], &[]] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let ended =
                laptop.command(words).stdout(writer).stderr(Stdio::null()).status().unwrap();
            assert!(!ended.success(), "{shell:?} {words:?}");
            assert!(!laptop.path("project/.service_env.lock").exists(), "{shell:?} {words:?}");
        }
        for signal in ["HUP", "INT", "QUIT", "TERM"] {
            let ready = laptop.path("ready");
            laptop.ssh("echo >\"$LAPTOP/ready\"; sleep 1; exit 255");
            let mut child = laptop.command(&["--quiet"]).stderr(Stdio::null()).spawn().unwrap();
            while !ready.exists() {
                std::thread::sleep(Duration::from_millis(10));
            }
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
            assert!(!child.wait().unwrap().success(), "{shell:?} {signal}");
            assert!(!laptop.path("project/.service_env.lock").exists(), "{shell:?} {signal}");
            fs::remove_file(ready).unwrap();
        }
    }
}

fn git(laptop: &Laptop, dir: &str, words: &[&str]) {
    let mut git = Command::new("git");
    git.args(words).current_dir(laptop.path("project").join(dir));
    assert!(git.stdout(Stdio::null()).status().unwrap().success(), "git {words:?}");
}

/// A project that holds a key, and the key.
fn with_key() -> (Laptop, String) {
    let laptop = Laptop::new();
    let files = Files::new(1, &["PO_API_KEY"], &[]);
    files.put(&laptop.home());
    laptop.sync();
    (laptop, files.variables[0].1.clone())
}

#[test]
fn a_scan_finds_the_key_where_git_or_a_name_hides_it() {
    let (laptop, key) = with_key();
    laptop.write("-dir/a.py", &key);
    laptop.run(&["--scan", "-dir"]).expect(2).says("a.py:1: PO_API_KEY");
    fs::remove_dir_all(laptop.path("project/-dir")).unwrap();
    git(&laptop, ".", &["init", "--quiet"]);
    laptop.write(".gitignore", ".env\n");
    laptop.run(&["--scan", "."]).expect(0);
    // Staged, and taken out of the file again.
    laptop.write("src/staged one.py", format!("\n{key}\n"));
    git(&laptop, ".", &["add", "src"]);
    laptop.write("src/staged one.py", "");
    laptop.run(&["--scan", "."]).expect(2).says("src/staged one.py (staged):2: PO_API_KEY");
    git(&laptop, ".", &["add", "src"]);
    laptop.run(&["--scan", "."]).expect(0);
    // In a repository inside.
    fs::create_dir(laptop.path("project/inner")).unwrap();
    git(&laptop, "inner", &["init", "--quiet"]);
    laptop.write("inner/b.py", &key);
    laptop.run(&["--scan", "."]).expect(2).says("inner/b.py:1: PO_API_KEY");
    fs::remove_file(laptop.path("project/inner/b.py")).unwrap();
    laptop.run(&["--scan", "."]).expect(0);
    // The markers as an editor leaves them.
    laptop.write("c.py", &key);
    for (from, to) in [(" ---\n", " --- \n"), ("\n", "\r\n")] {
        laptop.write(".env", laptop.env().replace(from, to));
        laptop.run(&["--scan", "."]).expect(2).says("c.py:1: PO_API_KEY");
    }
}

#[test]
fn a_scan_that_could_not_look_says_so() {
    let (laptop, key) = with_key();
    laptop.write("a\nb.py", &key);
    laptop.run(&["--scan", "."]).expect(1).says("could be looked through").says("b.py");
    fs::remove_file(laptop.path("project/a\nb.py")).unwrap();
    laptop.run(&["--scan", "."]).expect(0);
    // Whoever may read everything gets no such answer from a closed directory: from its tool instead.
    let closed = "echo 'grep: x: Permission denied' >&2; exit 2";
    let text = format!(
        "#!/bin/sh\ncase $1 in -lF) {closed} ;; esac\nPATH=${{PATH#*:}}; exec grep \"$@\"\n"
    );
    program(&laptop.path("bin/grep"), &text);
    laptop.run(&["--scan", "."]).expect(1).says("grep: x: Permission denied");
}

#[test]
fn between_both_markers_a_known_name_is_taken_and_an_unknown_one_is_left_and_spoken_of() {
    for first in ["", "# a word\n", "\n", "export MINE=1\n"] {
        let laptop = Laptop::new();
        let block =
            format!("{START}{first}PO_API_KEY=dead\nODD_NAME=whose\nPO_BASE_URL=dead\n{END}");
        laptop.write(".env", format!("A=1\n{block}B=2\n"));
        let files = Files::new(1, NAMES, &[]);
        files.put(&laptop.home());
        laptop.sync().says("are not known as ours and stay in .env").says("ODD_NAME");
        let left = format!("A=1\n{}{first}ODD_NAME=whose\nB=2\n", files.block(""));
        assert_eq!(laptop.env(), left);
        // One that was remembered is known, too.
        laptop.write(".env", laptop.env().replace(END, &format!("\nPO_BASE_URL=older\n{END}")));
        Files::new(2, &["PO_API_KEY"], &[]).put(&laptop.home());
        laptop.sync();
        assert!(!laptop.env().contains("PO_BASE_URL"), "{}", laptop.env());
    }
}

#[test]
fn a_disconnect_takes_the_end_of_the_line_above_whole_or_not_at_all() {
    let end = |turn: &dyn Fn(String) -> String| {
        let laptop = Laptop::new();
        laptop.write(".env", "MINE=1");
        Files::new(1, NAMES, &[]).put(&laptop.home());
        laptop.sync();
        laptop.write(".env", turn(laptop.env()));
        Files::new(2, &[], &[]).put(&laptop.home());
        laptop.sync();
        laptop.env()
    };
    assert_eq!(end(&|text| text), "MINE=1");
    assert_eq!(end(&|text| text.replace('\n', "\r\n")), "MINE=1");
    let apart = |text: String| text.replace("MINE=1\n", "MINE=1\n\n");
    assert_eq!(end(&apart), "MINE=1\n\n");
    assert_eq!(end(&|text| apart(text).replace('\n', "\r\n")), "MINE=1\r\n\r\n");
}

#[test]
fn the_higher_of_what_is_remembered_and_what_stands_in_the_block_is_the_least() {
    let laptop = Laptop::new();
    Files::new(3, NAMES, &[]).put(&laptop.home());
    laptop.sync();
    let restored = laptop.env();
    Files::new(5, NAMES, &[]).put(&laptop.home());
    laptop.sync();
    // The block comes out of a backup.
    laptop.write(".env", restored);
    Files::new(4, NAMES, &[]).put(&laptop.home());
    laptop.run(&[]).expect(1).says("generation 4, which is older than 5");
    // Nothing is remembered, and the block is not even whole.
    fs::remove_dir_all(laptop.path("config/.config")).unwrap();
    laptop.write(".env", laptop.env().replace("# generation 3\n", "# generation 6\n"));
    laptop.run(&[]).expect(1).says("generation 4, which is older than 6");
    Files::new(6, NAMES, &[]).put(&laptop.home());
    laptop.sync();
    Files::new(6, NAMES, &[]).put(&laptop.home());
    laptop.run(&[]).expect(1).says("another generation 6 than the one that is here");
}

#[test]
fn a_document_that_would_steer_the_laptop_is_refused() {
    let long = "a".repeat(4097);
    for line in [
        "LD_PRELOAD=/x.so",
        "PATH=/x",
        "HTTPS_PROXY=http://x",
        "A=b=c",
        "A=b:=",
        "A=",
        &format!("A={long}"),
    ] {
        let laptop = Laptop::new();
        Files::new(1, &["PO_API_KEY"], &[]).put(&laptop.home());
        let home = laptop.home().join(".service_env");
        let text = fs::read_to_string(&home).unwrap();
        let body = text.split("# end").next().unwrap();
        let key = body.lines().find(|line| line.starts_with("PO_")).unwrap();
        let body = body.replace(key, line);
        let digest = service_connector::model::digest::Digest::of(&body);
        fs::write(&home, format!("{body}# end 1 variables sha256 {digest}\n")).unwrap();
        laptop.run(&[]).expect(1).says("is not whole: ");
        assert_eq!(laptop.env(), "");
    }
}

#[test]
fn a_server_that_never_ends_is_left() {
    for shell in SHELLS {
        let laptop = Laptop::with(shell, "mawk");
        laptop.ssh("exec sleep 50");
        let ran = laptop.command(&[]).env("SC_SYNC_SECONDS", "1").output().unwrap();
        crate::kit::Ran::of(&ran).expect(1).says("has not answered in full within 1 seconds");
        laptop.ssh("exec cat /dev/zero");
        laptop.run(&[]).expect(1).says("the connection broke");
    }
}

#[test]
fn whoever_reads_what_a_sync_says_waits_for_nothing_that_it_leaves_behind() {
    for shell in SHELLS {
        let laptop = Laptop::with(shell, "mawk");
        Files::new(1, NAMES, &[]).put(&laptop.home());
        let slow = "#!/bin/sh\nPATH=${PATH#*:}\nsleep 9\necho >\"$LAPTOP/slept\"\n";
        program(&laptop.path("bin/sleep"), slow);
        laptop.sync();
        assert!(!laptop.path("slept").exists(), "{shell:?}");
    }
}

#[test]
fn what_a_killed_lock_breaker_put_away_is_removed() {
    let (laptop, _) = with_key();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let away = format!(".service_env.lock.{}", gone.id());
    laptop.write(&format!("{away}/1/new"), "PO_API_KEY=of a sync that was killed\n");
    let alive = format!(".service_env.lock.{}", std::process::id());
    laptop.write(&format!("{alive}/pid"), "1\n");
    laptop.sync();
    assert!(!laptop.path("project").join(away).exists());
    assert!(laptop.path("project").join(alive).exists());
}

#[test]
fn what_a_link_leads_to_is_asked_of_git_too() {
    let laptop = Laptop::new();
    fs::create_dir(laptop.path("other")).unwrap();
    git(&laptop, ".", &["init", "--quiet"]);
    git(&laptop, "../other", &["init", "--quiet"]);
    laptop.write(".gitignore", "*.env\n");
    std::os::unix::fs::symlink("../other/keys", laptop.path("project/.env")).unwrap();
    Files::new(1, NAMES, &[]).put(&laptop.home());
    laptop.sync().says("git does not ignore ./../other/keys");
    fs::write(laptop.path("other/.gitignore"), "keys\n").unwrap();
    assert_eq!(laptop.sync().stderr, "");
}

#[test]
fn the_alias_may_have_blanks_and_is_missed() {
    let laptop = Laptop::new();
    Files::new(1, NAMES, &[]).put(&laptop.home());
    laptop.write(".sync_connection", "ssh_alias=\"server\" \t\r\n");
    laptop.sync();
    let calls = fs::read_to_string(laptop.path("calls")).unwrap();
    assert!(calls.contains(" -- server sh -c"), "{calls}");
    laptop.write(".sync_connection", "user=john\n");
    laptop.sync().says(".sync_connection has no ssh_alias");
}
