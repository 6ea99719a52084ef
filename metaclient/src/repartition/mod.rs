//! Repartition: a table's rows get other regions, while statements go on and no data is rewritten.
//!
//! What a group goes through is [`Group::after`], pure; [`Repartition`] acts it out as a procedure, on regions that it
//! reaches through a [`RegionPort`]. The protocol is section 8 of the design; `docs/repartition.md` tells what each crash
//! leaves.
//!
//! Invariants:
//! - Intent before act: what a step will do is stored before it acts, and all it draws (region numbers, generations,
//!   transaction names) is stored with the plan, in the transaction that takes the numbers from the table.
//! - The only commit point of a group is its decision object. What it says is read before anything rests on it, and a
//!   published write or read set follows it.
//! - While a group's writes are stopped nothing else is waited for: stage, decide, and the one transaction that admits
//!   writes under the new rules and stores that they are.
//! - Groups succeed or fail alone. A group that cannot go on lets the others end first.
//! - A region that another process has taken over is taken back by the runner whose claim is current, and by nobody else.
//! - The crate knows nothing of how regions do it.

mod allocate;
mod draft;
mod error;
mod group;
mod ops;
mod outcome;
mod plan;
mod port;
mod procedure;
mod request;
mod rightful;
mod rollback;
mod size;
mod state;

pub use self::allocate::{NearAllocator, NewRegion, ResourceAllocator};
pub use self::draft::{DraftError, draft};
pub use self::error::{PlanError, REFUSED};
pub use self::group::{Cause, Event, Group, GroupStep, Impossible, Times};
pub use self::outcome::{GroupOutcome, Outcome};
pub use self::plan::{PlannedGroup, PlannedSource, PlannedTarget, RepartitionPlan, plan};
pub use self::port::{
    Applied, Decided, Drained, PortError, Prepared, RegionPort, RemapPreview, RemapRequest, RemapTarget, Resolved, StageRequest, Staged,
    Verdict,
};
pub use self::procedure::{KIND, Repartition, Tools};
pub use self::request::Request;
pub use self::rollback::{RollbackError, inverse};
pub use self::state::{Data, Options, Stage, Turn};

#[cfg(test)]
mod tests;
