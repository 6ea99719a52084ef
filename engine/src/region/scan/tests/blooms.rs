//! Bloom filters of columns, from the option to the rows that are not read.

use super::*;
use crate::options::SkippingIndex;
use crate::request::Alteration;

async fn index(world: &World, column: u32, index: Option<SkippingIndex>) {
    let meta = world.region.meta();
    let mut options = meta.options.clone();
    options.remove(&SkippingIndex::option_name(ColumnId(column)));
    options.extend(index.map(|index| (SkippingIndex::option_name(ColumnId(column)), index.option_value())));
    let schema = Arc::new(meta.schema.evolve(&[], &[]).unwrap());
    let to = Alteration { database: meta.database.clone(), table: meta.table.clone(), schema, options };
    world.region.alter(&to).await.unwrap();
}

fn traces(from: i64) -> Vec<Vec<Value>> {
    let mut rows = points(4, from, from + 500, 1.0);
    for (n, row) in rows.iter_mut().enumerate() {
        row[3] = Value::String(format!("{:016x}", (from as u64 * 4 + n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    }
    rows
}

#[test]
fn rows_of_a_value_that_no_bloom_filter_has_are_not_read() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        // A file before the column has an index, one with it, and one after it has lost it.
        for (from, set) in [(0, None), (1_000, Some(SkippingIndex::DEFAULT)), (2_000, None)] {
            index(&world, 3, set).await;
            world.write(OpType::Put, &traces(from)).await;
            world.region.flush().await.unwrap();
        }
        // Between the least and the greatest trace of each file.
        let absent = Value::String("8000000000000000".into());
        for (from, is_read) in [(0, true), (1_000, false), (2_000, true)] {
            let within = Expr::And(vec![
                compare(2, CompareOp::GtEq, Value::Timestamp(from)),
                compare(2, CompareOp::Lt, Value::Timestamp(from + 500)),
            ]);
            let equals =
                |value: Value| ScanRequest { filter: within.clone().and(compare(3, CompareOp::Eq, value)), ..ScanRequest::default() };
            let scan = world.region.scan(equals(absent.clone())).await.unwrap();
            let rows = rows_of(&scan.stream(0).try_collect::<Vec<_>>().await.unwrap());
            assert!(rows.iter().all(|row| row[3] != absent));
            assert_eq!((scan.files.len(), scan.memory().1 > 0), (1, is_read), "the file from {from}");
            for row in traces(from).iter().step_by(97) {
                let found = world.rows(equals(row[3].clone())).await;
                assert_eq!(found.iter().filter(|found| found[3] == row[3]).collect::<Vec<_>>(), [row]);
            }
        }
    });
}

#[test]
fn rows_that_newer_ones_replace_do_not_come_back_where_a_bloom_filter_leaves_these_out() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        index(&world, 3, Some(SkippingIndex::DEFAULT)).await;
        for text in ["old", "new"] {
            let mut rows = points(2, 0, 3, 1.0);
            rows.iter_mut().for_each(|row| row[3] = Value::String(text.into()));
            world.write(OpType::Put, &rows).await;
            world.region.flush().await.unwrap();
        }
        let equals = |text: &str| ScanRequest { filter: compare(3, CompareOp::Eq, Value::String(text.into())), ..ScanRequest::default() };
        assert!(world.rows(equals("old")).await.iter().all(|row| row[3] == Value::String("new".into())));
        assert_eq!(world.rows(equals("new")).await.len(), 6);
    });
}
