//! Where metadata is kept: in a file of the data home, or in etcd.

use std::sync::Arc;

use tessera_metaclient::kv::KvBackend;

use crate::config::Metadata;
use crate::error::{Code, ServerError};

/// Connects to the etcd cluster that the settings name.
///
/// # Errors
/// When a file of TLS or of the password cannot be read, or etcd does not answer; in a build without etcd.
pub async fn connect(config: &Metadata) -> Result<Arc<dyn KvBackend>, ServerError> {
    if config.endpoints().is_empty() {
        let text = "metadata.backend is etcd, but metadata.endpoints names no server, such as http://127.0.0.1:2379";
        return Err(ServerError::new(Code::InvalidArguments, text));
    }
    etcd::connect(config).await
}

#[cfg(feature = "etcd")]
mod etcd {
    use std::path::Path;
    use std::sync::Arc;

    use tessera_metaclient::kv::{EtcdBackend, EtcdIdentity, EtcdOptions, EtcdTls, EtcdUser, KvBackend};

    use crate::config::Metadata;
    use crate::error::{Code, ServerError};

    pub(super) async fn connect(config: &Metadata) -> Result<Arc<dyn KvBackend>, ServerError> {
        let options = options(config)?;
        let backend = EtcdBackend::connect(&options).await.map_err(|error| ServerError::from_class(error.class(), &error))?;
        Ok(Arc::new(backend))
    }

    fn options(config: &Metadata) -> Result<EtcdOptions, ServerError> {
        let mut options = EtcdOptions::new(config.endpoints());
        if !config.user.is_empty() {
            let password = match read("metadata.password_file", &config.password_file)? {
                None => String::new(),
                Some(bytes) => String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned(),
            };
            options.user = Some(EtcdUser { name: config.user.clone(), password });
        }
        if let Some(ca_pem) = read("metadata.ca_file", &config.ca_file)? {
            let certificate = read("metadata.cert_file", &config.cert_file)?;
            let key = read("metadata.key_file", &config.key_file)?;
            let identity = match (certificate, key) {
                (Some(certificate_pem), Some(key_pem)) => Some(EtcdIdentity { certificate_pem, key_pem }),
                (None, None) => None,
                _ => return Err(invalid("metadata.cert_file and metadata.key_file go together: set both, or neither".to_owned())),
            };
            options.tls = Some(EtcdTls { ca_pem, identity, domain: None });
        }
        Ok(options)
    }

    /// The content of a file that a setting names; `None` where it names none.
    fn read(key: &str, path: &Path) -> Result<Option<Vec<u8>>, ServerError> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let content = std::fs::read(path).map_err(|error| invalid(format!("{key}: cannot read {}: {error}", path.display())))?;
        Ok(Some(content))
    }

    fn invalid(message: String) -> ServerError {
        ServerError::new(Code::InvalidArguments, message)
    }
}

#[cfg(not(feature = "etcd"))]
mod etcd {
    use std::sync::Arc;

    use tessera_metaclient::kv::KvBackend;

    use crate::config::Metadata;
    use crate::error::{Code, ServerError};

    #[expect(clippy::unused_async, reason = "it awaits in a build with etcd")]
    pub(super) async fn connect(_: &Metadata) -> Result<Arc<dyn KvBackend>, ServerError> {
        let text = "this build cannot speak to etcd: build it with `cargo build --features etcd` (needs protoc)";
        Err(ServerError::new(Code::Unsupported, text))
    }
}
