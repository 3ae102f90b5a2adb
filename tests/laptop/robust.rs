//! Trouble on the laptop itself: files that look like ours, full disks, other writers, signals.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::kit::{AWKS, Files, Laptop, SHELLS, program};

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
