//! The formats that people write: what is read, and what is refused at which place.

use std::fs;

use proptest::prelude::*;
use service_connector::model::desired::{Desired, NoPerson, People};
use service_connector::model::name::{Email, ServiceId, SkillFile, UserId};
use service_connector::model::registry::{Contract, Entry, Registry, STATUS_MARK, Service};
use service_connector::model::registry_entry::{self, RegistryError};
use service_connector::model::service_url::BaseUrl;
use service_connector::model::skill::{Status, render};
use service_connector::model::skill_lint::lint;
use service_connector::registry_dir::{self, ProblemError};

const DESIRED: &str = "\
# desired.yaml
version: 1
users:
  john:
    connections:
      purchase_orders: {}
      invoicing: { ttl_days: 30 }
      crm: { rotate_after: 2026-11-01T00:00:00Z }
  eva:
    disabled: true   # offboarded
    connections: {}
";

const PEOPLE: &str = "\
version: 1
people:
  john: { email: John@your-domain.com }
  petr: { email: petr.novak@your-domain.com, account: petr_novak }
rules:
  - { domain: your-domain.com }
";

const ENTRY: &str = r#"id: purchase_orders
name: Purchase Orders
description: Look up and approve purchase orders.
icon: purchase_orders.svg
base_url: https://po.internal.example.com/
secret: SC_SECRET_PURCHASE_ORDERS
env_prefix: PO_
env:
  PO_API_KEY: "{{ api_key }}"
  PO_BASE_URL: "{{ base_url }}"
skill: sc_purchase_orders.md
allow: { emails: ["*@your-domain.com"], users: [petr] }
"#;

const SKILL: &str = "\
# {{ service.name }} ({{ service.id }})
Status: {{ status }}
## Authentication
Read `{{ env.api_key }}` inside the process; the address is in `{{ env.base_url }}`.
## Endpoints
GET {{ service.base_url }}/api/orders
## Common patterns
## Data model
A 401 means that the key is no longer valid.
";

fn refusal(text: &str) -> String {
    Desired::parse(text).expect_err(text).to_string()
}

fn user(id: &str) -> UserId {
    id.parse().unwrap()
}

fn entry(text: &str) -> Result<Service, RegistryError> {
    Service::parse("purchase_orders", text, |_| Ok(SKILL.to_owned()))
}

fn entry_refusal(from: &str, to: &str) -> String {
    assert!(ENTRY.contains(from), "{from}");
    let text = ENTRY.replacen(from, to, 1);
    entry(&text).expect_err(&text).to_string()
}

#[test]
fn a_desired_state_is_read_with_its_lines() {
    let desired = Desired::parse(DESIRED).unwrap();
    let john = &desired.users["john"];
    assert_eq!(john.line, 4);
    assert_eq!(john.connections.len(), 3);
    assert_eq!(john.connections["invoicing"].ttl_days, Some(30));
    assert_eq!(john.connections["crm"].line, 8);
    assert!(john.connections["crm"].rotate_after.is_some());
    assert!(desired.users["eva"].disabled);
}

#[test]
fn what_is_wrong_in_a_desired_state_is_refused_with_line_column_key_and_what_is_allowed() {
    let cases = [
        ("", "line 1, column 1: nothing stands here"),
        ("# only a comment\n", "line 2, column 1: nothing stands here"),
        ("version: 1\n", "line 1, column 1: `users` is missing"),
        ("users: {}\n", "line 1, column 1: `version` is missing"),
        ("version: 2\nusers: {}\n", "line 1, column 10: version: version 2 is not known"),
        ("version: 1\nusers:\n", "line 2, column 6: users: nothing (null) stands here; a map"),
        ("version: 1\nusers: ~\n", "line 2, column 8: users: nothing (null) stands here; a map"),
        ("version: 1\nusers: [a]\n", "line 2, column 8: users: a map belongs here"),
        ("version: 1\nusers:\n  john:\n", "line 3, column 7: users.john: nothing (null)"),
        (
            "version: 1\nuser: {}\n",
            "line 2, column 1: user: `user` is not known here; known are: version, users",
        ),
        (
            "version: 1\nusers:\n  a: { conns: {} }\n",
            "line 3, column 8: users.a.conns: `conns` is not known",
        ),
        (
            "version: 1\nusers:\n  a: {}\n  \"a\": {}\n",
            "line 4, column 3: users.a: `a` stands here a second time; the first is on line 3",
        ),
        ("version: 1\nusers:\n  A: {}\n", "line 3, column 3: users.A: `A` is not a user id"),
        (
            "version: 1\nusers:\n  a: { disabled: yes }\n",
            "line 3, column 18: users.a.disabled: `true` or `false`",
        ),
        ("version: 1\nusers: &x {}\n", "line 2, column 11: users: anchors"),
        ("version: 1\nusers: *x\n", "line 2, column 8: users: aliases"),
        ("version: 1\nusers: !!map {}\n", "line 2, column 14: users: tags"),
        ("version: 1\nusers: { !!str a: {} }\n", "line 2, column 16: users.a: tags"),
        ("version: 1\nusers: { <<: { a: {} } }\n", "line 2, column 10: users.<<: merge keys"),
        ("version: 1\nusers: {}\n---\nversion: 1\n", "line 3, column 1: a second document"),
        ("version: 1\nusers:\n\ta: {}\n", "line 3, column 2: users: a tab stands"),
        ("version: 1\nusers: {\"\0\": {}}\n", "line 2, column 10: users: a NUL byte"),
        ("version: 1\nusers: {\n", "line 2, column 8: users: "),
    ];
    for (text, expected) in cases {
        let found = refusal(text);
        assert!(found.starts_with(expected), "{text:?}\n  got      {found}\n  expected {expected}");
    }
}

#[test]
fn what_is_wrong_in_a_connection_is_refused_with_its_place() {
    let cases = [
        ("{ ttl_days: 0 }", "ttl_days: 0 is out of range; 1 to 365 are allowed"),
        ("{ ttl_days: 366 }", "ttl_days: 366 is out of range; 1 to 365 are allowed"),
        ("{ ttl_days: ~ }", "ttl_days: a whole number belongs here"),
        ("{ ttl_days: soon }", "ttl_days: a whole number belongs here"),
        ("{ rotate_after: 2026-11-01 }", "rotate_after: `2026-11-01` is not a time"),
        ("{ paused: 1 }", "paused: `true` or `false` belongs here"),
    ];
    for (wish, expected) in cases {
        let text = format!("version: 1\nusers:\n  john:\n    connections:\n      crm: {wish}\n");
        let found = refusal(&text);
        assert!(found.starts_with("line 5, column "), "{found}");
        assert!(found.contains(&format!("users.john.connections.crm.{expected}")), "{found}");
    }
}

#[test]
fn nesting_without_end_is_refused_at_once() {
    let text = format!("version: 1\nusers: {}", "{a: ".repeat(50_000));
    assert!(refusal(&text).starts_with("line 2, column "));
    assert!(Desired::parse(&"[".repeat(100_000)).is_err());
}

#[test]
fn an_error_points_into_the_text() {
    let text = "version: 1\r\nusers:\r\n  john: { conns: {} }\r\n";
    let error = Desired::parse(text).unwrap_err();
    assert_eq!(&text[error.range.clone()], "conns:");
    assert_eq!(error.source_line, "  john: { conns: {} }");
}

#[test]
fn a_service_that_nobody_knows_is_refused_with_its_place() {
    let desired = Desired::parse(DESIRED).unwrap();
    let crm: ServiceId = "crm".parse().unwrap();
    let error = desired.check_services(DESIRED, |id| *id != crm).unwrap_err();
    assert_eq!((error.line, error.column), (8, 7));
    assert_eq!(error.key, "users.john.connections.crm");
    desired.check_services(DESIRED, |_| true).unwrap();
}

#[test]
fn a_listed_person_has_the_account_and_address_of_the_list() {
    let people = People::parse(PEOPLE).unwrap();
    let petr = people.person(&user("petr")).unwrap();
    assert_eq!(petr.account.as_str(), "petr_novak");
    assert_eq!(people.person(&user("john")).unwrap().email.as_str(), "john@your-domain.com");
}

#[test]
fn anyone_else_of_the_domain_is_known_by_rule_unless_it_would_share_with_a_listed_person() {
    let people = People::parse(PEOPLE).unwrap();
    let eva = people.person(&user("eva")).unwrap();
    assert_eq!(eva.email.as_str(), "eva@your-domain.com");
    assert!(matches!(people.person(&user("petr.novak")), Err(NoPerson::AddressTaken { .. })));
    assert!(matches!(people.person(&user("petr_novak")), Err(NoPerson::AccountTaken { .. })));
    let nobody = People::parse("version: 1\npeople: {}\n").unwrap();
    assert!(matches!(nobody.person(&user("eva")), Err(NoPerson::NotListed(_))));
}

#[test]
fn an_address_leads_to_the_user_who_has_it_and_to_no_other() {
    let people = People::parse(PEOPLE).unwrap();
    let of = |text: &str| people.user_by_email(&text.parse::<Email>().unwrap());
    assert_eq!(of("PETR.NOVAK@your-domain.com"), Some(user("petr")));
    assert_eq!(of("eva@your-domain.com"), Some(user("eva")));
    assert_eq!(of("petr@your-domain.com"), None, "petr has another address");
    assert_eq!(of("petr_novak@your-domain.com"), None, "that account is petr's");
    assert_eq!(of("eva@elsewhere.com"), None);
    assert_eq!(of("e+va@your-domain.com"), None);
}

#[test]
fn an_address_that_is_proven_leads_to_one_account_and_no_two_addresses_to_the_same() {
    let people = People::parse(PEOPLE).unwrap();
    let of = |text: &str| {
        let (user, person) = people.by_email(&text.parse::<Email>().unwrap())?;
        assert_eq!(people.person(&user).unwrap(), person);
        assert_eq!(person.email.as_str(), text.to_ascii_lowercase());
        Some(format!("{user} {}", person.account))
    };
    let at = |local: &str| of(&format!("{local}@your-domain.com"));
    assert_eq!(at("petr.novak").as_deref(), Some("petr petr_novak"), "the entry wins");
    assert_eq!(at("JOHN").as_deref(), Some("john john"));
    // Each by the rule as it is: what would have to be changed to fit is nobody's.
    for local in ["a.b", "a_b", "a-b", "ab", "_ab", "A.B"] {
        let own = local.to_ascii_lowercase();
        assert_eq!(at(local), Some(format!("{own} {own}")), "{local}");
    }
    let long = "a".repeat(33);
    for local in ["0", "9a", "-a", ".a", "a..b", "a+b", "a'b", "a&b", "a%b", "--help", &long] {
        assert_eq!(at(local), None, "{local}");
    }
    assert_eq!(of("john@sub.your-domain.com"), None);
    assert_eq!(of("john@your-domain.com.evil.example"), None);
    let nobody = People::parse("version: 1\npeople: {}\n").unwrap();
    assert_eq!(nobody.by_email(&"eva@your-domain.com".parse().unwrap()), None);
}

#[test]
fn people_who_share_an_address_or_an_account_are_refused_at_their_line() {
    let cases = [
        (
            "  a: { email: x@d.cz }\n  b: { email: X@d.cz }\n",
            "line 4, column 15: people.b.email: the address x@d.cz is a's already",
        ),
        (
            "  a: { email: a@d.cz }\n  b: { email: b@d.cz, account: a }\n",
            "line 4, column 32: people.b.account: the account a is a's already",
        ),
        (
            "  a: { email: a@d.cz }\nrules: [{ domain: d.cz }, { domain: D.cz }]\n",
            "line 4, column 37: rules[1].domain: `d.cz` has a rule already",
        ),
        (
            "  a: { email: a@d.cz }\nrules: [{ domain: -d.cz }]\n",
            "line 4, column 19: rules[0].domain: `-d.cz` is not a domain name",
        ),
        ("  a: { email: a@d.cz }\nrules:\n", "line 4, column 6: rules: nothing (null)"),
        ("  a: {}\n", "line 3, column 6: people.a: `email` is missing"),
        ("  a: { email: a }\n", "line 3, column 15: people.a.email: `a` is not an e-mail address"),
    ];
    for (text, expected) in cases {
        let text = format!("version: 1\npeople:\n{text}");
        let found = People::parse(&text).expect_err(&text).to_string();
        assert!(found.starts_with(expected), "{text}\n  got      {found}\n  expected {expected}");
    }
}

#[test]
fn an_entry_is_read_with_the_usual_values_for_what_it_leaves_out() {
    let service = entry(ENTRY).unwrap();
    let endpoint = &service.endpoint;
    assert_eq!(endpoint.contract, Contract::V2);
    assert_eq!(
        endpoint.exchange_url,
        "https://po.internal.example.com/api/internal/token-exchange"
    );
    assert_eq!(endpoint.revoke_url, "https://po.internal.example.com/api/internal/token-revoke");
    assert_eq!(endpoint.list_url, "https://po.internal.example.com/api/internal/tokens");
    assert_eq!(endpoint.health_url, "https://po.internal.example.com/api/health");
    assert_eq!(endpoint.timeout_seconds, 10);
    assert_eq!((service.ttl_days, service.renew_before_days, service.grace_days), (90, 15, 7));
    assert_eq!((service.limits.concurrency.get(), service.limits.per_minute.get()), (8, 600));
    let base = &service.rendition.env[1];
    assert_eq!(
        (base.0.as_str(), base.1.with("k").as_str()),
        ("PO_BASE_URL", "https://po.internal.example.com")
    );
    assert!(service.allow.covers(&user("x"), &"x@YOUR-domain.com".parse().unwrap()));
}

#[test]
fn what_is_wrong_in_an_entry_is_refused_with_its_place() {
    let cases = [
        ("id: purchase_orders", "id: orders", "line 1, column 5: id: `orders` stands in"),
        ("https://", "http://", "line 5, column 11: base_url: https only"),
        ("https://", "https://me:pw@", "line 5, column 11: base_url: a user or a password"),
        ("com/", "com/?a", "line 5, column 11: base_url: a query"),
        ("SC_SECRET_P", "SECRET_P", "line 6, column 9: secret: the name of a shared secret"),
        (
            "env_prefix: PO_",
            "env_prefix: po",
            "line 7, column 13: env_prefix: `po` is not a prefix",
        ),
        ("PO_API_KEY", "CRM_API_KEY", "line 9, column 3: env.CRM_API_KEY: CRM_API_KEY must begin"),
        ("PO_API_KEY", "HTTPS_PROXY", "line 9, column 3: env.HTTPS_PROXY: HTTPS_PROXY steers"),
        ("{{ api_key }}", "{{ key }}", "line 9, column 15: env.PO_API_KEY: `key` is not known"),
        (
            "{{ api_key }}",
            "{{api_key}}{{api_key}}",
            "line 9, column 15: env.PO_API_KEY: {{ api_key }} stands here twice",
        ),
        ("{{ api_key }}", "a b", "line 9, column 15: env.PO_API_KEY: the value cannot be written"),
        (
            "skill: sc_purchase_orders.md",
            "skill: ../x.md",
            "line 11, column 8: skill: `../x.md` is not",
        ),
        ("*@your-domain.com", "*@", "line 12, column 19: allow.emails[0]: `` is not a domain"),
        (
            "icon: purchase_orders.svg",
            "icon: ../x.svg",
            "line 4, column 7: icon: the name of a file",
        ),
        (
            "icon: purchase_orders.svg",
            "ttl_days: 400",
            "line 4, column 11: ttl_days: 400 is out of range",
        ),
        (
            "icon: purchase_orders.svg",
            "renew_before_days: 90",
            "line 4, column 20: renew_before_days: must be less",
        ),
        (
            "icon: purchase_orders.svg",
            "grace_days: 91",
            "line 4, column 13: grace_days: 91 is out of range",
        ),
        (
            "icon: purchase_orders.svg",
            "contract: v3",
            "line 4, column 11: contract: unknown variant",
        ),
        (
            "icon: purchase_orders.svg",
            "health: api",
            "line 4, column 9: health: `api` is not a path",
        ),
        (
            "icon: purchase_orders.svg",
            "endpoints: { tokens: /../x }",
            "line 4, column 22: endpoints.tokens: `/../x` is not a path",
        ),
        (
            "icon: purchase_orders.svg",
            "limits: { timeout_seconds: 121 }",
            "line 4, column 28: limits.timeout_seconds: 121 is out of range",
        ),
    ];
    for (from, to, expected) in cases {
        let found = entry_refusal(from, to);
        assert!(found.starts_with(expected), "{to}\n  got      {found}\n  expected {expected}");
    }
}

#[test]
fn plain_http_is_taken_on_loopback_addresses_only() {
    for host in ["127.0.0.1:8080", "127.9.9.9", "[::1]:9", "localhost:8080"] {
        assert!(BaseUrl::parse(&format!("http://{host}")).is_ok(), "{host}");
    }
    for host in ["127.0.0.1.evil.com", "localhost.evil.com", "10.0.0.1", "[::2]", "127.0.0.1@e.com"]
    {
        assert!(BaseUrl::parse(&format!("http://{host}")).is_err(), "{host}");
    }
}

#[test]
fn names_that_steer_shells_and_agents_are_no_services_to_set() {
    for (prefix, name) in [
        ("LD_", "LD_PRELOAD"),
        ("DYLD_", "DYLD_INSERT_LIBRARIES"),
        ("HTTP_", "HTTP_PROXY"),
        ("PYTHONX_", "PYTHONX_A"),
        ("NODE_", "NODE_OPTIONS"),
        ("GIT_", "GIT_SSH_COMMAND"),
        ("BASH_", "BASH_ENV"),
        ("ANTHROPIC_", "ANTHROPIC_BASE_URL"),
        ("CLAUDE_", "CLAUDE_CONFIG_DIR"),
        ("OPENAI_", "OPENAI_BASE_URL"),
        ("SSH_", "SSH_AUTH_SOCK"),
    ] {
        let text = ENTRY
            .replace("PO_API_KEY", name)
            .replace("env_prefix: PO_", &format!("env_prefix: {prefix}"));
        let found = entry(&text).expect_err(name).to_string();
        assert!(found.contains("steers shells"), "{found}");
    }
}

#[test]
fn a_skill_names_the_variables_and_keeps_the_mark_until_it_is_rendered() {
    let service = entry(ENTRY).unwrap();
    let text = &service.rendition.skill_text;
    assert!(text.contains("Status: \u{E000}\n") && text.ends_with("valid.\n"), "{text}");
    assert!(text.contains("`PO_API_KEY`") && text.contains("`PO_BASE_URL`"), "{text}");
    assert!(text.contains("GET https://po.internal.example.com/api/orders"), "{text}");
    let active = render(&service.rendition, Status::ActiveUntil("2026-02-20".parse().unwrap()));
    assert!(active.contains("Status: active until 2026-02-20\n") && !active.contains(STATUS_MARK));
    assert!(render(&service.rendition, Status::Expired).contains("Status: expired\n"));
}

#[test]
fn a_skill_that_uses_an_unknown_name_is_refused_with_file_and_line() {
    let with = |template: &str| {
        let template = template.to_owned();
        Service::parse("purchase_orders", ENTRY, |_| Ok(template)).unwrap_err().to_string()
    };
    assert!(with("a\n{{ service.nam }}\n").starts_with("sc_purchase_orders.md: line 2: undefined"));
    assert!(with("a\n{{ api_key }}\n").starts_with("sc_purchase_orders.md: line 2: undefined"));
    assert!(with("a\n{% if %}\n").starts_with("sc_purchase_orders.md: line 2: syntax error"));
    assert!(with("a\n\u{E000}\n").contains("line 2: a control or private-use character"));
    assert!(with(&"x".repeat(70_000)).contains("larger than 65536 bytes"));
    assert!(with("").contains("empty"));
}

#[test]
fn the_lint_finds_a_key_that_is_shown_and_sections_that_are_missing() {
    assert_eq!(lint(&entry(ENTRY).unwrap()), Vec::<String>::new());
    let with = |more: &str| {
        let template = format!("{SKILL}{more}\n");
        lint(&Service::parse("purchase_orders", ENTRY, |_| Ok(template)).unwrap())
    };
    assert_eq!(with("echo $PO_API_KEY").len(), 1);
    assert_eq!(with("print(os.environ['PO_API_KEY'])").len(), 1);
    assert_eq!(with("curl -H \"Authorization: Bearer $PO_API_KEY\" x").len(), 1);
    assert_eq!(with("print(bool(os.environ.get('PO_API_KEY')))").len(), 0);
    let bare = Service::parse("purchase_orders", ENTRY, |_| Ok("# x\n".to_owned())).unwrap();
    assert!(lint(&bare).len() >= 5);
}

fn assembled(second: &str) -> Registry {
    let id = |text: &str| text.parse::<ServiceId>().unwrap();
    let parse = |stem: &str, text: &str| {
        registry_entry::parse(stem, text, |_: &SkillFile| Ok(SKILL.to_owned()))
            .map_err(|error| error.to_string())
    };
    Registry::assemble(vec![
        (id("purchase_orders"), parse("purchase_orders", ENTRY)),
        (id("crm"), parse("crm", second)),
    ])
}

fn second_entry() -> String {
    ENTRY
        .replace("id: purchase_orders", "id: crm")
        .replace("PO_", "CRM_")
        .replace("sc_purchase_orders", "sc_crm")
}

#[test]
fn entries_that_clash_are_all_broken_and_name_each_other() {
    assert_eq!(assembled(&second_entry()).services().count(), 2);
    let clash = assembled(&second_entry().replace("sc_crm", "sc_purchase_orders"));
    assert_eq!(clash.services().count(), 0);
    let Entry::Broken(why) = &clash.entries["crm"] else { panic!("broken") };
    assert_eq!(why, "the skill sc_purchase_orders.md is also that of `purchase_orders`");
    assert_eq!(assembled(&second_entry().replace("CRM_", "PO_")).services().count(), 0);
}

#[test]
fn a_secret_that_is_to_follow_that_of_another_service_is_nobodys_own() {
    let secret = "secret: SC_SECRET_PURCHASE_ORDERS";
    assert!(ENTRY.contains(secret));
    let assembled_with = |own: &str| assembled(&second_entry().replace(secret, own));
    assert_eq!(assembled_with("secret: SC_SECRET_CRM_NEXT").services().count(), 2);
    let clash = assembled_with("secret: SC_SECRET_PURCHASE_ORDERS_NEXT");
    assert_eq!(clash.services().count(), 0);
    let Entry::Broken(why) = &clash.entries["crm"] else { panic!("broken") };
    assert!(why.contains("SC_SECRET_PURCHASE_ORDERS_NEXT"), "{why}");
}

#[test]
fn a_directory_with_wrong_files_still_gives_the_right_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, skills) = (dir.path().join("registry"), dir.path().join("skills"));
    fs::create_dir(&registry).unwrap();
    fs::create_dir(&skills).unwrap();
    fs::write(registry.join("purchase_orders.yaml"), ENTRY).unwrap();
    fs::write(skills.join("sc_purchase_orders.md"), SKILL).unwrap();
    fs::write(registry.join("crm.yaml"), second_entry()).unwrap(); // has no skill
    fs::write(registry.join("bad.yaml"), "id: bad\nnme: x\n").unwrap();
    fs::write(registry.join("Bad-Name.yaml"), ENTRY).unwrap();
    fs::write(registry.join("purchase_orders.svg"), "<svg/>").unwrap();
    let loaded = registry_dir::load(&registry, &skills).unwrap();
    assert_eq!(loaded.registry.services().count(), 1);
    assert_eq!(loaded.registry.entries.len(), 3);
    assert_eq!(loaded.problems.len(), 3);
    let Entry::Broken(why) = &loaded.registry.entries["bad"] else { panic!("broken") };
    assert!(why.contains("bad.yaml: line 2, column 1: nme: `nme` is not known here"), "{why}");
    assert!(loaded.problems.iter().any(|problem| matches!(problem.error, ProblemError::Name)));
}

#[test]
fn a_directory_that_cannot_be_read_is_an_error_and_never_an_empty_registry() {
    let dir = tempfile::tempdir().unwrap();
    assert!(registry_dir::load(&dir.path().join("missing"), dir.path()).is_err());
    assert!(registry_dir::load(dir.path(), &dir.path().join("missing")).is_err());
}

#[test]
fn the_samples_in_state_are_read() {
    let sample = |name: &str| {
        fs::read_to_string(format!("{}/state/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let desired = Desired::parse(&sample("desired.yaml")).unwrap();
    let people = People::parse(&sample("people.yaml")).unwrap();
    for user in desired.users.keys() {
        people.person(user).unwrap();
    }
}

const PIECES: &[&str] = &[
    "version: 1\n",
    "users:",
    "people:",
    "\n",
    " ",
    "  ",
    "\r",
    "\r\n",
    "\t",
    "john: ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "? ",
    "- ",
    "\"",
    "'",
    "#",
    " # é\n",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "<<: ",
    "|",
    ">-\n",
    "~",
    "null",
    "ttl_days: 5",
    "connections:\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\u{feff}",
    "\0",
    "\u{85}",
    "é",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic_and_every_error_lies_within_the_text(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..20),
    ) {
        let text = pieces.concat();
        for error in [Desired::parse(&text).err(), People::parse(&text).err()].into_iter().flatten() {
            prop_assert!(text.get(error.range.clone()).is_some(), "{error} {:?}", error.range);
            prop_assert!(error.line >= 1 && error.column >= 1);
        }
        prop_assert!(entry(&text).is_err());
    }
}
