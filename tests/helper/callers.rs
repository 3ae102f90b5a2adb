//! Who may ask, and what the helper's own configuration must be like.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

use service_connector::wire::Said;

use crate::server::{ANALYSTS, PORTAL, RECONCILER, Server, on_a_server};
use crate::talk::{self, CONFIG, HELPER, look_line, run, said};

fn refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1));
    match &said(output)[..] {
        [Said::Stopped(told)] => assert!(told.contains(why), "{told}"),
        other => panic!("{other:?}"),
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(why), "{stderr}");
}

fn served(output: &Output) {
    assert!(matches!(&said(output)[..], [Said::Reply(_)]), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

fn allow_sudo(server: &Server) {
    let rule =
        format!("Defaults use_pty\n{RECONCILER}, {PORTAL} ALL=(root) NOPASSWD: {HELPER} \"\"\n");
    server.file("/etc/sudoers", &rule, "root", "root", 0o440);
}

fn by_sudo(server: &Server, user: &str) -> Command {
    let mut command = server.run_as(user, "/usr/bin/sudo");
    command.args(["-n", "--", HELPER]);
    command
}

#[test]
fn sudo_lets_in_whom_the_configuration_names_and_nobody_else() {
    on_a_server("sudo_lets_in_whom_the_configuration_names_and_nobody_else", |server| {
        talk::install(server);
        allow_sudo(server);
        server.account("alice", 1500, &[ANALYSTS]);
        let line = look_line(1, "alice");
        served(&run(by_sudo(server, RECONCILER), &line));
        // Even should the rule of sudo name another.
        refused(&run(by_sudo(server, PORTAL), &line), "may not ask");
        let mut with_words = by_sudo(server, RECONCILER);
        with_words.args(["alice", "/etc/shadow", "/tmp"]);
        let output = run(with_words, b"");
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let by_alice = run(by_sudo(server, "alice"), &line);
        assert!(!by_alice.status.success() && by_alice.stdout.is_empty(), "{by_alice:?}");
        refused(&run(server.run_as("alice", HELPER), &line), "must run as root");
    });
}

#[test]
fn a_socket_of_roots_as_standard_input_makes_nobody_root() {
    on_a_server("a_socket_of_roots_as_standard_input_makes_nobody_root", |server| {
        talk::install(server);
        allow_sudo(server);
        // The test is root, and so is this socket's peer.
        let (theirs, _ours) = UnixStream::pair().unwrap();
        let mut command = by_sudo(server, PORTAL);
        command.stdin(std::os::fd::OwnedFd::from(theirs));
        refused(&command.output().unwrap(), "may not ask");
        let mut odd = Command::new(HELPER);
        odd.env("SUDO_UID", "0x0");
        refused(&run(odd, b""), "SUDO_UID");
        for uid in ["1500", "4294967295"] {
            let mut other = Command::new(HELPER);
            other.env("SUDO_UID", uid);
            refused(&run(other, b""), "may not ask");
        }
    });
}

#[test]
fn a_configuration_that_is_not_roots_alone_serves_nobody() {
    on_a_server("a_configuration_that_is_not_roots_alone_serves_nobody", |server| {
        talk::install(server);
        server.account("alice", 1500, &[ANALYSTS]);
        let line = look_line(1, "alice");
        let refuses = |why: &str| refused(&run(Command::new(HELPER), &line), why);
        let serves = || served(&run(Command::new(HELPER), &line));
        let chmod = |path: &str, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        serves();
        for mode in [0o664, 0o646] {
            chmod(CONFIG, mode);
            refuses("chmod go-w");
        }
        chmod(CONFIG, 0o644);
        chown(CONFIG, Some(1500), None).unwrap();
        refuses("not root's alone");
        chown(CONFIG, Some(0), None).unwrap();
        chmod("/etc/service-connector", 0o775);
        refuses("not root's alone");
        chmod("/etc/service-connector", 0o755);
        serves();
        // What a link leads to counts.
        fs::copy(CONFIG, "/home/alice/helper.conf").unwrap();
        fs::remove_file(CONFIG).unwrap();
        chown("/home/alice/helper.conf", Some(1500), None).unwrap();
        symlink("/home/alice/helper.conf", CONFIG).unwrap();
        refuses("not root's alone");
        fs::remove_file(CONFIG).unwrap();
        refuses("cannot be read");
    });
}

#[test]
fn a_wrong_configuration_names_the_line_and_the_way_out() {
    on_a_server("a_wrong_configuration_names_the_line_and_the_way_out", |server| {
        talk::install(server);
        let good = format!("group = {ANALYSTS}\n");
        for (text, why) in [
            ("", "names no `group`"),
            ("group = nowhere\n", "line 1: there is no group `nowhere`"),
            ("group\n", "line 1: not `key = value`"),
            (&format!("{good}min_uid = 999\n"), "line 2: min_uid is a number, 1000 or higher"),
            (&format!("{good}min_uid = -1\n"), "line 2: min_uid"),
            (&format!("{good}callers = {RECONCILER}, who\n"), "line 2: there is no user `who`"),
            (&format!("{good}\n# x\ngroup = {ANALYSTS}\n"), "line 4: a second `group`"),
            (&format!("{good}caller = {RECONCILER}\n"), "line 2: unknown key `caller`"),
        ] {
            server.root_file(CONFIG, text);
            refused(&run(Command::new(HELPER), b""), why);
        }
        server.root_file(CONFIG, &format!("{good}min_uid = 2000\ncallers =\n"));
        server.account("alice", 1500, &[ANALYSTS]);
        assert!(talk::absence("alice").why.contains("uid 1500"));
    });
}

#[test]
fn a_malformed_request_ends_it_and_shows_nothing_of_itself() {
    on_a_server("a_malformed_request_ends_it_and_shows_nothing_of_itself", |server| {
        talk::install(server);
        server.account("alice", 1500, &[ANALYSTS]);
        let marker = talk::random_text();
        let put = |account: &str, files: &str| {
            format!(
                "{{\"id\":2,\"account\":\"{account}\",\"what\":{{\"put\":{{\"uid\":null,\"files\":{files}}}}}}}\n"
            )
        };
        let good = String::from_utf8(look_line(1, "alice")).unwrap();
        let set = format!("{{\"env\":\"{marker}\",\"skills\":{{}}}}");
        for bad in [
            format!("{marker}\n"),
            put("--help", &set),
            put("../alice", &set),
            put(&marker.repeat(2), &set),
            put("alice", &format!("\"{marker}")),
            good.replace("look", &marker),
            good.replace("{\"id\"", &format!("{{\"{marker}\":1,\"id\"")),
        ] {
            let output = run(Command::new(HELPER), format!("{good}{bad}{good}").as_bytes());
            let text = format!("{output:?}");
            assert!(!text.contains(&marker), "{text}");
            let said = said(&output);
            assert!(matches!(&said[..], [Said::Reply(_), Said::Stopped(_)]), "{said:?}");
        }
        // Wrong in what only the account's own process reads: that account's trouble.
        for bad in [put("alice", &set), put("alice", &format!("{{\"env\":7,\"{marker}\":0}}"))] {
            let output = run(Command::new(HELPER), format!("{bad}{good}").as_bytes());
            assert!(!format!("{output:?}").contains(&marker));
            assert!(matches!(&said(&output)[..], [Said::Reply(_), Said::Reply(_)]));
        }
        let cut = &good.as_bytes()[..good.len() - 1];
        refused(&run(Command::new(HELPER), cut), "cut off");
        let endless = vec![b' '; 17 << 20];
        refused(&run(Command::new(HELPER), &endless), "longer than");
    });
}
