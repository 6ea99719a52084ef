//! `status`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use tessera_metaclient::catalog::{Catalog, CatalogError, Identity};
use tessera_metaclient::keys::{MetaKey, Switch};
use tessera_metaclient::kv::{Entry, KeyRange, RangeRequest};
use tessera_metaclient::layout;
use tessera_metaclient::values::json;

use super::args::StatusArgs;
use super::entry::shown;
use super::target::{Target, failed};
use crate::catalog::from_catalog;
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};
use crate::error::chain;
use crate::manifest_cli::text;

/// What the metadata holds.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    cluster: String,
    incarnation: String,
    revision: u64,
    next_table_id: u32,
    switches_on: Vec<&'static str>,
    /// By family; keys that are none of ours under `(other)`.
    families: BTreeMap<&'static str, Count>,
    /// Values that cannot be read.
    problems: Vec<Problem>,
}

#[derive(Debug, Default, Serialize)]
struct Count {
    keys: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Problem {
    key: String,
    error: String,
}

impl Status {
    fn add(&mut self, entry: &Entry) {
        let family = MetaKey::from_key(&entry.key).ok().map(|key| layout::family(&key));
        let count = self.families.entry(family.map_or("(other)", |family| family.pattern)).or_default();
        count.keys += 1;
        count.bytes += (entry.key.as_bytes().len() + entry.value.len()) as u64;
        if let Some(family) = family
            && let Err(error) = json::to_json(&entry.key, family.kind, &entry.value)
        {
            self.problems.push(Problem { key: shown(&entry.key), error: chain(&error) });
        }
    }
}

impl View for Status {
    fn text(&self) -> String {
        let Self { cluster, incarnation, revision, next_table_id, switches_on, families, problems } = self;
        let switches = if switches_on.is_empty() { "none".to_owned() } else { switches_on.join(", ") };
        let mut out = format!(
            "cluster        {cluster}\nincarnation    {incarnation}\nrevision       {revision}\nnext table id  {next_table_id}\n\
             switches on    {switches}\n\n"
        );
        let rows = families.iter().map(|(family, count)| vec![(*family).to_owned(), count.keys.to_string(), text::bytes(count.bytes)]);
        out.push_str(&text::table(&["keys", "#number", "#size"], rows));
        for problem in problems {
            let _ = writeln!(out, "problem: {}: {}", problem.key, problem.error);
        }
        out
    }

    fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Ok } else { Exit::Failed }
    }
}

pub(super) async fn run(args: &StatusArgs) -> Result<Status, Failure> {
    let target = Target::open(&args.target).await?;
    let failure = |error: CatalogError| Failure::from(from_catalog(&error));
    let (catalog, Identity { cluster, incarnation }) = Catalog::open(target.kv.clone()).await.map_err(failure)?;
    let mut switches_on = Vec::new();
    for switch in Switch::ALL {
        if catalog.switch(switch).await.map_err(failure)?.is_some() {
            switches_on.push(switch.as_str());
        }
    }
    let mut status = Status {
        cluster: cluster.to_string(),
        incarnation: incarnation.to_string(),
        revision: 0,
        next_table_id: catalog.next_table_id().await.map_err(failure)?.0,
        switches_on,
        families: BTreeMap::new(),
        problems: Vec::new(),
    };
    let mut request = RangeRequest::new(KeyRange::all());
    loop {
        let page = target.kv.range(&request).await.map_err(|error| failed(&error))?;
        page.entries.iter().for_each(|entry| status.add(entry));
        status.revision = page.revision.0;
        match page.entries.last() {
            Some(last) if page.more => request.range.start = last.key.successor(),
            _ => return Ok(status),
        }
    }
}
