//! The sweep: the services' own lists of tokens against what is held.

use std::fs;

use service_connector::example_service::{Contract, Fault, Kind, On};

use crate::scene::{DAY, HOUR, KINDS, Ran, Scene};

const CRM: Kind = Kind::Crm;
const MINUTE: i64 = 60;

fn connected(users: &[&str]) -> Scene {
    let scene = Scene::new();
    for user in users {
        scene.connect(user, CRM);
    }
    scene.pass(0);
    scene
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user{number}")).collect()
}

fn sweep(scene: &Scene, code: i32) -> Ran {
    scene.run(&["reconcile", "--sweep"]).expect(code)
}

/// Copies the state as it is.
fn back_up(scene: &Scene) {
    let copy = scene.path("backup");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(scene.path("state")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
}

/// Puts the copy in the place of the state.
fn restore(scene: &Scene) {
    fs::remove_dir_all(scene.path("state")).unwrap();
    fs::rename(scene.path("backup"), scene.path("state")).unwrap();
}

/// Ends a token at the service behind our back, by its place in the order of issue.
fn end_at_service(scene: &Scene, kind: Kind, number: usize) {
    let token_id = scene.issued(kind)[number].token_id.clone();
    scene.revoke_as_another_program(kind, &token_id);
}

/// The digest in `service-connector approve <digest>`.
fn digest(said: &Ran) -> String {
    let text = said.text();
    let (_, rest) = text.split_once("service-connector approve ").expect("how to approve");
    rest.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap().to_owned()
}

#[test]
fn a_sweep_over_a_world_that_agrees_does_nothing() {
    let scene = connected(&["eva", "john"]);
    let before = scene.calls(CRM);
    let said = sweep(&scene, 0);
    said.says("Swept crm: its list has 2 keys of ours, 0 of others, lacks 0.");
    said.says("Nothing to do.");
    assert_eq!(scene.calls(CRM), before);
    let json = scene.run(&["reconcile", "--sweep", "--json"]).expect(0).json();
    assert_eq!(json["sweep"][0]["service"], "crm");
    assert_eq!(json["sweep"][0]["ours"], 2);
    assert!(scene.run(&["reconcile", "--json"]).expect(0).json().get("sweep").is_none());
}

#[test]
fn a_restored_older_database_heals_without_orphans_or_foreign_revokes() {
    let scene = connected(&["eva", "john"]);
    let foreign = scene.exchange_as_another_program(CRM, "eva@your-domain.com");
    back_up(&scene);
    // Meanwhile: one gets another key, one comes, one leaves.
    scene.rotate("john", CRM);
    scene.connect("mia", CRM);
    scene.disconnect("eva", CRM);
    scene.pass(0);
    let lost = [scene.working_key("john", CRM), scene.working_key("mia", CRM)];
    restore(&scene);
    scene.connect("eva", CRM);

    sweep(&scene, 0).says("2 unknown");
    for key in &lost {
        assert!(!scene.works(CRM, key), "an orphan");
    }
    scene.working_key("john", CRM);
    scene.working_key("mia", CRM);
    assert!(scene.works(CRM, foreign["api_key"].as_str().unwrap()), "a foreign revoke");

    // The service ended eva's: two lists that lack it are needed.
    scene.let_pass(6 * MINUTE);
    sweep(&scene, 0).says("eva crm: key issued");
    scene.working_key("eva", CRM);
    assert_eq!(scene.live(CRM).len(), 5, "three, john's in grace, and the foreign one");
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_plan_shows_what_a_sweep_found_and_the_new_key_comes_first() {
    let scene = connected(&["john"]);
    back_up(&scene);
    scene.connect("mia", CRM);
    scene.pass(0);
    let old = scene.working_key("mia", CRM);
    restore(&scene);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    sweep(&scene, 4);
    scene.pass(4);
    assert!(scene.works(CRM, &old), "nothing is in its place yet");
    let plan = scene.run(&["plan", "--retry-now"]).expect(2);
    plan.says("a key of ours at the service that the state does not know");
    plan.says("once the new one is in the home");
    scene.run(&["explain", "mia", "crm"]).expect(0).says("that the state does not know");
    scene.retry(0);
    assert!(!scene.works(CRM, &old));
    assert_ne!(scene.working_key("mia", CRM), old);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn two_instances_on_one_service_leave_each_other_alone() {
    let scene = connected(&["eva", "john"]);
    let other_state = scene.path("other-state");
    let other = |args: &[&str]| {
        scene.run_with(args, |command| {
            command.env("SC_STATE", &other_state).env("SC_HOMES", scene.path("other-homes"));
            command.env("SC_DESIRED", scene.path("other.yaml"));
        })
    };
    fs::write(scene.path("other.yaml"), "version: 1\nusers: {}\n").unwrap();
    other(&["connect", "petr", "crm"]).expect(0);
    other(&["reconcile"]).expect(0);
    for _ in 0..2 {
        other(&["reconcile", "--sweep"]).expect(0).says("1 keys of ours, 2 of others");
        sweep(&scene, 0).says("2 keys of ours, 1 of others");
        scene.let_pass(6 * MINUTE);
    }
    assert_eq!(scene.calls(CRM), (3, 0));
}

#[test]
fn a_key_whose_end_was_believed_too_soon_is_revoked_again() {
    let scene = connected(&["eva", "john"]);
    let key = scene.working_key("john", CRM);
    scene.faults(CRM).next(On::Revoke, Fault::RevokesNothing, 1);
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(scene.works(CRM, &key), "the service lied");
    sweep(&scene, 0).says("1 unknown").says("john crm: key revoked");
    assert!(!scene.works(CRM, &key));
    scene.run(&["events"]).expect(0).says("stray");
    scene.run(&["events", "verify"]).expect(0);
}

#[test]
fn too_many_strays_are_held_until_somebody_approves() {
    let scene = connected(&["eva", "john"]);
    back_up(&scene);
    for user in numbered(6) {
        scene.connect(&user, CRM);
    }
    scene.pass(0);
    let keys: Vec<String> = numbered(6).iter().map(|user| scene.working_key(user, CRM)).collect();
    restore(&scene);
    for user in numbered(6) {
        scene.disconnect(&user, CRM);
    }
    let held = sweep(&scene, 3);
    held.says("6 keys that the state does not know would be revoked");
    assert!(keys.iter().all(|key| scene.works(CRM, key)));
    // Nobody's disconnect waits for that.
    scene.disconnect("eva", CRM);
    scene.pass(3).says("eva crm: key revoked");
    let held = scene.run(&["plan"]).expect(3);
    held.says("user3 crm: ask").says("which the state does not know");
    scene.run(&["approve", &digest(&held)]).expect(0);
    scene.pass(0);
    assert!(!keys.iter().any(|key| scene.works(CRM, key)));
    scene.working_key("john", CRM);
    sweep(&scene, 0).says("Nothing to do");
}

#[test]
fn strays_whose_address_is_nobodys_are_held_when_they_are_many() {
    let scene = connected(&["john"]);
    back_up(&scene);
    for user in numbered(6) {
        scene.connect(&user, CRM);
    }
    scene.pass(0);
    restore(&scene);
    for user in numbered(6) {
        scene.disconnect(&user, CRM);
    }
    scene.people("people: { john: { email: john@your-domain.com } }\n");
    let held = sweep(&scene, 3);
    assert_eq!(scene.live(CRM).len(), 7);
    held.says("6 keys that the state does not know");
    scene.run(&["plan"]).expect(3).says("_nobody crm");
    scene.run(&["approve", &digest(&held)]).expect(0);
    scene.pass(0);
    assert_eq!(scene.live(CRM).len(), 1);
}

#[test]
fn a_key_that_two_lists_lack_is_replaced_once_and_then_waits_for_a_person() {
    // One after the other: the first that it issued is eva's.
    let scene = connected(&["eva"]);
    scene.connect("john", CRM);
    scene.pass(0);
    end_at_service(&scene, CRM, 0);
    sweep(&scene, 0).says("lacks 1.").says("Nothing to do");
    scene.run(&["explain", "eva", "crm"]).expect(0).says("is replaced if the next list lacks it");
    sweep(&scene, 0).says("Nothing to do");
    scene.let_pass(6 * MINUTE);
    sweep(&scene, 0).says("eva crm: key issued (the service's list of tokens lacks the key)");
    scene.working_key("eva", CRM);
    scene.pass(0).says("Nothing to do");

    // Again, within a day.
    end_at_service(&scene, CRM, 2);
    sweep(&scene, 0);
    scene.let_pass(6 * MINUTE);
    let said = sweep(&scene, 4);
    said.says("waits for a person").says("service-connector rotate eva crm");
    scene.let_pass(2 * DAY);
    sweep(&scene, 4).says("waits for a person");
    assert_eq!(scene.calls(CRM).0, 3);
    let status = scene.status();
    assert_eq!(status["connections"][0]["user"], "eva");
    assert!(status["connections"][0]["why"].to_string().contains("waits for a person"));
    scene.rotate("eva", CRM);
    scene.pass(0);
    scene.working_key("eva", CRM);
    scene.let_pass(6 * MINUTE);
    sweep(&scene, 0);
}

#[test]
fn a_list_that_fails_freezes_and_a_good_one_thaws() {
    let scene = connected(&["eva", "john", "petr"]);
    back_up(&scene);
    scene.connect("mia", CRM);
    scene.pass(0);
    let stray = scene.working_key("mia", CRM);
    restore(&scene);
    scene.disconnect("mia", CRM);
    end_at_service(&scene, CRM, 0);
    scene.faults(CRM).always(On::List, Fault::ServerError);
    sweep(&scene, 4).says("Swept crm: no list of tokens").says("could not be had");
    scene.let_pass(6 * MINUTE);
    sweep(&scene, 4);
    assert!(scene.works(CRM, &stray), "nothing is known of it");

    // One person's disconnect passes; that of another within the hour is held.
    scene.disconnect("john", CRM);
    scene.pass(4).says("john crm: key revoked");
    scene.disconnect("petr", CRM);
    scene.pass(3).says("while its list of tokens cannot be relied on");
    scene.working_key("petr", CRM);
    scene.run(&["status"]).expect(0).says("could not be had").says("reconcile --sweep");

    scene.faults(CRM).clear();
    sweep(&scene, 0).says("petr crm: key revoked").says("mia crm: key revoked");
    assert!(!scene.works(CRM, &stray));
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_list_that_is_malformed_or_has_no_end_is_no_list() {
    let scene = connected(&["john"]);
    let faults = [
        Fault::NotJson,
        Fault::Html,
        Fault::HugeAnswer,
        Fault::CirclingCursor,
        Fault::WrongSecret,
        Fault::Redirect,
        Fault::DropAnswer,
    ];
    for fault in faults {
        scene.faults(CRM).next(On::List, fault.clone(), 2);
        let said = scene.run(&["reconcile", "--sweep"]);
        assert_eq!(said.code, 4, "{fault:?}: {}", said.text());
        said.says("could not be had");
        scene.faults(CRM).clear();
    }
    sweep(&scene, 0);
    scene.working_key("john", CRM);
}

#[test]
fn a_list_that_shrinks_freezes_until_somebody_believes_it() {
    let scene = Scene::new();
    for user in numbered(7) {
        scene.connect(&user, CRM);
    }
    scene.pass(0);
    sweep(&scene, 0);
    scene.faults(CRM).always(On::List, Fault::EmptyList);
    sweep(&scene, 4).says("lacks 7 of 7 keys of ours that nobody here has ended");
    scene.let_pass(6 * MINUTE);
    let said = sweep(&scene, 4);
    assert_eq!(scene.calls(CRM).0, 7, "nothing is issued because of it");
    scene.run(&["approve", &"0".repeat(64)]).expect(1);
    scene.run(&["approve", &digest(&said)]).expect(0).says("is believed");
    scene.pass(0).says("key issued (the service's list of tokens lacks the key)");
    assert_eq!(scene.calls(CRM).0, 14);
}

#[test]
fn what_we_ended_ourselves_is_no_shrinking() {
    let scene = Scene::new();
    for user in numbered(7) {
        scene.connect(&user, CRM);
    }
    scene.pass(0);
    sweep(&scene, 0);
    for user in &numbered(7)[..6] {
        scene.disconnect(user, CRM);
    }
    let held = scene.pass(3);
    scene.run(&["approve", &digest(&held)]).expect(0);
    scene.pass(0);
    sweep(&scene, 0).says("its list has 1 keys of ours, 0 of others, lacks 0.");
}

#[test]
fn a_stray_is_a_debt_before_it_is_called_and_survives_a_kill() {
    let scene = connected(&["eva", "john"]);
    scene.faults(CRM).next(On::Revoke, Fault::RevokesNothing, 1);
    scene.disconnect("john", CRM);
    scene.pass(0);
    scene.faults(CRM).next(On::Revoke, Fault::Hang, 1);
    let mut pass = scene.start(&["reconcile", "--sweep"]);
    crate::scene::wait_until("the debt", || scene.phases("john", CRM) == ["revoking"]);
    pass.kill().unwrap();
    pass.wait().unwrap();
    scene.faults(CRM).clear();
    scene.pass(0).says("john crm: key revoked (owed from an earlier pass)");
    assert_eq!(scene.live(CRM).len(), 1);
}

#[test]
fn a_stray_that_cannot_be_revoked_is_owed_and_backs_off() {
    let scene = connected(&["john"]);
    back_up(&scene);
    scene.connect("mia", CRM);
    scene.pass(0);
    restore(&scene);
    scene.disconnect("mia", CRM);
    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    sweep(&scene, 4).says("mia crm: revoke still owed");
    scene.pass(4);
    assert_eq!(scene.calls(CRM).1, 1, "it waits");
    scene.run(&["status"]).expect(0).says("the revoke of mia's key to crm");
    scene.faults(CRM).clear();
    scene.let_pass(HOUR);
    scene.pass(0);
    assert_eq!(scene.live(CRM).len(), 1);
}

#[test]
fn a_key_that_another_program_asked_for_is_known_by_the_services_name_for_it() {
    let scene = connected(&["john"]);
    let grant = scene.exchange_as_another_program(CRM, "eva@your-domain.com");
    let entry = serde_json::json!({ "eva": { "crm": {
        "connected": true, "api_key": grant["api_key"], "token_id": grant["token_id"],
        "connected_at": scene.now().to_string(), "expires_at": grant["expires_at"],
    } } });
    fs::write(scene.path("connections.json"), entry.to_string()).unwrap();
    scene.run(&["state", "import", "connections.json"]).expect(0);
    scene.pass(0);
    for _ in 0..2 {
        sweep(&scene, 0).says("lacks 0.").says("Nothing to do");
        scene.let_pass(6 * MINUTE);
    }
    scene.working_key("eva", CRM);
}

#[test]
fn a_list_of_several_pages_is_read_to_its_end() {
    let scene = connected(&["eva", "john"]);
    for _ in 0..210 {
        scene.exchange_as_another_program(CRM, "mia@your-domain.com");
    }
    scene.rotate("john", CRM); // the newest stands on the last page
    scene.pass(0);
    sweep(&scene, 0).says("its list has 3 keys of ours, 210 of others, lacks 0.");
}

#[test]
fn a_service_whose_list_hangs_costs_no_other() {
    let scene = Scene::new();
    for kind in [CRM, Kind::Invoicing] {
        scene.connect("eva", kind);
        scene.connect("john", kind);
    }
    scene.pass(0);
    scene.faults(Kind::Invoicing).next(On::Revoke, Fault::RevokesNothing, 1);
    scene.disconnect("john", Kind::Invoicing);
    scene.pass(0);
    scene.entry(CRM, "timeout_seconds: 10", "timeout_seconds: 1");
    scene.faults(CRM).always(On::List, Fault::Hang);
    let said = sweep(&scene, 4);
    said.says("Swept crm: no list of tokens").says("timed out after 1 s");
    said.says("john invoicing: key revoked");
    assert_eq!(scene.live(Kind::Invoicing).len(), 1);
}

#[test]
fn the_list_is_asked_for_with_the_secret_that_is_to_follow_too() {
    let mut scene = connected(&["john"]);
    let next = format!("{:032x}", fastrand::u128(..));
    let old = scene.change_secret(CRM, &next);
    let said = scene.run_with(&["reconcile", "--sweep"], |command| {
        command.env("SC_SECRET_CRM", old).env("SC_SECRET_CRM_NEXT", next);
    });
    said.expect(0).says("Swept crm: its list has 1 keys of ours");
}

#[test]
fn without_a_state_there_is_nothing_to_compare_with() {
    let scene = Scene::new();
    sweep(&scene, 0).does_not_say("Swept");
    scene.connect("john", CRM);
    sweep(&scene, 0);
    scene.working_key("john", CRM);
}

#[test]
fn status_says_what_a_crash_costs_with_contract_v1() {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    for kind in KINDS {
        scene.entry(kind, "contract: v2", "contract: v1");
    }
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.pass(4);
    scene.retry(0);
    sweep(&scene, 0).does_not_say("Swept");
    let said = scene.run(&["status"]).expect(0);
    said.says("crm speaks contract v1").says("at most 90 days").says("1 possible orphan");
    let status = scene.status();
    let crm = status["v1"].as_array().unwrap().iter().find(|v1| v1["service"] == "crm").unwrap();
    assert_eq!(crm["possible_orphans"], 1);
    assert_eq!(crm["ttl_days"], 90);
}

#[test]
fn status_shows_what_the_lists_showed() {
    let scene = connected(&["john"]);
    assert_eq!(scene.status()["sweeps"], serde_json::json!([]));
    sweep(&scene, 0);
    let status = scene.status();
    assert_eq!(status["sweeps"][0]["service"], "crm");
    assert_eq!(status["sweeps"][0]["good"]["ours"], 1);
    assert_eq!(status["v1"], serde_json::json!([]));
    scene.run(&["status"]).expect(0).says("Swept crm");
}
