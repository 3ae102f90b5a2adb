//! The listener for ops beside others: other loops, other files, and whoever connects.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{Scene, wait_until};
use crate::watch::Watching;

const ARGS: [&str; 4] = ["reconcile", "--watch", "--ops-listen", "unix:ops.sock"];

fn watching(scene: &Scene) -> Watching {
    Watching::start_with(scene, |command| {
        command.args(&ARGS[2..]);
    })
}

fn answers(scene: &Scene) -> bool {
    let Ok(mut stream) = UnixStream::connect(scene.path("ops.sock")) else { return false };
    write!(stream, "GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.0 200 ")
}

#[test]
fn a_file_in_the_sockets_place_stays() {
    let scene = Scene::new();
    fs::write(scene.path("ops.sock"), "somebody's").unwrap();
    scene.run(&ARGS).expect(1).says("something else is there");
    assert_eq!(fs::read(scene.path("ops.sock")).unwrap(), b"somebody's");
    fs::remove_file(scene.path("ops.sock")).unwrap();

    // Also one that came while it ran.
    let watching = watching(&scene);
    fs::remove_file(scene.path("ops.sock")).unwrap();
    fs::write(scene.path("ops.sock"), "another's").unwrap();
    assert_eq!(watching.end(), Some(0));
    assert_eq!(fs::read(scene.path("ops.sock")).unwrap(), b"another's");
}

#[test]
fn a_loop_leaves_the_socket_of_another_alone_and_takes_that_of_one_that_was_killed() {
    let scene = Scene::new();
    let one = watching(&scene);
    scene.run(&ARGS).expect(1).says("another answers there");
    assert!(answers(&scene), "the first one's is still there");
    one.signal(Signal::SIGKILL);
    one.end_of_it();
    assert!(scene.path("ops.sock").exists(), "nobody removed it");
    let another = watching(&scene);
    assert!(answers(&scene));
    assert_eq!(another.end(), Some(0));
    assert!(!scene.path("ops.sock").exists());
}

#[test]
fn whoever_connects_has_a_place_for_a_while_and_may_send_a_little() {
    let scene = Scene::new();
    let _watching = watching(&scene);
    wait_until("an answer", || answers(&scene));
    let mut big = UnixStream::connect(scene.path("ops.sock")).unwrap();
    let header = "a".repeat(100_000);
    // It may be closed before all of it is sent.
    write!(big, "GET /healthz HTTP/1.0\r\nX-Big: {header}\r\n\r\n").ok();
    let mut answer = Vec::new();
    big.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP/1.0 200 "), "100 kB of headers are taken");

    let quiet: Vec<UnixStream> =
        (0..100).map(|_| UnixStream::connect(scene.path("ops.sock")).unwrap()).collect();
    let mut first = &quiet[0];
    first.write_all(b"GET /met").unwrap();
    first.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let ended = first.read(&mut [0; 64]);
    let still_open = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!still_open, "a connection that says nothing is kept");
    drop(quiet);
    assert!(answers(&scene), "those that said nothing keep nobody away");
}
