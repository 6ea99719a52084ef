//! The HTTP server: SQL in, results out. Knows nothing of how SQL is executed.
//!
//! | path | what |
//! |---|---|
//! | `GET`, `POST /v1/sql` | executes `sql` in `db` (default `public`), answers in `format` (`json`, `csv`, `table`, `vertical`, `arrow`) |
//! | `/admin/...` | table ids, switches, the check of catalog and store; see `admin.rs` |
//! | `GET /health` | `{}` while the server takes requests |
//! | `GET /metrics` | Prometheus text |
//! | `GET /v1/version` | name and version |
//!
//! Invariants:
//! - What a request writes is written, even if the client goes away: half a DDL helps nobody. What it only reads ends when
//!   the connection does, also before the first row; after it rows are computed only while the client reads them.
//! - After a shutdown has begun no connection is accepted; [`serve`] returns when the running requests are done, or
//!   when their time is up.

mod admin;
mod answer;
mod sql;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Http;
use crate::error::{Code, ServerError};
use crate::service::Service;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    service: Arc<dyn Service>,
    metrics: Option<PrometheusHandle>,
    /// Running statements.
    statements: TaskTracker,
    json_bytes_max: usize,
}

/// Answers requests on `listener` until `shutdown` is done, and then until the running ones are, for at most
/// [`Http::shutdown_ms`]. `metrics` renders `GET /metrics`; without it that answers 404.
///
/// Returns when nothing runs any more or the time is up, so that the caller can flush and close.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn Service>,
    metrics: Option<PrometheusHandle>,
    config: &Http,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let statements = TaskTracker::new();
    let shared = Shared { service, metrics, statements: statements.clone(), json_bytes_max: config.json_bytes_max };
    let stop = CancellationToken::new();
    // An answer of several pieces must not wait for the client to acknowledge the first.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps small pieces back");
        }
    });
    let server = axum::serve(listener, router(shared, config)).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    tokio::pin!(server);
    let failed = |error: std::io::Error| ServerError::new(Code::Internal, format!("the HTTP server stopped: {error}"));
    tokio::select! {
        ended = &mut server => return ended.map_err(failed),
        () = shutdown => {}
    }
    stop.cancel();
    statements.close();
    let finish = async {
        let ended = server.await;
        statements.wait().await;
        ended
    };
    match tokio::time::timeout(config.shutdown(), finish).await {
        Ok(ended) => ended.map_err(failed),
        Err(_) => {
            let left = statements.len();
            tracing::warn!(statements = left, waited_ms = config.shutdown_ms, "requests are still running; closing without them");
            Ok(())
        }
    }
}

fn router(shared: Shared, config: &Http) -> Router {
    Router::new()
        .route("/v1/sql", get(sql::handle).post(sql::handle))
        .route("/v1/version", get(version))
        .route("/health", get(health))
        .nest("/admin", admin::routes())
        .route("/metrics", get(metrics_text))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(config.body_bytes_max))
        .with_state(shared)
}

async fn health() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}

async fn version() -> Response {
    let text = format!(r#"{{"name":"tessera","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match shared.metrics {
        None => (StatusCode::NOT_FOUND, "metrics are off\n").into_response(),
        Some(handle) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response(),
    }
}

async fn not_found() -> Response {
    let message = "there is nothing here: use /v1/sql, /v1/version, /health, /metrics or /admin/...";
    answer::failure(StatusCode::NOT_FOUND, Code::InvalidArguments, message, Duration::ZERO)
}
