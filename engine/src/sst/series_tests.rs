//! The series of a row group from runs of tags, beside those from each row.

use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::*;
use crate::memtable::Memtable;
use crate::merge::fixtures::{MS, batch, block_on, column, memory, new_file, reference, sequence};
use crate::merge::{Dedup, Layout};
use crate::request::OpType;
use crate::sst::{ReadOptions, flush};

fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "n", DataType::Int16, SemanticType::Tag),
        column(2, "x", DataType::Float64, SemanticType::Tag),
        column(3, "ts", MS, SemanticType::TimeIndex),
        column(4, "v", DataType::Float64, SemanticType::Field),
        column(5, "never", DataType::String, SemanticType::Tag),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0), ColumnId(1), ColumnId(2), ColumnId(5)]).unwrap())
}

/// A host, a number and a float that may be zero of either sign or no number, each or NULL.
fn tags() -> impl Strategy<Value = [Value; 3]> {
    let host = prop::option::weighted(0.9, "[a-dü]{0,2}").prop_map(|host| host.map_or(Value::Null, Value::String));
    let number = prop::option::weighted(0.9, -3..4_i64).prop_map(|number| number.map_or(Value::Null, Value::Int));
    let float = prop_oneof![
        Just(Value::Null),
        prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(-f64::NAN), Just(1.5)].prop_map(Value::Float)
    ];
    (host, number, float).prop_map(|(host, number, float)| [host, number, float])
}

/// The key of each row.
fn keys(found: &Found, tags: &[&tessera_manifest::schema::Column], encoder: &KeyEncoder, rows: usize) -> Vec<Vec<u8>> {
    let columns = tags.iter().zip(&found.columns).map(|(tag, found)| conform_column(tag, Some(found), found.len()).unwrap()).collect();
    let table = SeriesTable::new(encoder, columns).unwrap();
    let ends = found.firsts.iter().skip(1).copied().chain([rows as u32]);
    let mut keys = Vec::new();
    for Stretch { series, end } in Stretches::join(&table, (0..).zip(ends).map(|(series, end)| Stretch { series, end })) {
        assert!(keys.len() < end as usize && keys.last().is_none_or(|last: &Vec<u8>| last.as_slice() < table.key(series)));
        keys.resize(end as usize, table.key(series).to_vec());
    }
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn runs_and_rows_have_the_same_keys(series in prop::collection::vec((tags(), 1_usize..60), 1..40), group_rows in 1_usize..200) {
        block_on(async {
            let schema = schema();
            let row = |[host, number, float]: &[Value; 3], at: usize| {
                vec![host.clone(), number.clone(), float.clone(), Value::Timestamp(at as i64), Value::Float(at as f64), Value::Null]
            };
            let rows: Vec<Vec<Value>> = series.iter().flat_map(|(tags, points)| (0..*points).map(move |at| row(tags, at))).collect();
            let (_, access) = memory(group_rows);
            let memtable = Memtable::new(Arc::clone(&schema));
            memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
            let file = new_file(&schema);
            let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
            let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
            let options = ReadOptions { layout, filter: Arc::new(Expr::always()) };
            let read = access.scan(&reference(&file, meta), &options).await.unwrap().read;
            let tags = read.tag_columns();
            let encoder = KeyEncoder::new(tags.iter().map(|tag| tag.data_type.to_arrow())).unwrap();
            let stored: Vec<(usize, usize)> =
                tags.iter().enumerate().filter_map(|(tag, column)| Some((tag, read.footer.leaf(column.id)?))).collect();
            assert_eq!(stored.len(), 4);
            for group in 0..read.footer.reader.metadata().num_row_groups() {
                let count = read.footer.rows_of(group);
                let by_runs = read.tags_by_runs(group, &stored).await.unwrap().expect("all tags have dictionaries");
                let by_rows = read.tags_by_rows(group, &stored).await.unwrap();
                let by_runs = keys(&by_runs, &tags, &encoder, count);
                assert_eq!(by_runs.len(), count);
                assert_eq!(by_runs, keys(&by_rows, &tags, &encoder, count), "row group {group}");
            }
        });
    }
}
