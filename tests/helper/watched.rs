//! The helper under strace, and under the eyes of another user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::server::{ANALYSTS, on_a_server};
use crate::talk::{self, HELPER, files, put_line};

#[test]
fn no_call_names_anything_in_a_home_while_the_process_has_root() {
    on_a_server("no_call_names_anything_in_a_home_while_the_process_has_root", |server| {
        talk::install(server);
        for (uid, name) in (1500..).zip(["alice", "bob"]) {
            server.account(name, uid, &[ANALYSTS]);
        }
        let set = files(1, &["sc_crm.md"]);
        let lines: Vec<u8> =
            ["alice", "bob"].iter().flat_map(|name| put_line(1, name, &set)).collect();
        let mut strace = Command::new("strace");
        strace.args(["-ff", "-o", "/home/traced", "-e", "trace=%file,%creds,%desc", HELPER]);
        let said = talk::said(&talk::run(strace, &lines));
        assert_eq!(said.len(), 2, "{said:?}");
        let (mut by_users, mut by_root) = (0, 0);
        // A file for each process.
        for entry in fs::read_dir("/home").unwrap() {
            let path = entry.unwrap().path();
            if !path.to_str().unwrap().starts_with("/home/traced.") {
                continue;
            }
            let mut became = false;
            for call in fs::read_to_string(path).unwrap().lines() {
                if call.starts_with("setresuid(15") && call.ends_with("= 0") {
                    became = true;
                }
                let ours = [".service_env", ".claude_rules", "sc_crm.md", "\"alice\"", "\"bob\""];
                let names_it = call.contains("/home/alice")
                    || call.contains("/home/bob")
                    || (call.contains("at") && ours.iter().any(|name| call.contains(name)));
                // What goes through pipes is no path.
                let is_talk = call.starts_with("read(") || call.starts_with("write(");
                if names_it && !is_talk {
                    assert!(became, "as root: {call}");
                    by_users += 1;
                } else if !became {
                    by_root += 1;
                }
            }
        }
        assert!(by_users > 20 && by_root > 20, "{by_users} by users, {by_root} by root");
    });
}

#[test]
fn a_quota_that_is_used_up_is_told() {
    on_a_server("a_quota_that_is_used_up_is_told", |server| {
        talk::install(server);
        server.account("alice", 1500, &[ANALYSTS]);
        // Few kernels for tests have quotas: the answer is put in the kernel's mouth.
        let mut strace = Command::new("strace");
        let inject = "inject=fsync:error=EDQUOT";
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", inject, HELPER]);
        let output = talk::run(strace, &put_line(1, "alice", &files(1, &["sc_crm.md"])));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("quota is used up: free some space or raise it"), "{text}");
        assert!(!fs::exists("/home/alice/.service_env").unwrap());
    });
}

/// Polls a home and says of each file of ours whose mode was not 0600, and what could be read.
const WATCH: &str = r#"
import os, sys, time
home, seen = sys.argv[1], 0
end = time.time() + float(sys.argv[2])
while time.time() < end:
    for at in (home, home + "/.claude_rules"):
        try: names = os.listdir(at)
        except OSError: continue
        for name in names:
            if not (name.startswith(".service_env") or "sc_" in name): continue
            path = at + "/" + name
            try: mode = os.lstat(path).st_mode & 0o7777
            except OSError: continue
            seen += 1
            if mode != 0o600: print("MODE", name, oct(mode))
            try: open(path).read(); print("READ", name)
            except OSError: pass
print("seen", seen)
"#;

#[test]
fn every_file_is_private_from_its_first_instant() {
    on_a_server("every_file_is_private_from_its_first_instant", |server| {
        talk::install(server);
        let home = server.account("alice", 1500, &[ANALYSTS]);
        server.account("bob", 1501, &[ANALYSTS]);
        // A home that others may list, and a directory in which everything is shared.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        let mut watch = server.run_as("bob", "/usr/bin/python3");
        watch.args(["-c", WATCH, "/home/alice", "6"]).stdout(Stdio::piped());
        let watch = watch.spawn().unwrap();
        let mut generation = 0;
        let begun = std::time::Instant::now();
        while begun.elapsed().as_secs() < 6 {
            generation += 1;
            let names = [&["sc_crm.md", "sc_invoicing.md"][..], &["sc_crm.md"], &[]];
            talk::put("alice", &files(generation, names[fastrand::usize(..3)])).unwrap();
        }
        let text = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
        let (seen, wrong): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("seen "));
        assert!(wrong.is_empty(), "{wrong:?}");
        let seen: u64 = seen[0][5..].parse().unwrap();
        assert!(seen > 1_000, "{seen}");
    });
}
