//! A world that is as it should be is left alone.

use service_connector::example_service::Kind;

use crate::scene::{KINDS, Scene};

#[test]
fn a_pass_over_an_unchanged_world_calls_nobody_and_changes_nothing() {
    let scene = Scene::new();
    for user in ["eva", "john"] {
        for kind in KINDS {
            scene.connect(user, kind);
        }
    }
    scene.pass(0);
    scene.rotate("eva", Kind::Crm);
    scene.disconnect("john", Kind::Invoicing);
    scene.pass(0);
    let world = || (scene.files(), scene.dump(), KINDS.map(|kind| calls(&scene, kind)));
    let before = world();
    for _ in 0..3 {
        scene.pass(0).says("Nothing to do.");
    }
    assert!(before.0 == scene.files(), "a file was changed");
    assert_eq!(before.1, scene.dump());
    assert_eq!(before.2, KINDS.map(|kind| calls(&scene, kind)));
    assert!(before == world());
}

#[test]
fn connecting_twice_is_as_good_as_once() {
    let scene = Scene::new();
    scene.run(&["connect", "john", "crm"]).expect(0).does_not_say("It was so already");
    scene.run(&["connect", "john", "crm"]).expect(0).says("It was so already");
    scene.pass(0);
    let before = (scene.files(), scene.dump());
    scene.run(&["connect", "john", "crm"]).expect(0).says("It was so already");
    scene.run(&["disconnect", "john", "invoicing"]).expect(0).says("It was so already");
    scene.pass(0).says("Nothing to do.");
    assert!(before == (scene.files(), scene.dump()), "something was changed");
    assert_eq!(scene.calls(Kind::Crm), (1, 0));
}

fn calls(scene: &Scene, kind: Kind) -> [u64; 3] {
    let (exchanges, revokes) = scene.calls(kind);
    [exchanges, revokes, scene.ledger(kind).list_calls().unwrap()]
}
