//! Repartitions through the engine alone: a table whose catalog is two maps, a coordinator that anybody may resume, and
//! writers that route as a router does.

mod bugs;
mod cancel;
mod crashes;
mod edits;
mod ends;
mod faults;
mod flow;
mod gate;
mod table;
