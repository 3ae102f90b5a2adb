//! The portal's doors: the API, the card and the page, over HTTP on this machine. Who asks is found out
//! first, then whether they mean it, then whether they may.

mod clicks;
mod events;
mod gate;
mod host;
mod looks;
mod pages;
mod problem;
mod request;
mod serve;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use axum::{Json, Router};
use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::sync::{Semaphore, watch};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::identity::Identity;
use crate::model::name::{Email, UserId};
use crate::portal::{Portal, PortalError};

pub use host::HostName;
use problem::Problem;
pub use serve::{SOCKET_MODE, serve};

/// The largest body that is read, in bytes.
const MOST_BYTES: usize = 4096;
/// So many more than there are cores read files at once: one waits for a disk, as a rule.
const ASKING: usize = 1;
/// Clicks of one person at once.
const BURST: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// And then, a second.
const CLICKS_A_SECOND: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// What the doors need to know.
pub struct WebConfig {
    /// Who is asking.
    pub identity: Identity,
    /// What somebody is told who is not among the people.
    pub whom_to_ask: String,
    /// The names that the portal is reached by; none: any over a Unix socket, this machine's over TCP.
    pub hosts: Vec<HostName>,
    /// Of the demo: whom one can be.
    pub demo: Vec<(UserId, Email)>,
    /// Where the API is, without a slash at the end.
    pub api: String,
}

/// The portal with its doors.
struct Web {
    portal: Arc<Portal>,
    config: WebConfig,
    clicks: RateLimiter<UserId, HashMapStateStore<UserId>, MonotonicClock>,
    /// How many more streams each person may open.
    seats: Mutex<HashMap<UserId, Arc<Semaphore>>>,
    /// How many may be reading files at once.
    asking: Semaphore,
    /// True: everything is to end.
    stop: watch::Receiver<bool>,
}

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Service Connector",
    description = "Connects people to services, and shows how their connections stand. Calls that \
                   change something edit the desired state; the next pass acts on it."
))]
struct Document;

/// The portal's router, and the description of its API. Streams end when `stop` turns true.
pub fn router(
    portal: Arc<Portal>,
    config: WebConfig,
    stop: watch::Receiver<bool>,
) -> (Router, OpenApi) {
    let quota = Quota::per_second(CLICKS_A_SECOND).allow_burst(BURST);
    let (api, page) = (config.api.clone(), portal.page().to_owned());
    let clicks = RateLimiter::new(quota, HashMapStateStore::default(), MonotonicClock);
    let web = Arc::new(Web {
        portal,
        config,
        clicks,
        seats: Mutex::default(),
        asking: Semaphore::new(thread::available_parallelism().map_or(1, usize::from) + ASKING),
        stop,
    });
    let changing = OpenApiRouter::new()
        .routes(routes!(clicks::connect))
        .routes(routes!(clicks::disconnect))
        .routes(routes!(clicks::rotate))
        .routes(routes!(clicks::offboard))
        .routes(routes!(clicks::approve))
        .route_layer(from_fn_with_state(Arc::clone(&web), gate::limit))
        .route_layer(from_fn(gate::same_origin));
    let of_people = OpenApiRouter::new()
        .routes(routes!(looks::card))
        .routes(routes!(looks::health))
        .routes(routes!(looks::fleet))
        .routes(routes!(looks::plan))
        .routes(routes!(events::events))
        .merge(changing)
        .route_layer(from_fn_with_state(Arc::clone(&web), gate::who));
    let (router, document) =
        OpenApiRouter::with_openapi(Document::openapi()).nest(&api, of_people).split_for_parts();
    let described = document.clone();
    let router = router
        .route(&format!("{api}/openapi.json"), get(move || async move { Json(described) }))
        .merge(pages::router(&page))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "This address does not take that method.")
        })
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(from_fn_with_state(Arc::clone(&web), gate::host))
        .layer(from_fn(gate::headers))
        .with_state(web);
    (router, document)
}

impl Web {
    /// Asks the portal something, off the threads that answer: it reads files.
    async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Portal) -> Result<T, PortalError> + Send + 'static,
    ) -> Result<T, Problem> {
        // Nobody closes it.
        let _place = self.asking.acquire().await.ok();
        let portal = Arc::clone(&self.portal);
        let asked = tokio::task::spawn_blocking(move || read(&portal)).await;
        Ok(asked.map_err(|_| Problem::stopping())??)
    }
}
