//! The same work without this crate: what a row of the store is to be compared with.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tessera_manifest::env;

use super::rows::{Error, Options, Row, measure};

const REDB: &str = "redb";
const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("bench");

fn key(folder: &str, number: usize) -> Vec<u8> {
    format!("bench/{folder}/{:06}", number % 1000).into_bytes()
}

fn redb_failed(source: impl Into<redb::Error>) -> Error {
    Error::Peer { peer: REDB, source: Box::new(source.into()) }
}

/// Writes keys in one durable commit, after a look at another one.
fn write(db: &Database, keys: &[Vec<u8>], value: &[u8]) -> Result<(), Error> {
    let begun = db.begin_write().map_err(redb_failed)?;
    {
        let mut table = begun.open_table(TABLE).map_err(redb_failed)?;
        if table.get(&b"never"[..]).map_err(redb_failed)?.is_some() {
            return Err(Error::Wrong { what: "txn" });
        }
        for key in keys {
            table.insert(key.as_slice(), value).map_err(redb_failed)?;
        }
    }
    begun.commit().map_err(redb_failed)
}

fn read(db: &Database, key: &[u8], bytes: usize) -> Result<(), Error> {
    let snapshot = db.begin_read().map_err(redb_failed)?;
    let table = snapshot.open_table(TABLE).map_err(redb_failed)?;
    let found = table.get(key).map_err(redb_failed)?.map(|found| found.value().to_vec());
    if found.is_some_and(|found| found.len() == bytes) { Ok(()) } else { Err(Error::Wrong { what: "get" }) }
}

async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    env::spawn_blocking(work).await?
}

/// Measures put, get and txn on a redb file that must not exist yet, in durable commits.
///
/// # Errors
/// When redb fails.
pub async fn raw_redb(path: &Path, options: &Options) -> Result<Vec<Row>, Error> {
    let db = Arc::new(Database::create(path).map_err(redb_failed)?);
    let (bytes, mut rows) = (options.value_bytes, Vec::new());
    let value = Arc::new(vec![b'x'; bytes]);
    for &clients in &options.clients {
        for (what, folders) in [("put", &["put"][..]), ("txn", &["txn-a", "txn-b"])] {
            let (db, value) = (Arc::clone(&db), Arc::clone(&value));
            let row = measure(REDB, what, clients, options.calls, move |_, number| {
                let keys: Vec<_> = folders.iter().map(|folder| key(folder, number)).collect();
                let (db, value) = (Arc::clone(&db), Arc::clone(&value));
                blocking(move || write(&db, &keys, &value))
            });
            rows.push(row.await?);
        }
        let present = options.calls.min(1000);
        let db = Arc::clone(&db);
        let row = measure(REDB, "get", clients, options.calls, move |_, number| {
            let (db, key) = (Arc::clone(&db), key("put", number % present));
            blocking(move || read(&db, &key, bytes))
        });
        rows.push(row.await?);
    }
    Ok(rows)
}

/// Measures put, get, txn and list with the client of etcd, and deletes the keys again.
///
/// # Errors
/// When etcd fails.
#[cfg(feature = "etcd")]
pub async fn raw_etcd(endpoints: &[String], options: &Options) -> Result<Vec<Row>, Error> {
    use etcd_client::{Client, Compare, CompareOp, DeleteOptions, Txn, TxnOp};

    const ETCD: &str = "etcd-client";
    fn failed(source: etcd_client::Error) -> Error {
        Error::Peer { peer: ETCD, source: Box::new(source) }
    }
    let client = Client::connect(endpoints, None).await.map_err(failed)?;
    let value = Arc::new(vec![b'x'; options.value_bytes]);
    let (prefix, mut rows) = (format!("{}raw/", options.prefix), Vec::new());
    let named = {
        let prefix = prefix.clone();
        move |folder: &str, number: usize| [prefix.as_bytes(), &key(folder, number)].concat()
    };
    for &clients in &options.clients {
        let (kv, value_of, named_of) = (client.kv_client(), Arc::clone(&value), named.clone());
        let row = measure(ETCD, "put", clients, options.calls, move |_, number| {
            let (mut kv, key, value) = (kv.clone(), named_of("put", number), value_of.to_vec());
            async move { kv.put(key, value, None).await.map(|_| ()).map_err(failed) }
        });
        rows.push(row.await?);
        let (kv, named_of, present, bytes) = (client.kv_client(), named.clone(), options.calls.min(1000), value.len());
        let row = measure(ETCD, "get", clients, options.calls, move |_, number| {
            let (mut kv, key) = (kv.clone(), named_of("put", number % present));
            async move {
                let found = kv.get(key, None).await.map_err(failed)?;
                let right = found.kvs().first().is_some_and(|found| found.value().len() == bytes);
                if right { Ok(()) } else { Err(Error::Wrong { what: "get" }) }
            }
        });
        rows.push(row.await?);
        let (kv, value_of, named_of) = (client.kv_client(), Arc::clone(&value), named.clone());
        let row = measure(ETCD, "txn", clients, options.calls, move |_, number| {
            let absent = Compare::version(named_of("never", number), CompareOp::Equal, 0);
            let puts = ["txn-a", "txn-b"].map(|folder| TxnOp::put(named_of(folder, number), value_of.to_vec(), None));
            let (mut kv, txn) = (kv.clone(), Txn::new().when([absent]).and_then(puts));
            async move { if kv.txn(txn).await.map_err(failed)?.succeeded() { Ok(()) } else { Err(Error::Wrong { what: "txn" }) } }
        });
        rows.push(row.await?);
    }
    client.kv_client().delete(prefix, Some(DeleteOptions::new().with_prefix())).await.map_err(failed)?;
    Ok(rows)
}
