//! Every metric is explained to who operates a server.

use std::collections::BTreeSet;
use std::fs;

use super::{Source, expect_none, root, sources};

/// How names of metrics end.
const ENDS: [&str; 6] = ["_total", "_seconds", "_bytes", "_records", "_hours", "_amplification"];

/// The metrics that a file names.
fn metrics_of(source: &Source) -> BTreeSet<String> {
    let texts = source.text.split('"').skip(1).step_by(2);
    let is_metric = |text: &&str| {
        let word = text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        word && text.starts_with("tessera_") && ENDS.iter().any(|end| text.ends_with(end))
    };
    texts.filter(is_metric).map(str::to_owned).collect()
}

/// The metrics that a text does not explain.
fn unexplained(metrics: &BTreeSet<String>, text: &str) -> Vec<String> {
    let named = |metric: &&String| ["`", "{"].iter().any(|end| text.contains(&format!("`{metric}{end}")));
    let complain = |metric| format!("{metric} is not in docs/operations.md: say what it counts");
    metrics.iter().filter(|metric| !named(metric)).map(complain).collect()
}

#[test]
fn every_metric_is_explained() {
    let product = |source: &&Source| source.path.contains("/src/") && !source.path.starts_with("tests/");
    let metrics: BTreeSet<String> = sources().iter().filter(product).flat_map(metrics_of).collect();
    assert!(metrics.len() > 30, "{metrics:?}");
    expect_none(&unexplained(&metrics, &fs::read_to_string(root().join("docs/operations.md")).unwrap()));
}

#[test]
fn a_metric_that_nothing_explains_is_found() {
    let text = "metrics::counter!(\"tessera_a_total\", \"b\" => \"tessera_b\"); gauge!(\"tessera_c_bytes\")";
    let metrics = metrics_of(&Source { path: "a.rs".to_owned(), text: text.to_owned() });
    assert_eq!(metrics.iter().map(String::as_str).collect::<Vec<_>>(), ["tessera_a_total", "tessera_c_bytes"]);
    assert_eq!(unexplained(&metrics, "`tessera_a_total{b}`, `tessera_c_bytes_total`").len(), 1);
}
