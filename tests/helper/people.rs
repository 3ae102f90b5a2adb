//! The form for people: three arguments.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::{Command, Output};

use crate::server::{ANALYSTS, Server, on_a_server};
use crate::talk::{self, HELPER, files, holds};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Sources in the admin's home.
fn sources(server: &Server) -> String {
    let home = server.account("admin", 1400, &[]);
    server.file("/etc/sudoers", "admin ALL=(ALL) NOPASSWD: ALL\n", "root", "root", 0o440);
    let dir = home.join("sources/skills");
    fs::create_dir_all(&dir).unwrap();
    for made in [home.join("sources"), dir] {
        chown(made, Some(1400), Some(1400)).unwrap();
    }
    home.join("sources").to_str().unwrap().to_owned()
}

fn by_admin(server: &Server, words: &[&str]) -> Output {
    let mut command = server.run_as("admin", "/usr/bin/sudo");
    command.args(["-n", HELPER]).args(words).output().unwrap()
}

#[test]
fn root_and_admins_put_files_by_hand() {
    on_a_server("root_and_admins_put_files_by_hand", |server| {
        talk::install(server);
        let home = server.account("alice", 1500, &[ANALYSTS]);
        let dir = sources(server);
        let set = files(3, &["sc_crm.md"]);
        let env = format!("{dir}/env");
        fs::write(&env, &*set.env).unwrap();
        fs::write(format!("{dir}/skills/sc_crm.md"), &set.skills["sc_crm.md"]).unwrap();
        fs::write(format!("{dir}/skills/notes.txt"), "not ours").unwrap();
        let skills = format!("{dir}/skills");
        let words = [HELPER, "alice", &env, &skills];
        let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(text(&output), "alice: installed\n");
        holds(&home, 1500, &set);
        chown(&env, Some(1400), None).unwrap();
        let output = by_admin(server, &words[1..]);
        assert_eq!(text(&output), "alice: was so already\n");
        for name in ["root", "0", "-", "nobody", "Alice", "alice:x", "../alice", ""] {
            let output = Command::new(HELPER).args([name, &env, &skills]).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        }
        holds(&home, 1500, &set);
    });
}

#[test]
fn sources_are_read_with_the_callers_rights() {
    on_a_server("sources_are_read_with_the_callers_rights", |server| {
        talk::install(server);
        server.account("alice", 1500, &[ANALYSTS]);
        let dir = sources(server);
        let marker = talk::random_text();
        server.file("/etc/secret", &format!("KEY={marker}\n"), "root", "root", 0o600);
        let (env, skills) = (format!("{dir}/env"), format!("{dir}/skills"));
        let refuses = |words: [&str; 3], why: &str| {
            let output = by_admin(server, &words);
            assert_eq!(output.status.code(), Some(1));
            let text = text(&output);
            assert!(text.contains(why) && !text.contains(&marker), "{text}");
        };
        refuses(["alice", "/etc/secret", &skills], "Permission denied");
        symlink("/etc/secret", &env).unwrap();
        refuses(["alice", &env, &skills], "Permission denied");
        fs::remove_file(&env).unwrap();
        fs::write(&env, "# nothing\n").unwrap();
        symlink("/etc/secret", format!("{skills}/sc_x.md")).unwrap();
        refuses(["alice", &env, &skills], "Permission denied");
        fs::remove_file(format!("{skills}/sc_x.md")).unwrap();
        talk_fifo(&format!("{dir}/fifo"));
        refuses(["alice", &format!("{dir}/fifo"), &skills], "not a regular file");
        refuses(["alice", &env, &format!("{dir}/missing")], "No such file");
        for line in ["export A=1", "A_KEY=$(id)", "A_KEY='x y'", "a=1", "#\u{7}"] {
            fs::write(&env, format!("# one\n{line}\n")).unwrap();
            refuses(["alice", &env, &skills], "line 2 of .service_env");
        }
        assert!(!std::path::Path::new("/home/alice/.service_env").exists());
    });
}

fn talk_fifo(path: &str) {
    let status = Command::new("mkfifo").args(["-m", "666", path]).status().unwrap();
    assert!(status.success());
}

#[test]
fn wrong_usage_is_told() {
    let run = |words: &[&str]| {
        let program = env!("CARGO_BIN_EXE_install-service-env");
        Command::new(program).args(words).output().unwrap()
    };
    for words in [&["alice"][..], &["alice", "env"], &["a", "b", "c", "d"], &["--hepl"]] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("wrong usage"));
    }
    assert!(text(&run(&["--help"])).contains("USERNAME ENV_SOURCE_PATH SKILLS_SOURCE_DIR"));
    assert!(text(&run(&["--version"])).starts_with("install-service-env "));
}
