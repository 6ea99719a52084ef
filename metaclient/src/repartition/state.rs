//! What is stored of a repartition, and which group is next.
//!
//! Invariants:
//! - The stored form is JSON with a version. Versions 1 and 2 are frozen; a change of them is a new version. Version 2 has the
//!   types of the columns that the statement names, and is written where there are any; version 1 is read as before.
//! - One group is worked on at a time, so that at most one has its writes stopped. A group that fails or waits lets the
//!   others go first.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tessera_manifest::id::{ColumnId, RegionNumber, TableId};
use tessera_manifest::value::DataType;

use super::group::{Group, GroupStep};
use super::plan::RepartitionPlan;
use super::request::Request;
use crate::procedure::{Progress, State};

/// The version of a state without types of columns.
const WITHOUT_TYPES: u32 = 1;
/// The newest version of the state.
const STATE_VERSION: u32 = 2;

/// The longest that a group which failed waits while others go on; a stored time beyond it is of a clock that was set.
pub(super) const STALL_MAX: Duration = Duration::from_secs(10);

/// Options of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Until when groups may be decided, from the submit on; those that are not decided then are given up. A clock only
    /// proposes that: what was decided stays so.
    pub timeout: Option<Duration>,
    /// Whether compactions that rewrite shared files are asked for at the end.
    pub localize: bool,
}

impl Options {
    /// No time limit; shared files are rewritten in the background.
    pub const DEFAULT: Self = Self { timeout: None, localize: true };
}

/// What is done next for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The plan is made, and numbers and generations are drawn.
    Plan,
    /// Resources of new regions are provided.
    Allocate,
    /// The groups are done.
    Groups,
    /// What failed groups were given is taken back, and the result is told.
    Finish,
}

/// All that is stored of a repartition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The table.
    pub table: TableId,
    /// The database that it is in.
    pub database: String,
    /// Its name.
    pub name: String,
    /// What was asked for.
    pub request: Request,
    /// The types that the columns which the statement names had when it was submitted: those of the values in its rules.
    /// Empty where nobody noted them, as in version 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<ColumnId, DataType>,
    /// The options of the statement.
    pub options: Options,
    /// After which time groups that are not decided are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_unix_ms: Option<u64>,
    /// What is done next.
    pub stage: Stage,
    /// The partition columns before.
    #[serde(default)]
    pub columns_before: Vec<ColumnId>,
    /// The partition columns after.
    #[serde(default)]
    pub columns: Vec<ColumnId>,
    /// The groups.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// The regions that stay as they are.
    #[serde(default)]
    pub unchanged: Vec<RegionNumber>,
}

/// What is next among the groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The next step of this group.
    Group(usize),
    /// Nothing for so long.
    Wait(Duration),
    /// None can go on by itself: each is tried once, since somebody may have acted.
    Blocked(Vec<usize>),
    /// All groups are over.
    Over,
}

impl Data {
    /// The stored form.
    #[must_use]
    pub fn to_state(&self) -> State {
        let plain = "a state is structs, lists and texts, which JSON can always hold";
        // By way of a value, which sorts the fields: so it is what tools make of it again, byte for byte.
        let bytes = serde_json::to_vec(&serde_json::to_value(self).expect(plain)).expect(plain);
        State { version: if self.types.is_empty() { WITHOUT_TYPES } else { STATE_VERSION }, bytes: bytes.into() }
    }

    /// Reads a stored form.
    ///
    /// # Errors
    /// When it is of a version that this program does not know, or damaged.
    pub fn from_state(state: &State) -> Result<Self, String> {
        if !(WITHOUT_TYPES..=STATE_VERSION).contains(&state.version) {
            return Err(format!("it has version {}, and this program reads versions {WITHOUT_TYPES} to {STATE_VERSION}", state.version));
        }
        serde_json::from_slice(&state.bytes).map_err(|error| error.to_string())
    }

    /// Takes a plan in.
    pub(super) fn set_plan(&mut self, plan: RepartitionPlan, txns: impl IntoIterator<Item = tessera_manifest::id::TxnId>) {
        let drawn = plan.drawn();
        let RepartitionPlan { columns_before, columns, groups, unchanged, .. } = plan;
        let groups = groups.into_iter().zip(drawn).zip(txns);
        self.groups = groups.map(|((group, drawn), txn)| Group::new(group, txn, drawn.commit, drawn.abort)).collect();
        (self.columns_before, self.columns, self.unchanged) = (columns_before, columns, unchanged);
    }

    /// Whether no group may be decided any more, as far as clocks can tell.
    #[must_use]
    pub fn is_expired(&self, now_unix_ms: u64) -> bool {
        self.deadline_unix_ms.is_some_and(|deadline| now_unix_ms >= deadline)
    }

    /// Whether there is no way back: a source may have been asked to stage.
    #[must_use]
    pub fn past_no_return(&self) -> bool {
        self.groups.iter().any(|group| group.fenced)
    }

    /// Which group is next: of those that nobody has to act on, the one that failed least, then the first.
    #[must_use]
    pub fn turn(&self, now_unix_ms: u64) -> Turn {
        let left = || self.groups.iter().enumerate().filter(|(_, group)| !group.is_over());
        let wait = |group: &Group| {
            let wait = Duration::from_millis(group.not_before_unix_ms.unwrap_or(0).saturating_sub(now_unix_ms));
            if wait > STALL_MAX { Duration::ZERO } else { wait }
        };
        let due = left().filter(|(_, group)| !group.blocked && wait(group).is_zero());
        if let Some((at, _)) = due.min_by_key(|(at, group)| (group.tries, *at)) {
            return Turn::Group(at);
        }
        if let Some(shortest) = left().filter(|(_, group)| !group.blocked).map(|(_, group)| wait(group)).min() {
            return Turn::Wait(shortest);
        }
        let blocked: Vec<usize> = left().map(|(at, _)| at).collect();
        if blocked.is_empty() { Turn::Over } else { Turn::Blocked(blocked) }
    }

    /// Whether another group than `at` can go on by itself.
    #[must_use]
    pub fn others_can_go_on(&self, at: usize) -> bool {
        self.groups.iter().enumerate().any(|(other, group)| other != at && !group.is_over() && !group.blocked)
    }

    /// Whether every other group than `at` is over.
    #[must_use]
    pub fn is_alone(&self, at: usize) -> bool {
        self.groups.iter().enumerate().all(|(other, group)| other == at || group.is_over())
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let total = u64::try_from(self.groups.len()).unwrap_or(u64::MAX).saturating_mul(GroupStep::PARTS).saturating_add(2);
        let done: u64 = self.groups.iter().map(|group| group.step.done_parts()).sum();
        let text = match self.stage {
            Stage::Plan => "planning".to_owned(),
            Stage::Allocate => "allocating regions".to_owned(),
            Stage::Groups => match self.groups.iter().enumerate().find(|(_, group)| !group.is_over() && !group.blocked) {
                Some((at, group)) => format!("group {} of {}: {}", at + 1, self.groups.len(), group.step.as_str()),
                None => "finishing".to_owned(),
            },
            Stage::Finish => "finishing".to_owned(),
        };
        let begun = u64::from(self.stage > Stage::Plan) + u64::from(self.stage > Stage::Allocate);
        Progress::of(text, begun + done, total)
    }
}
