//! `tessera manifest`: looks at the manifests on an object store, and mends them, without a server.
//!
//! ```text
//!   arguments ─► store ─► load / verify ─► a view ─► text or JSON
//!                  └────► lock, take over ─► one commit ─► seal, if the region was sealed before
//! ```
//!
//! Invariants:
//! - Each verb makes a view, a plain value, of which text and JSON are two renderings.
//! - Verbs that only read change nothing, and may run beside a server.
//! - Verbs that write take the lock of the data home, if the store is in one, and take a region over only after a
//!   clean seal or when told to. They say that a region's logs hold nothing only if that was said before.
//!
//! Exit codes: 0 done, 1 a problem was found or the request was refused, 2 the command line is wrong.

mod args;
pub(crate) mod version;
pub(crate) mod store;
pub(crate) mod text;
mod file;
mod show;
mod list;
mod summary;
mod log;
mod diff;
mod files;
mod verify;
mod owner;
mod snapshot;
mod rollback;
#[cfg(test)]
mod tests;

pub(crate) use args::ManifestArgs;
use args::{SnapshotVerb, Verb};

use crate::cli::Exit;
use crate::cli::verb::{self, Failure, View, answer};

impl From<tessera_manifest::error::Error> for Failure {
    fn from(error: tessera_manifest::error::Error) -> Self {
        Self::failed(crate::error::chain(&error))
    }
}

/// Runs a verb.
pub(crate) fn run(args: &ManifestArgs) -> Exit {
    // What is wrong with checkpoints `verify` says itself.
    let level = if matches!(args.verb, Verb::Verify(_)) { "error" } else { "warn" };
    verb::run(level, execute(&args.verb))
}

async fn execute(verb: &Verb) -> Exit {
    match verb {
        Verb::Show(args) if args.region.is_none() => answer(list::run(args), args.json).await,
        Verb::Show(args) => answer(show::run(args), args.json).await,
        Verb::Log(args) => answer(log::run(args), args.json).await,
        Verb::Diff(args) => answer(diff::run(args), args.json).await,
        Verb::Files(args) => answer(files::run(args), args.json).await,
        Verb::Verify(args) => answer(verify::run(args), args.json).await,
        Verb::Snapshot { verb: SnapshotVerb::Ls(args) } => answer(snapshot::list(args), args.json).await,
        Verb::Snapshot { verb: SnapshotVerb::Create(args) } => answer(snapshot::create(args), args.json).await,
        Verb::Snapshot { verb: SnapshotVerb::Drop(args) } => answer(snapshot::drop(args), args.json).await,
        Verb::Rollback(args) => answer(rollback::run(args), args.json).await,
    }
}
