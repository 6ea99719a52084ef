//! The etcd backend against real servers. Without an etcd binary each test says so and passes.

mod faults;
mod limits;
mod proxy;
mod secure;
mod stopped;
mod suite;
mod word;

use crate::conformance::etcd::{Cluster, ClusterOptions};
use crate::kv::{EtcdBackend, EtcdOptions};

/// Skips a test where there is no etcd.
macro_rules! need_etcd {
    () => {
        if !crate::conformance::etcd::is_installed() {
            println!("skipped: there is no etcd here (Debian: etcd-server; TESSERA_TEST_ETCD names another one)");
            return;
        }
    };
}
use need_etcd;

async fn connect(endpoints: impl IntoIterator<Item = String>) -> EtcdBackend {
    EtcdBackend::connect(&EtcdOptions::new(endpoints)).await.unwrap()
}

async fn cluster(nodes: usize, arguments: &[&str]) -> Cluster {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Cluster::start(ClusterOptions { nodes, arguments, tls: false }).await
}
