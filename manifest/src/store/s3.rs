//! Clients of Amazon S3 and of stores that speak its protocol.

use std::sync::Arc;

use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};

use super::routed::Routed;
use super::{Location, OpenError, Options, client};

/// The variables that are read.
const VARIABLES: &str = "AWS_*";

/// Clients of `bucket`.
///
/// # Errors
/// What is wrong with the options.
pub(super) fn open(location: &Location, bucket: &str, options: &Options) -> Result<Routed, OpenError> {
    client::install_tls();
    let start = if options.environment() { AmazonS3Builder::from_env() } else { AmazonS3Builder::new() };
    let builder = options.pairs().iter().try_fold(start, |builder, (key, value)| {
        let known: AmazonS3ConfigKey = key.to_ascii_lowercase().parse().map_err(|_| OpenError::UnknownOption {
            location: location.to_string(),
            key: key.clone(),
            examples: "endpoint, allow_http, region, access_key_id, secret_access_key",
        })?;
        Ok(builder.with_config(known, value))
    })?;
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint].iter().find_map(|key| builder.get_config_value(key));
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    client::check_http(location, endpoint, allowed)?;
    // Exclusive creates are what everything rests on: no option turns them off.
    let builder = builder.with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
    let fail = |source| client::refused(location, VARIABLES, options, source);
    let again = builder.clone().with_retry(client::again()).build().map_err(fail)?;
    let once = builder.with_credentials(Arc::clone(again.credentials())).with_retry(client::once()).build().map_err(fail)?;
    Ok(Routed { name: format!("s3://{bucket}"), once: Arc::new(once), again: Arc::new(again) })
}
