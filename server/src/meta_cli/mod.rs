//! `tessera meta`: looks into metadata, and changes it by hand.
//!
//! ```text
//!   arguments ─► target (redb file | etcd) ─► one read or one transaction ─► a view ─► text or JSON
//! ```
//!
//! Invariants:
//! - Opening a target creates nothing.
//! - A key of ours holds a value of its kind: what is put there is given as JSON, checked, and stored in the current
//!   version. It is not touched without `--force`.
//! - list and watch print as they read, and hold one page.
//!
//! Exit codes: 0 done, 1 a key is absent, a condition does not hold, or it was refused or failed, 2 the command line is
//! wrong.

mod args;
mod target;
mod entry;
mod read;
mod write;
mod txn;
mod watch;
mod status;
mod layout;
mod tools;
#[cfg(test)]
mod tests;

pub(crate) use args::MetaArgs;
use args::Verb;

use crate::cli::Exit;
use crate::cli::verb::{self, answer, complain};

/// Runs a verb.
pub(crate) fn run(args: &MetaArgs) -> Exit {
    verb::run("error", execute(&args.verb))
}

async fn execute(verb: &Verb) -> Exit {
    let streamed = match verb {
        Verb::Status(args) => return answer(status::run(args), args.json).await,
        Verb::Get(args) if !args.raw => return answer(read::get(args), args.json).await,
        Verb::Put(args) => return answer(write::put(args), args.json).await,
        Verb::Del(args) => return answer(write::del(args), args.json).await,
        Verb::Txn(args) => return answer(txn::run(args), args.json).await,
        Verb::Bench(args) => return answer(tools::bench(args), args.json).await,
        Verb::Verify(args) => return answer(tools::verify(args), args.json).await,
        Verb::KeysLayout(args) => return answer(async { Ok(layout::Layout::new()) }, args.json).await,
        Verb::Get(args) => read::raw(args).await,
        Verb::List(args) => read::list(args).await,
        Verb::Watch(args) => watch::run(args).await,
    };
    streamed.unwrap_or_else(|failure| complain(&failure))
}
