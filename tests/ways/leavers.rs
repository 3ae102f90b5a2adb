//! People whose accounts change, leave the group, or go.

use std::fs;
use std::path::Path;
use std::process::Command;

use service_connector::example_service::Kind::Crm;

use crate::scene::HOUR;
use crate::server::{ANALYSTS, RECONCILER, Server, on_a_server};
use crate::way::{Way, World};

/// John and Eva are connected to the CRM.
fn connected(server: &Server) -> World<'_> {
    let world = World::new(server, Way::Sudo);
    server.account("john", 1501, &[ANALYSTS]);
    server.account("eva", 1502, &[ANALYSTS]);
    world.connect("john", Crm);
    world.connect("eva", Crm);
    world.pass(0);
    world
}

#[test]
fn an_account_that_is_gone_for_an_hour_loses_its_keys() {
    on_a_server("an_account_that_is_gone_for_an_hour_loses_its_keys", |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        server.remove_account("john");
        world.pass(4).says("there is no account john");
        assert!(world.scene.works(Crm, &key), "not within the hour");
        world.scene.let_pass(HOUR + 60);
        world.run(&["plan"]).expect(2).says("absent for an hour");
        world.pass(0);
        assert!(!world.scene.works(Crm, &key));
        assert!(world.scene.works(Crm, &world.key("eva", "CRM_API_KEY")));
    });
}

#[test]
fn who_leaves_the_group_loses_the_keys_and_who_comes_back_gets_new_ones() {
    let name = "who_leaves_the_group_loses_the_keys_and_who_comes_back_gets_new_ones";
    on_a_server(name, |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        server.leaves("john", ANALYSTS);
        world.pass(4).says("john is not in the group analysts");
        world.run(&["status"]).says("not in the group analysts");
        world.scene.let_pass(HOUR + 60);
        world.pass(0);
        assert!(!world.scene.works(Crm, &key));
        world.pass(4).says("john is not in the group analysts");
        let mut adduser = Command::new("sed");
        adduser.args(["-i", "s/^\\(analysts:.*:\\)/\\1john,/", "/etc/group"]);
        assert!(adduser.status().unwrap().success());
        world.pass(0);
        assert!(world.scene.works(Crm, &world.key("john", "CRM_API_KEY")));
    });
}

#[test]
fn a_home_that_is_away_takes_no_key_from_anybody() {
    on_a_server("a_home_that_is_away_takes_no_key_from_anybody", |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        fs::rename("/home/john", "/home/away").unwrap();
        world.pass(4).says("/home/john: there is no home here");
        world.scene.let_pass(3 * HOUR);
        world.pass(4);
        assert!(world.scene.works(Crm, &key));
        // Nobody is issued a key that could not be delivered.
        server.account("new", 1503, &[ANALYSTS]);
        fs::remove_dir("/home/new").unwrap();
        world.connect("new", Crm);
        world.pass(4).says("/home/new: there is no home here");
        assert_eq!(world.scene.live(Crm).len(), 2);
        // And what should go, goes.
        world.disconnect("john", Crm);
        world.pass(4);
        assert!(!world.scene.works(Crm, &key));
        fs::rename("/home/away", "/home/john").unwrap();
        world.pass(4);
        assert!(world.variables("john").is_empty(), "the files go when the home is back");
    });
}

#[test]
fn another_account_empties_the_old_home() {
    on_a_server("another_account_empties_the_old_home", |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        server.account("john_new", 1505, &[ANALYSTS]);
        world.scene.people(
            "people:\n  john: { email: john@your-domain.com, account: john_new }\n\
             rules:\n  - { domain: your-domain.com }\n",
        );
        world.give_to_reconciler();
        world.pass(0);
        assert!(!world.scene.works(Crm, &key), "no grace for the key of the old account");
        assert!(world.variables("john").is_empty() && world.skills("john").is_empty());
        assert!(world.scene.works(Crm, &world.key("john_new", "CRM_API_KEY")));
    });
}

#[test]
fn an_account_made_anew_under_the_name_inherits_nothing() {
    on_a_server("an_account_made_anew_under_the_name_inherits_nothing", |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        server.remove_account("john");
        fs::remove_dir_all("/home/john").unwrap();
        server.account("john", 1777, &[ANALYSTS]);
        world.pass(0);
        assert!(!world.scene.works(Crm, &key));
        let new = world.key("john", "CRM_API_KEY");
        assert!(new != key && world.scene.works(Crm, &new));
    });
}

#[test]
fn each_reason_is_told_by_plan_and_status() {
    on_a_server("each_reason_is_told_by_plan_and_status", |server| {
        let world = World::new(server, Way::Started);
        server.account("john", 1501, &[]);
        server.account("eva", 1502, &[ANALYSTS]);
        server.account("petr", 1503, &[ANALYSTS]);
        server.account("jana", 1504, &[ANALYSTS]);
        server.account("ivan", 1506, &[ANALYSTS]);
        fs::remove_dir("/home/eva").unwrap();
        std::os::unix::fs::chown("/home/petr", Some(0), Some(0)).unwrap();
        fs::create_dir("/home/jana/.claude_rules").unwrap();
        std::os::unix::fs::chown("/home/jana/.claude_rules", Some(1504), None).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "tmpfs", "/home/jana/.claude_rules"]);
        assert!(mount.status().unwrap().success());
        fs::set_permissions("/home/ivan", std::os::unix::fs::PermissionsExt::from_mode(0o000))
            .unwrap();
        for user in ["john", "eva", "petr", "jana", "daemon", "nobody_here"] {
            world.connect(user, Crm);
        }
        let reasons = [
            "john is not in the group analysts: `adduser john analysts`",
            "/home/eva: there is no home here",
            "/home/petr: it belongs to uid 0",
            "`.claude_rules` is a mount",
            "daemon has uid 1: an account of the system",
            "there is no account nobody_here",
        ];
        let plan = world.run(&["plan"]).expect(4);
        world.pass(4);
        let status = world.run(&["status"]).expect(0);
        for reason in reasons {
            plan.says(reason);
            status.says(reason);
        }
        assert!(world.scene.issued(Crm).is_empty(), "for none of them is a key asked for");
        // Unreadable: it could not be looked at, which says nothing of what is there.
        world.connect("ivan", Crm);
        world.pass(4).says("permission denied");
    });
}

#[test]
fn a_helper_that_refuses_says_why_and_nothing_is_lost() {
    on_a_server("a_helper_that_refuses_says_why_and_nothing_is_lost", |server| {
        let world = connected(server);
        let key = world.key("john", "CRM_API_KEY");
        let conf = "/etc/service-connector/helper.conf";
        let good = fs::read_to_string(conf).unwrap();
        server.root_file(conf, &format!("group = {ANALYSTS}\n"));
        world.run(&["rotate", "john", Crm.id()]).expect(0);
        world.pass(4).says("`callers` in helper.conf does not name it");
        world.run(&["doctor"]).expect(1).says("`callers` in helper.conf");
        fs::remove_file("/etc/sudoers.d/service-connector").unwrap();
        world.pass(4).says("a password is required");
        world.run(&["doctor"]).expect(1).says("put the rule of /etc/sudoers.d");
        assert!(world.scene.works(Crm, &key), "no key goes before its successor is there");
        server.root_file(conf, &good);
        let rule =
            format!("{RECONCILER} ALL=(root) NOPASSWD: /usr/sbin/install-service-env \"\"\n");
        server.file("/etc/sudoers.d/service-connector", &rule, "root", "root", 0o440);
        world.run(&["reconcile", "--retry-now"]).expect(0);
        assert_ne!(world.key("john", "CRM_API_KEY"), key);
        assert!(Path::new("/home/john/.claude_rules/sc_crm.md").exists());
    });
}
