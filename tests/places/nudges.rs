//! Who may nudge the loop: the reconciler, root, and whoever is in the state's group, as the portal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::server::{ANALYSTS, PORTAL, RECONCILER, STATE, Server};
use crate::world::{World, in_a_world};

/// Connects to the socket; exits 0, or 13 where that is forbidden (EACCES).
const KNOCK: &str = "import socket, sys\n\
    try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n\
    except OSError as error: sys.exit(error.errno)\n";

/// A loop that runs as the reconciler. It is killed with the test.
pub struct Loop(Child);

impl Loop {
    pub fn start(world: &World<'_>) -> Self {
        let mut watch = world.command(RECONCILER, &["reconcile", "--watch"]);
        watch.env("SC_LOG", "info").env("SC_LOOK_EVERY_SECONDS", "3600");
        let log = fs::File::create("/run/watch.log").unwrap();
        let child = watch.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let watch = Self(child);
        wait_until("the first pass", || passes() > 0);
        watch
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // It may have ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn passes() -> usize {
    fs::read_to_string("/run/watch.log").unwrap().matches("a pass begins").count()
}

pub fn wait_until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: not within 20 seconds");
        sleep(Duration::from_millis(10));
    }
}

fn knock(server: &Server, user: &str) -> Option<i32> {
    let mut knock: Command = server.run_as(user, "/usr/bin/python3");
    knock.args(["-c", KNOCK, &format!("{STATE}/nudge.sock")]).status().unwrap().code()
}

#[test]
fn the_portal_nudges_and_an_analyst_does_not() {
    in_a_world("the_portal_nudges_and_an_analyst_does_not", |world| {
        world.server.account("john", 3001, &[ANALYSTS]);
        let _loop = Loop::start(world);
        let (uid, gid) = world.server.ids(RECONCILER);
        let meta = fs::symlink_metadata(format!("{STATE}/nudge.sock")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (uid, gid, 0o660));
        for user in [PORTAL, RECONCILER, "root"] {
            let before = passes();
            assert_eq!(knock(world.server, user), Some(0), "{user}");
            wait_until("a pass", || passes() > before);
        }
        let before = passes();
        assert_eq!(knock(world.server, "john"), Some(13));
        sleep(Duration::from_secs(1));
        assert_eq!(passes(), before);

        let portal = world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        portal.says("The watcher acts on it now");
        wait_until("the key", || !world.whose_keys().is_empty());
    });
}

#[test]
fn a_directory_that_the_group_may_not_enter_keeps_it_out() {
    in_a_world("a_directory_that_the_group_may_not_enter_keeps_it_out", |world| {
        let _loop = Loop::start(world);
        world.server.dir(STATE, RECONCILER, RECONCILER, 0o2740);
        assert_eq!(knock(world.server, PORTAL), Some(13));
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0).says("The edit is made");
    });
}
