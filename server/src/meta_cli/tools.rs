//! `bench` and `verify`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tessera_metaclient::kv_tools::{bench, verify};

use super::args::{BenchArgs, VerifyArgs};
use super::target::Target;
use crate::cli::Exit;
use crate::cli::verb::{Failure, View};
use crate::error::chain;
use crate::manifest_cli::text::table;

/// Measurements, those of the bare client after ours.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Measured {
    rows: Vec<bench::Row>,
}

impl View for Measured {
    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let bench::Row { of, what, clients, calls, elapsed_ms: _, qps, p50_us, p90_us, p99_us } = row;
            let us = |us: &f64| format!("{us:.0}");
            vec![of.clone(), what.clone(), clients.to_string(), calls.to_string(), format!("{qps:.0}"), us(p50_us), us(p90_us), us(p99_us)]
        });
        table(&["of", "what", "#clients", "#calls", "#calls/s", "#p50 us", "#p90 us", "#p99 us"], rows)
    }
}

pub(super) async fn bench(args: &BenchArgs) -> Result<Measured, Failure> {
    let target = Target::open(&args.target).await?;
    let BenchArgs { clients, calls, value_bytes, prefix, .. } = args;
    if clients.contains(&0) || *calls == 0 {
        return Err(Failure::usage("--clients and --calls are at least 1"));
    }
    let options = bench::Options {
        prefix: prefix.clone(),
        clients: clients.clone(),
        calls: *calls,
        value_bytes: *value_bytes,
        ..bench::Options::default()
    };
    let failed = |error: bench::Error| Failure::failed(chain(&error));
    let mut rows = bench::bench(Arc::clone(&target.kv), &options).await.map_err(failed)?;
    if args.raw {
        rows.extend(raw(&target, &options).await?);
    }
    Ok(Measured { rows })
}

/// The same work by the bare client.
async fn raw(target: &Target, options: &bench::Options) -> Result<Vec<bench::Row>, Failure> {
    let failed = |error: bench::Error| Failure::failed(chain(&error));
    match &target.folder {
        Some(folder) => {
            let file = folder.join("bench.redb");
            let rows = bench::raw_redb(&file, options).await.map_err(failed);
            std::fs::remove_file(&file).map_err(|error| Failure::failed(format!("cannot delete {}: {error}", file.display())))?;
            rows
        }
        #[cfg(feature = "etcd")]
        None => bench::raw_etcd(&target.etcd, options).await.map_err(failed),
        #[cfg(not(feature = "etcd"))]
        None => Err(Failure::usage("this build cannot speak to etcd")),
    }
}

/// What was done, and what was wrong.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Verified {
    report: verify::Report,
}

impl View for Verified {
    fn text(&self) -> String {
        let verify::Report {
            applied,
            idle,
            refused,
            failed,
            unknown,
            unknown_applied,
            reads,
            unread,
            history,
            elapsed_ms,
            violations,
            told,
        } = &self.report;
        let mut text = format!(
            "writes   {applied} applied, {idle} without effect, {refused} refused by a compare, {failed} failed, {unknown} of unknown outcome \
             (of which {unknown_applied} were applied)\nreads    {reads} answered, {unread} not\nwatched  {history} transactions\n\
             took     {elapsed_ms} ms\nwrong    {violations}\n"
        );
        told.iter().for_each(|line| text.push_str(&format!("problem: {line}\n")));
        text
    }

    fn exit(&self) -> Exit {
        if self.report.violations == 0 { Exit::Ok } else { Exit::Failed }
    }
}

pub(super) async fn verify(args: &VerifyArgs) -> Result<Verified, Failure> {
    let VerifyArgs { target, writers, keys, calls, seconds, seed, prefix, json: _ } = args;
    if *writers == 0 || *keys == 0 {
        return Err(Failure::usage("--writers and --keys are at least 1"));
    }
    let target = Target::open(target).await?;
    let (prefix, duration) = (prefix.clone(), seconds.map(Duration::from_secs));
    let options = verify::Options { prefix, writers: *writers, keys: *keys, calls: *calls, duration, seed: *seed };
    let report = verify::run(Arc::clone(&target.kv), options).await.map_err(|error| Failure::failed(chain(&error)))?;
    Ok(Verified { report })
}
