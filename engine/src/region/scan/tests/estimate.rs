//! About how many rows a scan gives.

use super::*;
use crate::request::Alteration;

/// That nothing is said to be there only where nothing is, and that counting ends where it is told to.
pub(super) fn check(world: &World, filter: &Expr, wanted: usize) -> Checked {
    let rows = |enough: u64| world.region.estimate_rows(&schema(), filter, enough);
    let all = rows(u64::MAX);
    prop_assert!(all > 0 || wanted == 0, "{} rows come out", wanted);
    for enough in 0..=all + 1 {
        prop_assert_eq!(rows(enough), all.min(enough));
    }
    Ok(())
}

#[test]
fn what_a_filter_rules_out_is_not_counted() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config { row_group_rows: 1_000, ..Config::default() }).await;
        for from in [0, 50, 100] {
            world.write(OpType::Put, &points(100, from, from + 50, 1.0)).await;
            world.region.flush().await.unwrap();
        }
        world.write(OpType::Put, &points(3, 150, 160, 1.0)).await;
        let host = |host: &str| compare(1, CompareOp::Eq, Value::String(host.to_owned()));
        let before = |time| compare(2, CompareOp::Lt, Value::Timestamp(time));
        let since = |time| compare(2, CompareOp::GtEq, Value::Timestamp(time));
        let first = Expr::And(vec![host("h00042"), before(50)]);
        let rows = |filter: &Expr, enough| world.region.estimate_rows(&schema(), filter, enough);
        assert_eq!(rows(&first, 20_000), 5_000, "no footer was read yet");
        world.rows(ScanRequest::default()).await;
        let cases = [
            (Expr::always(), 15_030),
            (before(50), 5_000),
            (before(60), 6_000),
            (since(150), 30),
            // A row group of a thousand rows holds 20 hosts; that some of them match is an eighth of it.
            (first, 125),
            (Expr::And(vec![host("h00042"), before(60)]), 250),
            (host("h00042"), 405),
            (compare(1, CompareOp::Lt, Value::String("h00030".to_owned())), 3_405),
            (Expr::And(vec![host("nobody"), before(150)]), 0),
            // Fields are not asked: which row of a key has the value is not known before they are merged.
            (Expr::And(vec![compare(0, CompareOp::Gt, Value::Float(7.0)), before(50)]), 5_000),
            (Expr::And(vec![compare(0, CompareOp::Gt, Value::Float(7.0)), host("h00042"), before(50)]), 125),
        ];
        for (filter, expected) in cases {
            for enough in [20_000, 100] {
                assert_eq!(rows(&filter, enough), expected.min(enough), "{filter:?} up to {enough}");
            }
        }
    });
}

#[test]
fn many_files_are_not_looked_at() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        let meta = world.region.meta();
        let mut options = meta.options.clone();
        options.insert("compaction.twcs.trigger_file_num".into(), "1000".into());
        let schema_after = Arc::new(meta.schema.evolve(&[], &meta.partition_columns).unwrap());
        let (database, table) = (meta.database.clone(), meta.table.clone());
        world.region.alter(&Alteration { database, table, schema: schema_after, options }).await.unwrap();
        for from in 0..17 {
            world.write(OpType::Put, &points(10, 0, 10, from as f64)).await;
            world.region.flush().await.unwrap();
        }
        let nobody = compare(1, CompareOp::Eq, Value::String("h00003x".to_owned()));
        world.rows(ScanRequest::default()).await;
        assert_eq!(world.region.info().files, 17);
        assert_eq!(world.region.estimate_rows(&schema(), &nobody, 5_000), 1_700);
    });
}
