//! Tests of drop markers and table options.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::marker::{self, Drop, decode, encode};
use super::options;
use crate::error::Code;

fn drop() -> Drop {
    let regions = vec![RegionId::new(TableId(1024), RegionNumber(0)), RegionId::new(TableId(1024), RegionNumber(1))];
    Drop { table: TableId(1024), database: "public".into(), name: "cpu".into(), unix_ms: 1_700_000_000_000, regions }
}

const GOLDEN: &str = r#"{"format":1,"min_reader":1,"crc32":CRC,"drop":{"table":1024,"database":"public","name":"cpu","unix_ms":1700000000000,"regions":["1024/0","1024/1"]}}"#;

#[test]
fn a_marker_is_written_as_it_always_was() {
    let text = String::from_utf8(encode(&drop()).unwrap()).unwrap();
    let crc = crc32fast::hash(GOLDEN.split("\"drop\":").nth(1).unwrap().strip_suffix('}').unwrap().as_bytes());
    assert_eq!(text, GOLDEN.replace("CRC", &crc.to_string()));
    assert_eq!(decode("x", text.as_bytes()).unwrap(), drop());
}

#[test]
fn a_flipped_byte_in_a_marker_is_refused_or_harmless() {
    let bytes = encode(&drop()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        match decode("0000001024/drop/x.json", &damaged) {
            Ok(read) => assert_eq!(read, drop(), "byte {at}"),
            Err(error) => assert!(error.message.contains("0000001024/drop/x.json"), "{}", error.message),
        }
    }
}

#[test]
fn a_newer_marker_names_both_versions() {
    let text = r#"{"format":7,"min_reader":7,"crc32":0,"drop":{"anything":1}}"#;
    let error = decode("x", text.as_bytes()).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
    assert!(error.message.contains('7') && error.message.contains("this is 1"), "{}", error.message);
}

#[test]
fn options_are_kept_refused_or_unknown() {
    let check = |key: &str, value: &str| options::check(&[(key.to_owned(), value.to_owned())]);
    assert_eq!(check("append_mode", "false").unwrap().len(), 1);
    assert_eq!(check("append_mode", "true").unwrap().len(), 1);
    assert_eq!(check("ttl", "7d").unwrap()["ttl"], "7d");
    assert_eq!(check("ttl", "").unwrap().len(), 0);
    assert_eq!(check("ttl", "soon").unwrap_err().code, Code::InvalidArguments);
    assert_eq!(check("storage", "S3").unwrap_err().code, Code::Unsupported);
    assert_eq!(check("index.skipping.1", "0.1").unwrap_err().code, Code::InvalidArguments);
    let unknown = check("colour", "red").unwrap_err();
    assert_eq!(unknown.code, Code::InvalidArguments);
    assert!(unknown.message.contains("append_mode"), "{}", unknown.message);
}

#[tokio::test]
async fn a_marker_whose_put_failed_is_there_once_after_another_attempt() {
    for put_is_applied in [true, false] {
        let store = Arc::new(FaultyStore { inner: InMemory::new(), fails: AtomicBool::new(true), put_is_applied });
        let shared: Arc<dyn ObjectStore> = Arc::clone(&store) as Arc<dyn ObjectStore>;
        let write = async || marker::write(&shared, "01ARZ3NDEKTSV4RRFFQ69G5FAV", &drop()).await;
        let refused = write().await.unwrap_err();
        assert!(refused.message.contains("0000001024/drop/01ARZ3NDEKTSV4RRFFQ69G5FAV.json"), "{refused}");
        assert_eq!(refused.code, Code::StorageUnavailable);
        store.fails.store(false, Ordering::SeqCst);
        for _ in 0..2 {
            write().await.unwrap();
        }
        assert_eq!(marker::find(&shared, TableId(1024)).await.unwrap(), Some(drop()));
    }
}

/// A store whose puts fail at times, and may be applied all the same.
#[derive(Debug)]
struct FaultyStore {
    inner: InMemory,
    fails: AtomicBool,
    put_is_applied: bool,
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty store")
    }
}

fn failure() -> Error {
    Error::Generic { store: "faulty store", source: "no answer".into() }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fails = self.fails.load(Ordering::SeqCst);
        if fails && !self.put_is_applied {
            return Err(failure());
        }
        let put = self.inner.put_opts(location, payload, options).await?;
        if fails { Err(failure()) } else { Ok(put) }
    }
    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
