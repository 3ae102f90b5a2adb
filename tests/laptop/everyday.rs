//! What a laptop sees from day to day.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::kit::{END, Files, Laptop, SHELLS, START};

const ONE: &[&str] = &["PO_API_KEY", "PO_BASE_URL"];

#[test]
fn keys_and_skills_come_change_and_go() {
    let laptop = Laptop::new();
    laptop.write(".env", "MINE=1");
    laptop.write(".claude/rules/km_other.md", "another program's");
    laptop.write(".claude/rules/sc_gone.md", "of a service that is no more");
    let files = Files::new(1, ONE, &["sc_po.md", "sc_crm.md"]);
    files.put(&laptop.home());
    let ran = laptop.run(&["--check"]).expect(2);
    ran.says("  + PO_API_KEY").says("  + sc_po.md (").says("  - sc_gone.md").says("Plan: ");
    assert_eq!(laptop.env(), "MINE=1");
    assert!(laptop.seen().is_empty(), "a check says nothing of what is held");
    laptop.sync().says("  + PO_API_KEY");
    let block = files.block("# The newline before this block came with it.\n");
    assert_eq!(laptop.env(), format!("MINE=1\n{block}"));
    for (name, text) in &files.skills {
        let path = format!(".claude/rules/{name}");
        assert_eq!(laptop.read(&path).unwrap(), text.as_bytes());
        let meta = fs::metadata(laptop.path("project").join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    }
    assert!(laptop.read(".claude/rules/sc_gone.md").is_none());
    laptop.run(&["--check"]).expect(0).says("Nothing to do");
    laptop.sync().says("Nothing to do");
    Files::new(2, &["PO_API_KEY", "CRM_API_KEY"], &["sc_crm.md"]).put(&laptop.home());
    let ran = laptop.sync().says("  ~ PO_API_KEY").says("  - PO_BASE_URL");
    ran.says("  + CRM_API_KEY").says("  - sc_po.md").says("  ~ sc_crm.md");
    Files::new(3, &[], &[]).put(&laptop.home());
    laptop.sync().says("  - PO_API_KEY");
    let left = laptop.contents();
    let names: Vec<_> = left.iter().map(|(path, _)| path.file_name().unwrap()).collect();
    assert_eq!(names, ["km_other.md", ".env"]);
    assert_eq!(laptop.env(), "MINE=1");
    let meta = fs::metadata(laptop.path("project/.env")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn what_is_held_is_said_by_the_fetch_itself_and_once_more_after_a_change() {
    let laptop = Laptop::new();
    Files::new(1, ONE, &[]).put(&laptop.home());
    laptop.sync();
    assert_eq!(laptop.connections(), 2, "the fetch, and one more");
    assert_eq!(laptop.seen(), ["generation 1\n"]);
    laptop.sync();
    assert_eq!(laptop.connections(), 1, "nothing new");
    Files::new(2, ONE, &[]).put(&laptop.home());
    // The second report gets lost: the next fetch says it.
    let once = "case $last in *N=*) cd \"$SERVERS_HOME\" && HOME=$SERVERS_HOME exec sh -c \"$last\" ;; \
                esac; exit 255";
    laptop.ssh(once);
    laptop.sync();
    assert_eq!(laptop.seen(), ["generation 1\n"], "what was held before the merge");
    laptop.sync();
    assert_eq!(laptop.seen(), ["generation 2\n"]);
    Files::new(3, &[], &[]).put(&laptop.home());
    laptop.sync();
    laptop.sync();
    assert_eq!(laptop.seen(), ["generation 3\n"], "to hold no key is to hold that generation");
}

#[test]
fn two_projects_are_two_holders() {
    let laptop = Laptop::new();
    Files::new(1, ONE, &[]).put(&laptop.home());
    laptop.sync();
    fs::create_dir(laptop.path("other")).unwrap();
    Files::new(2, ONE, &[]).put(&laptop.home());
    let mut command = laptop.command(&[]);
    assert!(command.current_dir(laptop.path("other")).status().unwrap().success());
    let mut seen = laptop.seen();
    seen.sort();
    assert_eq!(seen, ["generation 1\n", "generation 2\n"], "the first has the old key still");
}

#[test]
fn a_linked_env_stays_a_link_and_what_it_leads_to_changes() {
    let laptop = Laptop::new();
    fs::create_dir(laptop.path("elsewhere")).unwrap();
    fs::write(laptop.path("elsewhere/shared.env"), "SHARED=1\n").unwrap();
    symlink("../elsewhere/link", laptop.path("project/.env")).unwrap();
    symlink("shared.env", laptop.path("elsewhere/link")).unwrap();
    let files = Files::new(1, ONE, &[]);
    files.put(&laptop.home());
    laptop.sync();
    let is_link = |name: &str| fs::symlink_metadata(laptop.path(name)).unwrap().is_symlink();
    assert!(is_link("project/.env") && is_link("elsewhere/link"));
    let text = fs::read_to_string(laptop.path("elsewhere/shared.env")).unwrap();
    assert_eq!(text, format!("SHARED=1\n{}", files.block("")));
    Files::new(2, &[], &[]).put(&laptop.home());
    laptop.sync();
    assert_eq!(fs::read_to_string(laptop.path("elsewhere/shared.env")).unwrap(), "SHARED=1\n");
    assert_eq!(fs::read_dir(laptop.path("elsewhere")).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn a_variable_of_ones_own_is_left_and_spoken_of() {
    let laptop = Laptop::new();
    laptop.write(".env", "# mine\nexport PO_API_KEY=my-own-one\n");
    Files::new(1, ONE, &[]).put(&laptop.home());
    let ran = laptop.sync().says("PO_API_KEY is also set outside of the block, in line 2");
    assert!(!ran.stderr.contains("my-own-one"));
    assert!(laptop.env().starts_with("# mine\nexport PO_API_KEY=my-own-one\n"));
}

#[test]
fn a_file_that_others_may_read_is_closed_to_them() {
    let laptop = Laptop::new();
    let files = Files::new(1, ONE, &[]);
    laptop.write(".env", files.block(""));
    files.put(&laptop.home());
    laptop.sync().says("Nothing to do");
    let meta = fs::metadata(laptop.path("project/.env")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
}

#[test]
fn git_that_does_not_ignore_env_is_spoken_of() {
    let laptop = Laptop::new();
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        let done = git.args(words).current_dir(laptop.path("project")).status().unwrap();
        assert!(done.success());
    };
    git(&["init", "--quiet"]);
    Files::new(1, ONE, &[]).put(&laptop.home());
    laptop.sync().says("git does not ignore .env");
    laptop.sync().says("git does not ignore .env");
    laptop.write(".gitignore", ".env\n");
    assert_eq!(laptop.sync().stderr, "");
    assert_eq!(laptop.run(&["--quiet"]).expect(0).stdout, "");
}

#[test]
fn the_host_is_the_one_that_is_told_or_that_of_the_existing_sync() {
    let laptop = Laptop::new();
    Files::new(1, ONE, &[]).put(&laptop.home());
    let host = || {
        let calls = fs::read_to_string(laptop.path("calls")).unwrap();
        calls
            .lines()
            .last()
            .unwrap()
            .split(" -- ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    laptop.sync();
    assert_eq!(host(), "data-analyst");
    laptop.write(".sync_connection", "user=john\r\nssh_alias=\"server\"\r\n");
    laptop.sync();
    assert_eq!(host(), "server");
    laptop.run(&["--host", "john@other.example.com"]).expect(0);
    assert_eq!(host(), "john@other.example.com");
    for hostile in ["-oProxyCommand=touch x", "a b", "$(touch x)", "a;b"] {
        laptop.write(".sync_connection", format!("ssh_alias={hostile}\n"));
        laptop.run(&[]).expect(1).says("is no name of a host");
    }
    assert!(laptop.read("x").is_none());
}

#[test]
fn two_at_once_take_turns() {
    for shell in SHELLS {
        let laptop = Laptop::with(shell, "mawk");
        let files = Files::new(1, ONE, &["sc_po.md"]);
        files.put(&laptop.home());
        laptop.write(".env", "MINE=1\n");
        let start = |_| laptop.command(&["--quiet"]).spawn().unwrap();
        let started: Vec<_> = (0..4).map(start).collect();
        for mut child in started {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(laptop.env(), format!("MINE=1\n{}", files.block("")));
        assert_eq!(laptop.contents().len(), 2, "{:?}", laptop.contents());
    }
}

#[test]
fn each_login_shell_of_the_server_hands_the_command_on() {
    for shell in ["sh", "dash", "bash", "zsh", "fish", "tcsh", "busybox sh"] {
        let laptop = Laptop::new();
        let run = format!("cd \"$SERVERS_HOME\" && HOME=$SERVERS_HOME exec {shell} -c \"$last\"");
        laptop.ssh(&run);
        let files = Files::new(1, ONE, &["sc_po.md", "sc_crm.md"]);
        files.put(&laptop.home());
        laptop.sync();
        assert_eq!(laptop.env().matches(START).count(), 1, "{shell}");
        assert!(laptop.env().ends_with(END));
        assert_eq!(laptop.seen(), ["generation 1\n"], "{shell}");
    }
}

#[test]
fn keys_are_found_where_they_would_be_committed_or_uploaded_and_never_printed() {
    let laptop = Laptop::new();
    let files = Files::new(1, &["PO_API_KEY"], &[]);
    let key = &files.variables[0].1;
    files.put(&laptop.home());
    laptop.sync();
    laptop.run(&["--scan", "."]).expect(0).says("No key of .env");
    laptop.write("notebooks/a b.py", format!("import os\nKEY = '{key}'\n"));
    laptop.write("-n=x", format!("{key}\n"));
    laptop.write("data.bin", [b"\0\x01\n\0".as_slice(), key.as_bytes(), b"\0"].concat());
    let check = |ran: crate::kit::Ran| {
        let ran = ran.expect(2).says("notebooks/a b.py:2: PO_API_KEY").says("-n=x:1: PO_API_KEY");
        let ran = ran.says("data.bin:2: PO_API_KEY");
        assert!(!ran.stdout.contains(key.as_str()) && !ran.stderr.contains(key.as_str()));
        ran
    };
    check(laptop.run(&["--scan", "."]));
    let mut git = Command::new("git");
    git.args(["init", "--quiet"]).current_dir(laptop.path("project")).status().unwrap();
    laptop.write(".gitignore", "ignored\n");
    laptop.write("ignored", key);
    let ran = check(laptop.run(&["--scan", "."]));
    assert!(!ran.stdout.contains("ignored"), "{}", ran.stdout);
    assert!(ran.stdout.contains(".env:"), "git would take .env: {}", ran.stdout);
}

#[test]
fn what_is_held_is_said_to_the_server_that_it_is_of_alone() {
    let laptop = Laptop::new();
    Files::new(7, ONE, &[]).put(&laptop.home());
    laptop.sync();
    assert_eq!(laptop.seen(), ["generation 7\n"]);
    fs::remove_dir_all(laptop.home().join(".service_env_seen")).unwrap();
    Files::new(9, ONE, &[]).put(&laptop.home());
    laptop.run(&["--host", "another", "--check"]).expect(2);
    assert!(laptop.seen().is_empty());
    laptop.connections();
    laptop.run(&["--host", "another"]).expect(0);
    assert_eq!((laptop.connections(), laptop.seen()), (2, vec!["generation 9\n".to_owned()]));
}

#[test]
fn a_lock_of_a_sync_that_was_killed_is_taken_away() {
    let laptop = Laptop::new();
    Files::new(1, ONE, &[]).put(&laptop.home());
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let lock = |pid: u32| {
        laptop.write(".service_env.lock/pid", format!("{pid}\n"));
        laptop.write(".service_env.lock/new", "PO_API_KEY=of a sync that was killed\n");
    };
    lock(gone.id());
    laptop.sync();
    assert_eq!(laptop.contents().len(), 1, "nothing of it is left");
    // Its number is another process's by now.
    lock(std::process::id());
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    let dir = fs::File::open(laptop.path("project/.service_env.lock")).unwrap();
    dir.set_modified(long_ago).unwrap();
    laptop.sync();
    assert_eq!(laptop.contents().len(), 1);
}

/// The tools that the script and the server's end of it need, beside one that makes digests.
const TOOLS: &str = "sh awk mkdir wc tr date mv rm cat head tail cp ls find od ln sort chmod ps \
                     readlink sed grep xargs sleep";

/// A directory for `PATH` with these tools and nothing else.
fn only(laptop: &Laptop, tools: &str) -> std::path::PathBuf {
    let bin = laptop.path("only");
    fs::create_dir(&bin).unwrap();
    for tool in tools.split_whitespace() {
        let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", tool]).output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        assert!(!found.is_empty(), "{tool} is not there");
        symlink(found.trim_end(), bin.join(tool)).unwrap();
    }
    fs::copy(laptop.path("bin/ssh"), bin.join("ssh")).unwrap();
    bin
}

/// Keys come and go with nothing but what is in this directory.
fn goes_on_with(laptop: &Laptop, bin: &std::path::Path) {
    let sync = |code: i32| {
        let mut command = laptop.command(&[]);
        let ran = crate::kit::Ran::of(&command.env("PATH", bin).output().unwrap());
        ran.expect(code)
    };
    laptop.write(".env", "MINE=1");
    let files = Files::new(1, ONE, &["sc_po.md"]);
    files.put(&laptop.home());
    sync(0).says("  + PO_API_KEY");
    let block = files.block("# The newline before this block came with it.\n");
    assert_eq!(laptop.env(), format!("MINE=1\n{block}"));
    sync(0).says("Nothing to do");
    fs::write(laptop.home().join(".claude_rules/sc_po.md"), "changed on the way").unwrap();
    sync(1).says("Nothing was changed");
    Files::new(2, &[], &[]).put(&laptop.home());
    sync(0).says("  - PO_API_KEY");
    assert_eq!(laptop.env(), "MINE=1");
}

#[test]
fn each_tool_that_makes_digests_will_do() {
    for tool in ["sha256sum", "shasum", "openssl"] {
        let laptop = Laptop::new();
        let bin = only(&laptop, &format!("{TOOLS} dash {tool}"));
        goes_on_with(&laptop, &bin);
    }
    let laptop = Laptop::new();
    let bin = only(&laptop, &format!("{TOOLS} dash"));
    let mut command = laptop.command(&[]);
    let ran = crate::kit::Ran::of(&command.env("PATH", bin).output().unwrap());
    ran.expect(1).says("sha256sum, shasum or openssl is needed");
}

#[test]
fn the_tools_of_busybox_are_enough() {
    let laptop = Laptop::with(&["sh"], "busybox");
    let bin = laptop.path("only");
    fs::create_dir(&bin).unwrap();
    let installed = Command::new("busybox").args(["--install", "-s"]).arg(&bin).status();
    assert!(installed.unwrap().success());
    fs::copy(laptop.path("bin/ssh"), bin.join("ssh")).unwrap();
    goes_on_with(&laptop, &bin);
}

#[test]
fn what_cannot_be_merged_into_is_left_as_it_is() {
    let laptop = Laptop::new();
    Files::new(1, ONE, &["sc_po.md"]).put(&laptop.home());
    let utf16: &[u8] = b"\xff\xfeA\x00=\x001\x00\n\x00";
    laptop.write(".env", utf16);
    laptop.run(&[]).expect(1).says("UTF-16");
    assert_eq!(laptop.read(".env").unwrap(), utf16);
    fs::remove_file(laptop.path("project/.env")).unwrap();
    fs::create_dir(laptop.path("project/.env")).unwrap();
    laptop.run(&[]).expect(1).says(".env is not a file");
    fs::remove_dir(laptop.path("project/.env")).unwrap();
    symlink("nowhere/env", laptop.path("project/.env")).unwrap();
    laptop.run(&[]).expect(1).says("is not there: ./nowhere");
    fs::remove_file(laptop.path("project/.env")).unwrap();
    // The skills have no place: the keys do not come without them.
    laptop.write(".claude", "a file");
    laptop.run(&[]).expect(1).says(".claude/rules cannot be made");
    assert_eq!(laptop.contents().len(), 1, "{:?}", laptop.contents());
}
