//! The local listener: `/metrics`, `/healthz`, `/readyz`. It has a thread of its own: a loop that
//! stands still cannot keep it from saying so.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::Ops;
use super::guests::Guests;
use crate::listen::{Left, Listening, Socket};
use crate::watch::SILENCE;

/// The content type of `OpenMetrics` 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The socket's mode: its owner's and its group's.
pub const MODE: u32 = 0o660;

/// Answers for as long as the process runs. Returns what is to be removed in the end, if
/// something is.
///
/// # Errors
/// There is no thread or no runtime to be had.
pub fn serve(listening: Listening, ops: Arc<Ops>) -> io::Result<Option<Left>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(ops);
    let Listening { socket, left } = listening;
    thread::Builder::new().name("ops".to_owned()).spawn(move || {
        let ended = runtime.block_on(async move {
            match socket {
                Socket::Tcp(listener) => {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    axum::serve(Guests::new(listener), router).await
                }
                Socket::Unix(listener) => {
                    let listener = tokio::net::UnixListener::from_std(listener)?;
                    axum::serve(Guests::new(listener), router).await
                }
            }
        });
        if let Err(error) = ended {
            tracing::error!(%error, "metrics are not served any more");
        }
    })?;
    Ok(left)
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], ops.metrics.text()).into_response()
}

async fn healthz(State(ops): State<Arc<Ops>>) -> Response {
    let lives = ops.heart.beats_within(SILENCE);
    let status = if lives { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": lives }))).into_response()
}

async fn readyz(State(ops): State<Arc<Ops>>) -> Response {
    let answer = ops.readiness.lock().unwrap_or_else(PoisonError::into_inner).answer();
    let status = if answer.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}
