//! The worlds, in the order in which a row meets the protocols.

mod write_path;
pub use write_path::WritePath;

mod takeover;
pub use takeover::TakeOver;

mod slot_log;
pub use slot_log::SlotLog;

mod history;
pub use history::History;

mod repartition;
pub use repartition::Repartition;

mod groups;
pub use groups::Groups;

mod split_merge;
pub use split_merge::SplitMerge;

mod schema;
pub use schema::Schema;

mod segments;
pub use segments::Segments;

mod collect;
pub use collect::Collect;

mod dropped;
pub use dropped::Dropped;

mod blocked;
pub use blocked::Blocked;
