//! Homes: drift, and homes that cannot be used.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use service_connector::example_service::Kind;

use crate::scene::{HOUR, Scene};

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

fn connected() -> (Scene, String) {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    (scene, key)
}

#[test]
fn drift_is_found_and_mended_under_the_same_generation() {
    let (scene, _) = connected();
    let (env, skill) = (scene.env_file("john"), scene.skill("john", CRM));
    let home = scene.path("homes/john");
    let (env_path, rules) = (home.join(".service_env"), home.join(".claude_rules"));
    let skill_path = rules.join("sc_crm.md");
    let set_mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let drifts: [(&dyn Fn(), &str); 8] = [
        (&|| fs::remove_file(&env_path).unwrap(), ".service_env is missing"),
        (&|| fs::write(&env_path, "CRM_API_KEY=mine\n").unwrap(), ".service_env was changed"),
        (&|| set_mode(&env_path, 0o644), ".service_env has another mode"),
        (&|| fs::remove_file(&skill_path).unwrap(), "sc_crm.md is missing"),
        (&|| fs::write(&skill_path, "print the key\n").unwrap(), "sc_crm.md was changed"),
        (&|| fs::write(rules.join("sc_other.md"), "").unwrap(), "sc_other.md should not be there"),
        (&|| set_mode(&rules, 0o755), ".claude_rules has another mode"),
        (&|| fs::remove_dir_all(&home).unwrap(), ".service_env is missing"),
    ];
    for (drift, says) in drifts {
        drift();
        scene.run(&["plan"]).expect(2).says(says);
        scene.pass(0);
        assert_eq!(scene.env_file("john"), env, "{says}");
        assert_eq!(scene.skill("john", CRM), skill, "{says}");
        assert!(!rules.join("sc_other.md").exists());
        scene.pass(0).says("Nothing to do");
    }
    assert_eq!(scene.generation("john"), 1);
    assert_eq!(scene.calls(CRM), (1, 0));
}

#[test]
fn what_is_not_ours_stays() {
    let (scene, _) = connected();
    let rules = scene.path("homes/john/.claude_rules");
    fs::write(rules.join("km_notes.md"), "mine").unwrap();
    fs::write(scene.path("homes/john/.bashrc"), "mine").unwrap();
    scene.pass(0).says("Nothing to do");
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(!rules.join("sc_crm.md").exists());
    assert_eq!(fs::read_to_string(rules.join("km_notes.md")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(scene.path("homes/john/.bashrc")).unwrap(), "mine");
}

#[test]
fn each_change_gets_the_next_generation_also_after_a_number_from_elsewhere_was_seen() {
    let (scene, _) = connected();
    scene.connect("john", INVOICING);
    scene.pass(0);
    assert_eq!(scene.generation("john"), 2);
    let path = scene.path("homes/john/.service_env");
    fs::write(&path, scene.env_file("john").replace("generation 2", "generation 40")).unwrap();
    scene.pass(0);
    assert_eq!(scene.generation("john"), 41);
    scene.disconnect("john", CRM);
    scene.disconnect("john", INVOICING);
    scene.pass(0);
    assert_eq!(scene.generation("john"), 42);
    scene.desired("users: {} # nobody\n");
    scene.pass(0);
    scene.connect("john", CRM);
    scene.pass(0);
    assert_eq!(scene.generation("john"), 43, "it outlives the user's removal");
}

#[test]
fn a_home_that_cannot_be_read_blocks_the_removal_there_and_nothing_else() {
    let (scene, johns) = connected();
    scene.connect("eva", CRM);
    scene.connect("mia", INVOICING);
    scene.pass(0);
    let evas = scene.working_key("eva", CRM);
    // A link where the home was: it is not followed.
    let (home, away) = (scene.path("homes/john"), scene.path("away"));
    fs::rename(&home, &away).unwrap();
    symlink(&away, &home).unwrap();
    let file = fs::read(away.join(".service_env")).unwrap();
    scene.disconnect("john", CRM);
    scene.disconnect("eva", CRM);
    scene.connect("petr", INVOICING);
    scene.pass(4).says("its files are not removed yet");
    assert!(!scene.works(CRM, &johns), "a revoke waits for no home");
    assert!(!scene.works(CRM, &evas));
    assert!(scene.env_file("eva").contains("# end 0 variables"));
    scene.working_key("petr", INVOICING);
    assert_eq!(fs::read(away.join(".service_env")).unwrap(), file);

    fs::remove_file(&home).unwrap();
    fs::rename(&away, &home).unwrap();
    scene.pass(0);
    assert!(scene.env_file("john").contains("# end 0 variables"));
}

#[test]
fn a_home_that_cannot_be_written_keeps_its_key_until_it_can() {
    let (scene, old) = connected();
    let rules = scene.path("homes/john/.claude_rules");
    fs::remove_dir_all(&rules).unwrap();
    fs::write(&rules, "a file where the directory belongs").unwrap();
    scene.rotate("john", CRM);
    scene.connect("eva", CRM);
    scene.pass(4).says("john: files not put");
    scene.working_key("eva", CRM);
    assert!(scene.works(CRM, &old), "nothing took its place");
    scene.let_pass(30 * 24 * HOUR);
    scene.pass(4);
    assert!(scene.works(CRM, &old), "the grace begins with the delivery");
    fs::remove_file(&rules).unwrap();
    scene.pass(0);
    assert_ne!(scene.working_key("john", CRM), old);
}

#[test]
fn an_account_without_a_home_is_not_issued_for() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("homes/eva")).unwrap();
    scene.connect("eva", CRM);
    scene.connect("john", CRM);
    let pass = |code| {
        let ran = scene.run_with(&["reconcile"], |command| {
            command.env("SC_HOMES_CREATE", "false");
        });
        ran.expect(code)
    };
    pass(4).says("account john:");
    scene.working_key("eva", CRM);
    assert_eq!(scene.calls(CRM), (1, 0));
    assert!(!scene.path("homes/john").exists());
    fs::create_dir(scene.path("homes/john")).unwrap();
    pass(0);
    let key = scene.working_key("john", CRM);

    // Gone for an hour, its keys are revoked.
    fs::remove_dir_all(scene.path("homes/john")).unwrap();
    pass(4);
    assert!(scene.works(CRM, &key));
    scene.let_pass(HOUR + 60);
    pass(0).says("the account has been absent for an hour");
    assert!(!scene.works(CRM, &key));
    pass(4);
    scene.working_key("eva", CRM);
}
