//! What a repartition answers when it is over.

use serde::{Deserialize, Serialize};
use tessera_manifest::id::{Generation, RegionId, TableId, TxnId};

use super::group::{Cause, Group, Times};
use super::state::Data;

/// What became of a repartition; the output of its procedure, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The table.
    pub table: TableId,
    /// Each group.
    pub groups: Vec<GroupOutcome>,
}

/// What became of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOutcome {
    /// Names its decision.
    pub txn: TxnId,
    /// Whether the table has its new rules now; else all is as it was.
    pub committed: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The regions whose rows moved, or were to.
    pub sources: Vec<RegionId>,
    /// The regions that took them, or were to.
    pub targets: Vec<RegionId>,
    /// The sources that are no part of the table any more, or were to be none.
    pub retired: Vec<RegionId>,
    /// The generation that its regions are in; absent when they are in that which they were in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// References that the targets got; no data was rewritten for them.
    pub references: u64,
    /// When.
    pub times: Times,
    /// What did not go well and does not matter to the outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Outcome {
    /// The outcome of what is stored.
    #[must_use]
    pub fn of(data: &Data) -> Self {
        Self { table: data.table, groups: data.groups.iter().map(GroupOutcome::of).collect() }
    }

    /// The groups that failed.
    pub fn failed(&self) -> impl Iterator<Item = &GroupOutcome> {
        self.groups.iter().filter(|group| !group.committed)
    }

    /// Why groups failed, in one text; `None` when none did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let causes: Vec<String> = self.failed().map(GroupOutcome::failure).collect();
        if causes.is_empty() { None } else { Some(causes.join("; ")) }
    }

    /// The output of the procedure.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an outcome is structs, lists and texts, which JSON can always hold")
    }
}

impl GroupOutcome {
    fn of(group: &Group) -> Self {
        let committed = group.is_committed();
        let generation = group.fenced.then_some(if committed { group.commit } else { group.abort });
        Self {
            txn: group.txn,
            committed,
            cause: group.cause.clone().filter(|_| !committed),
            sources: group.plan.sources.iter().map(|source| source.region).collect(),
            targets: group.plan.targets.iter().map(|target| target.region).collect(),
            retired: group.plan.retired().collect(),
            generation,
            references: group.references,
            times: group.times,
            notes: group.notes.clone(),
        }
    }

    fn failure(&self) -> String {
        let regions: Vec<String> = self.sources.iter().map(ToString::to_string).collect();
        let cause = self.cause.as_ref().map_or("for an unknown reason", |cause| &cause.message);
        format!("regions {} stay as they are: {cause}", regions.join(", "))
    }
}
