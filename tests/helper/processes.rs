//! What a user can do to the process that works in their home: it is theirs by uid, and nothing
//! more.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use service_connector::model::home::HomeLook;
use service_connector::wire::{HomeFiles, PutError};

use crate::server::{ANALYSTS, Server, on_a_server};
use crate::talk::{self, files};

/// A shell loop of a user's: `$P` is each process of that uid that is the helper's.
fn loop_of(server: &Server, user: &str, body: &str) -> Loop {
    let script = format!(
        "while :; do for P in $(pgrep -U {} -x install-service); do {body}; done; done",
        server.ids(user).0
    );
    let mut command = server.run_as(user, "sh");
    command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null());
    Loop(command.spawn().unwrap())
}

/// A loop, which ends with the test.
struct Loop(Child);

impl Loop {
    /// Ends it; what it said.
    fn end(mut self) -> String {
        self.0.kill().unwrap();
        let mut text = String::new();
        // Its own children end by themselves, each within moments.
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Skills that take a moment to put.
fn large(generation: u64) -> HomeFiles {
    let names: Vec<String> = (0..200).map(|n| format!("sc_{n}.md")).collect();
    files(generation, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_process_that_is_stopped_is_ended_at_its_deadline() {
    on_a_server("a_process_that_is_stopped_is_ended_at_its_deadline", |server| {
        talk::install(server);
        server.account("alice", 32_001, &[ANALYSTS]);
        server.account("bob", 32_002, &[ANALYSTS]);
        let stopper = loop_of(server, "alice", "kill -STOP $P");
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        let mut is_ended = false;
        for generation in 0..50 {
            match talk::put("alice", &large(generation)) {
                Err(PutError::Failed(why)) if why.contains("longer than allowed") => {
                    is_ended = true;
                    break;
                }
                Ok(_) => {} // it was quicker than the stopper
                other => panic!("{other:?}"),
            }
        }
        assert!(is_ended && begun.elapsed() < Duration::from_mins(2), "{:?}", begun.elapsed());
        // Others are served meanwhile.
        talk::put("bob", &files(1, &["sc_crm.md"])).unwrap();
        stopper.end();
        talk::put("alice", &files(99, &[])).unwrap();
    });
}

#[test]
fn a_process_that_was_given_up_does_not_stay_while_the_helper_goes_on() {
    on_a_server("a_process_that_was_given_up_does_not_stay_while_the_helper_goes_on", |server| {
        talk::install(server);
        server.account("alice", 32_051, &[ANALYSTS]);
        // Not until the deadline: the process waits for a lock that its user holds, and is stopped
        // there.
        let mut locker = server.run_as("alice", "flock");
        let mut locker = locker.args(["/home/alice", "sleep", "30"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let stopper = loop_of(server, "alice", "kill -STOP $P");
        let mut helper = Command::new(talk::HELPER);
        let mut helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = helper.stdin.take().unwrap();
        stdin.write_all(&talk::put_line(1, "alice", &files(1, &[]))).unwrap();
        let mut line = String::new();
        BufReader::new(helper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("longer than allowed"), "{line}");
        wait_until(|| !runs_as(32_051));
        assert!(helper.try_wait().unwrap().is_none(), "the helper goes on");
        drop(stdin);
        assert!(helper.wait().unwrap().success());
        stopper.end();
        locker.kill().unwrap();
        locker.wait().unwrap();
    });
}

#[test]
fn a_process_that_is_killed_is_an_answer_and_the_files_stay_whole() {
    on_a_server("a_process_that_is_killed_is_an_answer_and_the_files_stay_whole", |server| {
        talk::install(server);
        let home = server.account("alice", 32_011, &[ANALYSTS]);
        let killer = loop_of(server, "alice", "kill -KILL $P");
        std::thread::sleep(Duration::from_millis(300));
        let mut early = 0;
        let mut sets = vec![String::new()];
        for generation in 0..300 {
            let set = large(generation);
            sets.push(set.env.to_string());
            match talk::put("alice", &set) {
                Ok(_) => {}
                Err(PutError::Failed(why)) if why.contains("ended early") => early += 1,
                other => panic!("{other:?}"),
            }
            let now = std::fs::read_to_string(home.join(".service_env")).unwrap_or_default();
            assert!(sets.contains(&now), "the file is torn");
            if early > 5 {
                break;
            }
        }
        killer.end();
        assert!(early > 0, "the killer never met the process");
        let last = files(1_000, &["sc_crm.md"]);
        talk::put("alice", &last).unwrap();
        talk::holds(&home, 32_011, &last);
        let left = std::fs::read_dir(&home).unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_str().unwrap().contains(".tmp.")
        });
        assert_eq!(left.count(), 0, "what was left behind is swept");
    });
}

#[test]
fn nobody_looks_into_the_process_of_their_home() {
    on_a_server("nobody_looks_into_the_process_of_their_home", |server| {
        talk::install(server);
        server.account("alice", 32_021, &[ANALYSTS]);
        server.account("bob", 32_022, &[ANALYSTS]);
        // What of these works, it prints. `status` can be read, and shows that the process was met.
        let spy = loop_of(
            server,
            "alice",
            "grep -q '^Uid:.32021.32021.32021.32021' /proc/$P/status && echo met; \
             [ -n \"$(head -c 1 /proc/$P/environ)\" ] && echo ENVIRON; \
             [ -n \"$(head -c 1 /proc/$P/maps)\" ] && echo MAPS; \
             [ -n \"$(ls /proc/$P/fd)\" ] && echo FD; \
             [ -n \"$(head -c 1 /proc/$P/mem)\" ] && echo MEM; \
             readlink /proc/$P/exe >/dev/null && echo EXE; \
             timeout 1 strace -o /dev/null -p $P >/dev/null && echo TRACED",
        );
        let done = AtomicBool::new(false);
        let begun = Instant::now();
        while !done.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(12) {
            for account in ["alice", "bob"] {
                talk::put(account, &large(fastrand::u64(..1000))).unwrap();
            }
        }
        let text = spy.end();
        let (met, other): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| *line == "met");
        assert!(!met.is_empty(), "the spy never met the process");
        assert!(other.is_empty(), "{other:?}");
    });
}

#[test]
fn limits_that_a_user_sets_on_the_process_spoil_their_own_home_alone() {
    on_a_server("limits_that_a_user_sets_on_the_process_spoil_their_own_home_alone", |server| {
        talk::install(server);
        server.account("alice", 32_031, &[ANALYSTS]);
        let bob = server.account("bob", 32_032, &[ANALYSTS]);
        let limiter = loop_of(server, "alice", "prlimit --fsize=10 --nofile=3 --pid $P");
        std::thread::sleep(Duration::from_millis(300));
        for generation in 0..20 {
            let set = files(generation, &["sc_crm.md"]);
            // Whatever comes of it.
            drop(talk::put("alice", &large(generation)));
            talk::put("bob", &set).unwrap();
            talk::holds(&bob, 32_032, &set);
        }
        limiter.end();
        assert!(matches!(talk::look("alice"), HomeLook::Seen(_)));
    });
}

#[test]
fn no_process_of_a_home_outlives_the_helper() {
    on_a_server("no_process_of_a_home_outlives_the_helper", |server| {
        talk::install(server);
        server.account("alice", 32_041, &[ANALYSTS]);
        // A lock on the home makes the process wait.
        let mut locker = server.run_as("alice", "flock");
        let mut locker = locker.args(["/home/alice", "sleep", "30"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let mut helper = Command::new(talk::HELPER);
        let mut helper = helper.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stdin = helper.stdin.take().unwrap();
        stdin.write_all(&talk::put_line(1, "alice", &files(1, &[]))).unwrap();
        wait_until(|| runs_as(32_041));
        helper.kill().unwrap();
        helper.wait().unwrap();
        wait_until(|| !runs_as(32_041));
        locker.kill().unwrap();
        locker.wait().unwrap();
        assert!(!Path::new("/home/alice/.service_env").exists());
    });
}

/// Whether a process of the helper's runs as this uid.
fn runs_as(uid: u32) -> bool {
    let mut find = Command::new("pgrep");
    find.args(["-U", &uid.to_string(), "-x", "install-service"]);
    find.output().unwrap().status.success()
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came to be");
        std::thread::sleep(Duration::from_millis(20));
    }
}
