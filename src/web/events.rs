//! A person's card as it changes: server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures_util::stream::unfold;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::Web;
use super::problem::Problem;
use crate::api::{CardJson, ProblemJson};
use crate::portal::Known;

/// Streams of one person at once: pages that are open.
const SEATS: usize = 12;
/// A stream ends after this time, and the browser opens another: who asks is found out again.
const LONGEST: Duration = Duration::from_mins(10);
/// How often a quiet stream shows that it lives.
const ALIVE: Duration = Duration::from_secs(15);
/// Between two cards of one stream.
const APART: Duration = Duration::from_millis(200);
/// When a browser that lost the stream opens another.
const RETRY: Duration = Duration::from_secs(2);

/// One's own card, at once and after each change: events `card`.
#[utoipa::path(get, path = "/events", responses(
    (status = 200, content_type = "text/event-stream", body = String,
     description = "Events `card`, each with a CardJson"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
) -> Result<Response, Problem> {
    let seat = web.seat(&who).ok_or_else(|| {
        let detail = "Too many pages of yours are open. Close one.";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(10)
    })?;
    // Who cannot be shown anything is told so at once.
    web.portal.card(&who).await?;
    let viewer = Viewer {
        changes: web.portal.changes(),
        stop: web.stop.clone(),
        ends: Instant::now() + LONGEST,
        shown: None,
        web,
        who,
        _seat: seat,
    };
    let alive = KeepAlive::new().interval(ALIVE).text("alive");
    Ok(Sse::new(unfold(viewer, Viewer::next)).keep_alive(alive).into_response())
}

impl Web {
    fn seat(&self, who: &Known) -> Option<OwnedSemaphorePermit> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has no stream open needs no entry.
        seats.retain(|user, of| *user == who.user || of.available_permits() < SEATS);
        let of_user = seats.entry(who.user.clone());
        let of_user = of_user.or_insert_with(|| Arc::new(Semaphore::new(SEATS)));
        Arc::clone(of_user).try_acquire_owned().ok()
    }
}

/// Somebody who looks at a card.
struct Viewer {
    web: Arc<Web>,
    who: Known,
    changes: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    ends: Instant,
    /// What was shown last, but for what is another in each answer.
    shown: Option<Value>,
    _seat: OwnedSemaphorePermit,
}

impl Viewer {
    /// Waits for what is to be shown next. None: the stream ends.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if self.shown.is_some() && !self.changed().await {
                return None;
            }
            self.changes.mark_unchanged();
            // While it cannot be told, what was shown last stands.
            let Ok(card) = self.web.portal.card(&self.who).await else {
                if *self.stop.borrow() || Instant::now() > self.ends {
                    return None;
                }
                sleep(RETRY).await;
                continue;
            };
            let shown = lasting(&card)?;
            if self.shown.as_ref() != Some(&shown) {
                self.shown = Some(shown);
                let event = Event::default().event("card").retry(RETRY).json_data(&card).ok()?;
                return Some((Ok(event), self));
            }
        }
    }

    /// Waits for a change; false: the stream ends.
    async fn changed(&mut self) -> bool {
        // A pass writes often: nobody sees more than this.
        sleep(APART).await;
        tokio::select! {
            changed = timeout_at(self.ends, self.changes.changed()) => matches!(changed, Ok(Ok(()))),
            _ = self.stop.wait_for(|stop| *stop) => false,
        }
    }
}

/// The card without the time, and without the revision, which is another one after everybody's edits.
fn lasting(card: &CardJson) -> Option<Value> {
    let mut value = serde_json::to_value(card).ok()?;
    let fields = value.as_object_mut()?;
    fields.remove("at");
    fields.remove("revision");
    Some(value)
}
