//! An import that was cut short: its tokens are in the state, its connections not yet in the desired
//! state. A pass that planned then would revoke them all.

use std::path::Path;

use jiff::Timestamp;

use crate::desired_file::{DesiredFile, Edit, EditError, LoadError};
use crate::observe::arrivals;
use crate::store::{Store, StoreError};

use super::SETTLING_PATIENCE;

/// Who makes the edits of an import.
const IMPORTER: &str = "import";

/// An import could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The connections could not be brought into the desired state.
    #[error(
        "an import is not finished: its connections could not be brought into the desired state. \
         Until they are, nothing is done; mend what is wrong and run this again"
    )]
    Edit(#[source] EditError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Brings the connections of the last import into the desired state, if they are not there yet.
///
/// # Errors
/// See [`ImportError`]; then no pass may plan.
pub fn finish_import(desired: &Path, store: &Store, now: Timestamp) -> Result<(), ImportError> {
    let pending = store.pending_import()?;
    if pending.is_empty() {
        return Ok(());
    }
    let edits: Vec<Edit> =
        arrivals(&pending).map(|change| Edit { change, who: IMPORTER.to_owned() }).collect();
    let file = DesiredFile::new(desired);
    let edited = match file.edit_batch(&edits, None, now) {
        Err(EditError::Load(LoadError::Settling { ready_in, .. }))
            if ready_in <= SETTLING_PATIENCE =>
        {
            std::thread::sleep(ready_in);
            file.edit_batch(&edits, None, later_by(now, ready_in))
        }
        edited => edited,
    };
    // Who was offboarded meanwhile is not connected: that wish is the later one.
    edited.map_err(ImportError::Edit)?;
    Ok(store.import_is_done()?)
}

fn later_by(now: Timestamp, wait: std::time::Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(now)
}
