//! Who somebody is changes.

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::Scene;

const CRM: Kind = Kind::Crm;
const INVOICING: Kind = Kind::Invoicing;

fn connected() -> (Scene, String) {
    let scene = Scene::new();
    scene.people("people:\n  john: { email: john@your-domain.com }\n");
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    (scene, key)
}

#[test]
fn another_account_gets_a_new_key_and_the_old_home_is_emptied() {
    let (scene, old) = connected();
    scene.people("people:\n  john: { email: john@your-domain.com, account: jnovak }\n");
    scene.pass(0);
    assert!(scene.env_file("john").contains("# end 0 variables"));
    assert_eq!(scene.skill("john", CRM), "");
    assert!(!scene.works(CRM, &old), "no grace");
    assert_ne!(scene.working_key("jnovak", CRM), old);
    assert_eq!(scene.phases("john", CRM), ["revoked", "active"]);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn another_account_gets_nothing_of_the_old_home_even_if_no_new_key_can_be_had() {
    let (scene, old) = connected();
    scene.people("people:\n  john: { email: john@your-domain.com, account: jnovak }\n");
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    assert!(!scene.works(CRM, &old));
    assert!(scene.env_file("john").contains("# end 0 variables"));
    assert_eq!(scene.key("jnovak", CRM), None);
    scene.retry(0);
    scene.working_key("jnovak", CRM);
}

#[test]
fn another_address_gets_a_new_key() {
    let (scene, old) = connected();
    scene.people("people:\n  john: { email: john.novak@your-domain.com, account: john }\n");
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert_ne!(scene.working_key("john", CRM), old);
    let issued = scene.issued(CRM);
    assert_eq!(issued[1].user_email, "john.novak@your-domain.com");
    scene.pass(0).says("Nothing to do");
}

#[test]
fn an_account_of_another_uid_gets_a_new_key() {
    let (scene, old) = connected();
    // The account was removed and made again.
    scene.database().execute("UPDATE token SET uid = uid + 1", []).unwrap();
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert_ne!(scene.working_key("john", CRM), old);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn an_ask_without_an_answer_is_taken_back_when_the_address_changes() {
    let scene = Scene::new();
    scene.people("people:\n  john: { email: john@your-domain.com }\n");
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.pass(4);
    scene.people("people:\n  john: { email: john.novak@your-domain.com, account: john }\n");
    scene.retry(0);
    assert_eq!(scene.phases("john", CRM), ["revoked", "active"]);
    assert_eq!(scene.ledger(CRM).tombstones().unwrap().len(), 1);
    let live = scene.live(CRM);
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].user_email, "john.novak@your-domain.com");
}

#[test]
fn a_person_who_is_there_no_longer_loses_every_key() {
    let (scene, old) = connected();
    scene.people("people: {}\n");
    scene.pass(0);
    assert!(!scene.works(CRM, &old));
    assert!(scene.env_file("john").contains("# end 0 variables"));
    assert_eq!(scene.skill("john", CRM), "");
}

#[test]
fn a_user_who_is_not_in_people_is_blocked_and_nobody_else() {
    let scene = Scene::new();
    scene.people("people:\n  john: { email: john@your-domain.com }\n");
    scene.connect("john", CRM);
    scene.desired(
        "users:\n  john: { connections: { crm: {} } }\n  mia: { connections: { crm: {} } }\n",
    );
    scene.pass(4).says("mia is not in people.yaml");
    scene.working_key("john", CRM);
    assert_eq!(scene.calls(CRM).0, 1);
}

#[test]
fn whom_allow_does_not_cover_gets_nothing_and_whom_it_covers_no_longer_loses_the_key() {
    let (scene, old) = connected();
    scene.connect("john", INVOICING);
    scene.entry(CRM, "*@your-domain.com", "*@elsewhere.com");
    scene.entry(INVOICING, "*@your-domain.com", "*@elsewhere.com");
    scene.pass(4).says("`allow` does not cover john@your-domain.com");
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.variables("john").len(), 0);
    assert_eq!(scene.calls(INVOICING), (0, 0));
}

#[test]
fn two_people_never_share_an_account_or_an_address() {
    let (scene, key) = connected();
    for people in [
        "people:\n  john: { email: john@your-domain.com }\n  eva: { email: john@your-domain.com }\n",
        "people:\n  john: { email: john@your-domain.com }\n  eva: { email: eva@your-domain.com, account: john }\n",
    ] {
        scene.people(people);
        scene.pass(1).says("people.yaml:4:");
        assert_eq!(scene.working_key("john", CRM), key);
    }
}
