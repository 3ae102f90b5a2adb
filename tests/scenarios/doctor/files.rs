//! The configuration, the files that people write, and the state.

use std::fs;
use std::time::SystemTime;

use super::{CRM, Installation, edit, set_mode};

#[test]
fn a_configuration_that_is_broken_is_told_and_stops_nothing_else_that_can_be_checked() {
    let installation = Installation::sound();
    let path = installation.path("config.yaml");
    fs::write(&path, "version: 1\nguard:\n  at_lest: 3\n").unwrap();
    installation.one_wrong("configuration").names(&path).says("line 3, column 3");
    set_mode(&path, 0o666);
    let wrong = installation.wrong();
    assert_eq!(wrong.len(), 2, "its mode is told too: {wrong:?}");
    let states: Vec<String> =
        installation.said_of("registry").into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["not_checked"]);
    fs::remove_file(&path).unwrap();
    installation.one_wrong("configuration").names(&path).mended_by("put it there");
}

#[test]
fn a_configuration_here_that_others_may_write_is_told_with_the_command_that_closes_it() {
    let installation = Installation::sound();
    let path = installation.path("service-connector.yaml");
    fs::write(&path, "version: 1\nsecrets: secrets\n").unwrap();
    set_mode(&path, 0o666);
    let here = |command: &mut std::process::Command| {
        command.env_remove("SC_CONFIG");
    };
    let wrong = installation.wrong_with(here);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    wrong.into_iter().find(|wrong| wrong.mend.starts_with("chmod 644 ")).unwrap().obey();
    assert_eq!(installation.wrong_with(here).len(), 0);
}

#[test]
fn each_thing_that_is_wrong_in_the_registry_and_the_skills_is_told_with_its_place() {
    let installation = Installation::sound();
    let (entry, skill) =
        (installation.path("registry/crm.yaml"), installation.path("skills/sc_crm.md"));
    edit(&entry, "contract: v2", "contract: v9");
    let wrong = installation.one_wrong("registry").names(&entry).says("line 6, column 11");
    wrong.mended_by(&format!("edit {}", entry.display()));
    edit(&entry, "contract: v9", "contract: v2");
    installation.is_sound();

    let text = fs::read_to_string(&skill).unwrap();
    fs::write(&skill, format!("{text}\n`echo ${{{{ env.api_key }}}}`\n")).unwrap();
    let wrong = installation.one_wrong("skills").says("`echo` with CRM_API_KEY shows the key");
    wrong.mended_by(skill.to_str().unwrap());
    fs::remove_file(&skill).unwrap();
    installation.one_wrong("registry").says(skill.to_str().unwrap());
    fs::write(&skill, text).unwrap();
    installation.is_sound();

    fs::rename(installation.path("skills"), installation.path("away")).unwrap();
    installation.one_wrong("skills").names(&installation.path("skills")).mended_by("mkdir -p");
    fs::rename(installation.path("away"), installation.path("skills")).unwrap();
    fs::rename(installation.path("registry"), installation.path("away")).unwrap();
    let wrong = installation.one_wrong("registry").names(&installation.path("registry"));
    wrong.mended_by("mkdir -p");
    fs::write(installation.path("registry"), "").unwrap();
    set_mode(&installation.path("registry"), 0o644);
    assert!(installation.wrong().iter().all(|wrong| !wrong.mend.starts_with("mkdir")));
}

#[test]
fn who_is_connected_and_is_nobody_is_named_and_of_many_the_first_ten() {
    let installation = Installation::sound();
    let people = "people:\n  john: { email: john@your-domain.com }\n";
    installation.scene.people(people);
    installation.is_sound();
    installation.scene.desired("users:\n  eva: { connections: { crm: {} } }\n");
    let wrong = installation.one_wrong("people").says("eva is not in people.yaml");
    wrong.mended_by(installation.path("people.yaml").to_str().unwrap());
    let many = (0..25).map(|n| format!("  user{n}: {{ connections: {{ crm: {{}} }} }}\n"));
    installation.scene.desired(&format!("users:\n{}", many.collect::<String>()));
    let wrong = installation.wrong();
    assert_eq!(wrong.len(), 11, "{wrong:#?}");
    assert!(wrong[10].what.contains("15 more"), "{wrong:#?}");

    installation.scene.people("people: 5\n");
    installation.one_wrong("people").names(&installation.path("people.yaml")).says("line 2");
}

#[test]
fn a_desired_state_that_cannot_be_used_is_told_with_the_way_out() {
    let installation = Installation::sound();
    let path = installation.path("desired.yaml");
    let good = fs::read(&path).unwrap();
    installation.scene.desired("users:\n  john: { conections: {} }\n");
    installation.one_wrong("desired").names(&path).says("line 3, column").mended_by("edit ");
    installation.scene.desired("users:\n  john: { connections: { wiki: {} } }\n");
    installation.one_wrong("desired").says("no service `wiki`");
    installation.scene.desired_text("version: 1\nusers:\n");
    let cut = installation.one_wrong("desired").says("looks cut off");
    cut.mended_by("cp ").obey();
    assert_eq!(fs::read(&path).unwrap(), good);
    installation.is_sound();
    fs::remove_file(&path).unwrap();
    installation.one_wrong("desired").names(&path).mended_by("history");
}

#[test]
fn a_desired_state_that_was_just_changed_by_hand_is_waited_for() {
    let installation = Installation::sound();
    installation.scene.desired("users:\n  eva: { connections: { crm: {} } }\n");
    let path = installation.path("desired.yaml");
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    installation.is_sound();
    let said = installation.said_of("desired");
    assert_eq!(said[0].0, "ok", "{said:?}");
}

#[test]
fn a_state_that_is_damaged_newer_or_lost_is_told() {
    let installation = Installation::sound();
    let execute = |sql: &str| installation.scene.database().execute_batch(sql).unwrap();
    let pragma = "SELECT user_version FROM pragma_user_version";
    let version: i64 =
        installation.scene.database().query_row(pragma, [], |row| row.get(0)).unwrap();
    execute("PRAGMA user_version = 99");
    let wrong = installation.one_wrong("state").names(&installation.path("state"));
    wrong.says("schema 99").mended_by("newer");
    execute("PRAGMA user_version = 1");
    installation.one_wrong("state").mended_by("service-connector reconcile");
    execute(&format!("PRAGMA user_version = {version}"));
    installation.is_sound();

    let damage = "PRAGMA writable_schema = on; \
                  UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master \
                  WHERE name = 'event_of') WHERE name = 'token_lost'";
    execute(damage);
    let wrong = installation.wrong();
    assert!(wrong.iter().all(|wrong| wrong.area == "state"), "{wrong:#?}");
    assert!(wrong[0].what.contains("is damaged"), "{wrong:#?}");
    assert!(wrong[0].mend.contains("backup"), "{wrong:#?}");

    for file in fs::read_dir(installation.path("state")).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().contains("state.sqlite3") {
            fs::remove_file(path).unwrap();
        }
    }
    installation.one_wrong("state").says("it was lost").mended_by("backup");
}

#[test]
fn without_any_state_yet_nothing_is_wrong() {
    let installation = Installation::sound();
    for directory in ["state", "homes", "history"] {
        fs::remove_dir_all(installation.path(directory)).unwrap();
    }
    installation.is_sound();
    for area in ["state", "sealing_key", "last_pass"] {
        let said = installation.said_of(area);
        assert_eq!(said[0].0, "not_checked", "{area}: {said:?}");
    }
}

#[test]
fn a_sealing_key_that_is_missing_none_or_another_is_told_and_not_shown() {
    let installation = Installation::sound();
    let path = installation.path("state/sealing.key");
    let right = fs::read(&path).unwrap();
    let another = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    for (key, words) in [(&*another, "is another one"), ("none", "is not 64 hex digits")] {
        fs::write(&path, key).unwrap();
        let ran = installation.run(&["doctor"], |_| {}).expect(1);
        assert!(!ran.text().contains(&another), "the key is shown");
        installation.one_wrong("sealing_key").names(&path).says(words).mended_by("backup");
    }
    fs::remove_file(&path).unwrap();
    installation.one_wrong("sealing_key").names(&path).says("is missing");
    fs::write(&path, right).unwrap();
    set_mode(&path, 0o600);
    installation.is_sound();
}

#[test]
fn a_last_pass_that_is_old_or_ended_with_an_error_is_told() {
    let installation = Installation::sound();
    installation.scene.let_pass(2 * crate::scene::HOUR + 60);
    let wrong = installation.one_wrong("last_pass").says("2 h ago");
    wrong.mended_by("service-connector reconcile");
    let reconcile = |code| installation.run(&["reconcile"], |_| {}).expect(code);
    reconcile(0);
    installation.is_sound();
    let path = installation.path("desired.yaml");
    let good = fs::read_to_string(&path).unwrap();
    installation.scene.desired("users: []\n");
    reconcile(1);
    installation.scene.desired_text(&good);
    installation.one_wrong("last_pass").says("exit 1");
    reconcile(0);
    installation.is_sound();
    installation.scene.connect("eva", CRM);
    installation.is_sound();
}
