//! When a card may be another one: after an edit, and after whatever a pass wrote down.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Portal;
use super::readers::Version;
use crate::file_marks::{Marks, marks};

/// How often the state is asked whether it changed, while somebody waits for it.
const LOOK: Duration = Duration::from_millis(100);
/// So long after a change there may be another that nothing shows: a file that was edited by hand is
/// believed once it has been still.
const SETTLES: Duration = Duration::from_millis(2500);
/// Time alone changes how things stand, too.
const TIME: Duration = Duration::from_mins(1);

impl Portal {
    /// Tells of changes from now on: the number is another one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Looks for changes for as long as there is a portal; while nobody waits for any, at nothing.
    pub async fn look_for_changes(portal: Weak<Self>) {
        let (mut seen, mut again) = (None, Instant::now());
        while let Some(portal) = portal.upgrade() {
            if portal.changed.receiver_count() > 0 {
                let now = tokio::task::spawn_blocking({
                    let portal = Arc::clone(&portal);
                    move || portal.signs()
                });
                let now = now.await.ok();
                // At first, too: nobody knows what happened since whoever waits has looked.
                let has_changed = now != seen;
                if has_changed || again <= Instant::now() {
                    portal.views.forget().await;
                    portal.changed.send_modify(|times| *times += 1);
                    again = Instant::now() + if has_changed { SETTLES } else { TIME };
                }
                seen = now;
            }
            drop(portal);
            sleep(LOOK).await;
        }
    }

    /// What is another one after each change: the state's own counter, and the files' marks.
    fn signs(&self) -> (Option<Version>, Marks) {
        let version = self.readers.version();
        let places = &self.places;
        let files = [&places.desired, &places.people, &places.registry, &places.skills];
        (version, marks(&files.map(Clone::clone)))
    }
}
