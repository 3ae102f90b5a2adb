//! A rotation, and what laptops have to say to it: by the ledger of the service.

use service_connector::example_service::Kind;

use crate::kit::Laptop;
use crate::scene::{DAY, HOUR, Scene};

const CRM: Kind = Kind::Crm;

fn connected() -> Scene {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene
}

fn laptop(scene: &Scene) -> Laptop {
    Laptop::of_home(scene.path("homes/john"))
}

/// Rotates, and returns the key that was there before.
fn rotate(scene: &Scene) -> String {
    let old = scene.working_key("john", CRM);
    // The desired state says "after this second".
    scene.let_pass(2);
    scene.rotate("john", CRM);
    scene.let_pass(2);
    scene.pass(0);
    assert_ne!(scene.working_key("john", CRM), old);
    assert!(scene.works(CRM, &old), "its grace runs");
    old
}

#[test]
fn with_a_laptop_that_is_away_the_old_key_works_until_its_grace_is_over() {
    let scene = connected();
    let (one, away) = (laptop(&scene), laptop(&scene));
    one.sync();
    away.sync();
    let old = rotate(&scene);
    one.sync();
    for _ in 0..6 {
        scene.let_pass(DAY);
        scene.pass(0);
        assert!(scene.works(CRM, &old), "one laptop has nothing else");
        assert_eq!(scene.live(CRM).len(), 2);
    }
    scene.let_pass(DAY + HOUR);
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.live(CRM).len(), 1);
}

#[test]
fn with_all_laptops_back_the_old_key_goes_before_its_grace_is_over() {
    let scene = connected();
    let laptops = [laptop(&scene), laptop(&scene)];
    for laptop in &laptops {
        laptop.sync();
    }
    let old = rotate(&scene);
    for laptop in &laptops {
        laptop.sync();
    }
    scene.pass(0);
    assert!(scene.works(CRM, &old), "an hour has not passed since the delivery");
    scene.let_pass(HOUR + 60);
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.live(CRM).len(), 1);
    for laptop in laptops {
        assert!(laptop.env().contains(&scene.working_key("john", CRM)));
    }
}

#[test]
fn with_no_laptop_only_the_grace_counts() {
    let scene = connected();
    let old = rotate(&scene);
    for hours in [2, 6 * 24] {
        scene.let_pass(hours * HOUR);
        scene.pass(0);
        assert_eq!(scene.live(CRM).len(), 2);
    }
    scene.let_pass(DAY);
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.live(CRM).len(), 1);
}
