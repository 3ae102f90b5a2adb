//! What the loop tells systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use service_connector::watch::Heart;

use crate::scene::Scene;
use crate::watch::Watching;

/// What systemd hears, and a loop that it started.
fn under_systemd(scene: &Scene) -> (UnixDatagram, Watching) {
    let path = scene.path("notify.sock");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let watching = Watching::start_with(scene, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    });
    (systemd, watching)
}

fn hear(systemd: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = systemd.recv(&mut buffer).expect("it is told within 10 seconds");
    String::from_utf8(buffer[..length].to_vec()).unwrap().trim_end().to_owned()
}

#[test]
fn it_is_ready_lives_and_ends() {
    let scene = Scene::new();
    let (systemd, watching) = under_systemd(&scene);
    let mut told: Vec<_> = (0..4).map(|_| hear(&systemd)).collect();
    // The first sign of life may come before it is ready.
    told.sort();
    assert_eq!(told, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    watching.signal(Signal::SIGTERM);
    while hear(&systemd) != "STOPPING=1" {}
    assert_eq!(watching.end_of_it(), Some(0));
}

#[test]
fn one_that_stands_still_gives_no_sign_of_life() {
    let scene = Scene::new();
    let (systemd, watching) = under_systemd(&scene);
    watching.signal(Signal::SIGSTOP);
    // What it said before.
    systemd.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 4096];
    let begin = Instant::now();
    while systemd.recv(&mut buffer).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "it goes on telling");
    }
    watching.signal(Signal::SIGCONT);
    systemd.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(hear(&systemd), "WATCHDOG=1");
}

#[test]
fn a_heart_that_beat_too_long_ago_does_not_beat() {
    let heart = Heart::default();
    assert!(heart.beats_within(Duration::from_hours(1)));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!heart.beats_within(Duration::from_millis(10)));
    heart.beat();
    assert!(heart.beats_within(Duration::from_hours(1)));
}
