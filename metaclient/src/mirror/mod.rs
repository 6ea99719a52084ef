//! Following the metadata, and keeping a part of it in memory.

mod follow;

pub use self::follow::{Followed, Follower};
