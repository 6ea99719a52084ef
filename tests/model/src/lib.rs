//! The protocols of the design as small worlds, explored exhaustively.
//!
//! A *world* is a protocol cut down to a few regions, writers and messages: a state, the steps that any actor may take
//! next, what must never be, and (where it matters) what must stay reachable. The explorer visits every state that any
//! order of steps, crashes and delays can lead to. A world in which nothing goes wrong says that the rules suffice at that
//! size; with one *guard* taken away it must find the trace that the guard is there to prevent.
//!
//! ```text
//!   guard.rs       the rules, by name          explore.rs    breadth first, shortest trace
//!   world/*        one protocol each           scenario.rs   worlds with their sizes, for tests and by hand
//!                                              main.rs       the command line
//! ```
//!
//! Invariants:
//! - No dependencies, no I/O, no clock, no randomness: one world gives one answer.
//! - A world is written after the design, and says in its module doc where the code is stricter.
//! - Every guard is caught by at least one scenario once it is taken away; `tests/guards.rs` sees to it.
//!
//! What was explored, and what was not modelled: `docs/model.md`.

pub mod guard;

pub mod explore;
mod fingerprint;

pub mod scenario;
pub mod world;
