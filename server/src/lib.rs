//! The server: SQL over HTTP on top of the engine and the metadata client, in one process.

pub mod cli;
pub mod config;
pub mod copy;
pub mod error;
pub mod http;
pub mod output;
pub mod service;
pub mod shell;
pub mod telemetry;
pub mod catalog;
pub mod ddl;
pub mod query;
pub mod sql;
pub mod standalone;
