//! Homes as they should be.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use service_connector::installer::Installer;
use service_connector::model::home::{HomeFacts, HomeLook};
use service_connector::model::name::AccountName;
use service_connector::wire::{Answer, Asked, HomeFiles, PutDone, PutError, Request, line};

use crate::scene::{
    Scene, child, chmod, files, john, matches_put, mode, passes, place, random_text, skill,
};

#[test]
fn a_put_gives_private_files_and_a_look_sees_them() {
    let scene = Scene::new();
    let files = files(7, &["sc_crm.md", "sc_invoicing.md"]);
    let facts = scene.put(&files).unwrap();
    matches_put(&facts, &files);
    assert_eq!(facts.env.unwrap().generation, Some(7));
    assert_eq!(facts.uid, fs::metadata(scene.home()).unwrap().uid());
    assert_eq!(mode(&scene.at(".claude_rules")), 0o040_700);
    scene.holds(&files);
    assert_eq!(scene.names(""), [".claude_rules", ".service_env"]);
    assert_eq!(scene.names(".claude_rules"), ["sc_crm.md", "sc_invoicing.md"]);
}

#[test]
fn a_second_put_of_the_same_files_touches_nothing() {
    let scene = Scene::new();
    let files = files(1, &["sc_crm.md"]);
    let times = || {
        ["", ".service_env", ".claude_rules", ".claude_rules/sc_crm.md"].map(|name| {
            let meta = fs::metadata(scene.at(name)).unwrap();
            (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
        })
    };
    scene.put(&files).unwrap();
    let before = times();
    scene.put(&files).unwrap();
    assert_eq!(before, times());
}

#[test]
fn what_is_not_wanted_any_more_goes_and_the_rest_stays() {
    let scene = Scene::new();
    scene.put(&files(1, &["sc_crm.md", "sc_invoicing.md"])).unwrap();
    let foreign = ["km_notes.md", "sc_Evil.md", "sc_.md", "sc_a.md.bak", "sc_a.txt", "xsc_a.md"];
    for name in foreign {
        fs::write(scene.at(".claude_rules").join(name), random_text()).unwrap();
    }
    fs::create_dir(scene.at(".claude_rules/sc_directory.md")).unwrap();
    let fewer = files(2, &["sc_crm.md"]);
    scene.put(&fewer).unwrap();
    scene.holds(&fewer);
    let mut left: Vec<_> = foreign.into_iter().chain(["sc_crm.md", "sc_directory.md"]).collect();
    left.sort_unstable();
    assert_eq!(scene.names(".claude_rules"), left);
}

#[test]
fn wrong_modes_are_seen_and_mended() {
    let scene = Scene::new();
    let files = files(1, &["sc_crm.md"]);
    scene.put(&files).unwrap();
    chmod(&scene.at(".service_env"), 0o644);
    chmod(&scene.at(".claude_rules/sc_crm.md"), 0o400);
    chmod(&scene.at(".claude_rules"), 0o755);
    let facts = scene.seen();
    assert!(!facts.env.unwrap().file.mode_ok && !facts.rules_mode_ok);
    assert!(!facts.skills[&skill("sc_crm.md")].mode_ok);
    matches_put(&scene.put(&files).unwrap(), &files);
    assert_eq!(mode(&scene.at(".claude_rules")), 0o040_700);
}

#[test]
fn a_home_that_is_not_there_is_absent_unless_homes_are_to_be_made() {
    let scene = Scene::new();
    let homes = scene.homes().join("new/deeper");
    let files = files(1, &["sc_crm.md"]);
    let look = |create| Installer::direct(homes.clone(), create).look(&[&john()]);
    // No directory of homes at all is a mount that is missing, not everybody gone.
    assert!(matches!(look(false)[&john()], HomeLook::Unknown(_)));
    let uid = fs::metadata(scene.home()).unwrap().uid();
    let empty = HomeFacts { uid, rules_mode_ok: true, ..HomeFacts::default() };
    assert_eq!(look(true)[&john()], HomeLook::Seen(empty));
    let done = Installer::direct(homes.clone(), true).put(&john(), Some(uid), &files).unwrap();
    assert!(done.changed);
    matches_put(&done.facts, &files);
    assert_eq!(mode(&homes.join("john")), 0o040_700);
    fs::remove_dir_all(homes.join("john")).unwrap();
    assert!(
        matches!(&look(false)[&john()], HomeLook::Absent(absence) if absence.why.contains("john"))
    );
    let put = Installer::direct(homes, false).put(&john(), None, &files);
    assert!(matches!(put, Err(PutError::Absent(_))));
}

#[test]
fn keys_bound_to_another_uid_are_refused() {
    let scene = Scene::new();
    let uid = fs::metadata(scene.home()).unwrap().uid();
    let installer = Installer::direct(scene.homes(), false);
    let put = installer.put(&john(), Some(uid + 1), &files(1, &[]));
    assert!(matches!(put, Err(PutError::Refused(text)) if text.contains(&(uid + 1).to_string())));
    assert!(scene.names("").is_empty());
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["000", "022", "077", "277"] {
        let scene = Scene::new();
        if umask == "277" {
            // It takes the owner's own bits, so the home has to be there.
            DirBuilder::new().mode(0o700).create(scene.homes().join("eva")).unwrap();
        }
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        passes(child(&["sh", "-c", &script], "ordinary::puts_in_a_new_home", &scene.homes()));
        assert_eq!(mode(&scene.homes().join("eva")), 0o040_700);
        assert_eq!(mode(&scene.homes().join("eva/.claude_rules")), 0o040_700);
        assert_eq!(mode(&scene.homes().join("eva/.service_env")), 0o100_600);
        assert_eq!(mode(&scene.homes().join("eva/.claude_rules/sc_crm.md")), 0o100_600);
    }
}

#[test]
#[ignore = "a child of modes_do_not_depend_on_the_umask"]
fn puts_in_a_new_home() {
    let files = files(1, &["sc_crm.md"]);
    let eva = "eva".parse().unwrap();
    matches_put(&Installer::direct(place(), true).put(&eva, None, &files).unwrap().facts, &files);
}

#[test]
fn many_homes_are_looked_at_each_with_its_own_answer() {
    let scene = Scene::new();
    let installer = Installer::direct(scene.homes(), false);
    let accounts: Vec<AccountName> =
        (0..500).map(|n| format!("user{n}").parse().unwrap()).collect();
    for account in accounts.iter().step_by(2) {
        let generation = account.as_str()[4..].parse().unwrap();
        let env = files(generation, &[]).env;
        fs::create_dir(scene.homes().join(account.as_str())).unwrap();
        fs::write(scene.homes().join(account.as_str()).join(".service_env"), &*env).unwrap();
    }
    let looks = installer.look(&accounts.iter().collect::<Vec<_>>());
    assert_eq!(looks.len(), 500);
    for (n, account) in (0..).zip(&accounts) {
        match &looks[account] {
            HomeLook::Seen(facts) => assert_eq!(facts.env.unwrap().generation, Some(n)),
            HomeLook::Absent(_) => assert_eq!(n % 2, 1),
            HomeLook::Unknown(text) => panic!("{text}"),
        }
    }
}

#[test]
fn messages_survive_the_wire() {
    let files = files(3, &["sc_crm.md"]);
    let what = Asked::Put { uid: Some(1000), files: &files };
    let request = line(&Request { id: 7, account: john(), what }).unwrap();
    assert_eq!(request.iter().position(|byte| *byte == b'\n'), Some(request.len() - 1));
    let Request { id, account, what } = serde_json::from_slice(&request).unwrap();
    let Asked::Put { uid, files: HomeFiles { env, skills } } = what else { panic!("another kind") };
    assert_eq!((id, account, uid, &*env), (7, john(), Some(1000), &*files.env));
    assert_eq!(skills, files.skills);
    let scene = Scene::new();
    let answers = [
        Answer::Look(scene.look()),
        Answer::Put(scene.put(&files).map(|facts| PutDone { changed: true, facts })),
        Answer::Put(Err(PutError::Failed(random_text()))),
    ];
    for answer in answers {
        let text = line(&answer).unwrap();
        assert_eq!(serde_json::from_slice::<Answer>(&text).unwrap(), answer);
    }
}
