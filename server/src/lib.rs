//! The server: SQL over HTTP on top of the engine and the metadata client, in one process.

pub mod error;
pub mod service;
