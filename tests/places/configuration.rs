//! Where root's process may be sent, and by whom.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::server::{DESIRED, ETC, PORTAL, RECONCILER};
use crate::world::{CONFIG, in_a_world};

#[test]
fn root_goes_nowhere_by_a_configuration_that_others_can_change() {
    in_a_world("root_goes_nowhere_by_a_configuration_that_others_can_change", |world| {
        let root = || world.run("root", &["validate"]);
        let refused = |what: &str| {
            root().expect(1).says("is not used").says(&format!("{what} is not yours alone"));
            // Whoever else calls has their own rights alone, and goes on.
            world.run(PORTAL, &["validate"]).expect(0);
        };
        root().expect(0);
        let mode = |path: &str, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let (uid, gid) = world.server.ids(RECONCILER);
        for others in [0o664, 0o646] {
            mode(CONFIG, others);
            refused("it");
        }
        mode(CONFIG, 0o644);
        chown(CONFIG, Some(uid), Some(gid)).unwrap();
        refused("it");
        chown(CONFIG, Some(0), Some(0)).unwrap();
        mode(ETC, 0o775);
        refused("its directory");
        mode(ETC, 0o755);
        chown(ETC, Some(uid), None).unwrap();
        refused("its directory");
        chown(ETC, Some(0), None).unwrap();
        root().expect(0);

        // Named, it is believed no more than that: also through a link, and further up.
        fs::create_dir_all("/home/jane/own").unwrap();
        fs::copy(CONFIG, "/home/jane/own/service-connector.yaml").unwrap();
        chown("/home/jane", Some(uid), None).unwrap();
        let named = ["--config", "/home/jane/own/service-connector.yaml", "validate"];
        world.run("root", &named).expect(1).says("/home/jane is not yours alone");
        std::os::unix::fs::symlink(named[1], "/etc/a-link.yaml").unwrap();
        let linked = ["--config", "/etc/a-link.yaml", "validate"];
        world.run("root", &linked).expect(1).says("/home/jane is not yours alone");
        // In a sticky directory nobody takes away what is root's.
        mode("/home/jane", 0o1777);
        chown("/home/jane", Some(0), None).unwrap();
        world.run("root", &named).expect(0);
    });
}

#[test]
fn root_becomes_nobody_who_is_not_there_and_nobody_who_is_root() {
    in_a_world("root_becomes_nobody_who_is_not_there_and_nobody_who_is_root", |world| {
        let config = fs::read_to_string(CONFIG).unwrap();
        let with = |user: &str| {
            let line = format!("user: {RECONCILER}\n");
            assert!(config.contains(&line));
            world.server.root_file(CONFIG, &config.replace(&line, &format!("user: {user}\n")));
        };
        let connect = ["connect", "john", "crm"];
        with("nobody-here");
        let refused = world.run("root", &connect).expect(1);
        refused.says("there is no user nobody-here").says("(`user`)");
        // Who is not root needs nobody to become.
        world.run(PORTAL, &connect).expect(0);
        with("root");
        world.run("root", &["connect", "eva", "crm"]).expect(1).says("who is root");
        with("\"0\"");
        world.run("root", &["connect", "eva", "crm"]).expect(1).says(CONFIG);
        // A flag goes before the file.
        with("nobody-here");
        let mut edit = world.command("root", &["connect", "eva", "crm"]);
        edit.env("SC_RUN_AS", RECONCILER);
        world.ran(edit).expect(0);
        let owner = fs::metadata(format!("{DESIRED}/desired.yaml")).unwrap().uid();
        assert_eq!(owner, world.server.ids(RECONCILER).0);
        // What needs no place needs no user.
        for command in [&["schema", "config"][..], &["completions", "bash"], &["man"]] {
            world.run("root", command).expect(0);
        }
    });
}

#[test]
fn the_registry_stays_roots_to_write_and_everybodys_to_read() {
    in_a_world("the_registry_stays_roots_to_write_and_everybodys_to_read", |world| {
        let list = r#"[{"id":"wiki","name":"Wiki","description":"The wiki.",
            "token_exchange_url":"https://wiki.your-domain.com/api/internal/token-exchange",
            "token_revoke_url":"https://wiki.your-domain.com/api/internal/token-revoke",
            "env_var_name":"WIKI_API_KEY","skill_file":"sc_wiki.md","enabled":true}]"#;
        world.server.file("/run/list.json", list, "root", "root", 0o600);
        world.run("root", &["registry", "import", "/run/list.json"]).expect(0);
        let meta = fs::metadata(format!("{ETC}/registry/wiki.yaml")).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o644));
    });
}
