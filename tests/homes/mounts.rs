//! Mounts inside a home, and file systems that refuse. In a mount namespace of their own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use service_connector::installer::Installer;
use service_connector::model::home::HomeLook;
use service_connector::wire::PutError;

use crate::scene::{
    Scene, child, files, john, matches_put, passes, place, random_text, root_or_say_so, run,
};

#[test]
fn mounts_in_a_home_are_not_crossed() {
    if root_or_say_so("mounts_in_a_home_are_not_crossed") {
        let scene = Scene::new();
        passes(child(&["unshare", "--mount"], "mounts::meets_mounts_in_a_home", &scene.homes()));
    }
}

#[test]
#[ignore = "a child of mounts_in_a_home_are_not_crossed"]
fn meets_mounts_in_a_home() {
    let installer = Installer::direct(place(), false);
    let put = |files| installer.put(&john(), None, files);
    let look = || installer.look(&[&john()]).remove(&john()).unwrap();
    let (home, outside) = (place().join("john"), place().join("../outside"));
    let files = files(1, &["sc_crm.md"]);
    let is_told = |name: &str, put| match put {
        Err(PutError::Refused(text)) => assert!(text.contains(name) && text.contains("is a mount")),
        other => panic!("{other:?}"),
    };
    let rules = home.join(".claude_rules");
    fs::create_dir(&rules).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &rules);
    is_told(".claude_rules", put(&files));
    run("umount", &[rules.to_str().unwrap()]);
    mount(&["--bind", outside.join("rules").to_str().unwrap()], &rules);
    is_told(".claude_rules", put(&files));
    assert!(matches!(look(), HomeLook::Seen(facts) if facts.skills.is_empty()));
    run("umount", &[rules.to_str().unwrap()]);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);

    put(&files).unwrap();
    let changed = crate::scene::files(2, &["sc_crm.md"]);
    for name in [".service_env", ".claude_rules/sc_crm.md"] {
        mount(&["--bind", outside.join("secret").to_str().unwrap()], &home.join(name));
        is_told(name.rsplit('/').next().unwrap(), put(&changed));
        assert!(matches!(look(), HomeLook::Seen(_)));
        run("umount", &[home.join(name).to_str().unwrap()]);
    }
    // A home may be a mount itself.
    mount(&["-t", "tmpfs", "tmpfs"], &home);
    matches_put(&put(&changed).unwrap().facts, &changed);
    run("umount", &[home.to_str().unwrap()]);
}

#[test]
fn full_and_read_only_file_systems_are_told_with_advice() {
    if root_or_say_so("full_and_read_only_file_systems_are_told_with_advice") {
        let scene = Scene::new();
        let test = "mounts::meets_full_and_read_only_file_systems";
        passes(child(&["unshare", "--mount"], test, &scene.homes()));
    }
}

#[test]
#[ignore = "a child of full_and_read_only_file_systems_are_told_with_advice"]
fn meets_full_and_read_only_file_systems() {
    let installer = Installer::direct(place(), false);
    let home = place().join("john");
    mount(&["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"], &home);
    let old = files(1, &["sc_crm.md"]);
    installer.put(&john(), None, &old).unwrap();
    fill(&home.join("big"));
    let fails = |advice: &str| {
        let new = files(2, &["sc_crm.md"]);
        let Err(PutError::Failed(text)) = installer.put(&john(), None, &new) else { panic!("put") };
        assert!(text.contains(advice) && text.contains("john"), "{text}");
        let HomeLook::Seen(facts) = &installer.look(&[&john()])[&john()] else { panic!("look") };
        matches_put(facts, &old);
        assert_eq!(fs::read_dir(home.join(".claude_rules")).unwrap().count(), 1);
    };
    fails("the disk is full");
    run("mount", &["-o", "remount,ro", home.to_str().unwrap()]);
    fails("read-only");
    run("umount", &[home.to_str().unwrap()]);
}

fn fill(path: &PathBuf) {
    let mut file = File::create(path).unwrap();
    while file.write_all(random_text().as_bytes()).is_ok() {}
}

fn mount(what: &[&str], at: &Path) {
    run("mount", &what.iter().copied().chain([at.to_str().unwrap()]).collect::<Vec<_>>());
}
