//! Links, FIFOs, directories, hard links and strangers' files in the places of ours.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, chown, symlink};
use std::path::Path;

use service_connector::install::{Home, Trouble};
use service_connector::installer::Installer;
use service_connector::model::home::{Absence, AbsenceKind, HomeLook};
use service_connector::wire::PutError;

use crate::scene::{
    Scene, child_of, chmod, files, john, matches_put, passes, place, random_text, root_or_say_so,
    run, skill,
};

#[test]
fn a_link_in_the_place_of_the_env_file_is_replaced_and_its_target_stays() {
    let scene = Scene::new();
    for target in [scene.outside("secret"), scene.outside("nothing"), "/dev/zero".into()] {
        symlink(target, scene.at("link")).unwrap();
        fs::rename(scene.at("link"), scene.at(".service_env")).unwrap();
        assert_eq!(scene.seen().env, None);
        let files = files(1, &[]);
        scene.put(&files).unwrap();
        scene.holds(&files);
    }
}

#[test]
fn linked_skills_are_replaced_or_removed_and_their_targets_stay() {
    let scene = Scene::new();
    fs::create_dir(scene.at(".claude_rules")).unwrap();
    for name in ["sc_crm.md", "sc_old.md", "km_notes.md"] {
        symlink(scene.outside("secret"), scene.at(".claude_rules").join(name)).unwrap();
    }
    assert!(scene.seen().skills.is_empty());
    let files = files(1, &["sc_crm.md"]);
    scene.put(&files).unwrap();
    scene.holds(&files);
    assert_eq!(scene.names(".claude_rules"), ["km_notes.md", "sc_crm.md"]);
}

#[test]
fn a_linked_rules_directory_is_named_and_nothing_changes() {
    let scene = Scene::new();
    symlink(scene.outside("rules"), scene.at(".claude_rules")).unwrap();
    assert!(scene.seen().skills.is_empty() && scene.seen().rules_mode_ok);
    scene.refuses(&files(1, &["sc_crm.md"]), ".claude_rules", "is a link");
    assert_eq!(scene.names(""), [".claude_rules"]);
    // Somebody who leaves loses the keys all the same.
    let none = files(2, &[]);
    scene.put(&none).unwrap();
    scene.holds(&none);
}

#[test]
fn a_file_in_the_place_of_the_rules_directory_is_named() {
    let scene = Scene::new();
    fs::write(scene.at(".claude_rules"), random_text()).unwrap();
    scene.refuses(&files(1, &["sc_crm.md"]), ".claude_rules", "is a file");
    assert_eq!(scene.names(""), [".claude_rules"]);
}

#[test]
fn a_directory_in_the_place_of_a_file_is_named_and_nothing_changes() {
    let scene = Scene::new();
    fs::create_dir_all(scene.at(".service_env/kept")).unwrap();
    scene.refuses(&files(1, &["sc_crm.md"]), ".service_env", "is a directory");
    assert_eq!(scene.names(""), [".service_env"]);
    fs::remove_dir_all(scene.at(".service_env")).unwrap();
    fs::create_dir_all(scene.at(".claude_rules/sc_crm.md/kept")).unwrap();
    scene.refuses(&files(1, &["sc_crm.md", "sc_a.md"]), "sc_crm.md", "is a directory");
    assert_eq!(scene.names(""), [".claude_rules"]);
    assert_eq!(scene.names(".claude_rules"), ["sc_crm.md"]);
}

#[test]
fn a_home_that_is_a_link_is_refused_even_with_a_slash_behind() {
    let scene = Scene::new();
    fs::remove_dir(scene.home()).unwrap();
    symlink(scene.outside("rules"), scene.home()).unwrap();
    assert!(matches!(scene.look(), HomeLook::Unknown(text) if text.contains("a link")));
    assert!(matches!(scene.put(&files(1, &[])), Err(PutError::Refused(_))));
    for slash in ["", "/", "/.", "//"] {
        let path = format!("{}{slash}", scene.home().display());
        assert!(matches!(Home::open(Path::new(&path)), Err(Trouble::InTheWay { .. })));
    }
    let up = scene.homes().join("..");
    assert!(matches!(Home::open(&up), Err(Trouble::InTheWay { .. })));
    // Those above it may be links: they are root's.
    symlink(scene.homes(), scene.homes().join("linked")).unwrap();
    fs::create_dir(scene.homes().join("eva")).unwrap();
    assert!(Home::open(&scene.homes().join("linked/eva/")).is_ok());
}

#[test]
fn fifos_and_sockets_are_never_opened() {
    let scene = Scene::new();
    fs::create_dir_all(scene.at(".claude_rules")).unwrap();
    fs::create_dir_all(scene.at(".service_env_seen")).unwrap();
    let seen = format!(".service_env_seen/{:016x}", fastrand::u64(..));
    let old = ".claude_rules/sc_old.md";
    for name in [".service_env", ".claude_rules/sc_crm.md", old, &seen] {
        run("mkfifo", &[scene.at(name).to_str().unwrap()]);
    }
    drop(std::os::unix::net::UnixListener::bind(scene.at(".claude_rules/sc_socket.md")).unwrap());
    let facts = scene.seen();
    assert!(facts.env.is_none() && facts.skills.is_empty() && facts.laptops.is_empty());
    let files = files(1, &["sc_crm.md", "sc_socket.md"]);
    scene.put(&files).unwrap();
    scene.holds(&files);
    assert!(fs::symlink_metadata(scene.at(old)).unwrap().file_type().is_fifo());
}

#[test]
fn a_hard_linked_file_is_replaced_and_not_written_through() {
    let scene = Scene::new();
    let files = files(1, &["sc_crm.md"]);
    scene.put(&files).unwrap();
    for name in [".service_env", ".claude_rules/sc_crm.md"] {
        fs::hard_link(scene.at(name), scene.homes().join(name.replace('/', "_"))).unwrap();
    }
    assert!(!scene.seen().env.unwrap().file.mode_ok);
    assert!(!scene.seen().skills[&skill("sc_crm.md")].mode_ok);
    let before = fs::metadata(scene.homes().join(".service_env")).unwrap();
    scene.put(&files).unwrap();
    scene.holds(&files);
    let after = fs::metadata(scene.homes().join(".service_env")).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec(), 1),
        (after.ino(), after.mtime_nsec(), after.nlink())
    );
    assert_ne!(after.ino(), fs::metadata(scene.at(".service_env")).unwrap().ino());
}

#[test]
fn leftovers_of_a_killed_run_go_and_look_alikes_stay() {
    let scene = Scene::new();
    scene.put(&files(1, &["sc_crm.md"])).unwrap();
    let random = format!("{:016x}", fastrand::u64(..));
    let leftovers = [
        format!(".service_env.tmp.{random}"),
        format!(".claude_rules/.sc_crm.md.tmp.{random}"),
        format!(".claude_rules/.sc_gone.md.tmp.{random}"),
    ];
    let alike = [
        ".service_env.tmp.mine".to_owned(),
        format!(".service_env.bak.tmp.{random}"),
        format!("service_env.tmp.{random}"),
        format!(".claude_rules/sc_crm.md.tmp.{random}"),
        format!(".claude_rules/.km_a.md.tmp.{random}"),
        format!(".claude_rules/.service_env.tmp.{random}"),
    ];
    for name in leftovers.iter().chain(&alike) {
        fs::write(scene.at(name), random_text()).unwrap();
    }
    let linked = format!(".service_env.tmp.{:016x}", fastrand::u64(..));
    symlink(scene.outside("secret"), scene.at(&linked)).unwrap();
    scene.put(&files(2, &["sc_crm.md"])).unwrap();
    assert!(leftovers.iter().all(|name| !scene.at(name).exists()));
    assert!(alike.iter().chain([&linked]).all(|name| scene.at(name).exists()));
}

#[test]
fn files_and_homes_of_strangers_are_told_apart() {
    if !root_or_say_so("files_and_homes_of_strangers_are_told_apart") {
        return;
    }
    let stranger = fastrand::u32(100_000..200_000);
    let scene = Scene::new();
    let files = files(1, &["sc_crm.md"]);
    scene.put(&files).unwrap();
    for name in [".service_env", ".claude_rules/sc_crm.md"] {
        chown(scene.at(name), Some(stranger), None).unwrap();
    }
    assert!(!scene.seen().env.unwrap().file.mode_ok);
    matches_put(&scene.put(&files).unwrap(), &files);
    chown(scene.at(".claude_rules"), Some(stranger), None).unwrap();
    scene.refuses(&files, ".claude_rules", "somebody else's");
    chown(scene.home(), Some(stranger), None).unwrap();
    let not_owned = |absence: &Absence| {
        absence.kind == AbsenceKind::NotOwned && absence.why.contains(&stranger.to_string())
    };
    assert!(matches!(scene.look(), HomeLook::Absent(absence) if not_owned(&absence)));
    assert!(matches!(scene.put(&files), Err(PutError::Absent(absence)) if not_owned(&absence)));
}

#[test]
fn what_may_not_be_read_or_written_is_told_with_advice() {
    if !root_or_say_so("what_may_not_be_read_or_written_is_told_with_advice") {
        return;
    }
    // A copy, as nobody may not get to the binary where cargo has put it.
    let scene = Scene::new();
    let exe = scene.homes().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    chmod(scene.homes().parent().unwrap(), 0o755);
    chown(scene.home(), Some(65_534), Some(65_534)).unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let test = "hostile::is_told_what_is_not_permitted";
    passes(child_of(&exe, &nobody, test, &scene.homes()));
}

#[test]
#[ignore = "a child of what_may_not_be_read_or_written_is_told_with_advice"]
fn is_told_what_is_not_permitted() {
    let installer = Installer::direct(place(), false);
    let put = |files| installer.put(&john(), None, files);
    let files = files(1, &["sc_crm.md"]);
    let at = |name: &str| place().join("john").join(name);
    put(&files).unwrap();
    // A file that its owner made unreadable is wrong, and mended.
    chmod(&at(".service_env"), 0o000);
    chmod(&at(".claude_rules/sc_crm.md"), 0o000);
    let HomeLook::Seen(facts) = &installer.look(&[&john()])[&john()] else { panic!("not seen") };
    assert!(!facts.env.unwrap().file.mode_ok && facts.skills.len() == 1);
    matches_put(&put(&files).unwrap().facts, &files);
    // A directory that its owner closed is told.
    chmod(&at(".claude_rules"), 0o000);
    let look = &installer.look(&[&john()])[&john()];
    let is_told = |text: &str| text.contains(".claude_rules") && text.contains("permission denied");
    assert!(matches!(look, HomeLook::Unknown(text) if is_told(text)));
    assert!(matches!(put(&files), Err(PutError::Failed(text)) if is_told(&text)));
    chmod(&at(".claude_rules"), 0o700);
    chmod(&at(""), 0o500);
    let changed = crate::scene::files(2, &[]);
    let refused = put(&changed).unwrap_err().to_string();
    assert!(refused.contains(".service_env") && refused.contains("permission denied"), "{refused}");
    chmod(&at(""), 0o700);
    matches_put(&put(&changed).unwrap().facts, &changed);
}

#[test]
fn a_lock_that_somebody_holds_ends_with_the_deadline() {
    use service_connector::install::put;
    use std::time::{Duration, Instant};
    let scene = Scene::new();
    let held = File::open(scene.home()).unwrap();
    held.lock().unwrap();
    let home = Home::open(&scene.home()).unwrap();
    let files = files(1, &[]);
    let begun = Instant::now();
    let put = |wait| put(&home, &files, Instant::now() + Duration::from_millis(wait));
    assert!(matches!(put(100), Err(Trouble::Busy)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(held);
    assert!(put(10_000).unwrap().changed);
    assert!(!put(10_000).unwrap().changed);
    assert!(matches!(put(0), Err(Trouble::Deadline)));
}
