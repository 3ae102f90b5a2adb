//! The business API, the same for all three kinds: list, get, create, and one change of state.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Shared;
use super::contract::bearer;
use super::problem::{FieldError, Payload, Problem};
use super::store::Store;
use crate::model::digest::Digest;

/// The number of the first row; ids begin where those of a grown company might.
const FIRST_ID: i64 = 1001;

/// The state of a row does not allow the change: 409, with this detail.
pub(super) struct Conflict(pub(super) String);

impl From<Conflict> for Problem {
    fn from(Conflict(detail): Conflict) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }
}

/// Who does something, and when.
#[derive(Clone)]
pub(super) struct By {
    pub(super) email: String,
    pub(super) at: Timestamp,
}

/// The thing that a service is about.
pub(super) trait Resource: Serialize + DeserializeOwned + Send + 'static {
    /// Its name in paths and lists.
    const PLURAL: &'static str;
    /// What its ids begin with.
    const ID_PREFIX: &'static str;
    /// The fields that a list can be filtered by.
    const FILTERS: &'static [&'static str];
    /// The change of state, as it stands in the path.
    const ACTION: &'static str;
    /// Rows to begin with: a JSON list of `Self`, ids in order.
    const SAMPLES: &'static str;
    /// What a new one is made from.
    type New: DeserializeOwned + Send + 'static;
    /// What a change of state needs.
    type Change: DeserializeOwned + Send + 'static;

    /// Makes a new one.
    fn create(new: Self::New, id: String, by: By) -> Result<Self, Vec<FieldError>>;
    /// Makes the change of state.
    fn change(&mut self, change: Self::Change, by: By) -> Result<(), Conflict>;
}

/// Puts the sample rows into a new store; those that are there after a crash are not put again.
pub(super) fn seed<R: Resource>(store: &mut Store) -> rusqlite::Result<()> {
    // A part of the program, like the code: the tests of each kind show that it can be read.
    let samples: Vec<Value> = serde_json::from_str(R::SAMPLES).unwrap_or_default();
    for sample in samples.iter().skip(store.records_made()? as usize) {
        match store.add_record(|_| Ok::<_, Infallible>((sample.to_string(), ())))? {
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The routes of one kind.
pub(super) fn routes<R: Resource>() -> Router<Arc<Shared>> {
    let list_path = format!("/api/v1/{}", R::PLURAL);
    Router::new()
        .route("/api/v1/me", get(me))
        .route(&list_path, get(list::<R>).post(create::<R>))
        .route(&format!("{list_path}/{{id}}"), get(get_one::<R>))
        .route(&format!("{list_path}/{{id}}/{}", R::ACTION), post(change::<R>))
}

/// The holder of the key: it decides who is asking.
struct Caller {
    by: By,
    expires_at: i64,
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let refused = || Problem::unauthorized("the key is missing, unknown, expired or revoked");
        let key_hash = Digest::of(bearer(&parts.headers).ok_or_else(refused)?);
        let at = shared.now();
        let holder = shared.on_store(move |store| store.holder(&key_hash, at.as_second())).await?;
        let (email, expires_at) = holder.ok_or_else(refused)?;
        Ok(Self { by: By { email, at }, expires_at })
    }
}

async fn me(caller: Caller) -> Json<Value> {
    let expires_at = Timestamp::from_second(caller.expires_at).ok();
    Json(json!({ "email": caller.by.email, "expires_at": expires_at }))
}

/// Which rows a list shows.
struct Selection {
    after: i64,
    limit: usize,
    filters: Vec<(String, String)>,
}

impl Selection {
    fn parse<R: Resource>(query: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut selection = Self { after: 0, limit: 20, filters: Vec::new() };
        for (name, value) in query {
            match name.as_str() {
                "limit" => match value.parse() {
                    Ok(limit) if (1..=100).contains(&limit) => selection.limit = limit,
                    _ => return Err(Problem::bad_request("limit is from 1 to 100")),
                },
                "cursor" => {
                    let wrong = |_| Problem::bad_request("the cursor is not one that a list gave");
                    selection.after = value.parse().map_err(wrong)?;
                }
                name if R::FILTERS.contains(&name) => {
                    selection.filters.push((name.to_owned(), value));
                }
                _ => {
                    let known = R::FILTERS.join(", ");
                    return Err(Problem::bad_request(format!(
                        "`{name}` is not a filter: limit, cursor, {known} are"
                    )));
                }
            }
        }
        Ok(selection)
    }

    fn matches(&self, row: &Map<String, Value>) -> bool {
        self.filters.iter().all(|(field, wanted)| {
            let value = row.get(field).and_then(Value::as_str);
            value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        })
    }

    /// The rows of one page, and the cursor of the next.
    fn page(&self, store: &mut Store) -> rusqlite::Result<(Vec<Value>, Option<i64>)> {
        let (mut rows, mut last, mut next) = (Vec::new(), self.after, None);
        store.each_record(self.after, |number, body| {
            let Ok(Value::Object(row)) = serde_json::from_str(&body) else { return true };
            if !self.matches(&row) {
                return true;
            }
            if rows.len() == self.limit {
                next = Some(last);
                return false;
            }
            rows.push(Value::Object(row));
            last = number;
            true
        })?;
        Ok((rows, next))
    }
}

async fn list<R: Resource>(
    _: Caller,
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    let selection = Selection::parse::<R>(query)?;
    let (rows, next) = shared.on_store(move |store| selection.page(store)).await?;
    Ok(Json(json!({ R::PLURAL: rows, "next": next.map(|number| number.to_string()) })))
}

async fn get_one<R: Resource>(
    _: Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<R>, Problem> {
    let number = number_of::<R>(&id)?;
    let body = shared.on_store(move |store| store.record(number)).await?;
    Ok(Json(read_row(&body.ok_or_else(|| unknown::<R>(&id))?)?))
}

async fn create<R: Resource>(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    payload: Payload,
) -> Result<Response, Problem> {
    let new: R::New = payload.parse()?;
    let created = shared
        .on_store(move |store| {
            store.add_record(|number| {
                let row = R::create(new, id_of::<R>(number), caller.by);
                written(&row.map_err(Problem::invalid)?)
            })
        })
        .await?;
    let row = created?;
    let place = format!("/api/v1/{}/{}", R::PLURAL, row["id"].as_str().unwrap_or_default());
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(row)).into_response())
}

async fn change<R: Resource>(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    payload: Payload,
) -> Result<Json<Value>, Problem> {
    let number = number_of::<R>(&id)?;
    let wanted: R::Change = payload.parse()?;
    let changed = shared
        .on_store(move |store| {
            store.change_record(number, |body| {
                let mut row: R = read_row(body)?;
                row.change(wanted, caller.by)?;
                written(&row)
            })
        })
        .await?;
    changed.ok_or_else(|| unknown::<R>(&id))?.map(Json)
}

/// A row as it is stored and as it is answered.
fn written<R: Resource>(row: &R) -> Result<(String, Value), Problem> {
    let row = serde_json::to_value(row).map_err(|error| Problem::broken(&error))?;
    Ok((row.to_string(), row))
}

fn read_row<T: DeserializeOwned>(body: &str) -> Result<T, Problem> {
    serde_json::from_str(body).map_err(|error| Problem::broken(&error))
}

fn id_of<R: Resource>(number: i64) -> String {
    format!("{}{}", R::ID_PREFIX, number + FIRST_ID - 1)
}

fn number_of<R: Resource>(id: &str) -> Result<i64, Problem> {
    id.strip_prefix(R::ID_PREFIX)
        .and_then(|digits| digits.parse::<u32>().ok())
        .map(|id| i64::from(id) - FIRST_ID + 1)
        .ok_or_else(|| unknown::<R>(id))
}

fn unknown<R: Resource>(id: &str) -> Problem {
    Problem::not_found(format!("there is no `{id}` among the {}", R::PLURAL))
}
