//! The loop: a change is acted upon as it comes, and an idle fleet is left alone.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use service_connector::desired_file::{DesiredFile, Edit};
use service_connector::example_service::{Fault, Kind, On};
use service_connector::model::change::Change;

use crate::scene::{KINDS, Scene, wait_until};

/// A loop that runs. It is killed with the test.
pub struct Watching {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watching {
    pub fn start(scene: &Scene) -> Self {
        Self::start_with(scene, |_| {})
    }

    /// Returns once it is ready and its first pass is over.
    pub fn start_with(scene: &Scene, change: impl FnOnce(&mut Command)) -> Self {
        let watching = Self::begin(scene, change);
        wait_until("the first pass", || watching.passes() > 0 && scene.has_passed());
        watching
    }

    /// Returns at once.
    fn begin(scene: &Scene, change: impl FnOnce(&mut Command)) -> Self {
        let mut child = scene.start_with(&["reconcile", "--watch"], |command| {
            command.env("SC_LOG", "info");
            change(command);
        });
        let said = Arc::new(Mutex::new(String::new()));
        let readers: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for reader in readers {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    *said.lock().unwrap() += &(line + "\n");
                }
            });
        }
        Self { child, said }
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// How many passes began.
    pub fn passes(&self) -> usize {
        self.said().matches("a pass begins").count()
    }

    /// Waits until this is so, and fails after so many seconds.
    #[track_caller]
    fn within(&self, seconds: u64, so: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !so() {
            assert!(Instant::now() < until, "not within {seconds} seconds: {}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it politely, and returns its exit code.
    pub fn end(self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.end_of_it()
    }

    /// Waits for its end, and returns its exit code.
    pub fn end_of_it(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn has_working_key(scene: &Scene, user: &str, kind: Kind) -> bool {
    scene.homes().iter().any(|home| home == user)
        && scene.path(&format!("homes/{user}/.service_env")).exists()
        && scene.key(user, kind).is_some_and(|key| scene.works(kind, &key))
}

fn is_empty(scene: &Scene, user: &str) -> bool {
    scene.env_file(user).contains("# end 0 variables")
}

#[test]
fn a_click_becomes_a_key_and_another_takes_it_back() {
    let scene = Scene::new();
    let watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
    scene.connect("eva", Kind::Crm);
    wait_until("another's key", || has_working_key(&scene, "eva", Kind::Crm));
    scene.disconnect("john", Kind::Crm);
    wait_until("the end of it", || is_empty(&scene, "john") && scene.live(Kind::Crm).len() == 1);
    assert!(has_working_key(&scene, "eva", Kind::Crm));
    assert_eq!(watching.end(), Some(0));
}

#[test]
fn a_file_that_was_changed_by_hand_is_taken_up_once_it_is_still() {
    let scene = Scene::new();
    let _watching = Watching::start(&scene);
    let text = "version: 1\nusers:\n  john: { connections: { invoicing: {} } }\n";
    fs::write(scene.path("desired.yaml"), text).unwrap();
    wait_until("the key", || has_working_key(&scene, "john", Kind::Invoicing));
    // A file that somebody replaced is watched like the one before.
    let text = "version: 1\nusers:\n  john: { connections: { crm: {} } }\n";
    fs::write(scene.path("other.yaml"), text).unwrap();
    fs::rename(scene.path("other.yaml"), scene.path("desired.yaml")).unwrap();
    wait_until("the other key", || has_working_key(&scene, "john", Kind::Crm));
    wait_until("the end of the first", || scene.live(Kind::Invoicing).is_empty());
}

#[test]
fn people_registry_and_skills_are_followed() {
    let scene = Scene::new();
    let skills = scene.path("skills");
    fs::create_dir(&skills).unwrap();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/skills")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), skills.join(file.file_name())).unwrap();
    }
    scene.people("people: {}\n");
    scene.connect("john", Kind::Crm);
    let _watching = Watching::start_with(&scene, |command| {
        command.env("SC_SKILLS", &skills);
    });
    assert!(scene.issued(Kind::Crm).is_empty(), "nobody is john");
    scene.people("people: {}\nrules:\n  - { domain: your-domain.com }\n");
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));

    let skill = skills.join("sc_crm.md");
    let text = fs::read_to_string(&skill).unwrap() + "\nClosed on Sundays.\n";
    fs::write(&skill, text).unwrap();
    wait_until("the skill", || scene.skill("john", Kind::Crm).contains("Closed on Sundays."));

    scene.entry(Kind::Crm, "contract: v2", "contract: v2\nretired: true");
    wait_until("the end", || is_empty(&scene, "john") && scene.live(Kind::Crm).is_empty());
}

#[test]
fn a_link_that_a_file_is_reached_through_is_followed_when_it_is_replaced() {
    let scene = Scene::new();
    for (dir, people) in
        [("nobody", "people: {}"), ("all", "people: {}\nrules: [{ domain: your-domain.com }]")]
    {
        fs::create_dir(scene.path(dir)).unwrap();
        fs::write(scene.path(dir).join("people.yaml"), format!("version: 1\n{people}\n")).unwrap();
    }
    symlink("nobody", scene.path("present")).unwrap();
    fs::remove_file(scene.path("people.yaml")).unwrap();
    symlink("present/people.yaml", scene.path("people.yaml")).unwrap();
    scene.connect("john", Kind::Crm);
    let _watching = Watching::start(&scene);
    assert!(scene.issued(Kind::Crm).is_empty(), "nobody is john");
    symlink("all", scene.path("next")).unwrap();
    fs::rename(scene.path("next"), scene.path("present")).unwrap();
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
}

#[test]
fn what_is_due_by_time_is_done_on_time() {
    let scene = Scene::new();
    let at = Timestamp::now().checked_add(Duration::from_secs(3)).unwrap();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    let first = scene.working_key("john", Kind::Crm);
    scene.desired(&format!(
        "users:\n  john: {{ connections: {{ crm: {{ rotate_after: {at} }} }} }}\n"
    ));
    let _watching = Watching::start(&scene);
    wait_until("another key", || scene.key("john", Kind::Crm).is_some_and(|key| key != first));
    assert!(Timestamp::now() >= at, "sooner than it was due");
}

#[test]
fn a_look_at_everything_finds_what_no_event_tells() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    let _watching = Watching::start_with(&scene, |command| {
        command.env("SC_LOOK_EVERY_SECONDS", "1");
    });
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
    fs::write(scene.path("homes/john/.service_env"), "# somebody was here\n").unwrap();
    wait_until("the mended file", || has_working_key(&scene, "john", Kind::Crm));
}

#[test]
fn a_service_that_was_down_is_asked_again_without_anybody_asking() {
    let scene = Scene::new();
    scene.faults(Kind::Crm).next(On::Exchange, Fault::ServerError, 1);
    scene.connect("john", Kind::Crm);
    let watching = Watching::start_with(&scene, |command| {
        command.env("SC_LOOK_EVERY_SECONDS", "3600");
    });
    wait_until("the failure", || scene.calls(Kind::Crm).0 == 1);
    // The first wait is 15 seconds, and a fifth more or less.
    watching.within(25, || has_working_key(&scene, "john", Kind::Crm));
}

#[test]
fn files_that_could_not_be_put_are_tried_again_without_anybody_asking() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    let old = scene.working_key("john", Kind::Crm);
    let watching = Watching::start_with(&scene, |command| {
        command.env("SC_LOOK_EVERY_SECONDS", "3600");
    });
    wait_until("the first pass", || watching.passes() == 1);
    thread::sleep(Duration::from_millis(500)); // one with nothing to do says nothing at its end
    let rules = scene.path("homes/john/.claude_rules");
    fs::remove_dir_all(&rules).unwrap();
    fs::write(&rules, "a file where the directory belongs").unwrap();
    scene.rotate("john", Kind::Crm);
    let says = |what: &str| watching.said().contains(what);
    wait_until("the failure", || says("john: files not put") && says("key issued"));
    wait_until("the end of that pass", || says("A pass ended"));
    fs::remove_file(&rules).unwrap();
    watching.within(20, || scene.key("john", Kind::Crm).is_some_and(|key| key != old));
    scene.working_key("john", Kind::Crm);
}

#[test]
fn what_keeps_a_new_connection_back_is_looked_at_again_without_anybody_asking() {
    let scene = Scene::new();
    let watching = Watching::start_with(&scene, |command| {
        command.env("SC_LOOK_EVERY_SECONDS", "3600");
    });
    let rules = scene.path("homes/john/.claude_rules");
    fs::create_dir_all(rules.parent().unwrap()).unwrap();
    fs::write(&rules, "a file where the directory belongs").unwrap();
    scene.connect("john", Kind::Crm);
    wait_until("the pass that cannot do it", || watching.passes() == 2);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(scene.calls(Kind::Crm).0, 0, "no key without a place for it");
    fs::remove_file(&rules).unwrap();
    watching.within(20, || has_working_key(&scene, "john", Kind::Crm));
    assert_eq!(watching.passes(), 3, "{}", watching.said());
}

#[test]
fn what_failed_is_tried_again_while_the_pass_goes_on() {
    let scene = Scene::new();
    scene.pass(0);
    scene.run(&["reconcile", "--sweep"]).expect(0); // the loop's own would wait for the pass
    // Two calls a minute: with eight users it takes three minutes.
    scene.entry(Kind::Crm, "per_minute: 600", "per_minute: 2");
    for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        scene.connect(user, Kind::Crm);
    }
    scene.faults(Kind::Invoicing).next(On::Exchange, Fault::ServerError, 1);
    scene.connect("john", Kind::Invoicing);
    let watching = Watching::begin(&scene, |_| {});
    watching.within(40, || has_working_key(&scene, "john", Kind::Invoicing));
    assert_eq!(watching.passes(), 1, "{}", watching.said());
    // Another pass has no other minute.
    watching.signal(Signal::SIGHUP);
    wait_until("another pass", || watching.passes() == 2);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.calls(Kind::Crm).0, 2, "{}", watching.said());
}

#[test]
fn what_waits_for_a_service_that_was_down_is_asked_for_while_a_long_pass_goes_on() {
    let scene = Scene::new();
    scene.pass(0);
    scene.run(&["reconcile", "--sweep"]).expect(0);
    scene.entry(Kind::Crm, "per_minute: 600", "per_minute: 2");
    for user in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        scene.connect(user, Kind::Crm);
    }
    // Down for the first three, and for all others until it is asked again.
    scene.faults(Kind::Invoicing).next(On::Exchange, Fault::ServerError, 3);
    for user in ["a", "b", "c"] {
        scene.connect(user, Kind::Invoicing);
    }
    let watching = Watching::begin(&scene, |_| {});
    wait_until("the service to be down", || scene.calls(Kind::Invoicing).0 == 3);
    scene.connect("zoe", Kind::Invoicing);
    watching.within(40, || has_working_key(&scene, "zoe", Kind::Invoicing));
    assert_eq!(watching.passes(), 1, "{}", watching.said());
}

#[test]
fn what_is_held_click_by_click_is_let_go_by_one_approval() {
    let scene = Scene::new();
    let users: Vec<String> = (0..9).map(|number| format!("u{number}")).collect();
    for user in &users {
        scene.connect(user, Kind::Crm);
    }
    scene.pass(0);
    let _watching = Watching::start(&scene);
    for (number, user) in users.iter().enumerate() {
        scene.disconnect(user, Kind::Crm);
        if number < 5 {
            wait_until("the end of it", || scene.live(Kind::Crm).len() == 8 - number);
        } else {
            let held = || scene.status()["last_pass"]["held"]["connections"].clone();
            wait_until("all that is held", || held() == number - 4);
        }
    }
    let held = scene.status()["last_pass"]["held"].clone();
    scene.run(&["approve", held["digest"].as_str().unwrap()]).expect(0);
    wait_until("the end of all", || scene.live(Kind::Crm).is_empty());
}

#[test]
fn what_is_due_of_one_is_not_put_off_by_anothers_click() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.connect("eva", Kind::Crm);
    scene.pass(0);
    scene.run(&["reconcile", "--sweep"]).expect(0);
    fs::remove_dir_all(scene.path("homes/john")).unwrap();
    // John's account is absent, and in an hour that counts.
    let watching = Watching::start_with(&scene, |command| {
        command.env("SC_HOMES_CREATE", "false");
    });
    scene.faults(Kind::Crm).next(On::Revoke, Fault::Unavailable { retry_after: 20 }, 1);
    scene.disconnect("john", Kind::Crm);
    wait_until("the first call", || scene.calls(Kind::Crm).1 == 1);
    // A while after it was looked at for having failed, and found to wait.
    thread::sleep(Duration::from_secs(13));
    scene.connect("eva", Kind::Invoicing);
    wait_until("another's key", || has_working_key(&scene, "eva", Kind::Invoicing));
    watching.within(20, || scene.live(Kind::Crm).len() < 2);
}

#[test]
fn a_hangup_asks_for_a_pass() {
    let scene = Scene::new();
    let watching = Watching::start(&scene);
    wait_until("the lock", || watching.said().contains("Watching"));
    let before = watching.passes();
    watching.signal(Signal::SIGHUP);
    wait_until("a pass", || watching.passes() > before);
}

#[test]
fn a_thousand_edits_give_few_passes_and_the_right_end() {
    let scene = Scene::new();
    let watching = Watching::start(&scene);
    let file = DesiredFile::new(scene.path("desired.yaml"));
    let began = Instant::now();
    for number in 0..1000 {
        let (user, service) = (format!("u{}", number % 3).parse().unwrap(), "crm".parse().unwrap());
        let change = if number % 2 == 0 && number < 994 {
            Change::Disconnect { user, service }
        } else {
            Change::Connect { user, service, ttl_days: None }
        };
        let edit = Edit { change, who: "tester".to_owned() };
        file.edit_batch(&[edit], None, Timestamp::now()).unwrap();
    }
    let most = began.elapsed().as_millis() / 100 + 3;
    wait_until("three keys", || {
        ["u0", "u1", "u2"].iter().all(|user| has_working_key(&scene, user, Kind::Crm))
    });
    wait_until("no other", || scene.live(Kind::Crm).len() == 3);
    let passes = u128::try_from(watching.passes()).unwrap();
    assert!(passes <= most, "{passes} passes, not {most}");
}

#[test]
fn a_connection_that_was_taken_away_and_given_back_at_once_is_there_in_the_end() {
    let scene = Scene::new();
    let _watching = Watching::start(&scene);
    let file = DesiredFile::new(scene.path("desired.yaml"));
    let edit = |connect: bool| {
        let (user, service) = ("john".parse().unwrap(), "crm".parse().unwrap());
        let change = if connect {
            Change::Connect { user, service, ttl_days: None }
        } else {
            Change::Disconnect { user, service }
        };
        let edit = Edit { change, who: "tester".to_owned() };
        file.edit_batch(&[edit], None, Timestamp::now()).unwrap();
    };
    for _ in 0..20 {
        edit(true);
        // About the time at which a pass reads the file, which another change is on its way to.
        thread::sleep(Duration::from_millis(fastrand::u64(10..60)));
        edit(false);
        thread::sleep(Duration::from_millis(fastrand::u64(0..12)));
        edit(true);
        thread::sleep(Duration::from_millis(150));
        wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
        edit(false);
        wait_until("its end", || is_empty(&scene, "john"));
    }
}

#[test]
fn nothing_happens_while_nothing_changes() {
    let scene = Scene::new();
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    let watching = Watching::start(&scene);
    scene.run(&["status"]).expect(0);
    scene.run(&["plan"]).expect(0);
    let calls = scene.calls(Kind::Crm);
    thread::sleep(Duration::from_secs(2));
    assert_eq!(watching.passes(), 1, "{}", watching.said());
    assert_eq!(scene.calls(Kind::Crm), calls);
}

#[test]
fn a_pass_of_somebody_else_is_made_between_those_of_the_loop() {
    let scene = Scene::new();
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Delay { millis: 2000 });
    let _watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the call", || scene.calls(Kind::Crm).0 == 1);
    let other = scene.pass(0);
    other.says("Another pass is under way; waiting for it.").says("Nothing to do.");
    assert!(has_working_key(&scene, "john", Kind::Crm));
}

#[test]
fn two_loops_never_both_act() {
    let scene = Scene::new();
    let one = Watching::start(&scene);
    let other = Watching::start(&scene);
    for user in ["eva", "john", "petr"] {
        for kind in KINDS {
            scene.connect(user, kind);
        }
    }
    wait_until("all keys", || {
        ["eva", "john", "petr"]
            .iter()
            .all(|user| KINDS.iter().all(|kind| has_working_key(&scene, user, *kind)))
    });
    assert_eq!(one.end(), Some(0));
    assert_eq!(other.end(), Some(0));
    for kind in KINDS {
        assert_eq!(scene.calls(kind).0, 3, "one exchange for each connection");
        assert_eq!(scene.issued(kind).len(), 3);
    }
}

#[test]
fn it_ends_when_told_to_and_finishes_what_is_under_way() {
    let scene = Scene::new();
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Delay { millis: 1000 });
    let watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the call", || scene.calls(Kind::Crm).0 == 1);
    assert_eq!(watching.end(), Some(0));
    assert_eq!(scene.phases("john", Kind::Crm), ["active"]);
}

#[test]
fn the_loop_sweeps_at_start_unless_it_did_so_a_short_while_ago() {
    let scene = Scene::new();
    scene.connect("eva", Kind::Crm);
    scene.connect("john", Kind::Crm);
    scene.pass(0);
    let key = scene.working_key("john", Kind::Crm);
    scene.faults(Kind::Crm).next(On::Revoke, Fault::RevokesNothing, 1);
    scene.disconnect("john", Kind::Crm);
    scene.pass(0);
    assert!(scene.works(Kind::Crm, &key));
    let watching = Watching::start(&scene);
    wait_until("the end of the stray", || !scene.works(Kind::Crm, &key));
    assert_eq!(watching.end(), Some(0));
    let swept = scene.status()["sweeps"][0]["at"].clone();
    let watching = Watching::start(&scene);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.status()["sweeps"][0]["at"], swept);
    assert_eq!(watching.passes(), 1, "{}", watching.said());
}

#[test]
fn one_that_was_killed_goes_on_where_it_was() {
    let scene = Scene::new();
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Delay { millis: 1000 });
    let watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the call", || scene.calls(Kind::Crm).0 == 1);
    drop(watching);
    assert_eq!(scene.phases("john", Kind::Crm), ["issuing"]);
    scene.faults(Kind::Crm).clear();
    let _watching = Watching::start(&scene);
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
    assert_eq!(scene.issued(Kind::Crm).len(), 1, "one token, asked for twice by one name");
}

/// A scene in which CRM never answers, and a call to it lasts for so many seconds; and its loop, with
/// john's ask under way.
fn while_crm_hangs(seconds: u32) -> (Scene, Watching) {
    let scene = Scene::new();
    scene.entry(Kind::Crm, "timeout_seconds: 10", &format!("timeout_seconds: {seconds}"));
    scene.faults(Kind::Crm).always(On::Exchange, Fault::Hang);
    let watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the call", || scene.calls(Kind::Crm).0 == 1);
    (scene, watching)
}

#[test]
fn a_change_of_one_user_is_a_pass_of_that_user() {
    let scene = Scene::new();
    scene.connect("eva", Kind::Crm);
    scene.connect("john", Kind::Invoicing);
    let watching = Watching::start(&scene);
    wait_until("the keys", || {
        has_working_key(&scene, "eva", Kind::Crm)
            && has_working_key(&scene, "john", Kind::Invoicing)
    });
    fs::remove_file(scene.path("homes/eva/.service_env")).unwrap();
    scene.connect("john", Kind::Crm);
    wait_until("the key", || has_working_key(&scene, "john", Kind::Crm));
    let passes = watching.passes();
    assert!(!scene.path("homes/eva/.service_env").exists(), "eva's home was looked at");
    watching.signal(Signal::SIGHUP);
    wait_until("a look at everything", || watching.passes() > passes);
    wait_until("eva's file", || has_working_key(&scene, "eva", Kind::Crm));
}

#[test]
fn a_call_that_hangs_keeps_no_other_click_waiting() {
    let (scene, watching) = while_crm_hangs(60);
    scene.connect("eva", Kind::Invoicing);
    wait_until("another's key", || has_working_key(&scene, "eva", Kind::Invoicing));
    scene.connect("john", Kind::PurchaseOrders);
    wait_until("another key", || has_working_key(&scene, "john", Kind::PurchaseOrders));
    scene.disconnect("john", Kind::PurchaseOrders);
    wait_until("the end of it", || is_empty(&scene, "john"));
    wait_until("its revoke", || scene.live(Kind::PurchaseOrders).is_empty());
    assert_eq!(scene.phases("john", Kind::Crm), ["issuing"], "the first call is under way");
    assert!(watching.passes() <= 2, "one pass took up all of it");
}

#[test]
fn a_pass_that_ends_for_the_next_keeps_no_click_waiting_for_its_last_call() {
    let (scene, watching) = while_crm_hangs(60);
    watching.signal(Signal::SIGHUP);
    wait_until("the end of what is not begun", || watching.said().contains("is ended"));
    scene.connect("eva", Kind::Invoicing);
    scene.connect("eva", Kind::Crm);
    wait_until("another's key", || has_working_key(&scene, "eva", Kind::Invoicing));
    scene.disconnect("eva", Kind::Invoicing);
    wait_until("its revoke", || scene.live(Kind::Invoicing).is_empty());
    assert_eq!(scene.phases("john", Kind::Crm), ["issuing"], "the first call is under way");
    assert_eq!(scene.calls(Kind::Crm).0, 1, "nothing more is begun where it hangs");
}

#[test]
fn who_disconnects_while_a_call_is_under_way_is_disconnected_when_it_has_ended() {
    let scene = Scene::new();
    scene.faults(Kind::Crm).next(On::Exchange, Fault::Delay { millis: 2000 }, 1);
    let watching = Watching::start(&scene);
    scene.connect("john", Kind::Crm);
    wait_until("the call", || scene.calls(Kind::Crm).0 == 1);
    scene.disconnect("john", Kind::Crm);
    wait_until("the revoke", || scene.calls(Kind::Crm).1 == 1);
    wait_until("the end", || scene.phases("john", Kind::Crm) == ["revoked"]);
    assert!(scene.live(Kind::Crm).is_empty());
    assert_eq!(scene.issued(Kind::Crm).len(), 1);
    wait_until("the empty home", || {
        !scene.path("homes/john/.service_env").exists() || is_empty(&scene, "john")
    });
    assert_eq!(watching.end(), Some(0));
}

#[test]
fn who_asks_for_a_pass_gets_it_while_one_does_not_end() {
    let (scene, watching) = while_crm_hangs(6);
    let passes = watching.passes();
    let other = scene.pass(4);
    other.says("Another pass is under way; waiting for it.");
    wait_until("a pass after it", || watching.passes() > passes);
}

#[test]
fn a_sweep_waits_for_no_pass_that_does_not_end() {
    let (scene, watching) = while_crm_hangs(60);
    let mut sweep = scene.start(&["reconcile", "--sweep"]);
    wait_until("the end of what is not begun", || watching.said().contains("is ended"));
    sweep.kill().unwrap();
    sweep.wait().unwrap();
}

/// How a server answers.
type Manner = fn(&mut TcpStream);

/// A server that answers nothing that is any good, in its own way.
fn broken_service(answer: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Who gives up closes it, and that ends the answer.
            thread::spawn(move || answer(&mut stream.unwrap()));
        }
    });
    format!("http://{address}")
}

fn never_answers(stream: &mut TcpStream) {
    stream.read_to_end(&mut Vec::new()).ok();
}

fn drips(stream: &mut TcpStream) {
    while stream.write_all(b"H").is_ok() {
        thread::sleep(Duration::from_millis(100));
    }
}

fn never_ends(stream: &mut TcpStream) {
    let head =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut goes_on = stream.write_all(head).is_ok();
    while goes_on {
        goes_on = stream.write_all(b"1\r\n \r\n").is_ok();
        thread::sleep(Duration::from_millis(10));
    }
}

fn closes(stream: &mut TcpStream) {
    stream.shutdown(Shutdown::Both).ok();
}

#[test]
fn whatever_is_wrong_with_a_service_the_others_keys_come() {
    let manners: [(&str, Manner); 5] = [
        ("http", never_answers),
        ("http", drips),
        ("http", never_ends),
        ("http", closes),
        // A handshake that gets no answer of its kind.
        ("https", drips),
    ];
    for (scheme, manner) in manners {
        let scene = Scene::new();
        let broken = broken_service(manner).replace("http", scheme);
        scene.entry(Kind::Crm, &scene.service(Kind::Crm).running.base_url(), &broken);
        scene.entry(Kind::Crm, "timeout_seconds: 10", "timeout_seconds: 20");
        let _watching = Watching::start(&scene);
        scene.connect("john", Kind::Crm);
        wait_until("the ask", || scene.phases("john", Kind::Crm).len() == 1);
        scene.connect("eva", Kind::Invoicing);
        scene.connect("john", Kind::PurchaseOrders);
        wait_until("another's key", || has_working_key(&scene, "eva", Kind::Invoicing));
        wait_until("another key", || has_working_key(&scene, "john", Kind::PurchaseOrders));
        assert_eq!(scene.phases("john", Kind::Crm), ["issuing"]);
    }
}
