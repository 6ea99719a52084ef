//! What an operator runs against a key-value store: a check that it keeps its word, and figures of its speed.

pub mod bench;
mod random;
pub mod verify;
