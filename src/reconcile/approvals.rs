//! Takes up the approvals that were asked for in the portal.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::approval_box::ApprovalBox;
use crate::model::token::later;
use crate::store::{Store, StoreError};

/// One that is older than this says nothing any more.
const FRESH: SignedDuration = SignedDuration::from_hours(24);

/// Records them as `approve` does, from the time when they were asked for. What cannot be read or
/// removed is tried again by the next pass.
pub(super) fn take_up(desired: &Path, store: &mut Store, now: Timestamp) -> Result<(), StoreError> {
    let letters = ApprovalBox::beside(desired);
    let asked = letters.asked().unwrap_or_else(|error| {
        tracing::warn!(%error, "approvals that were asked for in the portal cannot be read");
        Vec::new()
    });
    for asked in asked {
        if later(asked.at, FRESH) > now {
            store.approve(asked.digest, &asked.who, asked.at.min(now))?;
        }
        if let Err(error) = letters.remove(asked.digest) {
            tracing::warn!(%error, "an approval that was taken up cannot be removed");
        }
    }
    Ok(())
}
