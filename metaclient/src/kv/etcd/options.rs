//! How to reach etcd, and what its servers accept.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::kv::Limits;
use crate::limits::{KEY_BYTES_MAX, RANGE_ENTRIES_MAX, TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};

/// What etcd's `--max-txn-ops` is when nobody sets it.
pub const ETCD_TXN_OPS_MAX: usize = 128;

/// What etcd's `--max-request-bytes` is when nobody sets it.
pub const ETCD_REQUEST_BYTES_MAX: usize = 1_572_864;

/// What a request has besides keys and values, at least.
const REQUEST_OVERHEAD_BYTES: usize = 512;

/// Longer than 5 s, the shortest interval that etcd's servers tolerate.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A user of etcd.
#[derive(Clone)]
pub struct EtcdUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtcdUser({}, ***)", self.name)
    }
}

/// A certificate of this client and its key, both PEM.
#[derive(Clone)]
pub struct EtcdIdentity {
    /// The certificate, with those between it and the authority.
    pub certificate_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for EtcdIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdIdentity(***)")
    }
}

/// TLS to the servers.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The authority that signed the servers' certificates, PEM. The system's authorities are not consulted.
    pub ca_pem: Vec<u8>,
    /// What the servers are shown, when they ask for certificates of clients.
    pub identity: Option<EtcdIdentity>,
    /// The name that the servers' certificates bear, when it is not the host of the endpoints.
    pub domain: Option<String>,
}

/// How to reach etcd, and what its servers accept.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The client URLs of its servers, such as `http://10.0.0.1:2379`; `https://` with TLS.
    pub endpoints: Vec<String>,
    /// Who to be; `None` where authentication is off.
    pub user: Option<EtcdUser>,
    /// `None` for plain text.
    pub tls: Option<EtcdTls>,
    /// How long a call may take, with all its attempts. A write that is not answered in time is
    /// [`KvError::CommitUnknown`](crate::kv::KvError::CommitUnknown).
    pub request_timeout: Duration,
    /// How long to wait for a connection to one server.
    pub connect_timeout: Duration,
    /// The servers' `--max-txn-ops`. They do not tell: when theirs is less, they refuse what is let through here.
    pub txn_ops_max: usize,
    /// The servers' `--max-request-bytes`; as above.
    pub request_bytes_max: usize,
    /// Bytes of one answer that are read into memory. A page that is larger is asked for in parts; a transaction
    /// whose answer is larger fails.
    pub answer_bytes_max: usize,
}

impl EtcdOptions {
    /// Those for servers at `endpoints` that run as they come: no TLS, no users.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            tls: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            txn_ops_max: ETCD_TXN_OPS_MAX,
            request_bytes_max: ETCD_REQUEST_BYTES_MAX,
            answer_bytes_max: 64 << 20,
        }
    }

    /// What the store accepts with these.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let bytes_max = self.request_bytes_max.saturating_sub(REQUEST_OVERHEAD_BYTES);
        Limits {
            txn_ops_max: self.txn_ops_max.min(TXN_OPS_MAX),
            txn_bytes_max: bytes_max.min(TXN_BYTES_MAX),
            // A value of this size can be put under a key of any size.
            value_bytes_max: bytes_max.saturating_sub(KEY_BYTES_MAX).min(VALUE_BYTES_MAX),
            key_bytes_max: KEY_BYTES_MAX,
            range_entries_max: RANGE_ENTRIES_MAX,
            // Until the servers compact.
            watch_changes_max: usize::MAX,
            watch_bytes_max: usize::MAX,
        }
    }

    /// The same for the client. No request gets a timeout there: watches are requests too.
    pub(super) fn connect_options(&self) -> ConnectOptions {
        // A server that lost the others refuses, and the next one is asked; a dead connection is noticed while
        // requests wait for it. Servers hang up on clients that ping when they ask for nothing.
        let mut options = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(self.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false);
        if let Some(EtcdUser { name, password }) = &self.user {
            options = options.with_user(name, password).with_auto_token_refresh(true);
        }
        if let Some(EtcdTls { ca_pem, identity, domain }) = &self.tls {
            let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca_pem));
            if let Some(EtcdIdentity { certificate_pem, key_pem }) = identity {
                tls = tls.identity(Identity::from_pem(certificate_pem, key_pem));
            }
            if let Some(domain) = domain {
                tls = tls.domain_name(domain);
            }
            options = options.with_tls(tls);
        }
        options
    }
}
