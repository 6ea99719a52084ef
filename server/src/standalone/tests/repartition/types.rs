//! Partition columns of each type, with NULL, NaN, signed zeros and boundaries.

use super::*;

/// Splits a table by a column of a type at some literal and merges it again; in between every row must be in the region
/// that the order of values says: NULL lowest, NaN highest.
async fn split_by(data_type: &str, values: &[&str], at: &str, below: usize) {
    let (_world, session) = Session::fresh().await;
    session.run(&format!("CREATE TABLE t (p {data_type}, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (p))")).await;
    let rows: Vec<String> = values.iter().zip(0..).map(|(value, n)| format!("({value}, {n}, {n})")).collect();
    session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    session.rows("ADMIN flush_table('t')").await;
    let all = "SELECT v FROM t ORDER BY v";
    let before = session.rows(all).await;
    assert_eq!(before.len(), values.len(), "{data_type}");
    session.repartition(&format!("ALTER TABLE t PARTITION ON COLUMNS (p) (p < {at}, p >= {at})")).await;
    assert_eq!(session.rows(all).await, before, "{data_type}");
    let mut counts = Vec::new();
    let table = session.server.catalogs.table("public", "t").await.unwrap();
    for route in table.routes() {
        let region = session.server.catalogs.engine.region(route.region).unwrap();
        let scan = region.scan(tessera_engine::request::ScanRequest::default()).await.unwrap();
        let batches: Vec<RecordBatch> = scan.into_stream().try_collect().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let is_below = route.rule.display(&table.info.schema).to_string().contains('<');
        counts.push((is_below, rows));
    }
    counts.sort_unstable();
    assert_eq!(counts, [(false, values.len() - below), (true, below)], "{data_type}");
    // Rows of both sides can be replaced where they are now.
    session.run(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    assert_eq!(session.rows(all).await, before, "{data_type}");
    session.repartition(&format!("ALTER TABLE t MERGE PARTITION (p < {at}, p >= {at})")).await;
    assert_eq!(session.rows(all).await, before, "{data_type}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_columns_may_be_of_any_type() {
    split_by("BOOLEAN", &["NULL", "false", "true"], "true", 2).await;
    split_by("TINYINT", &["NULL", "-128", "0", "127"], "0", 2).await;
    split_by("BIGINT UNSIGNED", &["NULL", "0", "18446744073709551615"], "18446744073709551615", 2).await;
    split_by("BIGINT", &["-9223372036854775808", "0", "9223372036854775807"], "0", 1).await;
    split_by("DATE", &["NULL", "'1969-12-31'", "'1970-01-01'", "'2020-02-29'"], "'1970-01-01'", 2).await;
    split_by("TIMESTAMP(9)", &["NULL", "0", "1", "2"], "1", 2).await;
    split_by("DECIMAL(10, 2)", &["NULL", "'-0.01'", "'0.00'", "'0.01'"], "0.00", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floats_are_cut_with_zeros_together_and_nan_on_top() {
    let values = ["NULL", "'-inf'", "-0.5", "0.5", "'inf'", "'NaN'"];
    split_by("DOUBLE", &values, "0.0", 3).await;
    split_by("FLOAT", &values, "0.5", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strings_are_cut_by_their_bytes() {
    let values = ["NULL", "''", "'M'", "'m'", "'m '", "'mä'", "'n'", "'ü'"];
    split_by("STRING", &values, "'m'", 3).await;
    split_by("STRING", &values, "''", 1).await;
}
