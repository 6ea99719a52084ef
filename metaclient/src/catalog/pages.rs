//! Lists of tables, page by page.
//!
//! Invariants:
//! - A list of any length costs the memory of one page.
//! - A table that is there from beginning to end, and is not renamed, comes exactly once. One that is created,
//!   dropped or renamed meanwhile may or may not come; each is as it is at one moment.

use super::Catalog;
use super::error::CatalogError;
use super::model::TableInfo;
use crate::keys;
use crate::kv::{Entry, Key, KeyRange, RangeRequest};
use crate::values::{self, TableName};

/// A list that is being read.
#[derive(Debug)]
pub struct TablePages {
    catalog: Catalog,
    /// What is still to be read; `None` at the end.
    rest: Option<KeyRange>,
    /// The database whose names are read; `None` when the tables themselves are.
    database: Option<String>,
    page_tables_max: usize,
}

impl Catalog {
    /// All tables of all databases, by id, at most `page_tables_max` at a time.
    #[must_use]
    pub fn all_tables_in_pages(&self, page_tables_max: usize) -> TablePages {
        TablePages { catalog: self.clone(), rest: Some(keys::tables()), database: None, page_tables_max }
    }

    /// The tables of a database, by name as it stands in keys, at most `page_tables_max` at a time.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseNotFound`].
    pub async fn tables_in_pages(&self, database: &str, page_tables_max: usize) -> Result<TablePages, CatalogError> {
        self.database(database).await?;
        let rest = Some(keys::table_names(database));
        Ok(TablePages { catalog: self.clone(), rest, database: Some(database.to_owned()), page_tables_max })
    }
}

impl TablePages {
    /// The next page; `None` at the end. A page may be empty. After an error the same page is tried again. Cancel
    /// safe.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<TableInfo>>, CatalogError> {
        let Some(range) = self.rest.clone() else { return Ok(None) };
        let kv = &self.catalog.kv;
        // A page of names is one read of their tables.
        let limit = self.page_tables_max.min(kv.limits().txn_ops_max).max(1);
        let page = kv.range(&RangeRequest::new(range.clone()).with_limit(limit)).await?;
        let tables = match &self.database {
            None => page.entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?,
            Some(database) => self.tables_of(database, &page.entries).await?,
        };
        let last = page.entries.last().filter(|_| page.more);
        self.rest = last.map(|entry| KeyRange { start: entry.key.successor(), ..range });
        Ok(Some(tables))
    }

    async fn tables_of(&self, database: &str, names: &[Entry]) -> Result<Vec<TableInfo>, CatalogError> {
        let ids: Vec<TableName> = names.iter().map(values::decode_entry).collect::<Result<_, _>>()?;
        let asked: Vec<Key> = ids.into_iter().map(|TableName(id)| keys::MetaKey::Table { id }.to_key()).collect();
        let mut tables = Vec::with_capacity(asked.len());
        for (entry, name) in self.catalog.kv.multi_get(&asked).await?.entries.iter().zip(names) {
            let Some(entry) = entry else { continue };
            let info: TableInfo = values::decode_entry(entry)?;
            let named = keys::MetaKey::TableName { database: info.database.clone(), name: info.name.clone() };
            // Between the two reads it may have been renamed; then it has come, or comes, under its other name.
            if info.database == database && named.to_key() == name.key {
                tables.push(info);
            }
        }
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tessera_manifest::env::Stopwatch;
    use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionId, RegionNumber, TableId};
    use tessera_manifest::rule::Expr;
    use tessera_manifest::schema::{Column, Schema, SemanticType};
    use tessera_manifest::value::{DataType, TimeUnit};

    use super::super::{Bootstrap, Route};
    use super::*;
    use crate::keys::{MetaKey, RouteSet};
    use crate::kv::{KvBackend, MemoryBackend, Op, RedbBackend, Txn};
    use crate::mirror::Mirror;

    const BOOTSTRAP: Bootstrap = Bootstrap { cluster: Nonce(1), incarnation: Nonce(2), unix_ms: 3 };

    fn table(id: u32) -> TableInfo {
        let column = |id, name: &str, data_type, semantic| {
            let nullable = semantic != SemanticType::TimeIndex;
            Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
        };
        let mut columns = vec![
            column(0, "host", DataType::String, SemanticType::Tag),
            column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        ];
        columns.extend((2..8).map(|id| column(id, &format!("field_{id}"), DataType::Float64, SemanticType::Field)));
        TableInfo {
            id: TableId(id),
            database: "public".into(),
            name: format!("table_{id:07}"),
            schema: Schema::new(columns, vec![ColumnId(0)]).unwrap(),
            partition_columns: vec![],
            options: BTreeMap::new(),
            created_unix_ms: 5,
            next_region_number: RegionNumber(1),
            next_generation: Generation::new(2).unwrap(),
        }
    }

    /// Puts many tables at once, as `create_table` would one by one.
    async fn fill(kv: &dyn KvBackend, ids: std::ops::Range<u32>) {
        let ids: Vec<u32> = ids.collect();
        for chunk in ids.chunks(900) {
            let ops = chunk.iter().flat_map(|id| {
                let info = table(*id);
                let region = RegionId::new(info.id, RegionNumber(0));
                let route = values::encode(&Route { region, node: NodeId(0), generation: Generation::FIRST, rule: Expr::always() });
                let name = MetaKey::TableName { database: info.database.clone(), name: info.name.clone() };
                [
                    Op::put(name.to_key(), values::encode(&TableName(info.id))),
                    Op::put(MetaKey::Table { id: info.id }.to_key(), values::encode(&info)),
                    Op::put(MetaKey::Route { set: RouteSet::Read, region }.to_key(), route.clone()),
                    Op::put(MetaKey::Route { set: RouteSet::Write, region }.to_key(), route),
                ]
            });
            kv.txn(Txn::new().then(ops)).await.unwrap();
        }
    }

    async fn drain(mut pages: TablePages) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            all.push(page.into_iter().map(|info| info.id.0).collect());
        }
        all
    }

    #[tokio::test]
    async fn pages_join_to_the_whole_list_and_none_is_longer_than_asked() {
        let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
        let catalog = Catalog::bootstrap(Arc::clone(&kv), BOOTSTRAP).await.unwrap().0;
        assert_eq!(drain(catalog.all_tables_in_pages(3)).await, [[0; 0]]);
        fill(&*kv, 1024..1031).await;
        let expected = [vec![1024, 1025, 1026], vec![1027, 1028, 1029], vec![1030]];
        assert_eq!(drain(catalog.all_tables_in_pages(3)).await, expected);
        assert_eq!(drain(catalog.tables_in_pages("public", 3).await.unwrap()).await, expected);
        assert!(matches!(catalog.tables_in_pages("none", 3).await, Err(CatalogError::DatabaseNotFound { .. })));
    }

    #[tokio::test]
    async fn a_table_that_changes_while_it_is_listed_comes_at_most_once() {
        let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
        let catalog = Catalog::bootstrap(Arc::clone(&kv), BOOTSTRAP).await.unwrap().0;
        fill(&*kv, 1024..1034).await;
        let mut pages = catalog.tables_in_pages("public", 4).await.unwrap();
        let mut seen: Vec<u32> = pages.next().await.unwrap().unwrap().iter().map(|info| info.id.0).collect();
        // The order of names: what has come goes to the end, what has not come goes to the beginning.
        for (id, name) in [(1024, "z"), (1033, "a")] {
            catalog.rename_table(&table(id).table_ref(), &super::super::TableRef::new("public", name)).await.unwrap();
        }
        catalog.drop_table(&table(1030).table_ref(), 1).await.unwrap();
        while let Some(page) = pages.next().await.unwrap() {
            seen.extend(page.iter().map(|info| info.id.0));
        }
        let untouched = [1025, 1026, 1027, 1028, 1029, 1031, 1032];
        assert!(untouched.iter().all(|id| seen.iter().filter(|seen| *seen == id).count() == 1), "{seen:?}");
        assert!(!seen.contains(&1030));
    }

    /// CPU time of this process so far: on a machine that is shared, elapsed time says little.
    fn cpu_ms() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // utime and stime, in ticks of 10 ms.
        [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap() * 10).sum()
    }

    #[tokio::test]
    #[ignore = "a measurement: run it alone, with --release --no-capture"]
    async fn a_hundred_thousand_tables_are_listed_and_mirrored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        let kv: Arc<dyn KvBackend> = Arc::new(RedbBackend::open(&path).await.unwrap());
        Catalog::bootstrap(Arc::clone(&kv), BOOTSTRAP).await.unwrap();
        fill(&*kv, 1024..101_024).await;
        drop(kv);

        let (watch, before) = (Stopwatch::start(), cpu_ms());
        let kv: Arc<dyn KvBackend> = Arc::new(RedbBackend::open(&path).await.unwrap());
        let opened = watch.elapsed();
        let mirror = Mirror::start(Arc::clone(&kv), KeyRange::all());
        let view = mirror.ready().await.unwrap();
        let cpu = cpu_ms() - before;
        println!("redb open {opened:?}; mirror of {} keys ready {:?} after the start, {cpu} ms of CPU", view.len(), watch.elapsed());
        assert!(view.len() > 400_000);

        let watch = Stopwatch::start();
        let mut decoded = 0;
        for entry in view.range(&keys::tables()) {
            values::decode_entry::<TableInfo>(entry).unwrap();
            decoded += 1;
        }
        println!("{decoded} tables read from the mirror in {:?}", watch.elapsed());

        let catalog = Catalog::open(kv).await.unwrap().0;
        for by_name in [false, true] {
            let watch = Stopwatch::start();
            let mut pages =
                if by_name { catalog.tables_in_pages("public", 1000).await.unwrap() } else { catalog.all_tables_in_pages(1000) };
            let (mut listed, mut first) = (0, None);
            while let Some(page) = pages.next().await.unwrap() {
                listed += page.len();
                first.get_or_insert_with(|| watch.elapsed());
            }
            println!("{listed} tables listed in pages (by name: {by_name}): first page {first:?}, all {:?}", watch.elapsed());
            assert_eq!(listed, 100_000);
        }
    }
}
