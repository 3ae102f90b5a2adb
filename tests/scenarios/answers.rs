//! What services answer, and what follows from it.

use service_connector::example_service::{Contract, Fault, Kind, On};

use crate::scene::{HOUR, Scene};

const CRM: Kind = Kind::Crm;

#[test]
fn an_answer_that_was_dropped_is_asked_for_again_under_the_same_op_id() {
    for fault in [Fault::DropAnswer, Fault::ServerErrorAfterWrite, Fault::HugeAnswer] {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.faults(CRM).next(On::Exchange, fault.clone(), 1);
        scene.pass(4);
        assert_eq!(scene.phases("john", CRM), ["issuing"], "{fault:?}");
        assert_eq!(scene.issued(CRM).len(), 1, "the ledger was written");
        assert_eq!(scene.key("john", CRM), None);
        scene.retry(0);
        assert_eq!(scene.issued(CRM).len(), 1, "exactly one token, {fault:?}");
        assert_eq!(scene.calls(CRM), (2, 0), "{fault:?}");
        scene.working_key("john", CRM);
    }
}

#[test]
fn a_malformed_answer_is_refused_and_its_token_revoked_by_op_id_while_the_old_key_stays() {
    let malformed = [
        Fault::NotJson,
        Fault::Html,
        Fault::MissingField,
        Fault::DuplicateField,
        Fault::NewlineInKey,
        Fault::SubstitutionInKey,
        Fault::LongKey,
        Fault::PastExpiry,
    ];
    for fault in malformed {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.pass(0);
        let (old, home) = (scene.working_key("john", CRM), scene.env_file("john"));
        scene.rotate("john", CRM);
        scene.faults(CRM).next(On::Exchange, fault.clone(), 1);
        scene.pass(4).says("its answer was refused");
        assert_eq!(scene.phases("john", CRM), ["active", "revoking"], "{fault:?}");
        assert_eq!(scene.env_file("john"), home, "{fault:?}");
        assert!(scene.works(CRM, &old), "{fault:?}");

        scene.retry(0);
        assert_ne!(scene.working_key("john", CRM), old, "{fault:?}");
        let issued = scene.issued(CRM);
        let refused = issued[1].client_ref.clone().unwrap();
        assert_eq!(scene.ledger(CRM).tombstones().unwrap(), [refused], "{fault:?}");
        assert!(issued[1].revoked_at.is_some(), "{fault:?}");
        assert_eq!(scene.phases("john", CRM), ["retiring", "revoked", "active"], "{fault:?}");
    }
}

#[test]
fn a_token_id_of_another_connection_is_refused_and_the_other_key_stays() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let johns = scene.working_key("john", CRM);
    scene.connect("petr", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::OtherTokenId, 1);
    scene.pass(4);
    assert_eq!(scene.key("petr", CRM), None);
    assert_eq!(scene.phases("petr", CRM), ["revoking"]);
    scene.retry(0);
    assert!(scene.works(CRM, &johns), "revoked by op id, never by the token id of that answer");
    assert_ne!(scene.working_key("petr", CRM), johns);
    assert_eq!(scene.live(CRM).len(), 2);
}

#[test]
fn a_conflict_revokes_the_op_and_asks_under_a_new_one() {
    for code in [409, 422] {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.faults(CRM).next(On::Exchange, Fault::Status { code }, 1);
        scene.pass(4);
        assert_eq!(scene.phases("john", CRM), ["revoking"], "{code}");
        scene.retry(0);
        assert_eq!(scene.phases("john", CRM), ["revoked", "active"], "{code}");
        assert_eq!(scene.ledger(CRM).tombstones().unwrap().len(), 1, "{code}");
        scene.working_key("john", CRM);
    }
}

#[test]
fn an_op_that_is_gone_is_asked_for_under_a_new_one() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::Status { code: 410 }, 1);
    scene.pass(4);
    assert_eq!(scene.phases("john", CRM), ["revoked"]);
    scene.pass(0);
    assert_eq!(scene.phases("john", CRM), ["revoked", "active"]);
    assert_eq!(scene.calls(CRM), (2, 0));
    scene.working_key("john", CRM);
}

#[test]
fn a_refusal_that_issued_nothing_is_asked_again_under_the_same_op_id() {
    for code in [302, 400, 404, 418] {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.faults(CRM).next(On::Exchange, Fault::Status { code }, 1);
        scene.pass(4);
        assert_eq!(scene.phases("john", CRM), ["issuing"], "{code}");
        scene.retry(0);
        assert_eq!(scene.phases("john", CRM), ["active"], "{code}");
    }
}

#[test]
fn a_service_that_asks_for_time_gets_it() {
    for fault in
        [Fault::TooManyRequests { retry_after: 7200 }, Fault::Unavailable { retry_after: 7200 }]
    {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.faults(CRM).next(On::Exchange, fault.clone(), 1);
        scene.pass(4);
        // Longer than any wait of our own.
        scene.let_pass(HOUR + 3000);
        scene.pass(4);
        assert_eq!(scene.calls(CRM).0, 1, "{fault:?}");
        scene.let_pass(700);
        scene.pass(0);
        scene.working_key("john", CRM);
    }
}

#[test]
fn a_change_of_what_is_desired_is_not_kept_waiting() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::Unavailable { retry_after: 7200 }, 1);
    scene.pass(4);
    scene.run(&["connect", "john", "crm", "--ttl-days", "10"]).expect(0);
    scene.pass(0);
    scene.working_key("john", CRM);
}

#[test]
fn a_service_that_refuses_the_secret_is_not_asked_for_others() {
    for fault in [Fault::WrongSecret, Fault::Status { code: 403 }] {
        let scene = Scene::new();
        scene.entry(CRM, "concurrency: 8", "concurrency: 1");
        for user in ["eva", "john", "petr"] {
            scene.connect(user, CRM);
        }
        scene.connect("john", Kind::Invoicing);
        scene.faults(CRM).always(On::Exchange, fault.clone());
        scene.pass(4).says("it refuses our shared secret");
        assert_eq!(scene.calls(CRM).0, 1, "{fault:?}");
        scene.working_key("john", Kind::Invoicing);
        scene.pass(4);
        assert_eq!(scene.calls(CRM).0, 1, "{fault:?}");
        let notes = scene.status()["notes"].to_string();
        assert!(notes.contains("it refuses our shared secret"), "{notes}");
        scene.faults(CRM).clear();
        scene.retry(0);
        for user in ["eva", "john", "petr"] {
            scene.working_key(user, CRM);
        }
        assert_eq!(scene.status()["notes"].to_string(), "[]");
    }
}

#[test]
fn a_service_of_contract_v1_issues_and_revokes() {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    scene.entry(CRM, "contract: v2", "contract: v1");
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(!scene.works(CRM, &key));
}

#[test]
fn a_key_of_contract_v1_that_may_exist_is_counted_as_lost_and_a_new_one_is_asked_for() {
    let scene = Scene::with(|config| config.contract = Contract::V1);
    scene.entry(CRM, "contract: v2", "contract: v1");
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.pass(4);
    assert_eq!(scene.phases("john", CRM), ["lost"]);
    scene.retry(0);
    scene.working_key("john", CRM);
    assert_eq!(scene.issued(CRM).len(), 2);
    assert_eq!(scene.status()["lost"][0]["user"], "john");
    scene.run(&["status"]).expect(0).says("Possible orphan: a key of john to crm");
    scene.let_pass(91 * 24 * HOUR);
    assert_eq!(scene.status()["lost"].to_string(), "[]", "it ended by itself");
}
