//! `/v1/sql`: from a request to statements and back.
//!
//! `sql`, `db` (default `public`) and `format` (`json`, `csv`, `table`, `vertical`, `arrow`; default `json`) come as
//! query parameters, or as fields of a form (`application/x-www-form-urlencoded`), which win.

use std::time::Duration;

use axum::extract::rejection::FormRejection;
use axum::extract::{Form, FromRequest, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use tessera_manifest::env::{self, Stopwatch};
use tokio_util::sync::CancellationToken;

use super::{Shared, answer};
use crate::config::limits;
use crate::error::{Code, ServerError};
use crate::output::Format;
use crate::service::Output;

/// The database of a request that names none.
const DEFAULT_DATABASE: &str = "public";

/// What a request may say.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    sql: Option<String>,
    db: Option<String>,
    format: Option<String>,
}

/// What is to be done.
struct Job {
    sql: String,
    database: String,
    format: Format,
}

pub(super) async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let watch = Stopwatch::start();
    let (response, format) = match parse(request).await {
        Err((status, message)) => (answer::failure(status, Code::InvalidArguments, &message, watch.elapsed()), None),
        Ok(job) => (run(&shared, &job, watch).await, Some(job.format)),
    };
    let format = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
    let labels = [("status", response.status().as_str().to_owned()), ("format", format)];
    metrics::counter!("tessera_http_sql_requests_total", &labels).increment(1);
    metrics::histogram!("tessera_http_sql_seconds", &labels).record(watch.elapsed().as_secs_f64());
    response
}

async fn run(shared: &Shared, job: &Job, watch: Stopwatch) -> Response {
    let outputs = match execute(shared, job).await {
        Ok(outputs) => outputs,
        Err(error) => return refuse(&error, &job.sql, watch.elapsed()),
    };
    match answer::render(outputs, job.format, shared.json_bytes_max, watch).await {
        Ok(response) => response,
        Err(error) => refuse(&error, &job.sql, watch.elapsed()),
    }
}

/// Runs the statements in a task of their own, so that those that write end even if the client goes away: then this future is
/// dropped, and those that only read are told.
async fn execute(shared: &Shared, job: &Job) -> Result<Vec<Output>, ServerError> {
    let (service, sql, database) = (shared.service.clone(), job.sql.clone(), job.database.clone());
    let gone = CancellationToken::new();
    let _told_when_dropped = gone.clone().drop_guard();
    let statement = async move { service.execute(&sql, &database, &gone).await };
    let task = env::spawn(shared.statements.track_future(statement));
    task.await.unwrap_or_else(|error| Err(ServerError::new(Code::Internal, format!("the statement failed by a defect: {error}"))))
}

fn refuse(error: &ServerError, sql: &str, elapsed: Duration) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = error.code as u32;
    if status.is_server_error() {
        tracing::error!(code, error = %error.message, sql = shorten(sql), "statement failed");
    } else {
        tracing::debug!(code, error = %error.message, sql = shorten(sql), "statement refused");
    }
    answer::failure(status, error.code, &error.message, elapsed)
}

fn shorten(sql: &str) -> &str {
    let mut end = sql.len().min(limits::SQL_QUOTE_BYTES_MAX);
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    &sql[..end]
}

async fn parse(request: Request) -> Result<Job, (StatusCode, String)> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let Query(query) = Query::<Parameters>::try_from_uri(request.uri()).map_err(|error| bad(error.body_text()))?;
    let has_body = request.method() == Method::POST && request.headers().contains_key(header::CONTENT_TYPE);
    let form = if has_body {
        Form::<Parameters>::from_request(request, &()).await.map_err(|error| form_error(&error))?.0
    } else {
        Parameters::default()
    };
    let sql = form.sql.or(query.sql).filter(|sql| !sql.trim().is_empty());
    let sql = sql.ok_or_else(|| bad("no SQL: send it as query parameter or form field 'sql'".to_owned()))?;
    let database = form.db.or(query.db).filter(|db| !db.is_empty()).unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
    let format = match form.format.or(query.format) {
        None => Format::Json,
        Some(text) => text.parse().map_err(|error: crate::output::UnknownFormat| bad(error.to_string()))?,
    };
    Ok(Job { sql, database, format })
}

fn form_error(error: &FormRejection) -> (StatusCode, String) {
    let hint = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => "; send less at a time, use COPY, or raise http.body_bytes_max",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "; with curl: --data-urlencode \"sql=...\"",
        _ => "",
    };
    (error.status(), format!("{}{hint}", error.body_text()))
}
