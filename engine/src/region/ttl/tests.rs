//! What may expire, against rows kept in a list.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tessera_manifest::file::{FileMeta, Scope};
use tessera_manifest::id::{Epoch, Generation, RegionId, RegionNumber, Sequence, TableId};
use tessera_manifest::rule::Expr;

use super::*;
use tessera_manifest::env::Env;

/// A row of the one series: its time, and two fields; `None` for a delete.
type Row = (i64, Option<[Option<u8>; 2]>);

/// Rows of one file, each time once; files come in the order of their sequences.
type File = BTreeMap<i64, Option<[Option<u8>; 2]>>;

fn reference(index: usize, rows: &File) -> Arc<FileRef> {
    let region = RegionId::new(TableId(1), RegionNumber(0));
    let sequence = |at: usize| Sequence::new(Generation::FIRST, 1 + (index * 100 + at) as u64).unwrap();
    let meta = FileMeta {
        time_range: (*rows.keys().next().unwrap(), *rows.keys().last().unwrap()),
        rows: rows.len() as u64,
        deletes: 0,
        bytes: 1,
        sequences: (sequence(0), sequence(rows.len() - 1)),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: Arc::from([]),
        crc32: 0,
    };
    Arc::new(FileRef { key: FileKey { origin: region, file: Env::system().file_id(Epoch(1)) }, scope: Scope::all(), meta })
}

/// What a table with these files, oldest first, shows of each time.
fn visible<'a>(files: impl Iterator<Item = &'a File>, mode: MergeMode) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut latest: BTreeMap<i64, Option<[Option<u8>; 2]>> = BTreeMap::new();
    for (t, row) in files.flatten() {
        if mode == MergeMode::Append {
            rows.push((*t, *row));
            continue;
        }
        let before = latest.get(t).copied().flatten().filter(|_| mode == MergeMode::LastNonNull);
        let merged = row.map(|fields| before.map_or(fields, |old| [fields[0].or(old[0]), fields[1].or(old[1])]));
        latest.insert(*t, merged);
    }
    rows.extend(latest.into_iter().filter(|(_, row)| row.is_some()));
    rows.sort();
    rows
}

fn any_file() -> impl Strategy<Value = File> {
    let fields = prop::array::uniform2(prop::option::of(0_u8..4));
    prop::collection::btree_map(0_i64..12, prop::option::weighted(0.8, fields), 1..5)
}

proptest! {
    /// Whatever expires: no row shows that did not before, and none is gone that has not expired.
    #[test]
    fn expiry_takes_expired_rows_only_and_brings_none_back(
        files in prop::collection::vec(any_file(), 1..7),
        memtable in prop::option::of(any_file()),
        last in -1_i64..13,
        mode in prop::sample::select(vec![MergeMode::LastRow, MergeMode::LastNonNull, MergeMode::Append]),
    ) {
        let references: Vec<_> = files.iter().enumerate().map(|(index, rows)| reference(index, rows)).collect();
        let ranges: Vec<_> = memtable.iter().map(|rows| (*rows.keys().next().unwrap(), *rows.keys().last().unwrap())).collect();
        let listed: Vec<_> = references.iter().filter(|file| file.meta.time_range.0 <= last).cloned().collect();
        let gone = plan_expiry(&listed, &ranges, last, mode);
        let before = visible(files.iter().chain(&memtable), mode);
        let stay = files.iter().zip(&references).filter(|(_, file)| !gone.contains(&file.key)).map(|(rows, _)| rows);
        let after = visible(stay.chain(&memtable), mode);
        for row in &after {
            prop_assert!(before.contains(row), "{row:?} shows after {gone:?} are gone, and did not before");
        }
        let lost: Vec<_> = before.iter().filter(|row| !after.contains(row)).collect();
        prop_assert!(lost.iter().all(|(t, _)| *t <= last), "{lost:?}");
    }
}

#[test]
fn files_that_nothing_else_overlaps_expire_at_once() {
    let file = |times: std::ops::Range<i64>| times.map(|t| (t, Some([Some(1), None]))).collect::<File>();
    let files: Vec<_> = [file(0..3), file(3..6), file(6..9)].iter().enumerate().map(|(i, rows)| reference(i, rows)).collect();
    for mode in [MergeMode::LastRow, MergeMode::LastNonNull, MergeMode::Append] {
        assert_eq!(plan_expiry(&files, &[], 5, mode), [files[0].key, files[1].key]);
        assert_eq!(plan_expiry(&files, &[], 4, mode), [files[0].key]);
        assert!(plan_expiry(&files, &[], 1, mode).is_empty());
    }
}
