//! What time does: the grace, renewal, expiry, and clocks that disagree.

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{DAY, HOUR, Scene};

const CRM: Kind = Kind::Crm;

fn connected() -> (Scene, String) {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    (scene, key)
}

#[test]
fn an_old_key_is_revoked_once_its_grace_is_over() {
    let (scene, old) = connected();
    scene.rotate("john", CRM);
    scene.pass(0);
    scene.let_pass(7 * DAY - HOUR);
    scene.pass(0).says("Nothing to do");
    assert!(scene.works(CRM, &old));
    scene.let_pass(2 * HOUR);
    scene.pass(0).says("john crm: key revoked");
    assert!(!scene.works(CRM, &old));
    scene.working_key("john", CRM);
}

#[test]
fn an_old_key_goes_before_its_grace_once_every_laptop_has_the_new_one() {
    let (scene, old) = connected();
    scene.rotate("john", CRM);
    scene.pass(0);
    scene.let_pass(2 * HOUR);
    scene.pass(0).says("Nothing to do");
    let seen = scene.path("homes/john/.service_env_seen");
    std::fs::create_dir(&seen).unwrap();
    std::fs::write(seen.join("0123456789abcdef"), "generation 1\n").unwrap();
    scene.pass(0).says("Nothing to do");
    std::fs::write(seen.join("0123456789abcdef"), "generation 2\n").unwrap();
    scene.pass(0).says("john crm: key revoked");
    assert!(!scene.works(CRM, &old));
}

#[test]
fn a_key_is_renewed_before_it_ends_and_the_old_one_gets_its_grace() {
    let (scene, old) = connected();
    scene.let_pass(72 * DAY);
    scene.pass(0).says("Nothing to do");
    scene.let_pass(4 * DAY);
    scene.pass(0).says("john crm: key issued");
    assert_ne!(scene.working_key("john", CRM), old);
    assert!(scene.works(CRM, &old));
    scene.let_pass(8 * DAY);
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_renewal_that_fails_leaves_the_old_key_until_its_end() {
    let (scene, old) = connected();
    scene.faults(CRM).always(On::Exchange, Fault::ServerError);
    scene.let_pass(80 * DAY);
    scene.pass(4);
    assert_eq!(scene.working_key("john", CRM), old);
    assert!(scene.skill("john", CRM).contains("active until"));

    // Past the end, the lines leave and the skill says why.
    scene.let_pass(10 * DAY + HOUR);
    scene.pass(4);
    assert_eq!(scene.key("john", CRM), None);
    assert!(scene.skill("john", CRM).contains("expired"));
    assert_eq!(scene.phases("john", CRM)[0], "expired");
    assert_eq!(scene.calls(CRM).1, 0, "an end by itself needs no call");

    scene.faults(CRM).clear();
    scene.retry(0);
    scene.working_key("john", CRM);
    assert!(scene.skill("john", CRM).contains("active until"));
}

#[test]
fn a_key_that_is_not_renewed_leaves_the_home_when_its_time_is_over() {
    let (scene, _) = connected();
    scene.desired("users:\n  john:\n    connections:\n      crm: { paused: true }\n");
    scene.let_pass(90 * DAY + 60);
    scene.pass(0).says("Nothing to do");
    scene.let_pass(5 * 60);
    scene.pass(0).says("john crm: key ended");
    assert!(scene.env_file("john").contains("# end 0 variables"));
    assert!(scene.skill("john", CRM).contains("expired"));
    assert_eq!(scene.phases("john", CRM), ["expired"]);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_debt_ends_with_the_life_of_its_token() {
    let (scene, _) = connected();
    scene.disconnect("john", CRM);
    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    scene.pass(4);
    scene.let_pass(91 * DAY);
    scene.pass(0);
    assert_eq!(scene.phases("john", CRM), ["expired"]);
    assert_eq!(scene.calls(CRM).1, 1);
}

#[test]
fn a_life_shorter_than_the_renewal_window_is_renewed_in_its_last_third() {
    let scene = Scene::new();
    scene.faults(CRM).set_granted_life(Some(3 * DAY));
    scene.connect("john", CRM);
    scene.pass(0);
    scene.let_pass(DAY + 12 * HOUR);
    scene.pass(0).says("Nothing to do");
    scene.let_pass(14 * HOUR);
    scene.pass(0).says("john crm: key issued");
}

#[test]
fn a_clock_that_disagrees_with_the_services_renews_and_ends_nothing() {
    let (scene, key) = connected();
    scene.let_pass(91 * DAY);
    scene.faults(CRM).set_clock_offset(0);
    scene.pass(0);
    assert_eq!(scene.key("john", CRM), Some(key), "one of the two clocks is wrong");
    let notes = scene.status()["notes"].to_string();
    assert!(notes.contains("its clock is 131040 minutes behind ours"), "{notes}");

    // Agreed again, and nothing was lost meanwhile.
    scene.faults(CRM).set_clock_offset(91 * DAY);
    scene.pass(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.status()["notes"].to_string(), "[]");
}

#[test]
fn a_clock_that_disagreed_goes_on_doing_so_while_the_service_is_down() {
    let (scene, key) = connected();
    scene.let_pass(91 * DAY);
    scene.faults(CRM).set_clock_offset(0);
    scene.pass(0);
    scene.faults(CRM).always(On::All, Fault::DropAnswer);
    for user in ["a", "b", "c", "d"] {
        scene.connect(user, CRM);
    }
    for _ in 0..2 {
        scene.pass(4);
        let stays = scene.key("john", CRM).as_ref() == Some(&key);
        assert!(stays, "nobody knows what time it is");
    }
    scene.faults(CRM).clear();
    scene.faults(CRM).set_clock_offset(91 * DAY);
    scene.run(&["reconcile", "--retry-now"]);
    scene.working_key("john", CRM);
}

#[test]
fn the_future_can_be_planned() {
    let (scene, _) = connected();
    scene.run(&["plan"]).expect(0);
    let later = (scene.now() + jiff::SignedDuration::from_hours(80 * 24)).to_string();
    let plan = scene.run(&["plan", "--at", &later, "--json"]).expect(2).json();
    assert_eq!(plan["actions"][0]["kind"], "issue");
    assert_eq!(plan["actions"][0]["reason"]["code"], "renewal_due");
    scene.run(&["plan", "--at", "tomorrow"]).expect(1);
}
