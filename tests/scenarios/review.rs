//! What a second look found: things that were lost, kept waiting, or told wrongly.

use std::fs;
use std::os::unix::fs::symlink;

use service_connector::example_service::Kind;

use crate::scene::Scene;

const CRM: Kind = Kind::Crm;

#[test]
fn a_state_that_may_not_be_looked_at_is_never_taken_for_none() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    // Root may look everywhere: here it is a link that leads nowhere that keeps everybody out.
    symlink("loop", scene.path("loop")).unwrap();
    for command in ["plan", "status", "validate"] {
        let looked = scene.run_with(&[command], |command| {
            command.env("SC_STATE", scene.path("loop"));
        });
        looked.expect(1).does_not_say("connecting").does_not_say("issue a key");
    }
}
