//! Transactions and values from texts.

use clap::Parser;
use serde_json::json;
use tessera_metaclient::kv::{Compare, Key, KeyRange, Op, Revision, Txn};

use super::args::{MetaArgs, TxnArgs, Verb};
use super::entry::{value_of_json, value_of_text};
use super::txn::plan;
use crate::cli::Exit;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    meta: MetaArgs,
}

fn txn_args(words: &[&str]) -> TxnArgs {
    let line = Line::try_parse_from([&["meta", "txn", "home"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
    match line.meta.verb {
        Verb::Txn(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_and_json_say_the_same_transaction() {
    let words = [
        "--if",
        "absent:a",
        "--if",
        "exists:b",
        "--if",
        "version:c=3",
        "--if",
        "mod-revision:d=4",
        "--if",
        "value:e=x=y",
        "--if",
        "prefix-empty:f/",
        "--then",
        "put:a=1:2",
        "--then",
        "del:b",
        "--then",
        "list:f/",
        "--else",
        "get:a",
        "--else",
        "del-prefix:g/",
        "--force",
    ];
    let expected = Txn {
        compares: vec![
            Compare::Absent { key: "a".into() },
            Compare::Exists { key: "b".into() },
            Compare::Version { key: "c".into(), version: 3 },
            Compare::ModRevision { key: "d".into(), revision: Revision(4) },
            Compare::Value { key: "e".into(), value: "x=y".into() },
            Compare::PrefixEmpty { prefix: "f/".into() },
        ],
        ..Txn::new()
            .then([
                Op::put("a", "1:2"),
                Op::delete("b"),
                Op::Range { request: tessera_metaclient::kv::RangeRequest::new(KeyRange::prefix("f/")) },
            ])
            .otherwise([Op::get("a"), Op::DeleteRange { range: KeyRange::prefix("g/") }])
    };
    assert_eq!(plan(&txn_args(&words)).unwrap(), expected);
    let script = json!({
        "if": [{"absent": "a"}, {"exists": "b"}, {"version": {"key": "c", "is": 3}}, {"mod_revision": {"key": "d", "is": 4}},
               {"value": {"key": "e", "value": "x=y"}}, {"prefix_empty": "f/"}],
        "then": [{"put": {"key": "a", "value": "1:2"}}, {"del": "b"}, {"list": "f/"}],
        "else": [{"get": "a"}, {"del_prefix": "g/"}]
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script.to_string()).unwrap();
    assert_eq!(plan(&txn_args(&[file.path().to_str().unwrap(), "--force"])).unwrap(), expected);
}

#[test]
fn what_is_no_transaction_is_refused_and_says_why() {
    for (words, part) in [
        (&[][..], "does nothing"),
        (&["--then", "put:a"], "WHAT:KEY=VALUE"),
        (&["--then", "a"], "WHAT:KEY"),
        (&["--then", "rename:a"], "no operation"),
        (&["--if", "newer:a", "--then", "get:a"], "no condition"),
        (&["--if", "version:a=x", "--then", "get:a"], "no number"),
        (&["--then", "put:sequence/table=7", "--force"], "is no sequence"),
    ] {
        let failure = plan(&txn_args(words)).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{words:?}");
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn keys_of_the_cluster_want_force() {
    for words in [["--then", "put:sequence/table={\"next\":7}"], ["--else", "del:switch/recovery"], ["--then", "del-prefix:x"]] {
        let failure = plan(&txn_args(&words)).unwrap_err();
        assert!(failure.exit == Exit::Failed && failure.message.contains("--force"), "{}", failure.message);
        let forced = [&words[..], &["--force"]].concat();
        plan(&txn_args(&forced)).unwrap();
    }
    plan(&txn_args(&["--then", "get:sequence/table", "--then", "del:mine"])).unwrap();
}

#[test]
fn values_are_checked_under_keys_of_ours_and_kept_as_they_are_under_others() {
    let (ours, other) = (Key::from("sequence/table"), Key::from("mine"));
    assert_eq!(value_of_text(&other, "{not json").unwrap(), b"{not json");
    assert_eq!(value_of_json(&other, json!("text")).unwrap(), b"text");
    assert_eq!(value_of_json(&other, json!({"a": 1})).unwrap(), br#"{"a":1}"#);
    let stored = value_of_text(&ours, r#"{"next": 7}"#).unwrap();
    let entry =
        json!({"key": "sequence/table", "kind": "sequence", "value": {"ver": 1, "min_reader_ver": 1, "next": 7}, "mod_revision": 3});
    assert_eq!(value_of_json(&ours, entry).unwrap(), stored, "what get --json prints can be put");
    for text in ["7", "{}", r#"{"next": -1}"#, "{not json"] {
        assert!(value_of_text(&ours, text).is_err(), "{text}");
    }
}
