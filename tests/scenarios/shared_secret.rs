//! A shared secret that changes.

use std::fs;

use service_connector::example_service::Kind;

use crate::scene::{Ran, Scene};

const CRM: Kind = Kind::Crm;

/// One pass that finds the shared secret of CRM in the directory only, and owes nothing at its end.
fn pass(scene: &Scene, secrets: [&str; 2]) -> Ran {
    let ran = scene.run_with(&["reconcile", "--secrets", "secrets"], |command| {
        command.env_remove(CRM.secret_variable()).env("SC_LOG", "debug");
    });
    let is_shown = secrets.iter().any(|secret| ran.text().contains(secret));
    assert!(!is_shown, "a shared secret is in what a pass said");
    ran.expect(0)
}

#[test]
fn a_shared_secret_changes_and_no_pass_fails() {
    let mut scene = Scene::new();
    let (old, new) = (scene.service(CRM).secret.clone(), format!("{:032x}", fastrand::u128(..)));
    let secrets = [old.as_str(), new.as_str()];
    let (now, next) =
        (scene.path("secrets/SC_SECRET_CRM"), scene.path("secrets/SC_SECRET_CRM_NEXT"));
    fs::create_dir(scene.path("secrets")).unwrap();
    fs::write(&now, &old).unwrap();
    scene.connect("john", CRM);
    pass(&scene, secrets);
    let johns = scene.working_key("john", CRM);

    // The new one is there before the service takes it.
    fs::write(&next, &new).unwrap();
    pass(&scene, secrets).says("Nothing to do");
    scene.connect("petr", CRM);
    pass(&scene, secrets);
    let petrs = scene.working_key("petr", CRM);

    scene.change_secret(CRM, &new);
    scene.connect("eva", CRM);
    scene.disconnect("john", CRM);
    pass(&scene, secrets).says("the other secret of this name");
    let evas = scene.working_key("eva", CRM);
    assert!(!scene.works(CRM, &johns), "issued before, revoked after");
    assert!(scene.works(CRM, &petrs));

    // It takes the first one's place.
    fs::rename(&next, &now).unwrap();
    scene.connect("john", CRM);
    scene.disconnect("eva", CRM);
    pass(&scene, secrets).does_not_say("the other secret of this name");
    scene.working_key("john", CRM);
    assert!(!scene.works(CRM, &evas));
    pass(&scene, secrets).says("Nothing to do");
    assert_eq!(scene.live(CRM).len(), 2);
}
