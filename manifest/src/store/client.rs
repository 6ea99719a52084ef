//! What the clients of all network stores have in common: retries, TLS, and errors without secrets.

use std::sync::Once;

use object_store::RetryConfig;

use super::{Location, OpenError, Options};
use crate::limits;

/// Each request is sent once.
pub(super) fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..again() }
}

/// Requests that failed are sent again.
pub(super) fn again() -> RetryConfig {
    RetryConfig {
        backoff: object_store::BackoffConfig::default(),
        max_retries: limits::STORE_RETRIES_MAX,
        retry_timeout: limits::STORE_RETRY_TIME_MAX,
    }
}

/// Makes TLS work in this process. A provider that the process has chosen before stays.
pub(super) fn install_tls() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // It fails only where there is one already, which then is the one to use.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Refuses an endpoint without TLS that was not allowed: the client would refuse each request in obscurer words.
pub(super) fn check_http(location: &Location, endpoint: Option<String>, allowed: Option<String>) -> Result<(), OpenError> {
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let allowed = allowed.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y"));
    if plain && !allowed { Err(OpenError::PlainHttp { location: location.to_string() }) } else { Ok(()) }
}

/// The client's refusal of its settings, in its own words unless these repeat one of `options`.
pub(super) fn refused(location: &Location, variables: &'static str, options: &Options, source: object_store::Error) -> OpenError {
    /// Shorter values are no secrets, and are part of ordinary words.
    const SECRET_BYTES_MIN: usize = 6;
    let words = format!("{source} {source:?}");
    let repeats = options.pairs().iter().any(|(_, value)| value.len() >= SECRET_BYTES_MIN && words.contains(value.as_str()));
    OpenError::Client { location: location.to_string(), variables, source: (!repeats).then(|| Box::new(source)) }
}
