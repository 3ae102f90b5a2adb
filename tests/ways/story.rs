//! Connect, rotate, disconnect.

use service_connector::example_service::Kind::{Crm, PurchaseOrders};

use crate::server::{ANALYSTS, Server, on_a_server};
use crate::way::{Way, World, starts};

#[test]
fn keys_come_and_go_by_the_socket() {
    on_a_server("keys_come_and_go_by_the_socket", |server| story(server, Way::Socket));
}

#[test]
fn keys_come_and_go_by_sudo() {
    on_a_server("keys_come_and_go_by_sudo", |server| story(server, Way::Sudo));
}

#[test]
fn keys_come_and_go_by_a_helper_that_root_starts() {
    on_a_server("keys_come_and_go_by_a_helper_that_root_starts", |server| {
        story(server, Way::Started);
    });
}

fn story(server: &Server, way: Way) {
    let world = World::new(server, way);
    server.account("john", 1501, &[ANALYSTS]);
    server.account("eva", 1502, &[ANALYSTS]);
    world.connect("john", PurchaseOrders);
    world.connect("john", Crm);
    world.connect("eva", Crm);
    starts();
    world.pass(0);
    // One for what a state that was lost would have left, and one for the pass.
    assert!(starts() <= 2);
    let works = |account: &str, name: &str| {
        let kind = if name == "PO_API_KEY" { PurchaseOrders } else { Crm };
        let key = world.key(account, name);
        assert!(world.scene.works(kind, &key), "the key of {account} does not work");
        key
    };
    let (old, evas) = (works("john", "CRM_API_KEY"), works("eva", "CRM_API_KEY"));
    let orders = works("john", "PO_API_KEY");
    assert_eq!(world.skills("john"), ["sc_crm.md", "sc_purchase_orders.md"]);
    assert_eq!(world.skills("eva"), ["sc_crm.md"]);
    world.pass(0).says("Nothing to do");
    assert_eq!(starts(), 1);

    world.run(&["rotate", "john", Crm.id(), "--leaked", "--now"]).expect(0);
    assert_eq!(starts(), 1, "for looking and putting together");
    assert!(!world.scene.works(Crm, &old), "a leaked key is revoked at once");
    let new = works("john", "CRM_API_KEY");

    world.disconnect("john", Crm);
    world.pass(0);
    assert!(!world.scene.works(Crm, &new));
    assert_eq!(world.variables("john").keys().collect::<Vec<_>>(), ["PO_API_KEY", "PO_BASE_URL"]);
    assert_eq!(world.skills("john"), ["sc_purchase_orders.md"]);
    world.run(&["offboard", "john", "--now"]).expect(0);
    assert!(!world.scene.works(PurchaseOrders, &orders));
    assert!(world.variables("john").is_empty() && world.skills("john").is_empty());
    assert_eq!(works("eva", "CRM_API_KEY"), evas);
    world.run(&["doctor"]).says("answers");
}
