//! The metadata that a command looks at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tessera_metaclient::kv::{KvBackend, KvError};

use crate::cli::settings_of_environment;
use crate::cli::verb::Failure;
use crate::config::{Metadata, MetadataBackend};
use crate::error::chain;
use crate::home::Home;
use crate::metadata;

/// An opened target. The lock of a data home is held for as long as this lives.
pub(super) struct Target {
    pub(super) kv: Arc<dyn KvBackend>,
    /// Whether others can change it meanwhile.
    pub(super) is_shared: bool,
    /// The folder of the metadata, in a data home.
    pub(super) folder: Option<PathBuf>,
    /// The servers of etcd.
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "only a build with etcd asks for them again"))]
    pub(super) etcd: Vec<String>,
    _home: Option<Home>,
}

impl Target {
    pub(super) async fn open(text: &str) -> Result<Self, Failure> {
        match etcd_endpoints(text) {
            Some(endpoints) => {
                let settings = settings_of_environment().map_err(|error| Failure::usage(error.to_string()))?;
                let config = Metadata { backend: MetadataBackend::Etcd, endpoints, ..settings.metadata };
                Ok(Self { kv: metadata::connect(&config).await?, is_shared: true, folder: None, etcd: config.endpoints(), _home: None })
            }
            None if text.contains("://") => Err(Failure::usage(format!("'{text}' is neither a data home nor etcd://HOST:PORT"))),
            None => {
                let home = Home::existing(Path::new(text)).map_err(Failure::of_home)?;
                let kv = home.metadata().await?;
                let folder = Some(Path::new(text).join("meta"));
                Ok(Self { kv: Arc::new(kv), is_shared: false, folder, etcd: Vec::new(), _home: Some(home) })
            }
        }
    }
}

/// The endpoints of a target in etcd, as settings have them.
fn etcd_endpoints(text: &str) -> Option<String> {
    let (scheme, hosts) = match text.split_once("://")? {
        ("etcd", hosts) => ("http", hosts),
        ("etcds", hosts) => ("https", hosts),
        _ => return None,
    };
    let hosts = hosts.trim_end_matches('/').split(',').filter(|host| !host.is_empty());
    Some(hosts.map(|host| format!("{scheme}://{host}")).collect::<Vec<_>>().join(","))
}

/// A failure of the metadata store.
pub(super) fn failed(error: &KvError) -> Failure {
    Failure::failed(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_in_etcd_names_its_servers() {
        assert_eq!(etcd_endpoints("etcd://a:1").as_deref(), Some("http://a:1"));
        assert_eq!(etcd_endpoints("etcds://a:1,b:2/").as_deref(), Some("https://a:1,https://b:2"));
        assert_eq!(etcd_endpoints("./tessera-data"), None);
        assert_eq!(etcd_endpoints("http://a:1"), None);
    }
}
