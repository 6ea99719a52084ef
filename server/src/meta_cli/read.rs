//! `get` and `list`.

use std::io::{self, Write};

use serde::Serialize;
use tessera_metaclient::kv::{Entry, Key, KeyRange, RangeRequest};

use super::args::{GetArgs, ListArgs};
use super::entry::{EntryView, shown};
use super::target::{Target, failed};
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};

/// What a key holds.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Got {
    entry: EntryView,
}

impl View for Got {
    fn text(&self) -> String {
        self.entry.text()
    }

    fn exit(&self) -> Exit {
        if self.entry.error.is_none() { Exit::Ok } else { Exit::Failed }
    }
}

async fn read(target: &str, key: &str) -> Result<Entry, Failure> {
    let target = Target::open(target).await?;
    let found = target.kv.get(&Key::from(key)).await.map_err(|error| failed(&error))?;
    found.entry.ok_or_else(|| Failure::failed(format!("there is no key '{key}'")))
}

pub(super) async fn get(args: &GetArgs) -> Result<Got, Failure> {
    Ok(Got { entry: EntryView::new(&read(&args.target, &args.key).await?) })
}

/// Writes the stored bytes to stdout.
pub(super) async fn raw(args: &GetArgs) -> Result<Exit, Failure> {
    let entry = read(&args.target, &args.key).await?;
    written(io::stdout().write_all(&entry.value))
}

/// How a write to stdout ended.
pub(super) fn written(result: io::Result<()>) -> Result<Exit, Failure> {
    match result {
        Ok(()) => Ok(Exit::Ok),
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(error) => Err(Failure::failed(format!("cannot write: {error}"))),
    }
}

/// Prints a range page by page.
pub(super) async fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let target = Target::open(&args.target).await?;
    let mut request = RangeRequest::new(KeyRange::prefix(args.prefix.as_str()));
    let mut left = args.limit.unwrap_or(usize::MAX);
    while left > 0 {
        request.limit = left;
        let page = target.kv.range(&request).await.map_err(|error| failed(&error))?;
        let mut text = String::new();
        for entry in &page.entries {
            text.push_str(&line(entry, args)?);
            text.push('\n');
        }
        if let Err(error) = io::stdout().write_all(text.as_bytes()) {
            return written(Err(error));
        }
        left -= page.entries.len().min(left);
        match page.entries.last() {
            Some(last) if page.more => request.range.start = last.key.successor(),
            _ => break,
        }
    }
    Ok(Exit::Ok)
}

fn line(entry: &Entry, args: &ListArgs) -> Result<String, Failure> {
    if args.keys_only {
        let key = shown(&entry.key);
        return Ok(if args.json { serde_json::json!({ "key": key }).to_string() } else { key });
    }
    let view = EntryView::new(entry);
    if args.json { to_json(&view) } else { Ok(view.line()) }
}

/// A view as a line of JSON.
pub(super) fn to_json(view: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(view).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))
}
