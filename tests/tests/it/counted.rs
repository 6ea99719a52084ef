//! What the engine does is counted where an operator looks: `GET /metrics`.

use std::collections::BTreeMap;

use tempfile::TempDir;

use crate::support::Server;

/// The value of each series of metrics, by name and labels as they are shown.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let text = server.metrics();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[track_caller]
fn value(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    *metrics.get(name).unwrap_or_else(|| panic!("there is no {name} in {metrics:#?}"))
}

#[test]
fn flushes_compactions_caches_blooms_and_rules_are_counted() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(
        "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, trace STRING SKIPPING INDEX, PRIMARY KEY (host)) \
         PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')",
    );
    for round in 0..3 {
        let row =
            |n: i64| format!("('{}', {}, {n}, 'trace-{}')", ["a", "c", "x"][(n % 3) as usize], n % 50 * 1000, n * 7919 % 1009 + round);
        let rows: Vec<String> = (0..300).map(row).collect();
        server.run(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
        server.lines("ADMIN flush_table('t')");
    }
    let before = metrics(&server);
    assert!(value(&before, "tessera_flush_written_bytes_total") > 0.0);
    assert!(
        (value(&before, "tessera_write_amplification") - 1.0).abs() < 1e-9
            || value(&before, "tessera_compaction_written_bytes_total") > 0.0
    );
    server.lines("ADMIN compact_table('t', 'strict_window')");
    let compacted = metrics(&server);
    assert!(value(&compacted, "tessera_compaction_written_bytes_total") > 0.0);
    let (written, flushed) =
        (value(&compacted, "tessera_compaction_written_bytes_total"), value(&compacted, "tessera_flush_written_bytes_total"));
    let amplification = value(&compacted, "tessera_write_amplification");
    assert!((amplification - (written + flushed) / flushed).abs() < 1e-9, "{amplification}");
    assert!(value(&before, "tessera_space_amplification") > 1.5, "three files of the same rows");
    assert!((value(&compacted, "tessera_space_amplification") - 1.0).abs() < 1e-9, "one file of them");
    // A trace that is between those that there are, and is not there.
    assert_eq!(server.line("SELECT count(*) FROM t WHERE trace = 'trace-50x'"), "0");
    for _ in 0..2 {
        assert_eq!(server.line("SELECT count(*) FROM t WHERE host = 'a'"), "50");
    }
    server.lines("ALTER TABLE t SPLIT PARTITION (host < 'm') INTO (host < 'b', host >= 'b' AND host < 'm') WITH (localize = false)");
    let plan = server.lines("EXPLAIN ANALYZE SELECT sum(v) FROM t").join("\n");
    assert!(plan.contains("rule_tested=") || plan.contains("rule_elided="), "{plan}");
    let after = metrics(&server);
    assert!(value(&after, "tessera_scan_row_groups_bloom_skipped_total") >= 1.0);
    assert!(after.iter().any(|(name, count)| name.starts_with("tessera_rule_files_total{") && *count > 0.0), "{after:#?}");
    assert!(value(&after, "tessera_rule_rows_tested_total") > 0.0);
    for cache in ["metadata", "bloom", "range"] {
        let of = |what: &str| after.get(&format!("tessera_cache_{what}_total{{cache=\"{cache}\"}}")).copied().unwrap_or(0.0);
        assert!(of("hits") + of("misses") > 0.0, "{cache}: {after:#?}");
    }
}
