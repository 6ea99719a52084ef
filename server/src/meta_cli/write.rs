//! `put` and `del`.

use std::io::Read;

use serde::Serialize;
use tessera_metaclient::kv::{Compare, Key, KeyRange, Op, OpAnswer, RangeRequest, Txn};

use super::args::{DelArgs, PutArgs};
use super::entry::{check_force, kind_of_key, value_of_text};
use super::target::{Target, failed};
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};

/// What a write did.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    /// Whether it was done; not, when a condition does not hold.
    done: bool,
    /// Keys that were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
    /// The revision after it.
    revision: u64,
}

impl View for Done {
    fn text(&self) -> String {
        match self {
            Self { done: false, revision, .. } => format!("not done: the key has another version, at revision {revision}\n"),
            Self { deleted: Some(deleted), revision, .. } => format!("deleted {deleted} keys, revision {revision}\n"),
            Self { deleted: None, revision, .. } => format!("written, revision {revision}\n"),
        }
    }

    fn exit(&self) -> Exit {
        if self.done && self.deleted != Some(0) { Exit::Ok } else { Exit::Failed }
    }
}

/// What was given as a value: itself, or what stands on standard input.
pub(super) fn given(text: &str) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
    Ok(input)
}

pub(super) async fn put(args: &PutArgs) -> Result<Done, Failure> {
    let key = Key::from(args.key.as_str());
    check_force(&key, args.force)?;
    let value = value_of_text(&key, &given(&args.value)?)?;
    let target = Target::open(&args.target).await?;
    let mut txn = Txn::new().then([Op::put(key.clone(), value)]);
    if let Some(version) = args.if_version {
        txn = txn.when(Compare::Version { key, version });
    }
    let answer = target.kv.txn(txn).await.map_err(|error| failed(&error))?;
    Ok(Done { done: answer.succeeded, deleted: None, revision: answer.revision.0 })
}

pub(super) async fn del(args: &DelArgs) -> Result<Done, Failure> {
    let key = Key::from(args.key.as_str());
    let target = Target::open(&args.target).await?;
    let op = if args.prefix {
        let range = KeyRange::prefix(key);
        if !args.force {
            refuse_ours(&target, &range).await?;
        }
        Op::DeleteRange { range }
    } else {
        check_force(&key, args.force)?;
        Op::delete(key)
    };
    let answer = target.kv.txn(Txn::new().then([op])).await.map_err(|error| failed(&error))?;
    let deleted = match answer.answers.first() {
        Some(OpAnswer::Delete { deleted }) => *deleted,
        _ => 0,
    };
    Ok(Done { done: true, deleted: Some(deleted), revision: answer.revision.0 })
}

/// Refuses a range that holds a key of ours.
async fn refuse_ours(target: &Target, range: &KeyRange) -> Result<(), Failure> {
    let mut request = RangeRequest::new(range.clone());
    loop {
        let page = target.kv.range(&request).await.map_err(|error| failed(&error))?;
        if let Some(ours) = page.entries.iter().find(|entry| kind_of_key(&entry.key).is_some()) {
            return check_force(&ours.key, false);
        }
        match page.entries.last() {
            Some(last) if page.more => request.range.start = last.key.successor(),
            _ => return Ok(()),
        }
    }
}
