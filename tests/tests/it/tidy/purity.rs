//! Modules that are declared pure: no I/O, no clock, no randomness, no tasks.

use super::source::{code_of, without_tests, words};
use super::{Source, expect_none, sources};

/// Files, and folders with all their files, that hold what must be right. Their tests may use what they like.
const PURE: &[&str] = &[
    "manifest/src/id.rs",
    "manifest/src/value.rs",
    "manifest/src/schema.rs",
    "manifest/src/rule/",
    "manifest/src/wal.rs",
    "manifest/src/file.rs",
    "manifest/src/meta.rs",
    "manifest/src/set_hash.rs",
    "manifest/src/action.rs",
    "manifest/src/state.rs",
    "manifest/src/state/",
    "manifest/src/checkpoint/dirty.rs",
    "manifest/src/checkpoint/plan.rs",
    "manifest/src/checkpoint/root.rs",
    "manifest/src/checkpoint/segment.rs",
    "manifest/src/log/rollback.rs",
    "manifest/src/probe/judge.rs",
    "manifest/src/format.rs",
    "manifest/src/body.rs",
    "manifest/src/limits.rs",
    "manifest/src/slot/record.rs",
    "manifest/src/slot/attempt.rs",
    "engine/src/codec/",
    "engine/src/memtable/",
    "engine/src/merge/key.rs",
    "engine/src/merge/value.rs",
    "engine/src/merge/layout.rs",
    "engine/src/sst/prune.rs",
    "engine/src/sst/stats.rs",
    "engine/src/wal/frame.rs",
    "engine/src/wal/header.rs",
    "engine/src/compaction/pick.rs",
    "engine/src/compaction/window.rs",
    "engine/src/scheduler/queue.rs",
    "engine/src/config.rs",
    "engine/src/limits.rs",
    "metaclient/src/kv/interpret.rs",
    "metaclient/src/kv/key.rs",
    "metaclient/src/kv/txn.rs",
    "metaclient/src/kv/etcd/convert.rs",
    "metaclient/src/kv_tools/verify/judge.rs",
    "metaclient/src/kv_tools/verify/ledger.rs",
    "metaclient/src/keys.rs",
    "metaclient/src/layout.rs",
    "metaclient/src/values/",
    "metaclient/src/catalog/model.rs",
    "metaclient/src/limits.rs",
    "server/src/sql/",
    "server/src/config/layers.rs",
    "server/src/config/keys.rs",
    "server/src/query/filter.rs",
    "server/src/query/rules.rs",
    "server/src/error.rs",
    "server/src/doctor/check.rs",
    "tests/model/src/explore.rs",
    "tests/model/src/fingerprint.rs",
    "tests/model/src/guard.rs",
    "tests/model/src/scenario.rs",
    "tests/model/src/world/",
];

/// Names that a pure module has no use for.
const IMPURE: &[&str] = &["tokio", "object_store", "SystemTime", "Instant", "Stopwatch", "env", "rand", "fs", "async", "thread"];

fn is_pure(path: &str) -> bool {
    let in_tests = path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs");
    let declared = |pure: &str| path == pure || (pure.ends_with('/') && path.starts_with(pure));
    !in_tests && PURE.iter().any(|pure| declared(pure))
}

fn impurities(source: &Source) -> Vec<String> {
    let code = code_of(&source.text);
    let code = without_tests(&code);
    // A method or a field may be called `env`; the module stands in a path.
    let in_path = |at: &usize| code[..*at].ends_with("::") || code[*at..].starts_with("env::");
    let names = |name: &&&str| words(code, name).iter().any(|at| **name != "env" || in_path(at));
    IMPURE.iter().filter(names).map(|name| format!("{} is declared pure and names {name}", source.path)).collect()
}

#[test]
fn modules_declared_pure_do_no_io_and_know_no_clock() {
    let pure: Vec<Source> = sources().into_iter().filter(|source| is_pure(&source.path)).collect();
    for declared in PURE {
        assert!(pure.iter().any(|source| source.path.starts_with(declared)), "{declared} is gone: take it off the list");
    }
    expect_none(&pure.iter().flat_map(impurities).collect::<Vec<_>>());
}

#[test]
fn an_impure_module_is_found() {
    let source = |text: &str| Source { path: "manifest/src/id.rs".to_owned(), text: text.to_owned() };
    for text in [
        "use tokio::sync::Mutex;",
        "let now = std::time::SystemTime::now();",
        "env::nonce()",
        "object_store::path::Path",
        "async fn f() {}",
    ] {
        assert_eq!(impurities(&source(text)).len(), 1, "{text}");
    }
    assert!(impurities(&source("// tokio\nlet my_env = key.env();\n#[cfg(test)]\nmod tests {\n    use tokio::test;\n}\n")).is_empty());
    assert!(is_pure("manifest/src/rule/parse.rs") && !is_pure("manifest/src/rule/tests/text.rs") && !is_pure("manifest/src/log.rs"));
}
