//! The page, the card and what belongs to them. They are part of the program.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use minijinja::{AutoEscape, Environment, Value, context};

use super::Web;
use super::gate::{self, NotIn};
use super::problem::Problem;
use super::request::Part;
use crate::identity::{DEMO_COOKIE, Peer};
use crate::laptop_script::LAPTOP_SCRIPT;
use crate::model::name::ServiceId;
use crate::portal::Known;

const PAGE: &str = include_str!("assets/page.html");
const CHOOSER: &str = include_str!("assets/chooser.html");
const UNAUTHENTICATED: &str = include_str!("assets/unauthenticated.html");
const UNKNOWN: &str = include_str!("assets/unknown.html");
const TROUBLE: &str = include_str!("assets/trouble.html");
const FLEET: &str = include_str!("assets/fleet.html");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// Not to be run by whoever opens it in a browser.
const SCRIPT: &str = "application/x-sh";
const CSS: &str = "text/css; charset=utf-8";

/// A picture that somebody opens by itself may do nothing at all.
const ICON_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Everything below the page's address.
pub(super) fn router(base: &str) -> Router<Arc<Web>> {
    let file = |name: &str, kind: &'static str, text: &'static str| {
        let answer = ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text);
        (format!("{base}/{name}"), get(move || async move { answer }))
    };
    let files = [
        file("card.js", JAVASCRIPT, include_str!("assets/card.js")),
        file("fleet.js", JAVASCRIPT, include_str!("assets/fleet.js")),
        file("fleet-chart.js", JAVASCRIPT, include_str!("assets/fleet-chart.js")),
        file("fleet-plan.js", JAVASCRIPT, include_str!("assets/fleet-plan.js")),
        file("fleet-table.js", JAVASCRIPT, include_str!("assets/fleet-table.js")),
        file("page.js", JAVASCRIPT, include_str!("assets/page.js")),
        file("page.css", CSS, include_str!("assets/page.css")),
    ];
    let page = format!("{base}/");
    let here = page.clone();
    let router = Router::new()
        .route(&page, get(front))
        .route(&format!("{base}/fleet"), get(fleet))
        .route(&format!("{base}/icons/{{file}}"), get(icon))
        .route(&format!("{base}/sync_service_env.sh"), get(laptop_script))
        .route(&format!("{base}/as/"), get(nobody_of_demo))
        .route(&format!("{base}/as/{{user}}"), get(somebody_of_demo));
    // At the root of the host there is nothing to be led away from.
    let router = if base.is_empty() {
        router
    } else {
        router.route(base, get(move || async move { Redirect::permanent(&here) }))
    };
    files.into_iter().fold(router, |router, (path, answer)| router.route(&path, answer))
}

/// To be kept, also where a browser would rather show it.
async fn laptop_script() -> impl IntoResponse {
    let kept = "attachment; filename=\"sync_service_env.sh\"";
    let headers = [
        (header::CONTENT_TYPE, SCRIPT),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_DISPOSITION, kept),
    ];
    (headers, LAPTOP_SCRIPT)
}

async fn front(
    State(web): State<Arc<Web>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    match gate::identified(&web, &headers, peer).await {
        Ok((known, _)) => web.html(StatusCode::OK, PAGE, web.of(&known)),
        Err(not_in) => web.turned_away(not_in),
    }
}

async fn fleet(
    State(web): State<Arc<Web>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    match gate::identified(&web, &headers, peer).await {
        Ok((known, _)) if known.admin => web.html(StatusCode::OK, FLEET, web.of(&known)),
        Ok(_) => {
            let detail = "You are signed in, and no administrator.";
            web.trouble(
                "This page is for administrators",
                &Problem::new(StatusCode::FORBIDDEN, detail),
            )
        }
        Err(not_in) => web.turned_away(not_in),
    }
}

async fn icon(State(web): State<Arc<Web>>, Part(file): Part) -> Result<Response, Problem> {
    let id: Option<ServiceId> = file.strip_suffix(".svg").and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "There is no such picture."))?;
    let view = web.portal.view().await?;
    let icon = web.ask(move |portal| portal.icon(&view, &id)).await?;
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "private, max-age=300"),
        (header::CONTENT_SECURITY_POLICY, ICON_POLICY),
    ];
    Ok((headers, icon).into_response())
}

async fn somebody_of_demo(State(web): State<Arc<Web>>, Part(user): Part) -> Response {
    let chosen = web.config.demo.iter().find(|(id, _)| id.as_str() == user);
    match chosen {
        Some((_, email)) => web.become_in_demo(&format!("{DEMO_COOKIE}={email}")),
        None => Problem::new(StatusCode::NOT_FOUND, "There is nobody like that.").into_response(),
    }
}

async fn nobody_of_demo(State(web): State<Arc<Web>>) -> Response {
    if web.config.demo.is_empty() {
        return Problem::new(StatusCode::NOT_FOUND, "There is nothing here.").into_response();
    }
    web.become_in_demo(&format!("{DEMO_COOKIE}=; Max-Age=0"))
}

impl Web {
    fn become_in_demo(&self, cookie: &str) -> Response {
        let page = format!("{}/", self.portal.page());
        let cookie = format!("{cookie}; Path=/; HttpOnly; SameSite=Strict");
        ([(header::SET_COOKIE, cookie)], Redirect::to(&page)).into_response()
    }

    /// What the page is told of who sees it.
    fn of(&self, known: &Known) -> Value {
        context! {
            email => known.email.as_str(),
            admin => known.admin,
            demo => !self.config.demo.is_empty(),
        }
    }

    fn turned_away(&self, not_in: NotIn) -> Response {
        match not_in {
            NotIn::Nobody if !self.config.demo.is_empty() => {
                let people = self.config.demo.iter().map(|(user, email)| {
                    let admin = self.portal.is_admin(user);
                    context! { user => user.as_str(), email => email.as_str(), admin }
                });
                self.html(
                    StatusCode::OK,
                    CHOOSER,
                    context! { people => people.collect::<Vec<_>>() },
                )
            }
            NotIn::Nobody => self.html(StatusCode::UNAUTHORIZED, UNAUTHENTICATED, context! {}),
            NotIn::Unknown(email) => {
                let whom_to_ask = &self.config.whom_to_ask;
                self.html(StatusCode::FORBIDDEN, UNKNOWN, context! { email, whom_to_ask })
            }
            NotIn::CannotTell(problem) => self.trouble("Not now", &problem),
        }
    }

    /// What went wrong, for who sees it in a browser.
    fn trouble(&self, heading: &str, problem: &Problem) -> Response {
        let detail = &problem.detail;
        let mut page = self.html(problem.status, TROUBLE, context! { heading, detail });
        if let Some(seconds) = problem.retry_after {
            page.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        page
    }

    fn html(&self, status: StatusCode, template: &str, with: Value) -> Response {
        // Plain segments, which need no escapes: see `--base-path`.
        let plain = |path: &str| Value::from_safe_string(path.to_owned());
        let (base, api) = (plain(self.portal.page()), plain(&self.config.api));
        let all = context! { base, api, ..with };
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        let text = match environment.render_str(template, all) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "a page cannot be made");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        (status, [(header::CONTENT_TYPE, html)], text).into_response()
    }
}
