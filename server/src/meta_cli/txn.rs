//! `txn`.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tessera_metaclient::kv::{Compare, Key, KeyRange, Op, OpAnswer, RangeRequest, Revision, Txn, TxnAnswer};

use super::args::TxnArgs;
use super::entry::{EntryView, check_force, value_of_json, value_of_text};
use super::target::{Target, failed};
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};

/// A transaction as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default, rename = "if")]
    conditions: Vec<Condition>,
    #[serde(default)]
    then: Vec<Operation>,
    #[serde(default, rename = "else")]
    otherwise: Vec<Operation>,
}

/// A number that something of a key must have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Is {
    key: String,
    is: u64,
}

/// A key and a value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    Absent(String),
    Exists(String),
    Version(Is),
    ModRevision(Is),
    Value(KeyValue),
    PrefixEmpty(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operation {
    Get(String),
    List(String),
    Put(KeyValue),
    Del(String),
    DelPrefix(String),
}

/// What a transaction did.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Whether the conditions held, that is which branch was done.
    succeeded: bool,
    /// The revision after it.
    revision: u64,
    /// What each operation of that branch answers.
    answers: Vec<AnswerView>,
}

/// What an operation answers.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum AnswerView {
    Get { entry: Option<EntryView> },
    List { entries: Vec<EntryView>, more: bool },
    Put,
    Del { deleted: u64 },
}

impl From<TxnAnswer> for Outcome {
    fn from(answer: TxnAnswer) -> Self {
        let view = |answer: OpAnswer| match answer {
            OpAnswer::Get(entry) => AnswerView::Get { entry: entry.as_ref().map(EntryView::new) },
            OpAnswer::Range { entries, more } => AnswerView::List { entries: entries.iter().map(EntryView::new).collect(), more },
            OpAnswer::Put => AnswerView::Put,
            OpAnswer::Delete { deleted } => AnswerView::Del { deleted },
        };
        Self { succeeded: answer.succeeded, revision: answer.revision.0, answers: answer.answers.into_iter().map(view).collect() }
    }
}

impl View for Outcome {
    fn text(&self) -> String {
        let branch = if self.succeeded { "the conditions hold: then" } else { "the conditions do not hold: else" };
        let mut text = format!("{branch}, revision {}\n", self.revision);
        for answer in &self.answers {
            match answer {
                AnswerView::Get { entry: None } => text.push_str("get: absent\n"),
                AnswerView::Get { entry: Some(entry) } => text.push_str(&format!("get: {}\n", entry.line())),
                AnswerView::List { entries, more } => {
                    let more = if *more { ", and more" } else { "" };
                    text.push_str(&format!("list: {} keys{more}\n", entries.len()));
                    entries.iter().for_each(|entry| text.push_str(&format!("  {}\n", entry.line())));
                }
                AnswerView::Put => text.push_str("put: written\n"),
                AnswerView::Del { deleted } => text.push_str(&format!("del: {deleted} keys\n")),
            }
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.succeeded { Exit::Ok } else { Exit::Failed }
    }
}

pub(super) async fn run(args: &TxnArgs) -> Result<Outcome, Failure> {
    let txn = plan(args)?;
    let target = Target::open(&args.target).await?;
    let answer = target.kv.txn(txn).await.map_err(|error| failed(&error))?;
    Ok(answer.into())
}

/// The transaction that the arguments say.
pub(super) fn plan(args: &TxnArgs) -> Result<Txn, Failure> {
    let txn = match &args.file {
        Some(file) => of_script(read(file)?)?,
        None => {
            let conditions: Vec<Compare> = args.conditions.iter().map(|text| condition(text)).collect::<Result<_, _>>()?;
            let ops = |texts: &[String]| texts.iter().map(|text| operation(text)).collect::<Result<Vec<_>, _>>();
            Txn { compares: conditions, ..Txn::new().then(ops(&args.then)?).otherwise(ops(&args.otherwise)?) }
        }
    };
    if txn.then_ops.is_empty() && txn.else_ops.is_empty() {
        return Err(Failure::usage("a transaction that does nothing: give operations with --then and --else, or a FILE"));
    }
    txn.then_ops.iter().chain(&txn.else_ops).try_for_each(|op| check(op, args.force))?;
    Ok(txn)
}

fn check(op: &Op, force: bool) -> Result<(), Failure> {
    match op {
        Op::Get { .. } | Op::Range { .. } => Ok(()),
        Op::Put { key, .. } | Op::Delete { key } => check_force(key, force),
        Op::DeleteRange { .. } if force => Ok(()),
        Op::DeleteRange { range } => {
            Err(Failure::failed(format!("del-prefix of {range} in a transaction may delete keys of the cluster: --force if you mean it")))
        }
    }
}

fn read(file: &Path) -> Result<Script, Failure> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = text.map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| Failure::usage(format!("{} is no transaction: {error}", file.display())))
}

fn of_script(script: Script) -> Result<Txn, Failure> {
    let Script { conditions, then, otherwise } = script;
    let compares = conditions.into_iter().map(compare_of).collect::<Result<_, _>>()?;
    let ops = |operations: Vec<Operation>| operations.into_iter().map(op_of).collect::<Result<Vec<_>, _>>();
    Ok(Txn { compares, ..Txn::new().then(ops(then)?).otherwise(ops(otherwise)?) })
}

fn compare_of(condition: Condition) -> Result<Compare, Failure> {
    Ok(match condition {
        Condition::Absent(key) => Compare::Absent { key: key.into() },
        Condition::Exists(key) => Compare::Exists { key: key.into() },
        Condition::Version(Is { key, is }) => Compare::Version { key: key.into(), version: is },
        Condition::ModRevision(Is { key, is }) => Compare::ModRevision { key: key.into(), revision: Revision(is) },
        Condition::Value(KeyValue { key, value }) => {
            let key = Key::from(key);
            Compare::Value { value: value_of_json(&key, value)?.into(), key }
        }
        Condition::PrefixEmpty(prefix) => Compare::PrefixEmpty { prefix: prefix.into() },
    })
}

fn op_of(operation: Operation) -> Result<Op, Failure> {
    Ok(match operation {
        Operation::Get(key) => Op::get(key),
        Operation::List(prefix) => Op::Range { request: RangeRequest::new(KeyRange::prefix(prefix)) },
        Operation::Put(KeyValue { key, value }) => {
            let key = Key::from(key);
            let value = value_of_json(&key, value)?;
            Op::put(key, value)
        }
        Operation::Del(key) => Op::delete(key),
        Operation::DelPrefix(prefix) => Op::DeleteRange { range: KeyRange::prefix(prefix) },
    })
}

/// A condition on the command line.
fn condition(text: &str) -> Result<Compare, Failure> {
    let (name, rest) = split(text)?;
    let number = || -> Result<(String, u64), Failure> {
        let (key, number) = assignment(text, rest)?;
        let number = number.parse().map_err(|_| Failure::usage(format!("'{number}' in '{text}' is no number")))?;
        Ok((key.to_owned(), number))
    };
    Ok(match name {
        "absent" => Compare::Absent { key: rest.into() },
        "exists" => Compare::Exists { key: rest.into() },
        "version" => number().map(|(key, version)| Compare::Version { key: key.into(), version })?,
        "mod-revision" => number().map(|(key, revision)| Compare::ModRevision { key: key.into(), revision: Revision(revision) })?,
        "value" => {
            let (key, value) = assignment(text, rest)?;
            let key = Key::from(key);
            Compare::Value { value: value_of_text(&key, value)?.into(), key }
        }
        "prefix-empty" => Compare::PrefixEmpty { prefix: rest.into() },
        _ => {
            return Err(Failure::usage(format!(
                "'{name}' in '{text}' is no condition: absent, exists, version, mod-revision, value, prefix-empty"
            )));
        }
    })
}

/// An operation on the command line.
fn operation(text: &str) -> Result<Op, Failure> {
    let (name, rest) = split(text)?;
    Ok(match name {
        "get" => Op::get(rest),
        "list" => Op::Range { request: RangeRequest::new(KeyRange::prefix(rest)) },
        "put" => {
            let (key, value) = assignment(text, rest)?;
            let key = Key::from(key);
            let value = value_of_text(&key, value)?;
            Op::put(key, value)
        }
        "del" => Op::delete(rest),
        "del-prefix" => Op::DeleteRange { range: KeyRange::prefix(rest) },
        _ => return Err(Failure::usage(format!("'{name}' in '{text}' is no operation: get, list, put, del, del-prefix"))),
    })
}

fn split(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once(':').ok_or_else(|| Failure::usage(format!("'{text}' has not the form WHAT:KEY")))
}

fn assignment<'a>(text: &str, rest: &'a str) -> Result<(&'a str, &'a str), Failure> {
    rest.split_once('=').ok_or_else(|| Failure::usage(format!("'{text}' has not the form WHAT:KEY=VALUE")))
}
