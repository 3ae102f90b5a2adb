//! The calls that change nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::{Extension, Json};
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer};

use super::Web;
use super::problem::Problem;
use super::request::{Params, Part};
use crate::api::{CardJson, FleetJson, HealthJson, ProblemJson, ShownPlanJson};
use crate::model::card::State as Standing;
use crate::model::name::ServiceId;
use crate::portal::{FleetQuery, Known, Portal};

/// On a page of the fleet, unless somebody says otherwise.
const PER_PAGE: usize = 100;
/// And at most.
const MOST_PER_PAGE: usize = 500;

/// The services, and how one is connected to each.
#[utoipa::path(get, path = "/", responses(
    (status = 200, body = CardJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn card(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
) -> Result<([(HeaderName, String); 1], Json<CardJson>), Problem> {
    let card = web.portal.card(&who).await?;
    Ok(([(header::ETAG, format!("\"{}\"", card.revision))], Json(card)))
}

/// How a service is, as the last pass found it.
#[utoipa::path(get, path = "/health/{service_id}",
    params(("service_id" = String, Path, description = "The service's id")),
    responses(
        (status = 200, body = HealthJson),
        (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
        (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(super) async fn health(
    State(web): State<Arc<Web>>,
    Part(id): Part,
) -> Result<Json<HealthJson>, Problem> {
    let id: ServiceId = id
        .parse()
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "There is no service of that id."))?;
    let view = web.portal.view().await?;
    Ok(Json(web.ask(move |portal| portal.health(&view, &id)).await?))
}

/// Which part of the fleet is asked for.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FleetParams {
    /// What a user's or a service's id, its name or the message contains.
    #[serde(default)]
    q: String,
    /// What the user's id begins with.
    #[serde(default)]
    user: String,
    /// One service only.
    #[serde(default, deserialize_with = "unless_empty")]
    #[param(value_type = Option<String>)]
    service: Option<ServiceId>,
    /// One state only.
    #[serde(default, deserialize_with = "unless_empty")]
    #[param(value_type = Option<Standing>)]
    state: Option<Standing>,
    /// Which page, from 1.
    #[serde(default)]
    page: Option<usize>,
    /// How many on a page, at most 500.
    #[serde(default)]
    per_page: Option<usize>,
}

/// A field that is there and says nothing says as much as one that is not there.
fn unless_empty<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    (!text.is_empty()).then(|| T::deserialize(text.into_deserializer())).transpose()
}

/// Everybody's connections, a page of them. For administrators.
#[utoipa::path(get, path = "/fleet", params(FleetParams), responses(
    (status = 200, body = FleetJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn fleet(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
    Params(params): Params<FleetParams>,
) -> Result<Json<FleetJson>, Problem> {
    who.must_be_admin()?;
    let FleetParams { q, user, service, state, page, per_page } = params;
    let query = FleetQuery {
        text: (!q.is_empty()).then(|| q.to_lowercase()),
        user: (!user.is_empty()).then(|| user.to_lowercase()),
        service,
        state,
        page: page.unwrap_or(1).max(1),
        per_page: per_page.unwrap_or(PER_PAGE).clamp(1, MOST_PER_PAGE),
    };
    let view = web.portal.view().await?;
    Ok(Json(web.ask(move |portal| portal.fleet(&view, &query)).await?))
}

/// The plan of the last pass of everything. For administrators.
#[utoipa::path(get, path = "/plan", responses(
    (status = 200, body = ShownPlanJson),
    (status = "4XX", body = ProblemJson, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemJson, content_type = "application/problem+json"),
))]
pub(super) async fn plan(
    State(web): State<Arc<Web>>,
    Extension(who): Extension<Known>,
) -> Result<Json<ShownPlanJson>, Problem> {
    who.must_be_admin()?;
    Ok(Json(web.ask(Portal::plan).await?))
}
