//! The real process is killed at every disk write and every network call, one after another, and
//! run again: no key is live that nobody knows, none is lost, no file is torn, and two passes are
//! enough. The service, over real HTTP, says in its ledger what is true.

#[path = "crashes/calls.rs"]
mod calls;
#[path = "crashes/check.rs"]
mod check;
#[path = "crashes/scene.rs"]
mod scene;
#[path = "crashes/story.rs"]
mod story;
#[path = "crashes/tracer.rs"]
mod tracer;

use std::env;
use std::io::Write as _;
use std::time::Instant;

use check::{Before, Undisturbed};
use scene::Scene;
use story::Story;
use tracer::{Kill, When};

/// Kills after a call do what kills before the next one do, but for what other threads do in
/// between: of them, and of those with a fault, every so many are tried unless all are asked for.
const EVERY: usize = 3;
const EVERY_WITH_FAULT: usize = 5;
/// When so much is wrong, more of it tells nothing new.
const ENOUGH: usize = 10;

#[test]
fn connect_is_killed_at_every_call() {
    enumerate(&story::EDIT_CONNECT);
}

#[test]
fn rotate_is_killed_at_every_call() {
    enumerate(&story::EDIT_ROTATE);
}

#[test]
fn disconnect_is_killed_at_every_call() {
    enumerate(&story::EDIT_DISCONNECT);
}

#[test]
fn the_very_first_pass_is_killed_at_every_call() {
    enumerate(&story::FIRST_PASS);
}

#[test]
fn a_pass_that_connects_is_killed_at_every_call() {
    enumerate(&story::PASS_CONNECT);
}

#[test]
fn a_pass_that_rotates_is_killed_at_every_call() {
    enumerate(&story::PASS_ROTATE);
}

#[test]
fn a_pass_that_rotates_without_a_grace_is_killed_at_every_call() {
    enumerate(&story::PASS_ROTATE_WITHOUT_GRACE);
}

#[test]
fn a_pass_that_replaces_a_leaked_key_is_killed_at_every_call() {
    enumerate(&story::PASS_LEAKED);
}

#[test]
fn a_pass_that_disconnects_is_killed_at_every_call() {
    enumerate(&story::PASS_DISCONNECT);
}

#[test]
fn a_pass_that_loses_the_answer_to_an_exchange_is_killed() {
    enumerate(&story::LOST_EXCHANGE);
}

#[test]
fn a_pass_that_loses_the_answer_to_an_exchange_of_a_rotation_is_killed() {
    enumerate(&story::LOST_EXCHANGE_OF_ROTATION);
}

#[test]
fn a_pass_that_loses_the_answer_to_a_revoke_is_killed() {
    enumerate(&story::LOST_REVOKE);
}

fn enumerate(story: &Story) {
    let begun = Instant::now();
    let mut scene = Scene::new(story.grace_days);
    for command in story.before {
        scene.must(command);
    }
    let before = Before::of(&scene);
    scene.save();
    let Some((usual, undisturbed)) = undisturbed(&mut scene, story, &before) else { return };
    let mut tried = [0, 0];
    let mut wrong = Vec::new();
    for at in 1.. {
        let mut killed_here = false;
        for (n, when) in [When::Entry, When::Exit].into_iter().enumerate() {
            if !is_due(story, at, when) {
                continue;
            }
            scene.restore();
            let (killed, complaints) =
                attempt(&scene, story, &before, &undisturbed, Kill { at, when });
            tried[n] += usize::from(killed);
            killed_here |= killed;
            wrong.extend(complaints);
        }
        // How threads take turns varies, and so does the number of calls.
        if (at > usual && !killed_here) || wrong.len() >= ENOUGH {
            break;
        }
    }
    let took = begun.elapsed().as_secs();
    say(&format!(
        "{}: {} points, {} of them at entry and {} at exit, of {usual} calls; {took} s\n",
        story.name,
        tried[0] + tried[1],
        tried[0],
        tried[1],
    ));
    assert!(wrong.is_empty(), "{}:\n{}", story.name, wrong.join("\n"));
}

/// Runs it without killing: how many calls there are, and what is left. None where the system does
/// not let us trace.
fn undisturbed(scene: &mut Scene, story: &Story, before: &Before) -> Option<(usize, Undisturbed)> {
    scene.restore();
    switch_faults(scene, story);
    let command = scene.command(story.killed);
    let traced = match tracer::run(&command, &scene.world(), None) {
        Ok(traced) => traced,
        Err(error) => {
            say(&format!(
                "\nNOT TESTED: `{}` was not killed anywhere: this system does not let one process \
                 trace another ({error}). In a container: --cap-add SYS_PTRACE; on a host: \
                 sysctl kernel.yama.ptrace_scope=1.\n\n",
                story.name
            ));
            assert!(!env::var("CI").is_ok_and(|ci| ci == "true"), "ptrace is refused: {error}");
            return None;
        }
    };
    if env::var_os("SC_TESTS_SHOW").is_some() {
        for (at, call) in traced.calls.iter().enumerate() {
            say(&format!("{}: {} {call}\n", story.name, at + 1));
        }
    }
    let wrong = check::converge(scene, story, before, None);
    assert!(wrong.is_empty(), "{}, undisturbed:\n{}", story.name, wrong.join("\n"));
    Some((traced.calls.len(), Undisturbed::of(scene)))
}

/// Kills once and runs again. Whether it was killed, and what is wrong.
fn attempt(
    scene: &Scene,
    story: &Story,
    before: &Before,
    undisturbed: &Undisturbed,
    kill: Kill,
) -> (bool, Vec<String>) {
    switch_faults(scene, story);
    let traced = tracer::run(&scene.command(story.killed), &scene.world(), Some(kill)).unwrap();
    let mut wrong = check::after_crash(scene, story, before);
    wrong.extend(check::converge(scene, story, before, Some(undisturbed)));
    let place = match traced.calls.get(kill.at - 1) {
        Some(call) if traced.killed => {
            format!("killed at {:?} of call {}, {call}", kill.when, kill.at)
        }
        _ => "not killed".to_owned(),
    };
    (traced.killed, wrong.into_iter().map(|wrong| format!("{place}: {wrong}")).collect())
}

fn switch_faults(scene: &Scene, story: &Story) {
    if let Some((on, fault)) = &story.fault {
        scene.faults().next(*on, fault.clone(), 1);
    }
}

/// Whether a kill is to be tried here.
fn is_due(story: &Story, at: usize, when: When) -> bool {
    let all = env::var_os("SC_TESTS_FULL").is_some_and(|full| full == "1");
    match (story.fault.is_some(), when) {
        _ if all => return true,
        (false, When::Entry) => return true,
        (false, When::Exit) => at % EVERY == 0,
        (true, When::Entry) => at % EVERY_WITH_FAULT == 0,
        (true, When::Exit) => at % EVERY_WITH_FAULT == 2,
    }
}

/// Says it although the test passes, when cargo would keep it to itself.
fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes())); // nobody is there to hear it
}
