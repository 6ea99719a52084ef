//! Procedures: durable pieces of work in steps, which end as if nothing had disturbed them.
//!
//! Invariants:
//! - A procedure is one record under `procedure/row/{id}`, stored at submit. Intent, act, result: the state in
//!   the record says what the next step does; it is stored before the step acts.
//! - Whoever runs procedures holds an epoch, and every write of a runner compares it ([`Fence`]). A runner that
//!   was overtaken, or slept, changes nothing when it wakes.
//! - Before the point of no return a procedure can be cancelled or fail, and is then undone step by step; after
//!   it, it only goes forward.
//! - Locks follow from the records ([`plan_grants`]); a procedure that is not over keeps them over restarts. Those of a
//!   blocked one pass to who takes its place, in the transaction that ends it; nobody else can get them in between.
//! - The life of a record is a pure state machine ([`Record::after`]); the runner only acts it out.
//!
//! ```text
//!                     +-------- cancel ---------> cancelled <--+
//!                     |                                        | cancelled
//!   submit --> queued +--> running --- cancel, failure ---> rolling back ---> failed
//!                ^           | ^ |     (before the point       | ^               |
//!                |      fatal| | |      of no return)     fatal| |retry          |
//!                |           v |retry                          v |               |
//!                |          blocked, forward           blocked, back             |
//!                |             +-----> done                                      |
//!                +------------------------- retry -------------------------------+
//!
//!   blocked --- another takes its place ---> cancelled
//! ```

mod client;
mod error;
mod fence;
mod id;
mod life;
mod locks;
mod obstacle;
mod record;
mod runner;
mod steps;
mod writer;

pub use self::client::{Procedures, Submitted};
pub use self::error::{ProcedureError, StepError};
pub use self::fence::{Fence, RunnerClaim};
pub use self::id::{ParseProcedureIdError, ProcedureId};
pub use self::life::{Event, Next, Refused, Retry};
pub use self::locks::{Claim, LockMode, Locks, Standing, plan_grants};
pub use self::obstacle::{Waited, Wish, find_obstacle};
pub use self::record::{Blocked, Direction, Phase, Progress, Record, State};
pub use self::runner::{Runner, RunnerOptions, RunnerState};
pub use self::steps::{Commit, Load, Procedure, Registry, Status, StepContext};
pub use self::writer::Row;

#[cfg(test)]
mod tests;
