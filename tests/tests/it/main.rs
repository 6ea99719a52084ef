//! Tests across crates: the real binary over HTTP, frozen bytes, and the rules of the house.
//!
//! - A server runs as a process of its own on a data home of its own, listens on a free port of 127.0.0.1, and is ended
//!   by its process id.
//! - Randomness comes from one seed, which is printed; `TESSERA_SEED` gives it back.
//! - What a machine lacks (root rights, Python packages, the flights data) is said on stderr by a line that begins with
//!   `SKIPPED`.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "in a test a panic is the report, and stderr its log")]

mod support;

mod abandon;
mod admin;
mod compat;
mod counted;
mod damage;
mod ddl_crashes;
#[cfg(feature = "etcd")]
mod etcd;
mod kill9;
mod ledger;
mod manifest_cli;
mod meta_cli;
mod readers;
mod refusals;
mod shutdown;
mod tidy;
mod tour;
