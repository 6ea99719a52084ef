//! Object stores as they are: each is probed thoroughly, holds a region through commits, take-overs and a race of
//! openers, and drops it. Stores that do not keep their promises are refused.
//!
//! Servers are started here, on loopback and free ports, and ended by their handles, also on a panic. A test is
//! skipped, and says so, only where the server's program is not installed.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "in a test a panic is the report, and stderr its log")]

mod server;
mod suite;
mod moto;
mod azurite;
mod radosgw;
mod proxy;
mod s3s_fs;
mod flaky;

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tessera_manifest::env::Env;
use tessera_manifest::log::Context;
use tessera_manifest::paths::Root;
use tessera_manifest::probe::{self, Capability, ProbeError, Settings};
use tessera_manifest::store::{self, Options};

use flaky::Mood;

fn open(url: &str, options: &Options) -> Context {
    let store::Opened { store, root } = store::open(url, options).expect("the store opens");
    Context::new(store, root, Env::system())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_file_system_with_fsync_holds_regions() {
    let folder = tempfile::tempdir().unwrap();
    suite::holds_regions(&open(folder.path().to_str().unwrap(), &Options::explicit())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_holds_regions() {
    let context = Context::new(Arc::new(InMemory::new()), Root::new(Path::from("c1")), Env::system());
    suite::holds_regions(&context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_as_moto_has_it_holds_regions() {
    let Some(server) = moto::start().await else { return };
    suite::holds_regions(&open("s3://tessera/c1", &server.options())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_as_ceph_has_it_holds_regions() {
    let Some(server) = radosgw::start().await else { return };
    suite::holds_regions(&open("s3://tessera/c1", &server.options())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn azure_as_azurite_has_it_holds_regions() {
    let Some(server) = azurite::start().await else { return };
    suite::holds_regions(&open("az://tessera/c1", &server.options())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_s3_server_behind_a_proxy_that_drops_conditions_is_refused() {
    let Some(server) = moto::start().await else { return };
    let proxy = proxy::start(server.port()).await;
    let context = open("s3://tessera/c1", &server.options().with("endpoint", format!("http://127.0.0.1:{}", proxy.port())));
    for settings in [Settings::CHEAP, Settings::THOROUGH] {
        let error = probe::run(&context, settings).await.unwrap_err();
        eprintln!("{error}");
        let ProbeError::Refused { capability: Capability::ExclusiveCreate, broken, tests, .. } = error else { panic!("{error:?}") };
        assert_eq!((broken, tests), (settings.races, settings.races));
    }
    assert!(proxy.dropped() > 0, "the proxy had conditions to drop");
    // The same server without the proxy keeps its promises.
    probe::run(&open("s3://tessera/c1", &server.options()), Settings::CHEAP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_s3_server_that_looks_before_it_writes_is_refused() {
    let Some(server) = s3s_fs::start().await else { return };
    let context = open("s3://tessera/c1", &server.options());
    let error = probe::run(&context, Settings::THOROUGH).await.unwrap_err();
    eprintln!("{error}");
    assert!(matches!(error, ProbeError::Refused { capability: Capability::ExclusiveCreate, .. }), "{error:?}");
    // Fewer races may happen to find nothing; what they find must be the same.
    match probe::run(&context, Settings::CHEAP).await {
        Ok(report) => eprintln!("not found by the cheap probe: {report}"),
        Err(error) => eprintln!("found by the cheap probe: {error}"),
    }
}

#[tokio::test]
async fn an_exclusive_create_is_sent_once_and_all_else_again() {
    const OVERLOADED: u32 = 2;
    let server = flaky::start(Mood::Overloaded, OVERLOADED).await;
    let azure = azurite::options(server.port());
    for (url, options) in [("s3://tessera/c1", moto::s3_options(server.port())), ("az://tessera/c1", azure)] {
        let store = open(url, &options).store;
        let path = Path::from("c1/x");
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let created = store.put_opts(&path, "x".into(), create).await;
        assert!(matches!(created, Err(object_store::Error::Generic { .. })), "{url}: {created:?}");
        assert_eq!(server.take_requests(), 1, "{url}: creates");
        assert!(matches!(store.get(&path).await, Err(object_store::Error::NotFound { .. })));
        assert_eq!(server.take_requests(), OVERLOADED + 1, "{url}: reads");
        assert!(store.put(&path, "x".into()).await.is_err());
        assert_eq!(server.take_requests(), OVERLOADED + 1, "{url}: writes");
    }
}

#[tokio::test]
async fn a_delete_whose_connection_breaks_is_sent_again() {
    let server = flaky::start(Mood::Gone, 1).await;
    let azure = azurite::options(server.port());
    for (url, options) in [("s3://tessera/c1", moto::s3_options(server.port())), ("az://tessera/c1", azure)] {
        let deleted = open(url, &options).store.delete(&Path::from("c1/x")).await;
        assert_eq!(server.take_requests(), 2, "{url}: {deleted:?}");
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named_in_the_error() {
    let Some(server) = moto::start().await else { return };
    let error = probe::run(&open("s3://nobody-made-this/c1", &server.options()), Settings::CHEAP).await.unwrap_err();
    assert!(matches!(error, ProbeError::Failed { .. }) && error.to_string().contains("s3://nobody-made-this"), "{error}");
}
