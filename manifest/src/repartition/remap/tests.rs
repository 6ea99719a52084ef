//! Remaps against rows: whatever is repartitioned, deleted and localized in between, each visible row stays visible in
//! exactly one region, and none that went comes back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::checkpoint::read_segments;
use crate::env::Env;
use crate::file::{ColumnStats, Listed};
use crate::id::{ColumnId, Generation, RegionNumber, Sequence, Slot, TableId};
use crate::paths::Root;
use crate::rule::CompareOp;
use crate::testing::FaultStore;
use crate::testing::sample::file_of;
use crate::value::Value;

const A: ColumnId = ColumnId(0);
/// Rows are NULL and the numbers below it.
const ROWS: i64 = 8;

/// NULL counts as below every number.
fn value(row: i64) -> Value {
    if row == 0 { Value::Null } else { Value::Int(row) }
}

fn compare(op: CompareOp, at: i64) -> Expr {
    Expr::Compare { column: A, op, value: value(at.max(1)) }
}

fn holds(expr: &Expr, row: i64) -> bool {
    let value = value(row);
    expr.matches(|_| &value)
}

/// The rule of each part, when the rows are dealt out so.
fn rules(dealt: &[u8]) -> BTreeMap<u8, Expr> {
    let mut rules: BTreeMap<u8, Vec<Expr>> = BTreeMap::new();
    for (row, part) in dealt.iter().enumerate() {
        let point = Expr::In { column: A, values: vec![value(row as i64)] };
        rules.entry(*part).or_default().push(point);
    }
    rules.into_iter().map(|(part, points)| (part, Expr::Or(points).simplify())).collect()
}

#[derive(Debug, Clone, Default)]
struct Region {
    files: BTreeMap<FileKey, Arc<FileRef>>,
}

/// A table as regions with rules, and the rows of its files.
#[derive(Debug, Clone)]
struct Table {
    rules: BTreeMap<u8, Expr>,
    regions: BTreeMap<u8, Region>,
    rows: BTreeMap<FileKey, BTreeSet<i64>>,
    next: u128,
}

impl Table {
    fn new(dealt: &[u8]) -> Self {
        let rules = rules(dealt);
        let regions = rules.keys().map(|part| (*part, Region::default())).collect();
        Self { rules, regions, rows: BTreeMap::new(), next: 1 }
    }

    /// A file of those of the rows that are of the region.
    fn flush(&mut self, part: u8, rows: &BTreeSet<i64>) {
        let rule = self.rules[&part].clone();
        let rows: BTreeSet<i64> = rows.iter().copied().filter(|row| holds(&rule, *row)).collect();
        if rows.is_empty() {
            return;
        }
        let origin = RegionId::new(TableId(1024), RegionNumber(part.into()));
        let key = FileKey { origin, file: crate::id::FileId::new(Epoch(1), Ulid(self.next)) };
        self.next += 1;
        let mut file = FileRef::clone(&file_of(key, Sequence::new(Generation::FIRST, 1).unwrap()));
        file.meta.rule = Arc::new(rule.canonical());
        let numbers = || rows.iter().copied().filter(|row| *row > 0).map(value);
        let range = numbers().min().zip(numbers().max());
        file.meta.stats = [ColumnStats { column: A, range, has_null: rows.contains(&0), has_nan: false }].into();
        self.rows.insert(key, rows);
        self.regions.get_mut(&part).unwrap().files.insert(key, Arc::new(file));
    }

    /// What readers see of each file, and in which region.
    fn visible(&self) -> Vec<(FileKey, i64, u8)> {
        let mut seen = Vec::new();
        for (part, region) in &self.regions {
            for (key, file) in &region.files {
                let rows = self.rows[key].iter().copied();
                seen.extend(rows.filter(|row| holds(&file.scope, *row) && holds(&self.rules[part], *row)).map(|row| (*key, row, *part)));
            }
        }
        seen.sort_unstable();
        seen
    }

    fn repartition(&mut self, dealt: &[u8]) {
        let files: Vec<(Expr, Files)> = self
            .regions
            .iter()
            .map(|(part, region)| {
                let listed = region.files.values().map(|file| Listed { file: Arc::clone(file), since: Slot::new(Epoch(1), 0) });
                (self.rules[part].clone(), listed.collect())
            })
            .collect();
        let fenced: Vec<Fenced<'_>> = files.iter().map(|(rule, files)| Fenced { rule, files }).collect();
        let rules = rules(dealt);
        self.regions = rules
            .iter()
            .map(|(part, rule)| {
                let references = remap(&fenced, rule);
                for reference in &references {
                    let rows = &self.rows[&reference.file.key];
                    let all = rows.iter().all(|row| holds(&reference.file.scope, *row) && holds(rule, *row));
                    assert!(reference.tested || all, "{reference:?} has rows that are not shown, and is not tested");
                }
                (*part, Region { files: references.into_iter().map(|reference| (reference.file.key, reference.file)).collect() })
            })
            .collect();
        self.rules = rules;
    }

    /// Writes a file of the region anew, without the rows in `gone`, as a compaction does after deletes.
    fn localize(&mut self, part: u8, nth: usize, gone: &BTreeSet<i64>) {
        let Some(region) = self.regions.get_mut(&part) else { return };
        let Some((key, file)) = region.files.iter().nth(nth).map(|(key, file)| (*key, Arc::clone(file))) else { return };
        region.files.remove(&key);
        let rows = self.rows[&key].iter().copied();
        let kept = rows.filter(|row| holds(&file.scope, *row) && holds(&self.rules[&part], *row) && !gone.contains(row)).collect();
        self.flush(part, &kept);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Flush(u8, BTreeSet<i64>),
    Localize(u8, usize, BTreeSet<i64>),
    Repartition(Vec<u8>),
}

fn dealt() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..3_u8, ROWS as usize)
}

fn step() -> impl Strategy<Value = Step> {
    let rows = prop::collection::btree_set(0..ROWS, 0..ROWS as usize);
    prop_oneof![
        3 => (0..3_u8, rows.clone()).prop_map(|(part, rows)| Step::Flush(part, rows)),
        2 => (0..3_u8, 0..3_usize, rows).prop_map(|(part, nth, rows)| Step::Localize(part, nth, rows)),
        3 => dealt().prop_map(Step::Repartition),
    ]
}

proptest! {
    #[test]
    fn a_remap_shows_what_was_seen_before_and_nothing_else(first in dealt(), steps in prop::collection::vec(step(), 1..24)) {
        let mut table = Table::new(&first);
        for step in steps {
            match step {
                Step::Flush(part, rows) => if table.rules.contains_key(&part) { table.flush(part, &rows) },
                Step::Localize(part, nth, gone) => table.localize(part, nth, &gone),
                Step::Repartition(dealt) => {
                    let before = table.visible();
                    table.repartition(&dealt);
                    let rows = |seen: &[(FileKey, i64, u8)]| seen.iter().map(|(key, row, _)| (*key, *row)).collect::<Vec<_>>();
                    let after = table.visible();
                    prop_assert_eq!(rows(&before), rows(&after));
                    for (_, row, part) in after {
                        prop_assert_eq!(dealt[row as usize], part, "a row is in the region of its rule");
                    }
                }
            }
        }
    }
}

#[test]
fn a_file_that_comes_home_has_no_scope_and_loops_do_not_grow_it() {
    let (whole, halves) = ([0; ROWS as usize], [0, 0, 0, 0, 1, 1, 1, 1]);
    let mut table = Table::new(&whole);
    table.flush(0, &(0..ROWS).collect());
    for _ in 0..10 {
        table.repartition(&halves);
        assert!(table.regions.values().flat_map(|region| region.files.values()).all(|file| file.scope.is_all()));
        assert_eq!(table.regions.values().map(|region| region.files.len()).sum::<usize>(), 2);
        table.repartition(&whole);
        let files = &table.regions[&0].files;
        assert!(files.len() == 1 && files.values().all(|file| file.scope.is_all()), "{files:?}");
    }
}

#[test]
fn a_row_that_one_half_deleted_and_compacted_away_stays_away() {
    let (whole, halves) = ([0; ROWS as usize], [0, 0, 0, 0, 1, 1, 1, 1]);
    let mut table = Table::new(&whole);
    table.flush(0, &(0..ROWS).collect());
    table.repartition(&halves);
    table.localize(0, 0, &BTreeSet::from([2]));
    table.repartition(&whole);
    let seen: Vec<i64> = table.visible().iter().map(|(_, row, _)| *row).collect();
    let mut seen = seen;
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 3, 4, 5, 6, 7]);
}

#[test]
fn files_that_cannot_match_are_left_out() {
    let mut table = Table::new(&[0; ROWS as usize]);
    table.flush(0, &BTreeSet::from([1, 2]));
    table.flush(0, &BTreeSet::from([0, 7]));
    table.repartition(&[0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!((table.regions[&0].files.len(), table.regions[&1].files.len()), (2, 1));
}

#[test]
fn a_file_without_statistics_is_never_left_out_for_them() {
    let mut table = Table::new(&[0; ROWS as usize]);
    table.flush(0, &BTreeSet::from([1]));
    let region = table.regions.get_mut(&0).unwrap();
    for file in region.files.values_mut() {
        let mut unknown = FileRef::clone(file);
        unknown.meta.stats = [].into();
        *file = Arc::new(unknown);
    }
    table.repartition(&[0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!((table.regions[&0].files.len(), table.regions[&1].files.len()), (1, 1));
}

#[tokio::test]
async fn what_is_written_reads_back_in_order() {
    let context = Context::new(Arc::new(FaultStore::default()), Root::default(), Env::system());
    let region = RegionId::new(TableId(1024), RegionNumber(4));
    let mut table = Table::new(&[0; ROWS as usize]);
    for row in 0..ROWS {
        table.flush(0, &BTreeSet::from([row]));
    }
    let files: Vec<Arc<FileRef>> = table.regions[&0].files.values().cloned().collect();
    let scoped = |file: &Arc<FileRef>| Arc::new(FileRef { scope: Scope::new(compare(CompareOp::Lt, 3)), ..FileRef::clone(file) });
    let files: Vec<Arc<FileRef>> = files.iter().map(scoped).collect();
    let staged = write(&context, region, Epoch(3), TxnId(Ulid(9)), files.clone()).await.unwrap();
    assert!(staged.segments.len() > 1 && staged.segments.iter().all(|segment| segment.file.epoch == Epoch(3)));
    let read = read_segments(&context, region, &staged.segments).await.unwrap();
    let read: Vec<Row> = read.into_iter().flatten().collect();
    let expected: Vec<Row> = files.iter().map(|file| Row::Remapped(StagedFile::new(Arc::clone(file)))).collect();
    assert_eq!(read, expected);
    assert_eq!(staged.set_hash, files.iter().fold(SetHash::EMPTY, |hash, file| hash.with(MemberHash::of(file))));
    let none = write(&context, region, Epoch(3), TxnId(Ulid(9)), Vec::new()).await.unwrap();
    assert_eq!((none.segments.len(), none.set_hash), (0, SetHash::EMPTY));
}
