//! Many users with many services, all connected and all in order.

use std::fmt::Write as _;

use service_connector::model::desired::{DesiredUser, Wish};
use service_connector::model::home::{HomeFacts, HomeLook};
use service_connector::model::name::{ServiceId, UserId};
use service_connector::model::plan::Scope;
use service_connector::model::registry::{Entry, Registry, Service};
use service_connector::model::registry_entry;

use super::given::Given;

const PEOPLE: &str = "{ version: 1, people: {}, rules: [{ domain: your-domain.com }] }";

/// The user of this number.
pub fn user(number: usize) -> UserId {
    format!("u{number:03}").parse().expect("a user id")
}

/// The service of this number.
pub fn service(number: usize) -> ServiceId {
    format!("s{number:02}").parse().expect("a service id")
}

/// How the op of this connection's token begins.
pub fn digits(user: usize, service: usize) -> String {
    format!("{user:03x}{service:02x}")
}

/// A registry of so many services.
pub fn registry(services: usize) -> Registry {
    let entries = (0..services).map(|number| {
        let id = service(number);
        let text = format!(
            "{{ id: {id}, name: {id}, description: d, base_url: \"https://{id}.example.com\",
               secret: SC_SECRET_X, env_prefix: S{number}_, skill: sc_{id}.md,
               env: {{ S{number}_KEY: \"{{{{ api_key }}}}\" }},
               allow: {{ emails: [\"*@your-domain.com\"] }} }}"
        );
        let parsed = registry_entry::parse(id.as_str(), &text, |_| Ok("{{ status }}\n".to_owned()));
        (id, parsed.map_err(|error| error.to_string()))
    });
    Registry::assemble(entries.collect())
}

/// Everybody desired, nobody connected yet.
pub fn newcomers(users: usize, services: usize) -> Given {
    let desired = "{ version: 1, users: {} }";
    let actual = "now: 2026-11-22T12:00:00Z";
    let mut given = Given::parse(desired, PEOPLE, registry(services), actual);
    want_all(&mut given, users, services);
    given
}

/// Everybody connected to everything since the first of the month.
pub fn settled(users: usize, services: usize) -> Given {
    settled_at(users, services, "2026-11-01T00:00:00Z")
}

/// Everybody connected to everything since then.
pub fn settled_at(users: usize, services: usize, asked: &str) -> Given {
    let mut actual = "now: 2026-11-22T12:00:00Z\n".to_owned();
    let mut add = |text: String| actual.write_str(&text).expect("a String takes all");
    add("tokens:\n".to_owned());
    for user_number in 0..users {
        for service_number in 0..services {
            let (user, service) = (user(user_number), service(service_number));
            let op = digits(user_number, service_number);
            add(format!(
                "- {{ op: \"{op}\", user: {user}, service: {service}, phase: active, \
                 asked: {asked}, delivered: {asked} }}\n"
            ));
        }
    }
    add("installed:\n".to_owned());
    for user_number in 0..users {
        let pieces: Vec<String> = (0..services)
            .map(|number| format!("{}: \"{}\"", service(number), digits(user_number, number)))
            .collect();
        let (user, pieces) = (user(user_number), pieces.join(", "));
        add(format!("  {user}: {{ {user}: {{ generation: 1, pieces: {{ {pieces} }} }} }}\n"));
    }
    let desired = "{ version: 1, users: {} }";
    let mut given = Given::parse(desired, PEOPLE, registry(services), &actual);
    want_all(&mut given, users, services);
    given
}

/// Connects everybody to everything in the desired state.
pub fn want_all(given: &mut Given, users: usize, services: usize) {
    for number in 0..users {
        let connections = (0..services).map(|number| (service(number), Wish::default())).collect();
        let entry = DesiredUser { connections, ..DesiredUser::default() };
        given.desired.users.insert(user(number), entry);
        let account = user(number).as_str().parse().expect("an account");
        given.actual.homes.entry(account).or_insert_with(empty_home);
    }
    given.scope = Scope::default();
}

/// A home without any file of ours.
pub fn empty_home() -> HomeLook {
    HomeLook::Seen(HomeFacts { uid: 1001, rules_mode_ok: true, ..HomeFacts::default() })
}

/// Takes a connection out of the desired state.
pub fn unwant(given: &mut Given, user_number: usize, service_number: usize) {
    let entry = given.desired.users.get_mut(&user(user_number)).expect("a user");
    entry.connections.remove(&service(service_number)).expect("a connection");
}

/// Changes an entry of the registry.
pub fn change_service(given: &mut Given, id: &ServiceId, change: impl FnOnce(&mut Service)) {
    match given.registry.entries.get_mut(id) {
        Some(Entry::Usable(entry)) => change(entry),
        _ => panic!("{id} is not usable"),
    }
}
