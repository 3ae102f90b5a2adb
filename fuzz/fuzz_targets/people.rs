//! `people.yaml`: no two people share an address or an account, however they are written.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use service_connector::model::name::UserId;
use service_connector::model::people::People;
use service_connector::model::yaml;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = yaml::utf8(bytes) else { return };
    let people = match People::parse(text) {
        Ok(people) => people,
        Err(error) => return assert!(text.get(error.range.clone()).is_some(), "{error}"),
    };
    let (mut emails, mut accounts) = (BTreeSet::new(), BTreeSet::new());
    let listed: Vec<UserId> = people.listed().map(|(user, _)| user.clone()).collect();
    // Those who are known by rule alone: named like a listed account or address.
    let by_rule = people.listed().flat_map(|(_, person)| {
        [person.account.as_str().parse().ok(), person.email.parts().0.parse().ok()]
    });
    let mut users: BTreeSet<UserId> = by_rule.flatten().chain(listed).collect();
    users.extend("somebody_else".parse());
    for user in users {
        let Ok(person) = people.person(&user) else { continue };
        assert_eq!(people.user_by_email(&person.email).as_ref(), Some(&user));
        assert!(emails.insert(person.email), "{user} shares an address");
        assert!(accounts.insert(person.account), "{user} shares an account");
    }
});
