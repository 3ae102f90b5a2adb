//! The calls that change something: each is an edit of the desired state.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::{Extension, Json};
use tokio::time::{Instant, timeout_at};

use super::Web;
use super::problem::Problem;
use super::request::{Body, Expected, IfMatch, Params, Wait};
use crate::api::{
    ApproveJson, ConnectJson, DoneJson, OffboardJson, ProblemJson, RotateJson, ServiceOnlyJson,
};
use crate::model::digest::Digest;
use crate::portal::{Click, Known};

/// An answer to a change: with the revision as its tag.
type Done = (StatusCode, [(HeaderName, String); 1], Json<DoneJson>);

/// Connect to a service.
#[utoipa::path(post, path = "/connect", params(Wait, IfMatch), request_body = ConnectJson, responses(
    (status = 202, body = DoneJson, description = "The edit is made"),
    (status = 200, body = DoneJson, description = "And what was waited for has come"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn connect(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Params(wait): Params<Wait>,
    Expected(expected): Expected,
    Body(body): Body<ConnectJson>,
) -> Result<Done, Problem> {
    let click = Click::Connect { service: body.service_id, ttl_days: body.ttl_days };
    clicked(&web, who, click, expected, wait.patience()).await
}

/// Disconnect from a service.
#[utoipa::path(post, path = "/disconnect", params(Wait, IfMatch), request_body = ServiceOnlyJson, responses(
    (status = 202, body = DoneJson, description = "The edit is made"),
    (status = 200, body = DoneJson, description = "And what was waited for has come"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn disconnect(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Params(wait): Params<Wait>,
    Expected(expected): Expected,
    Body(body): Body<ServiceOnlyJson>,
) -> Result<Done, Problem> {
    clicked(&web, who, Click::Disconnect(body.service_id), expected, wait.patience()).await
}

/// Replace a key by a new one; one that leaked is revoked at once.
#[utoipa::path(post, path = "/rotate", params(Wait, IfMatch), request_body = RotateJson, responses(
    (status = 202, body = DoneJson, description = "The edit is made"),
    (status = 200, body = DoneJson, description = "And what was waited for has come"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn rotate(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Params(wait): Params<Wait>,
    Expected(expected): Expected,
    Body(body): Body<RotateJson>,
) -> Result<Done, Problem> {
    let click = Click::Rotate { service: body.service_id, leaked: body.leaked };
    clicked(&web, who, click, expected, wait.patience()).await
}

/// Offboard somebody. For administrators.
#[utoipa::path(post, path = "/offboard", params(IfMatch), request_body = OffboardJson, responses(
    (status = 202, body = DoneJson, description = "The edit is made"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn offboard(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Expected(expected): Expected,
    Body(body): Body<OffboardJson>,
) -> Result<Done, Problem> {
    who.must_be_admin()?;
    let view = web.portal.view().await?;
    let edit = web.ask(move |portal| portal.offboarding(&view, &who, &body.user));
    let (edit, message) = edit.await?;
    let done = web.portal.make_for_another(edit, message, expected).await?;
    Ok(answer(StatusCode::ACCEPTED, done))
}

/// Let go what the guard holds. For administrators, where the configuration lets them.
#[utoipa::path(post, path = "/approve", request_body = ApproveJson, responses(
    (status = 202, body = DoneJson, description = "The next pass carries it out"),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn approve(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Body(body): Body<ApproveJson>,
) -> Result<Done, Problem> {
    who.must_be_admin()?;
    let view = web.portal.view().await?;
    let done = web.ask(move |portal| portal.approve(&view, &who, body.digest)).await?;
    Ok(answer(StatusCode::ACCEPTED, done))
}

fn answer(status: StatusCode, done: DoneJson) -> Done {
    (status, [(header::ETAG, format!("\"{}\"", done.revision))], Json(done))
}

async fn clicked(
    web: &Web,
    who: Known,
    click: Click,
    expected: Option<Digest>,
    patience: Duration,
) -> Result<Done, Problem> {
    // Before anything is looked at, so that no change is missed; of one's own edit one is told, too. Who
    // does not wait has none looked for.
    let changes = (!patience.is_zero()).then(|| web.portal.changes());
    let clicked = web.portal.click(&who, &click, expected, changes.is_some());
    let (edited, mut followed) = clicked.await?;
    let Some(mut changes) = changes else {
        return Ok(answer(StatusCode::ACCEPTED, followed.done));
    };
    let (until, mut stop) = (Instant::now() + patience, web.stop.clone());
    let mut is_over = false;
    while followed.goes_on && !is_over {
        is_over = tokio::select! {
            told = timeout_at(until, changes.changed()) => !matches!(told, Ok(Ok(()))),
            _ = stop.wait_for(|stop| *stop) => true,
        };
        followed = web.portal.followed(&who, &click, edited, true).await;
    }
    let status = if followed.is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(answer(status, followed.done))
}

impl Known {
    /// Refuses others.
    pub(super) fn must_be_admin(&self) -> Result<(), Problem> {
        let refused = || Problem::new(StatusCode::FORBIDDEN, "This is for administrators.");
        self.admin.then_some(()).ok_or_else(refused)
    }
}
