//! Clients of Azure Blob Storage.

use std::sync::Arc;

use object_store::ClientConfigKey;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::routed::Routed;
use super::{Location, OpenError, Options, client};

/// The variables that are read.
const VARIABLES: &str = "AZURE_*";

/// Clients of `container`.
///
/// # Errors
/// What is wrong with the options.
pub(super) fn open(location: &Location, container: &str, account: Option<&str>, options: &Options) -> Result<Routed, OpenError> {
    client::install_tls();
    let start = if options.environment() { MicrosoftAzureBuilder::from_env() } else { MicrosoftAzureBuilder::new() };
    let builder = options.pairs().iter().try_fold(start, |builder, (key, value)| {
        let known: AzureConfigKey = key.to_ascii_lowercase().parse().map_err(|_| OpenError::UnknownOption {
            location: location.to_string(),
            key: key.clone(),
            examples: "account_name, access_key, sas_key, endpoint, allow_http",
        })?;
        Ok(builder.with_config(known, value))
    })?;
    let builder = account.into_iter().fold(builder.with_container_name(container), MicrosoftAzureBuilder::with_account);
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let allowed = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
    client::check_http(location, endpoint, allowed)?;
    let fail = |source| client::refused(location, VARIABLES, options, source);
    let again = builder.clone().with_retry(client::again()).build().map_err(fail)?;
    let once = builder.with_credentials(Arc::clone(again.credentials())).with_retry(client::once()).build().map_err(fail)?;
    Ok(Routed {
        name: Location::Azure { container: container.to_owned(), account: account.map(str::to_owned), prefix: Default::default() }
            .to_string(),
        once: Arc::new(once),
        again: Arc::new(again),
    })
}
