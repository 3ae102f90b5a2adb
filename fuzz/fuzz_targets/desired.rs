//! `desired.yaml`: what is read can be edited, and an edit changes nothing else.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use service_connector::model::change::Change;
use service_connector::model::desired::Desired;
use service_connector::model::edit_text::{self, EditTextError};
use service_connector::model::yaml;

fuzz_target!(|bytes: &[u8]| {
    let text = match yaml::utf8(bytes) {
        Ok(text) => text,
        Err(error) => return assert!(error.range.end <= bytes.len()),
    };
    let desired = match Desired::parse(text) {
        Ok(desired) => desired,
        Err(error) => {
            assert!(text.get(error.range.clone()).is_some(), "{error}");
            assert!(error.line > 0 && error.column > 0 && !error.message.is_empty());
            return;
        }
    };
    for change in changes(&desired) {
        // Both ways: as a text that is known to be right, and as one that is not.
        for trusted in [true, false] {
            check(text, &desired, &change, trusted);
        }
    }
});

/// Changes of the first user, of the last, and of one who is not there.
fn changes(desired: &Desired) -> Vec<Change> {
    let names = [desired.users.keys().next(), desired.users.keys().next_back()];
    let mut users: Vec<_> = names.into_iter().flatten().cloned().collect();
    users.extend("nobody_yet".parse());
    let mut changes = Vec::new();
    for user in users {
        let known = desired.users.get(&user).and_then(|user| user.connections.keys().next());
        let mut services: Vec<_> = known.cloned().into_iter().collect();
        services.extend("another".parse());
        for service in services {
            let (user, at) = (user.clone(), Timestamp::UNIX_EPOCH);
            changes.extend([
                Change::Connect { user: user.clone(), service: service.clone(), ttl_days: Some(9) },
                Change::Disconnect { user: user.clone(), service: service.clone() },
                Change::Rotate { user, service, at, leaked: false },
            ]);
        }
        changes.push(Change::Offboard { user });
    }
    changes
}

fn check(text: &str, desired: &Desired, change: &Change, trusted: bool) {
    let before = desired.clone().without_lines();
    let mut after = before.clone();
    let applied = change.apply(&mut after);
    let nobody = edit_text::Users::new();
    let known = trusted.then_some(&nobody);
    let edited = match edit_text::edit(text, std::slice::from_ref(change), known) {
        Ok(edited) => edited,
        // An odd form is refused, and the error says what to write.
        Err(EditTextError::Form { by_hand, .. }) => return assert!(!by_hand.is_empty()),
        Err(EditTextError::Invalid(error)) => panic!("it was read a moment ago: {error}"),
    };
    assert_eq!(edited.outcomes, [applied]);
    match edited.text {
        None => assert_eq!(after, before, "{change} was not made"),
        Some(new) => {
            let read = Desired::parse(&new).unwrap_or_else(|error| panic!("{change}: {error}"));
            assert_eq!(read.without_lines(), after, "{change}");
        }
    }
}
