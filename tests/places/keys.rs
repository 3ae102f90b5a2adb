//! Who is who is root's to say: no edit of the desired state brings anybody another's key.

use std::fs;

use crate::server::{DESIRED, PORTAL, RECONCILER};
use crate::world::{CRM, HOMES, World, age, in_a_world};

/// Desired states that a thief would write.
const DESIRED_BY_A_THIEF: [&str; 14] = [
    "users: { eva: { account: john, connections: { crm: {} } } }",
    "users: { eva: { email: john@your-domain.com, connections: { crm: {} } } }",
    "users: { eva: { home: /var/lib/service-connector/homes/john, connections: { crm: {} } } }",
    "users: { eva: { connections: { crm: { account: john } } } }",
    "users: { eva: { connections: { crm: { user_email: john@your-domain.com } } } }",
    "users: { eva: { connections: { crm: { env: { X: \"{{ api_key }}\" } } } } }",
    "users: { ../john: { connections: { crm: {} } } }",
    "users: { eva/../john: { connections: { crm: {} } } }",
    "users: { \"john@your-domain.com\": { connections: { crm: {} } } }",
    "users: { JOHN: { connections: { crm: {} } } }",
    "people: { eva: { email: john@your-domain.com } }\nusers: { eva: { connections: { crm: {} } } }",
    "rules: [{ domain: your-domain.com }]\nusers: { eva: { connections: { crm: {} } } }",
    "users: { eva: { connections: { crm: {}, crm: { ttl_days: 1 } } } }",
    "users:\n  john: &a { connections: { crm: {} } }\n  eva: *a",
];

fn nobody_has_anothers(world: &World<'_>, after: &str) {
    for (account, email) in world.whose_keys() {
        let own = format!("{account}@your-domain.com");
        assert_eq!(own, email, "whose key is in the home of {account} after {after}");
    }
}

#[test]
fn no_edit_by_the_portal_brings_one_persons_key_to_anothers_home() {
    in_a_world("no_edit_by_the_portal_brings_one_persons_key_to_anothers_home", |world| {
        for user in ["john", "eva"] {
            world.run(PORTAL, &["connect", user, "crm"]).expect(0);
        }
        world.run(RECONCILER, &["reconcile"]).expect(0);
        assert_eq!(world.whose_keys().len(), 2);
        nobody_has_anothers(world, "the beginning");
        let good = fs::read_to_string(format!("{DESIRED}/desired.yaml")).unwrap();
        for text in DESIRED_BY_A_THIEF.map(|text| format!("version: 1\n{text}\n")) {
            by_the_portal(world, &text);
            // Whatever a pass makes of it.
            let pass = world.run(RECONCILER, &["reconcile"]);
            assert!(pass.code.is_some_and(|code| code < 5), "{pass:?}");
            nobody_has_anothers(world, &text);
            let homes = fs::read_dir(HOMES).unwrap().map(|home| home.unwrap().file_name());
            let mut homes: Vec<_> = homes.collect();
            homes.sort();
            assert_eq!(homes, ["eva", "john"], "{text}");
        }
        by_the_portal(world, &good);
        for people in ["people.yaml", "registry/crm.yaml"] {
            // The portal's own idea of who is who, in its environment and beside its file.
            let mut edit = world.command(PORTAL, &["rotate", "eva", "crm"]);
            let mine = format!("{DESIRED}/{}", people.rsplit('/').next().unwrap());
            let text = "version: 1\npeople:\n  eva: { email: john@your-domain.com }\n";
            world.server.file(&mine, text, PORTAL, RECONCILER, 0o660);
            edit.env("SC_PEOPLE", &mine).env("SC_HOMES", DESIRED).env("USER", "john");
            world.ran(edit);
            let mut pass = world.command(PORTAL, &["reconcile"]);
            pass.env("SC_PEOPLE", &mine).env("SC_HOMES", DESIRED);
            world.ran(pass).expect(1);
            world.run(RECONCILER, &["reconcile"]).expect(0);
            nobody_has_anothers(world, people);
        }
        assert_eq!(world.whose_keys().len(), 2);
    });
}

fn by_the_portal(world: &World<'_>, text: &str) {
    let path = format!("{DESIRED}/desired.yaml");
    let mut write = world.server.run_as(PORTAL, "sh");
    write.args(["-c", "printf %s \"$2\" > \"$1\"", "sh", &path, text]);
    assert!(write.status().unwrap().success());
    age(&path);
}

#[test]
fn shared_secrets_are_looked_for_in_the_directory_then_in_the_credentials_then_in_the_variables() {
    let test = "shared_secrets_are_looked_for_in_the_directory_then_in_the_credentials";
    in_a_world(test, |world| {
        let credentials = "/run/credentials/service-connector-reconcile.service";
        world.server.dir(credentials, RECONCILER, RECONCILER, 0o700);
        let right = world.service(CRM).secret.clone();
        let wrong = "0123456789abcdef";
        let in_secrets = format!("{}/{}", crate::server::SECRETS, CRM.secret_variable());
        world.run(PORTAL, &["connect", "john", "crm"]).expect(0);
        for (directory, credential, variable, works) in [
            (None, None, None, false),
            (None, None, Some(right.as_str()), true),
            (None, Some(wrong), Some(right.as_str()), false),
            (None, Some(right.as_str()), Some(wrong), true),
            (Some(wrong), Some(right.as_str()), Some(right.as_str()), false),
            (Some(right.as_str()), Some(wrong), Some(wrong), true),
            // One that is no good hides the others.
            (Some("not fit to be sent"), Some(right.as_str()), None, false),
        ] {
            for (path, dir, text) in [
                (in_secrets.clone(), crate::server::SECRETS, directory),
                (format!("{credentials}/{}", CRM.secret_variable()), credentials, credential),
            ] {
                match text {
                    Some(secret) => world.secret_file(dir, CRM, secret),
                    None => drop(fs::remove_file(path)), // it may not be there
                }
            }
            world.run(PORTAL, &["rotate", "john", "crm", "--leaked"]);
            let mut pass = world.command(RECONCILER, &["reconcile", "--retry-now"]);
            pass.env("CREDENTIALS_DIRECTORY", credentials);
            if let Some(variable) = variable {
                pass.env(CRM.secret_variable(), variable);
            }
            let pass = world.ran(pass);
            let expected = if works { 0 } else { 4 };
            let which = (directory.is_some(), credential.is_some(), variable.is_some());
            assert_eq!(pass.code, Some(expected), "{which:?}: {pass:?}");
        }
    });
}
