//! The nudge: whoever changes what no file shows tells the loop.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use service_connector::example_service::Kind;
use service_connector::nudge::{is_watched, nudge};

use crate::guard::{disconnect_all, held_digest, nine_keys};
use crate::scene::{Scene, wait_until};
use crate::watch::Watching;

/// A loop that looks at everything on its own only after the test.
fn patient(scene: &Scene) -> Watching {
    Watching::start_with(scene, |command| {
        command.env("SC_LOOK_EVERY_SECONDS", "3600");
    })
}

fn socket(scene: &Scene) -> PathBuf {
    scene.path("state/nudge.sock")
}

fn is_heard(scene: &Scene) -> bool {
    is_watched(&scene.path("state")).unwrap()
}

#[test]
fn what_is_approved_is_carried_out_at_once() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    let watching = patient(&scene);
    wait_until("the hold", || watching.said().contains("The guard holds 6 removals"));
    let held = scene.run(&["plan"]).expect(3);
    assert_eq!(scene.live(Kind::Crm).len(), 3);
    scene
        .run(&["approve", &held_digest(&held)])
        .expect(0)
        .says("Approved: the watcher carries out these 6 removals now.");
    wait_until("the removals", || scene.live(Kind::Crm).len() == 1);
}

#[test]
fn without_a_watcher_it_is_the_next_pass() {
    let scene = nine_keys();
    disconnect_all(&scene, &["eva", "john"]);
    scene.pass(3);
    assert!(!nudge(&scene.path("state")).unwrap(), "nobody is there");
    let held = scene.run(&["plan"]).expect(3);
    let approved = scene.run(&["approve", &held_digest(&held)]).expect(0);
    approved.says("Approved: the next pass within 24 hours carries out these 6 removals.");
    let edited = scene.run(&["connect", "mia", "crm"]).expect(0);
    edited.says("What the next pass (`service-connector reconcile`) will do:");
}

#[test]
fn whoever_edits_is_told_that_the_watcher_acts() {
    let scene = Scene::new();
    let watching = patient(&scene);
    let connected = scene.run(&["connect", "john", "crm"]).expect(0);
    connected.says("The watcher acts on it now; `service-connector explain john crm`");
    connected.does_not_say("next pass");
    wait_until("the key", || scene.key("john", Kind::Crm).is_some());
    let offboarded = scene.run(&["offboard", "john"]).expect(0);
    offboarded.says("The watcher acts on it now; `service-connector status`");
    wait_until("the end of it", || scene.live(Kind::Crm).is_empty());
    let said = watching.said();
    assert!(!said.contains("Asked"), "one user's change is no look at everybody: {said}");
}

#[test]
fn its_socket_is_the_groups_and_goes_with_it() {
    let scene = Scene::new();
    let watching = patient(&scene);
    let meta = fs::symlink_metadata(socket(&scene)).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o7777, 0o660);
    assert_eq!(watching.end(), Some(0));
    assert!(!socket(&scene).exists());
    assert!(!is_heard(&scene));
}

#[test]
fn one_that_a_killed_watcher_left_is_replaced() {
    let scene = Scene::new();
    drop(patient(&scene));
    assert!(socket(&scene).exists(), "a killed one cleans nothing up");
    assert!(!is_heard(&scene));
    assert!(!nudge(&scene.path("state")).unwrap());
    let watching = patient(&scene);
    let before = watching.passes();
    assert!(nudge(&scene.path("state")).unwrap());
    wait_until("a pass", || watching.passes() > before);
}

#[test]
fn of_two_watchers_one_hears_and_the_other_follows_it() {
    let scene = Scene::new();
    let one = patient(&scene);
    let inode = fs::metadata(socket(&scene)).unwrap().ino();
    let other = patient(&scene);
    wait_until("the word", || {
        other.said().contains("another watcher of this state hears the nudges")
    });
    assert_eq!(fs::metadata(socket(&scene)).unwrap().ino(), inode, "it was not stolen");
    let (of_one, of_other) = (one.passes(), other.passes());
    assert!(nudge(&scene.path("state")).unwrap());
    wait_until("a pass", || one.passes() > of_one);
    assert_eq!(other.passes(), of_other);
    scene.connect("john", Kind::Crm);
    wait_until("the key", || scene.key("john", Kind::Crm).is_some());
    assert_eq!(scene.calls(Kind::Crm).0, 1);

    assert_eq!(one.end(), Some(0));
    wait_until("the other to listen", || is_heard(&scene));
    let of_other = other.passes();
    assert!(nudge(&scene.path("state")).unwrap());
    wait_until("a pass of the other", || other.passes() > of_other);
}

#[test]
fn crowds_garbage_and_silence_cost_little() {
    let scene = Scene::new();
    let watching = patient(&scene);
    // They stay, and say nothing.
    let _silent: Vec<_> = (0..100).map(|_| UnixStream::connect(socket(&scene)).unwrap()).collect();
    for _ in 0..2000 {
        let mut stream = UnixStream::connect(socket(&scene)).unwrap();
        // It may have hung up.
        stream.write_all(b"\0\xffGET / HTTP/1.1\r\n").ok();
    }
    scene.connect("john", Kind::Crm);
    wait_until("the key", || scene.key("john", Kind::Crm).is_some());
    // And they are heard together, not one by one.
    wait_until("the end of it", || {
        let before = watching.passes();
        sleep(Duration::from_secs(1));
        watching.passes() == before
    });
    assert!(watching.passes() < 200, "{} passes of 2100 nudges", watching.passes());
    assert_eq!(watching.end(), Some(0));
}

#[test]
fn a_nudge_waits_for_nobody() {
    let scene = Scene::new();
    let watching = patient(&scene);
    watching.signal(Signal::SIGSTOP);
    // More than it can hold: whoever came last is as good as heard.
    for _ in 0..5000 {
        assert!(nudge(&scene.path("state")).unwrap());
    }
    assert!(is_heard(&scene));
    watching.signal(Signal::SIGCONT);
    let before = watching.passes();
    wait_until("a pass", || watching.passes() > before);
}

#[test]
fn a_watcher_that_cannot_listen_says_so_and_works() {
    let scene = Scene::new();
    fs::create_dir(socket(&scene)).unwrap();
    let watching = patient(&scene);
    wait_until("the word", || watching.said().contains("nudge.sock cannot be made"));
    scene.connect("john", Kind::Crm);
    wait_until("the key", || scene.key("john", Kind::Crm).is_some());
}

#[test]
fn a_socket_of_something_else_is_no_watcher() {
    let scene = Scene::new();
    drop(UnixListener::bind(socket(&scene)).unwrap());
    assert!(!is_heard(&scene));
    let edited = scene.run(&["connect", "john", "crm"]).expect(0);
    edited.says("What the next pass");
}
