//! The server: SQL over HTTP on top of the engine and the metadata client, in one process.

pub mod catalog;
pub mod ddl;
pub mod error;
pub mod query;
pub mod service;
pub mod sql;
pub mod standalone;
