//! `watch`.

use std::io::{self, Write};

use serde::Serialize;
use tessera_metaclient::kv::{Change, KeyRange, KvError, RangeRequest, Revision};

use super::args::WatchArgs;
use super::entry::{EntryView, shown};
use super::read::to_json;
use super::target::{Target, failed};
use crate::cli::Exit;
use crate::cli::verb::Failure;

/// A change.
#[derive(Debug, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
enum Line {
    /// A key that was there when the watch began.
    Present {
        #[serde(flatten)]
        entry: EntryView,
    },
    /// A key that was written.
    Put {
        #[serde(flatten)]
        entry: EntryView,
    },
    /// A key that was deleted.
    Delete { key: String, revision: u64 },
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Present { entry } => format!("present  {}", entry.line()),
            Self::Put { entry } => format!("put {}  {}", entry.mod_revision, entry.line()),
            Self::Delete { key, revision } => format!("delete {revision}  {key}"),
        }
    }
}

pub(super) async fn run(args: &WatchArgs) -> Result<Exit, Failure> {
    let target = Target::open(&args.target).await?;
    if !target.is_shared {
        let text = "nobody can change the metadata of a stopped server: watch works with etcd://HOST:PORT; a running server tells what it \
                    does in its log and with GET /admin/procedures";
        return Err(Failure::usage(text));
    }
    let range = KeyRange::prefix(args.prefix.as_str());
    let mut printer = Printer { args, left: args.limit.unwrap_or(u64::MAX) };
    let mut from = match args.from {
        Some(from) => Revision(from),
        None => present(&target, &range, &mut printer).await?,
    };
    while printer.goes_on() {
        match follow(&target, &range, from, &mut printer).await {
            // What was missed is shown as present.
            Err(KvError::Compacted { .. }) if args.from.is_none() => from = present(&target, &range, &mut printer).await?,
            Err(error) => return Err(failed(&error)),
            Ok(ended) => return ended,
        }
    }
    Ok(Exit::Ok)
}

/// Prints changes until enough were printed, or changes were missed.
async fn follow(target: &Target, range: &KeyRange, from: Revision, printer: &mut Printer<'_>) -> Result<Result<Exit, Failure>, KvError> {
    let mut watch = target.kv.watch(range.clone(), from).await?;
    while printer.goes_on() {
        let batch = watch.next().await?;
        for change in &batch.changes {
            let line = match change {
                Change::Put(entry) => Line::Put { entry: EntryView::new(entry) },
                Change::Delete { key } => Line::Delete { key: shown(key), revision: batch.revision.0 },
            };
            if let Err(failure) = printer.print(&line) {
                return Ok(Err(failure));
            }
        }
    }
    Ok(Ok(Exit::Ok))
}

/// Prints what there is; the revision from which on changes are to be watched, so that none is missed.
async fn present(target: &Target, range: &KeyRange, printer: &mut Printer<'_>) -> Result<Revision, Failure> {
    let mut request = RangeRequest::new(range.clone());
    let mut first = None;
    loop {
        let page = target.kv.range(&request).await.map_err(|error| failed(&error))?;
        // Later pages may be newer: what changed in between is then told twice, and never missed.
        let from = *first.get_or_insert(page.revision.next());
        for entry in &page.entries {
            printer.print(&Line::Present { entry: EntryView::new(entry) })?;
        }
        match page.entries.last() {
            Some(last) if page.more && printer.goes_on() => request.range.start = last.key.successor(),
            _ => return Ok(from),
        }
    }
}

/// Prints a bounded number of lines.
struct Printer<'a> {
    args: &'a WatchArgs,
    left: u64,
}

impl Printer<'_> {
    fn goes_on(&self) -> bool {
        self.left > 0
    }

    fn print(&mut self, line: &Line) -> Result<(), Failure> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let text = if self.args.json { to_json(line)? } else { line.text() };
        let mut out = io::stdout().lock();
        match out.write_all((text + "\n").as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.left = 0;
                Ok(())
            }
            Err(error) => Err(Failure::failed(format!("cannot write: {error}"))),
        }
    }
}
