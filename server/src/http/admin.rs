//! `/admin`: what operators ask, in JSON.
//!
//! | path | what |
//! |---|---|
//! | `GET sequence/table/next-id` | the id that the next table gets |
//! | `POST sequence/table/set-next-id` | sets it: only in recovery mode, only upward |
//! | `GET recovery/status`, `POST recovery/enable`, `recovery/disable` | recovery mode: nothing is created |
//! | `GET maintenance/status`, `POST maintenance/enable`, `maintenance/disable` | maintenance mode |
//! | `GET procedure-manager/status`, `POST procedure-manager/pause`, `procedure-manager/resume` | procedures |
//! | `GET procedures?after=ID&limit=N` | procedures by id, those that are over for a while included |
//! | `GET procedures/{id}`, `POST procedures/{id}/cancel`, `procedures/{id}/retry` | one of them |
//! | `GET doctor` | compares catalog and store |
//!
//! A request that has begun runs to its end, even if the client goes away. Failures have the form of those of `/v1/sql`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tessera_manifest::env;
use tessera_manifest::id::TableId;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::procedure::{ParseProcedureIdError, ProcedureId};

use super::{Shared, answer};
use crate::config::limits::{ADMIN_BODY_BYTES_MAX, PROCEDURES_PAGE};
use crate::error::{Code, ServerError};
use crate::procedures::{ProcedureList, ProcedureView};
use crate::service::{ProcedureVerb, Service, Turn};

/// The next table id, asked for and answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextTableId {
    next_table_id: u32,
}

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/sequence/table/next-id", get(next_table_id))
        .route("/sequence/table/set-next-id", post(set_next_table_id))
        .nest("/recovery", switch(Switch::Recovery, ["enable", "disable"], enabled))
        .nest("/maintenance", switch(Switch::Maintenance, ["enable", "disable"], enabled))
        .nest("/procedure-manager", switch(Switch::ProceduresPaused, ["pause", "resume"], paused))
        .route("/procedures", get(procedures))
        .route("/procedures/{id}", get(procedure))
        .route("/procedures/{id}/cancel", post(cancel))
        .route("/procedures/{id}/retry", post(retry))
        .route("/doctor", get(doctor))
        .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX))
}

fn enabled(on: bool) -> serde_json::Value {
    serde_json::json!({ "enabled": on })
}

fn paused(on: bool) -> serde_json::Value {
    serde_json::json!({ "status": if on { "paused" } else { "running" } })
}

/// The three paths of a switch; `turns` are the words for on and off.
fn switch(switch: Switch, turns: [&str; 2], body: fn(bool) -> serde_json::Value) -> Router<Shared> {
    let turn = move |to: Turn| {
        move |State(shared): State<Shared>| {
            run(shared, move |service| async move { service.turn(switch, to).await.map(|()| body(to == Turn::On)) })
        }
    };
    let status = move |State(shared): State<Shared>| run(shared, move |service| async move { service.is_on(switch).await.map(body) });
    let [on, off] = turns;
    Router::new()
        .route("/status", get(status))
        .route(&format!("/{on}"), post(turn(Turn::On)))
        .route(&format!("/{off}"), post(turn(Turn::Off)))
}

async fn next_table_id(State(shared): State<Shared>) -> Response {
    run(shared, |service| async move { service.next_table_id().await.map(|TableId(next_table_id)| NextTableId { next_table_id }) }).await
}

async fn set_next_table_id(State(shared): State<Shared>, body: Bytes) -> Response {
    let asked: NextTableId = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            let text = format!("the body must be JSON such as {{\"next_table_id\":2048}}: {error}");
            return refuse(&ServerError::new(Code::InvalidArguments, text));
        }
    };
    run(shared, move |service| async move {
        service.set_next_table_id(TableId(asked.next_table_id)).await?;
        Ok(asked)
    })
    .await
}

/// Which procedures to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

async fn procedures(State(shared): State<Shared>, query: Result<Query<Page>, QueryRejection>) -> Response {
    let page = match query {
        Ok(Query(page)) => page,
        Err(error) => return refuse(&ServerError::new(Code::InvalidArguments, error.body_text())),
    };
    let after = match page.after.as_deref().map(parse_id).transpose() {
        Ok(after) => after,
        Err(error) => return refuse(&error),
    };
    let limit = page.limit.unwrap_or(PROCEDURES_PAGE).clamp(1, PROCEDURES_PAGE);
    run(shared, move |service| async move { service.procedures(after, limit).await.map(|records| ProcedureList::new(&records)) }).await
}

async fn procedure(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    match parse_id(&id) {
        Ok(id) => run(shared, move |service| async move { service.procedure(&id).await.map(|record| ProcedureView::whole(&record)) }).await,
        Err(error) => refuse(&error),
    }
}

async fn cancel(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    act(shared, &id, ProcedureVerb::Cancel).await
}

async fn retry(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    act(shared, &id, ProcedureVerb::Retry).await
}

async fn act(shared: Shared, id: &str, verb: ProcedureVerb) -> Response {
    match parse_id(id) {
        Ok(id) => run(shared, move |service| async move { service.act(&id, verb).await.map(|record| ProcedureView::whole(&record)) }).await,
        Err(error) => refuse(&error),
    }
}

fn parse_id(text: &str) -> Result<ProcedureId, ServerError> {
    text.parse().map_err(|error: ParseProcedureIdError| ServerError::new(Code::InvalidArguments, error.to_string()))
}

async fn doctor(State(shared): State<Shared>) -> Response {
    run(shared, |service| async move { service.examine().await }).await
}

/// Does the work in a task of its own, so that it ends even if the client goes away, and answers with JSON.
async fn run<T, F>(shared: Shared, work: impl FnOnce(Arc<dyn Service>) -> F) -> Response
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, ServerError>> + Send + 'static,
{
    let task = env::spawn(shared.statements.track_future(work(shared.service)));
    match task.await {
        Ok(Ok(body)) => json(&body),
        Ok(Err(error)) => refuse(&error),
        Err(error) => refuse(&ServerError::new(Code::Internal, format!("the request failed by a defect: {error}"))),
    }
}

fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => refuse(&ServerError::new(Code::Internal, format!("the answer cannot be written: {error}"))),
    }
}

fn refuse(error: &ServerError) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        tracing::error!(code = error.code as u32, error = %error.message, "a request of an operator failed");
    }
    answer::failure(status, error.code, &error.message, Duration::ZERO)
}
