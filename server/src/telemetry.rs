//! Logs and metrics of the process: installed once by the binary, never by a library user.
//!
//! Invariants:
//! - Logs go to stderr; stdout belongs to results.
//! - `RUST_LOG` wins over the configured level, so that one run can be looked at closely.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use crate::error::{Code, ServerError};

/// Upper bounds of the buckets of every duration, in seconds.
const SECONDS_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Starts writing logs.
///
/// # Errors
/// When the level cannot be understood, or logs are installed already.
pub fn install_logs(log: &Log) -> Result<(), ServerError> {
    let fail = |text: String| ServerError::new(Code::InvalidArguments, text);
    let level = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| log.level.clone());
    let filter = EnvFilter::try_new(&level).map_err(|error| fail(format!("'{level}' is not a log level: {error}")))?;
    let stderr = std::io::stderr;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let installed = match log.format {
        LogFormat::Human => builder.with_ansi(stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(|error| fail(format!("cannot install the log: {error}")))
}

/// Starts collecting metrics; the handle renders them as Prometheus text.
///
/// # Errors
/// When a recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, ServerError> {
    let fail = |error: &dyn std::error::Error| ServerError::new(Code::Internal, format!("cannot install the metrics: {error}"));
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)
        .map_err(|error| fail(&error))?;
    builder.install_recorder().map_err(|error| fail(&error))
}
