//! The tables of the file, and the bytes of an entry.
//!
//! - `kv`: key -> create revision, mod revision, version (u64, little endian), lease (u64, little endian, only
//!   when bit 63 of the version is set), value.
//! - `lease`: lease id -> time to live in milliseconds.
//! - `attached`: (lease id, key) -> nothing, for each key that has a lease.
//! - `store`: `format`; `revision`; `last_lease`, the greatest lease id that was given.
//!
//! Format 1 has no leases. The first grant makes it format 2, which a reader of format 1 refuses; until then
//! the file is the same.

use std::path::Path;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};

use super::failure::{corrupt, storage_error};
use crate::kv::interpret::View;
use crate::kv::{Entry, Key, KeyRange, KvError, LeaseId, Revision};

pub(super) type KvTable = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(super) const KV: KvTable = TableDefinition::new("kv");
pub(super) const LEASES: TableDefinition<'static, u64, u64> = TableDefinition::new("lease");
pub(super) const ATTACHED: TableDefinition<'static, (u64, &'static [u8]), ()> = TableDefinition::new("attached");
pub(super) const STORE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("store");

pub(super) const FORMAT_WITHOUT_LEASES: u64 = 1;
pub(super) const FORMAT: u64 = 2;
pub(super) const FIRST_REVISION: Revision = Revision(1);

const HAS_LEASE: u64 = 1 << 63;

/// The number `name` of the table `store`.
pub(super) fn read_number(table: &impl ReadableTable<&'static str, u64>, path: &Path, name: &str) -> Result<Option<u64>, KvError> {
    Ok(table.get(name).map_err(|e| storage_error(path, "read", e))?.map(|found| found.value()))
}

pub(super) fn read_revision(table: &impl ReadableTable<&'static str, u64>, path: &Path) -> Result<Revision, KvError> {
    read_number(table, path, "revision")?.map(Revision).ok_or_else(|| corrupt(path, "it has no revision"))
}

/// A redb table as the interpreter reads it.
pub(super) struct TableView<'a, T> {
    pub(super) table: T,
    pub(super) path: &'a Path,
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> View for TableView<'_, T> {
    type Error = KvError;

    fn get(&self, key: &Key) -> Result<Option<Entry>, KvError> {
        let found = self.table.get(key.as_bytes()).map_err(|e| storage_error(self.path, "read", e))?;
        found.map(|found| decode_entry(self.path, key.clone(), found.value())).transpose()
    }

    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, KvError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |e| storage_error(self.path, "read", e);
        let found = match &range.end {
            Some(end) => self.table.range::<&[u8]>(range.start.as_bytes()..end.as_bytes()),
            None => self.table.range::<&[u8]>(range.start.as_bytes()..),
        };
        let mut entries = Vec::new();
        for item in found.map_err(failed)?.take(limit) {
            let (key, value) = item.map_err(failed)?;
            entries.push(decode_entry(self.path, Key::from(key.value()), value.value())?);
        }
        Ok(entries)
    }
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    let Entry { key: _, value, create_revision, mod_revision, version, lease } = entry;
    let mut bytes = Vec::with_capacity(32 + value.len());
    let version = version | if lease.is_some() { HAS_LEASE } else { 0 };
    for number in [create_revision.0, mod_revision.0, version].into_iter().chain(lease.map(|id| id.0)) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    bytes.split_first_chunk::<8>().map(|(number, rest)| (u64::from_le_bytes(*number), rest))
}

/// The numbers before the value: create revision, mod revision, version, lease.
fn split_entry(bytes: &[u8]) -> Option<([u64; 3], Option<LeaseId>, &[u8])> {
    let (created, rest) = take_number(bytes)?;
    let (modified, rest) = take_number(rest)?;
    let (version, rest) = take_number(rest)?;
    if version & HAS_LEASE == 0 {
        return Some(([created, modified, version], None, rest));
    }
    let (lease, rest) = take_number(rest)?;
    Some(([created, modified, version & !HAS_LEASE], Some(LeaseId(lease)), rest))
}

pub(super) fn decode_entry(path: &Path, key: Key, bytes: &[u8]) -> Result<Entry, KvError> {
    let Some(([created, modified, version], lease, value)) = split_entry(bytes) else {
        return Err(corrupt(path, format!("the entry of key '{key}' is too short")));
    };
    let value = Bytes::copy_from_slice(value);
    Ok(Entry { key, value, create_revision: Revision(created), mod_revision: Revision(modified), version, lease })
}

/// The lease of an entry's bytes, without a copy of its value.
pub(super) fn lease_of(bytes: &[u8]) -> Option<LeaseId> {
    split_entry(bytes).and_then(|(_, lease, _)| lease)
}
