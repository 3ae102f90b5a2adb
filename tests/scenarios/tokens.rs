//! Connect, disconnect, and what is owed in between.

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{HOUR, Scene};

const CRM: Kind = Kind::Crm;

#[test]
fn a_connected_user_has_a_key_that_works_and_a_skill_that_says_until_when() {
    let scene = Scene::new();
    scene.connect("john", Kind::PurchaseOrders);
    scene.pass(0).says("john purchase_orders: key issued");
    scene.working_key("john", Kind::PurchaseOrders);
    let variables = scene.variables("john");
    let address = scene.service(Kind::PurchaseOrders).running.base_url();
    assert_eq!(variables.get("PO_BASE_URL"), Some(&address));
    assert!(scene.env_file("john").contains("\n# end 2 variables sha256 "));
    assert!(scene.skill("john", Kind::PurchaseOrders).contains("active until "));
    let issued = scene.issued(Kind::PurchaseOrders);
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0].user_email, "john@your-domain.com");
    assert!(issued[0].client_ref.as_ref().unwrap().starts_with("sc1:"));
}

#[test]
fn after_a_disconnect_the_key_is_dead_and_nothing_of_it_is_left_in_the_home() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.connect("john", Kind::Invoicing);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    scene.disconnect("john", CRM);
    scene.pass(0).says("john crm: key revoked");
    assert!(!scene.works(CRM, &key));
    assert!(scene.issued(CRM)[0].revoked_at.is_some());
    assert!(!scene.env_file("john").contains("CRM_"));
    assert_eq!(scene.skill("john", CRM), "");
    scene.working_key("john", Kind::Invoicing);
    scene.disconnect("john", Kind::Invoicing);
    scene.pass(0);
    assert!(scene.env_file("john").contains("\n# end 0 variables sha256 "));
    assert_eq!(scene.variables("john").len(), 0);
    assert_eq!(scene.phases("john", CRM), ["revoked"]);
}

#[test]
fn a_reconnect_gets_a_new_token_and_the_old_revoke_is_still_owed() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.faults(CRM).always(On::Revoke, Fault::ServerError);
    scene.disconnect("john", CRM);
    scene.pass(4).says("revoke still owed");
    assert!(scene.works(CRM, &old), "the service said no");
    assert_eq!(scene.key("john", CRM), None, "the home does not wait for the service");

    scene.connect("john", CRM);
    scene.pass(4);
    let new = scene.working_key("john", CRM);
    assert_ne!(new, old);
    assert_eq!(scene.phases("john", CRM), ["revoking", "active"]);

    scene.faults(CRM).clear();
    scene.retry(0);
    assert!(!scene.works(CRM, &old));
    assert!(scene.works(CRM, &new));
    assert_eq!(scene.phases("john", CRM), ["revoked", "active"]);
    let refs: Vec<_> = scene.issued(CRM).into_iter().map(|token| token.client_ref).collect();
    assert_ne!(refs[0], refs[1]);
}

#[test]
fn a_failed_revoke_is_still_owed_after_a_restart_and_is_paid_later() {
    let no_confirmations = [
        Fault::Status { code: 404 },
        Fault::Status { code: 405 },
        Fault::Html,
        Fault::NotJson,
        Fault::ServerError,
        Fault::Redirect,
        Fault::DropAnswer,
    ];
    for fault in no_confirmations {
        let scene = Scene::new();
        scene.connect("john", CRM);
        scene.pass(0);
        scene.disconnect("john", CRM);
        scene.faults(CRM).next(On::Revoke, fault.clone(), 1);
        scene.pass(4);
        assert_eq!(scene.phases("john", CRM), ["revoking"], "{fault:?}");
        let debts = &scene.status()["debts"];
        assert_eq!(debts.as_array().unwrap().len(), 1, "{fault:?}");

        // Another process waits as long as the one before decided to.
        scene.pass(4);
        assert_eq!(scene.calls(CRM), (1, 1), "{fault:?}");
        scene.let_pass(HOUR);
        scene.pass(0);
        assert_eq!(scene.calls(CRM), (1, 2), "{fault:?}");
        assert_eq!(scene.phases("john", CRM), ["revoked"], "{fault:?}");
        assert_eq!(scene.live(CRM).len(), 0, "{fault:?}");
        scene.pass(0).says("Nothing to do");
    }
}

#[test]
fn a_disconnect_before_the_answer_came_revokes_by_the_op_id() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::DropAnswer, 1);
    scene.pass(4);
    assert_eq!(scene.live(CRM).len(), 1, "the service issued, and nobody knows the key");
    scene.disconnect("john", CRM);
    scene.pass(0);
    let issued = scene.issued(CRM);
    assert!(issued[0].revoked_at.is_some());
    assert_eq!(scene.ledger(CRM).tombstones().unwrap(), [issued[0].client_ref.clone().unwrap()]);
    assert_eq!(scene.phases("john", CRM), ["revoked"]);
}

#[test]
fn a_rotated_key_lives_on_for_the_grace() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.rotate("john", CRM);
    scene.pass(0);
    let new = scene.working_key("john", CRM);
    assert_ne!(new, old);
    assert!(scene.works(CRM, &old), "laptops still have it");
    assert_eq!(scene.phases("john", CRM), ["retiring", "active"]);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn without_a_grace_the_old_key_dies_in_the_pass_that_delivers_the_new_one() {
    let scene = Scene::new();
    scene.entry(CRM, "grace_days: 7", "grace_days: 0");
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.rotate("john", CRM);
    scene.pass(0);
    assert_ne!(scene.working_key("john", CRM), old);
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.phases("john", CRM), ["revoked", "active"]);
}

#[test]
fn without_a_grace_the_old_key_still_waits_for_the_delivery() {
    let scene = Scene::new();
    scene.entry(CRM, "grace_days: 7", "grace_days: 0");
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.rotate("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    assert_eq!(scene.working_key("john", CRM), old);
    assert_eq!(scene.calls(CRM).1, 0, "nothing is revoked");
    scene.retry(0);
    assert!(!scene.works(CRM, &old));
    scene.working_key("john", CRM);
}

#[test]
fn a_leaked_key_is_revoked_at_once() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.run(&["rotate", "john", "crm", "--leaked"]).expect(0);
    scene.pass(0);
    assert_ne!(scene.working_key("john", CRM), old);
    assert!(!scene.works(CRM, &old));
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_leaked_key_is_revoked_even_if_no_new_one_can_be_had() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let old = scene.working_key("john", CRM);
    scene.run(&["rotate", "john", "crm", "--leaked"]).expect(0);
    scene.faults(CRM).next(On::Exchange, Fault::ServerError, 1);
    scene.pass(4);
    assert!(!scene.works(CRM, &old));
    assert_eq!(scene.key("john", CRM), None);
    scene.retry(0);
    scene.working_key("john", CRM);
}

#[test]
fn a_shorter_life_replaces_a_key_that_would_outlive_it() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.run(&["connect", "john", "crm", "--ttl-days", "30"]).expect(0);
    scene.pass(0);
    let issued = scene.issued(CRM);
    let days =
        |at: usize| issued[at].expires_at.duration_since(issued[at].issued_at).as_hours() / 24;
    assert_eq!((days(0), days(1)), (90, 30));
    scene.pass(0).says("Nothing to do");
    // A longer one counts from the next renewal.
    scene.run(&["connect", "john", "crm", "--ttl-days", "300"]).expect(0);
    scene.pass(0).says("Nothing to do");
}

#[test]
fn a_paused_connection_gets_no_key_and_loses_none() {
    let scene = Scene::new();
    let john = |wish: &str| {
        scene.desired(&format!("users:\n  john:\n    connections:\n      crm: {wish}\n"));
    };
    john("{ paused: true }");
    scene.pass(0);
    assert_eq!(scene.calls(CRM), (0, 0));
    john("{}");
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    john("{ paused: true, rotate_after: 2100-01-01T00:00:00Z }");
    scene.let_pass(80 * 24 * HOUR);
    scene.pass(0);
    assert_eq!(scene.calls(CRM), (1, 0), "renewal was due");
    assert_eq!(scene.working_key("john", CRM), key);
    scene.disconnect("john", CRM);
    scene.pass(0);
    assert!(!scene.works(CRM, &key));
}

#[test]
fn a_disabled_user_loses_every_key() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    let key = scene.working_key("john", CRM);
    scene.desired("users:\n  john:\n    disabled: true\n    connections: { crm: {} }\n");
    scene.pass(0);
    assert!(!scene.works(CRM, &key));
    assert!(scene.env_file("john").contains("# end 0 variables"));
}
