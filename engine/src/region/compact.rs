//! Compaction of one region: pick, write, commit.
//!
//! Invariants:
//! - One compaction of a region at a time; writes, flushes and scans go on. Nothing of it is kept between rounds: a
//!   round starts from the version of the moment.
//! - A round commits one `Edit` that removes its inputs and adds its outputs, and only if, with the manifest lock
//!   held, the inputs are still listed, and schema, options, rule, generation and epoch are those it read.
//! - A round that is stopped, or was overtaken, leaves nothing behind but its outputs, which no record names: they
//!   are deleted, or, after a crash, swept.
//!
//! Crash order: outputs, then Edit. Inputs stay on the store for readers of older versions until the collector
//! takes them.

use std::sync::{Arc, Mutex, PoisonError};

use tessera_manifest::action::{Action, Edit};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::{Epoch, FileKey, Sequence};
use tessera_manifest::log::Manifest;
use tessera_manifest::rule::Expr;
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;

use super::scan::file_residual;
use super::version::Version;
use super::{GateState, Region};
use crate::compaction::{self, Candidate, Input, Job, Pick, Report, Settings, Strategy};
use crate::error::Error;
use crate::limits;
use crate::merge::Layout;

/// The turn of the compactions of one region, and the way to stop the one whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Compactions {
    turn: tokio::sync::Mutex<()>,
    stop: Mutex<CancellationToken>,
}

/// While it lives, no compaction of the region runs or begins.
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    _turn: MutexGuard<'a, ()>,
}

/// What came of one round.
enum Round {
    /// Nothing is worth compacting.
    Idle,
    /// Another commit came between; there is another look to be taken.
    Overtaken,
    Done(Report),
}

impl Compactions {
    fn token(&self) -> CancellationToken {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops the compaction under way and waits for its end.
    async fn pause(&self) -> Paused<'_> {
        self.token().cancel();
        let turn = self.turn.lock().await;
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
        Paused { _turn: turn }
    }
}

impl Region {
    /// Compacts until nothing is left that the strategy asks for, of the files that were there when it was called.
    ///
    /// Cancel safe: what was committed stays committed, what was not is swept at the next opening.
    ///
    /// # Errors
    /// The failure of the store or of the manifest, and [`Error::Stopped`] when the region is closed or fenced for a repartition meanwhile. What
    /// was there before stays.
    pub async fn compact(&self, strategy: Strategy) -> Result<Report, Error> {
        let mut total = Report::default();
        // Flushes go on: without an end, this would have none under a steady load.
        let upto = self.pin().state.flushed_sequence();
        while let Some(report) = self.next_round(strategy, upto).await? {
            total = total.plus(report);
        }
        Ok(total)
    }

    /// One round; `None` when there is nothing to do.
    ///
    /// # Errors
    /// As [`compact`](Self::compact).
    pub(crate) async fn compact_once(&self, strategy: Strategy) -> Result<Option<Report>, Error> {
        self.next_round(strategy, Sequence::from_u64(u64::MAX)).await
    }

    /// One round over the files with rows up to a sequence.
    pub(super) async fn next_round(&self, strategy: Strategy, upto: Sequence) -> Result<Option<Report>, Error> {
        let _turn = self.compactions.turn.lock().await;
        for _ in 0..limits::COMPACTION_OVERTAKEN_MAX {
            let gate = *self.gate.read().await;
            self.check_gate(gate)?;
            match self.round(strategy, upto).await? {
                Round::Idle => return Ok(None),
                Round::Overtaken => {}
                Round::Done(report) => return Ok(Some(report)),
            }
        }
        Err(Error::Stopped { region: self.id })
    }

    /// Stops the compaction under way, and lets none begin while the answer lives.
    pub(super) async fn pause_compaction(&self) -> Paused<'_> {
        self.compactions.pause().await
    }

    /// Tells the compaction under way to stop, and does not wait for it. For an engine that ends: later ones are
    /// stopped at once.
    pub(crate) fn cancel_compaction(&self) {
        self.compactions.token().cancel();
    }

    /// Stops the compaction under way. None begins later, since the gate is shut.
    pub(super) async fn end_compaction(&self) {
        drop(self.compactions.pause().await);
    }

    /// Whether a compaction would find something to do.
    pub(crate) fn wants_compaction(&self) -> bool {
        let version = self.pin();
        let settings = Settings::of(&version.meta, &version.options);
        let files = self.candidates(&version);
        self.shared.amplification.space(self.id, compaction::space(&files, &settings));
        self.may_compact(&version) && compaction::plan_up_to(&files, u64::MAX, &settings, Strategy::Regular).is_some()
    }

    /// What the region keeps, for the metrics.
    fn publish_space(&self) {
        let version = self.pin();
        let settings = Settings::of(&version.meta, &version.options);
        self.shared.amplification.space(self.id, compaction::space(&self.candidates(&version), &settings));
    }

    fn may_compact(&self, version: &Version) -> bool {
        let state = &version.state;
        !state.is_dropped() && !state.is_retired() && state.staging().is_none() && !self.repartition.holds_compactions()
    }

    fn candidates(&self, version: &Version) -> Vec<Candidate> {
        version.state.files().entries().map(|file| Candidate::of(self.id, &version.meta, file)).collect()
    }

    fn next_pick(&self, version: &Version, strategy: Strategy, upto: Sequence) -> Option<Pick> {
        if !self.may_compact(version) {
            return None;
        }
        let settings = Settings::of(&version.meta, &version.options);
        compaction::plan_up_to(&self.candidates(version), upto.as_u64(), &settings, strategy)
    }

    async fn round(&self, strategy: Strategy, upto: Sequence) -> Result<Round, Error> {
        let version = self.pin();
        let Some(pick) = self.next_pick(&version, strategy, upto) else { return Ok(Round::Idle) };
        let inputs: Vec<Arc<FileRef>> = pick.inputs.iter().filter_map(|key| version.state.file(*key)).collect();
        let epoch = self.epoch().await?;
        let stop = self.compactions.token();
        let mut begun = Vec::new();
        let written = stop.run_until_cancelled(self.rewrite(&version, &pick, &inputs, epoch, &mut begun)).await;
        let outputs = match written {
            Some(Ok(outputs)) => outputs,
            failed => {
                self.discard(begun).await;
                return Err(failed.and_then(Result::err).unwrap_or(Error::Stopped { region: self.id }));
            }
        };
        let manifest = match self.committer().await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.discard(begun).await;
                return Err(error);
            }
        };
        if stop.is_cancelled() || manifest.epoch() != epoch || !self.still_holds(&manifest, &version, &inputs).await {
            drop(manifest);
            self.discard(begun).await;
            return Ok(Round::Overtaken);
        }
        self.replace(manifest, &version, &pick, &inputs, outputs, begun).await
    }

    /// Reads the inputs and writes the outputs; notes in `begun` what was begun.
    async fn rewrite(
        &self,
        version: &Version,
        pick: &Pick,
        inputs: &[Arc<FileRef>],
        epoch: Epoch,
        begun: &mut Vec<FileKey>,
    ) -> Result<compaction::Output, Error> {
        let layout = Layout::merging(Arc::clone(&version.meta.schema), None).map_err(|source| self.rows_error(source))?;
        let visible = inputs.iter().filter_map(|file| {
            let residual = file_residual(version, file);
            let tested = (residual != Expr::always()).then(|| Arc::new(residual.clone()));
            (residual != Expr::never()).then(|| Input { file: Arc::clone(file), residual: tested })
        });
        let job = Job {
            layout: Arc::new(layout),
            dedup: version.options.merge_mode.into(),
            inputs: visible.collect(),
            split: pick.split.clone(),
            older: pick.older.clone().into(),
        };
        let level = inputs.iter().map(|file| file.meta.level).max().unwrap_or(0).saturating_add(1);
        let name = || {
            let file = self.new_file(version, epoch, level);
            begun.push(file.key);
            file
        };
        compaction::run(&self.shared.access, &job, name).await.map_err(|source| self.rows_error(source))
    }

    /// With the manifest lock held: whether what was read is still what the outputs would stand for.
    async fn still_holds(&self, manifest: &Manifest, read: &Version, inputs: &[Arc<FileRef>]) -> bool {
        let open = *self.gate.read().await == GateState::Open;
        let (now, state) = (self.pin(), manifest.state());
        let listed = || inputs.iter().all(|file| state.file(file.key).is_some_and(|listed| listed.scope == file.scope));
        open && *now.meta == *read.meta && state.staging().is_none() && !state.is_dropped() && !state.is_retired() && listed()
    }

    async fn replace(
        &self,
        mut manifest: MutexGuard<'_, Manifest>,
        version: &Version,
        pick: &Pick,
        inputs: &[Arc<FileRef>],
        outputs: compaction::Output,
        begun: Vec<FileKey>,
    ) -> Result<Round, Error> {
        let report = report(inputs, &outputs);
        let edit = Edit { add: outputs, remove: pick.inputs.clone(), ..Edit::new(version.meta.generation) };
        let state = self.commit_files(&mut manifest, Action::Edit(edit), &begun).await?;
        self.version.update(|version| version.state = state);
        drop(manifest);
        self.in_flight.end(begun);
        tracing::info!(region = %self.id, reason = pick.reason.name(), ?report, "compacted");
        self.shared.amplification.compacted(report.bytes_out);
        self.publish_space();
        metrics::counter!("tessera_compactions_total", "reason" => pick.reason.name()).increment(1);
        metrics::counter!("tessera_compaction_read_bytes_total").increment(report.bytes_in);
        metrics::counter!("tessera_compaction_written_bytes_total").increment(report.bytes_out);
        Ok(Round::Done(report))
    }
}

fn report(inputs: &[Arc<FileRef>], outputs: &[Arc<FileRef>]) -> Report {
    let sum = |files: &[Arc<FileRef>], of: fn(&FileRef) -> u64| files.iter().map(|file| of(file)).sum::<u64>();
    let deletes = |files| sum(files, |file| file.meta.deletes);
    Report {
        rounds: 1,
        files_in: inputs.len(),
        files_out: outputs.len(),
        bytes_in: sum(inputs, |file| file.meta.bytes),
        bytes_out: sum(outputs, |file| file.meta.bytes),
        deletes_dropped: deletes(inputs).saturating_sub(deletes(outputs)),
    }
}
