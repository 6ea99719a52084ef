//! One group of a repartition as a pure state machine.
//!
//! ```text
//!   waiting ─► create ─► prepare ─► fence ─┬─ commit ─► drain ─► remap ─► publish ─► resolve ─► after ─► done
//!                 │          │             │
//!                 └──failed──┴─► undo ─►   └─ abort ──► resolve_abort ─► failed
//!                                  └─► failed
//! ```
//!
//! Invariants:
//! - [`Group::after`] is the only way a group changes. It has no I/O, clock or randomness.
//! - `fence` is stored before any source is asked to stage. So a group that is undone before it never had a stage, and no
//!   stage of it can come late; one that is aborted after it moves its sources to the generation of the abort.
//! - What the decision says is the only way out of `fence`, and no other step reads a verdict that it could contradict.
//! - After a commit there is no way to fail: what cannot go on waits, and says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tessera_manifest::id::{Epoch, Generation, RegionId, Slot, TableId, TxnId};

use super::plan::PlannedGroup;
use super::port::{Decided, Drained, RemapPreview, Staged, Verdict};

/// What is done next for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupStep {
    /// Nothing was begun.
    Waiting,
    /// New regions are created, staged.
    Create,
    /// Compactions end, memtables are flushed, the remap is tried.
    Prepare,
    /// The sources are fenced, the group is decided and, on a commit, writes are admitted.
    Fence,
    /// The sources flush up to their fences.
    Drain,
    /// The targets get their references.
    Remap,
    /// The new rules become those of readers.
    Publish,
    /// Every region follows the commit.
    Resolve,
    /// Localizing compactions are scheduled.
    After,
    /// It is over, and the table is as the plan says.
    Done,
    /// It failed before the fence: new regions end, preparations are given up.
    Undo,
    /// It was aborted: sources go on under their old rules, new regions end.
    ResolveAbort,
    /// It is over, and the table is as it was.
    Failed,
}

impl GroupStep {
    /// Its name, as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Create => "create",
            Self::Prepare => "prepare",
            Self::Fence => "fence",
            Self::Drain => "drain",
            Self::Remap => "remap",
            Self::Publish => "publish",
            Self::Resolve => "resolve",
            Self::After => "after",
            Self::Done => "done",
            Self::Undo => "undo",
            Self::ResolveAbort => "resolve_abort",
            Self::Failed => "failed",
        }
    }

    /// How many of [`PARTS`](Self::PARTS) parts of a group's work are done.
    #[must_use]
    pub fn done_parts(self) -> u64 {
        match self {
            Self::Waiting | Self::Create => 0,
            Self::Prepare => 1,
            Self::Fence => 2,
            Self::Drain => 3,
            Self::Remap => 4,
            Self::Publish => 5,
            Self::Resolve | Self::Undo | Self::ResolveAbort => 6,
            Self::After => 7,
            Self::Done | Self::Failed => Self::PARTS,
        }
    }

    /// Parts of a group's work.
    pub const PARTS: u64 = 8;
}

/// Why a group failed or waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// What went wrong, on which object.
    pub message: String,
    /// The error code for users, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// The region whose operation failed; it is opened anew once the group is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionId>,
}

impl Cause {
    /// One that is no region's.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, region: None }
    }
}

/// When things happened, in milliseconds since 1970 by the clock of whoever did them; for people only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// The first source was asked to stage.
    pub fenced_unix_ms: Option<u64>,
    /// The decision was known; writes were admitted right after.
    pub decided_unix_ms: Option<u64>,
    /// The read set was about to be published.
    pub published_unix_ms: Option<u64>,
}

/// A group of a repartition: its plan, what was drawn for it, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its regions.
    pub plan: PlannedGroup,
    /// Names its decision.
    pub txn: TxnId,
    /// The generation of its regions if it commits.
    pub commit: Generation,
    /// The generation of its sources if it aborts.
    pub abort: Generation,
    /// What is done next.
    pub step: GroupStep,
    /// Whether a source may ever have been asked to stage.
    pub fenced: bool,
    /// Whether a source may ever have been asked to prepare.
    #[serde(default)]
    pub prepared: bool,
    /// Failed attempts at the step that are stored: a group that fails lets the others go first.
    #[serde(default)]
    pub tries: u32,
    /// The step is not tried again before this time, unless the clock was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_unix_ms: Option<u64>,
    /// Whether somebody has to act before the step can succeed; the cause says on what.
    #[serde(default)]
    pub blocked: bool,
    /// Why it failed, or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The new regions with the versions that staged them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<Staged>,
    /// The epoch of each target's manifest, as it was last heard of.
    #[serde(default)]
    pub epochs: BTreeMap<RegionId, Epoch>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What the sources hold of the base generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<Drained>,
    /// References that the targets got.
    #[serde(default)]
    pub references: u64,
    /// What did not go well and does not matter to the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// When.
    #[serde(default)]
    pub times: Times,
}

/// What happened to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its turn came.
    Begun,
    /// The new regions are there.
    Created(Vec<Staged>),
    /// All is ready to fence.
    Prepared(Vec<RemapPreview>),
    /// A step before the fence failed for good.
    Failed(Cause),
    /// The decision is known; what it publishes is published with this.
    Decided {
        /// It.
        decided: Decided,
        /// Why it was proposed to abort.
        cause: Option<Cause>,
        /// When the first source was asked.
        fenced_unix_ms: Option<u64>,
        /// When the decision was known.
        decided_unix_ms: u64,
    },
    /// The sources' visible files are frozen.
    Drained(Vec<Drained>),
    /// The targets have their references.
    Remapped {
        /// How many.
        references: u64,
    },
    /// The read set is published with this.
    Published {
        /// When.
        at_unix_ms: u64,
    },
    /// Every region has followed the decision.
    Resolved {
        /// What did not go well.
        notes: Vec<String>,
    },
    /// Nothing of it is left.
    Undone {
        /// What did not go well.
        notes: Vec<String>,
    },
    /// The rest is scheduled.
    Finished {
        /// What did not go well.
        notes: Vec<String>,
    },
    /// The step failed and is tried again.
    Stalled {
        /// Why.
        cause: Cause,
        /// Whether somebody has to act first.
        blocked: bool,
        /// When to try again.
        not_before_unix_ms: Option<u64>,
    },
}

/// An event that cannot happen in a group's step: a defect, or a decision that is not this group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("repartition {txn} is at step {}, where that cannot happen", .step.as_str())]
pub struct Impossible {
    /// The group.
    pub txn: TxnId,
    /// Its step.
    pub step: GroupStep,
}

impl Group {
    /// The group of a plan, with what was drawn for it.
    #[must_use]
    pub fn new(plan: PlannedGroup, txn: TxnId, commit: Generation, abort: Generation) -> Self {
        Self {
            plan,
            txn,
            commit,
            abort,
            step: GroupStep::Waiting,
            fenced: false,
            prepared: false,
            tries: 0,
            not_before_unix_ms: None,
            blocked: false,
            cause: None,
            created: Vec::new(),
            epochs: BTreeMap::new(),
            verdict: None,
            drained: Vec::new(),
            references: 0,
            notes: Vec::new(),
            times: Times::default(),
        }
    }

    /// Whether nothing more is to be done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.step, GroupStep::Done | GroupStep::Failed)
    }

    /// Whether it was decided that the group changes.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Commit { .. }))
    }

    /// Whether it can still be given up without a decision against it being raced.
    #[must_use]
    pub fn is_before_fence(&self) -> bool {
        matches!(self.step, GroupStep::Waiting | GroupStep::Create | GroupStep::Prepare)
    }

    /// Its decision with this verdict.
    #[must_use]
    pub fn proposal(&self, table: TableId, verdict: Verdict) -> Decided {
        Decided { txn: self.txn, table, commit: self.commit, abort: self.abort, verdict }
    }

    /// The verdict that commits the group, of whose sources these are the stages: it names every region's.
    #[must_use]
    pub fn commit_of(&self, sources: Vec<(RegionId, Slot)>) -> Verdict {
        let mut stages = sources;
        stages.extend(self.created.iter().map(|staged| (staged.region, staged.version)));
        stages.sort_unstable();
        Verdict::Commit { stages }
    }

    /// The decision that it follows.
    #[must_use]
    pub fn decision(&self, table: TableId) -> Option<Decided> {
        Some(self.proposal(table, self.verdict.clone()?))
    }

    /// The group after `event`.
    ///
    /// # Errors
    /// When the event cannot happen in its step.
    pub fn after(&self, event: Event) -> Result<Self, Impossible> {
        let mut group = self.clone();
        if let Event::Stalled { cause, blocked, not_before_unix_ms } = event {
            if self.is_over() {
                return Err(self.impossible());
            }
            group.tries = group.tries.saturating_add(1);
            (group.cause, group.blocked, group.not_before_unix_ms) = (Some(cause), blocked, not_before_unix_ms);
            return Ok(group);
        }
        group.step = group.advance(event)?;
        (group.tries, group.not_before_unix_ms, group.blocked) = (0, None, false);
        if group.is_committed() {
            // What held it up is over.
            group.cause = None;
        }
        Ok(group)
    }

    fn impossible(&self) -> Impossible {
        Impossible { txn: self.txn, step: self.step }
    }

    /// Takes the event in, and answers the next step.
    fn advance(&mut self, event: Event) -> Result<GroupStep, Impossible> {
        Ok(match (self.step, event) {
            (GroupStep::Waiting, Event::Begun) => GroupStep::Create,
            (GroupStep::Create, Event::Created(staged)) => {
                self.epochs.extend(staged.iter().map(|staged| (staged.region, staged.version.epoch)));
                self.created = staged;
                self.prepared = true;
                GroupStep::Prepare
            }
            (GroupStep::Prepare, Event::Prepared(estimates)) => {
                self.plan.estimates = estimates;
                self.fenced = true;
                GroupStep::Fence
            }
            (GroupStep::Waiting, Event::Failed(cause)) => {
                self.cause = Some(cause);
                GroupStep::Failed
            }
            (GroupStep::Create | GroupStep::Prepare, Event::Failed(cause)) => {
                self.cause = Some(cause);
                GroupStep::Undo
            }
            (GroupStep::Fence, Event::Decided { decided, cause, fenced_unix_ms, decided_unix_ms }) => {
                self.times.fenced_unix_ms = self.times.fenced_unix_ms.or(fenced_unix_ms);
                self.times.decided_unix_ms = Some(decided_unix_ms);
                self.decide(decided, cause)?
            }
            (GroupStep::Drain, Event::Drained(drained)) => {
                self.epochs.extend(drained.iter().map(|drained| (drained.region, drained.version.epoch)));
                self.drained = drained;
                GroupStep::Remap
            }
            (GroupStep::Remap, Event::Remapped { references }) => {
                self.references = references;
                GroupStep::Publish
            }
            (GroupStep::Publish, Event::Published { at_unix_ms }) => {
                self.times.published_unix_ms = Some(at_unix_ms);
                GroupStep::Resolve
            }
            (GroupStep::Resolve, Event::Resolved { notes }) => {
                self.notes.extend(notes);
                GroupStep::After
            }
            (GroupStep::After, Event::Finished { notes }) => {
                self.notes.extend(notes);
                GroupStep::Done
            }
            (GroupStep::ResolveAbort, Event::Resolved { notes }) | (GroupStep::Undo, Event::Undone { notes }) => {
                self.notes.extend(notes);
                GroupStep::Failed
            }
            _ => return Err(self.impossible()),
        })
    }

    fn decide(&mut self, decided: Decided, cause: Option<Cause>) -> Result<GroupStep, Impossible> {
        let ours = decided.txn == self.txn && decided.commit == self.commit && decided.abort == self.abort;
        if !ours || self.verdict.is_some() {
            return Err(self.impossible());
        }
        let step = match &decided.verdict {
            Verdict::Commit { stages } => {
                let named = |region: RegionId| stages.iter().any(|(staged, _)| *staged == region);
                if !self.plan.regions().all(named) {
                    return Err(self.impossible());
                }
                self.epochs.extend(stages.iter().map(|(region, version)| (*region, version.epoch)));
                GroupStep::Drain
            }
            Verdict::Abort => {
                self.cause = cause
                    .or_else(|| self.cause.take())
                    .or_else(|| Some(Cause::new("it was aborted, and the reason went with the process that did")));
                GroupStep::ResolveAbort
            }
        };
        self.verdict = Some(decided.verdict);
        Ok(step)
    }
}
