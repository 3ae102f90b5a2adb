//! What is said of a connection: to somebody who clicked, and not to an operator. What went wrong is
//! said first, then what to do. Reasons are those that operators see, too: no secret is in them.

use super::super::actual::TroubleKind;

const ASK: &str = "Ask whoever runs this portal.";

pub(super) fn connecting() -> String {
    "Your key is on its way.".to_owned()
}

pub(super) fn renewing() -> String {
    "A new key is on its way. The present one works until the new one is there.".to_owned()
}

pub(super) fn leaked() -> String {
    "The leaked key is being revoked, and a new one is on its way.".to_owned()
}

pub(super) fn paused() -> String {
    format!("Renewal is switched off by an administrator (paused). {ASK}")
}

pub(super) fn not_renewed(why: &str) -> String {
    format!("It could not be renewed yet, and is tried again by itself: {}", sentence(why))
}

pub(super) fn in_trouble(why: &str) -> String {
    format!("The key works. The next one is tried again by itself: {}", sentence(why))
}

pub(super) fn failed(why: &str) -> String {
    format!("It did not work, and is tried again by itself: {}", sentence(why))
}

pub(super) fn service_down(kind: TroubleKind) -> String {
    match kind {
        TroubleKind::Down | TroubleKind::SkewedAndShut => {
            "The service does not answer at the moment. It is tried again by itself; there is \
             nothing for you to do."
                .to_owned()
        }
        TroubleKind::SecretRefused => {
            format!("The service refuses this portal, whoever asks. {ASK}")
        }
        TroubleKind::ClockSkew => {
            format!("The service's clock and ours do not agree. {ASK}")
        }
    }
}

pub(super) fn blocked(why: &str) -> String {
    format!("It cannot be made: {} {ASK}", sentence(why))
}

pub(super) fn entry_broken() -> String {
    format!("The service is not set up here at the moment. {ASK}")
}

pub(super) fn works_without_entry() -> String {
    format!(
        "The key works. The service is not set up here at the moment, and no new key comes until it \
         is. If the key leaked, disconnect. {ASK}"
    )
}

pub(super) fn held() -> String {
    "It is to be taken away, and waits for an administrator: too much would go at once.".to_owned()
}

pub(super) fn disconnecting() -> String {
    "Your key is being taken back.".to_owned()
}

pub(super) fn files_stay(why: &str) -> String {
    format!("Your files could not be changed yet: {}", sentence(why))
}

pub(super) fn revoke_owed(why: &str) -> String {
    format!(
        "The key is out of your files. Its revoke is not confirmed yet, and is tried until it is: {}",
        sentence(why)
    )
}

pub(super) fn retired() -> String {
    "The service is retired.".to_owned()
}

pub(super) fn disabled() -> String {
    format!("You are offboarded: nothing is issued to you any more. {ASK}")
}

pub(super) fn not_allowed() -> String {
    format!("You may not use this service. {ASK}")
}

/// With a full stop behind it.
fn sentence(why: &str) -> String {
    if why.ends_with(['.', '!', '?']) { why.to_owned() } else { format!("{why}.") }
}
