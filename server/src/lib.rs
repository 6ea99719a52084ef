//! The server: SQL over HTTP on top of the engine and the metadata client, in one process.

pub mod cli;
pub mod config;
pub mod home;
pub mod metadata;
mod manifest_cli;
mod region_cli;
mod meta_cli;
pub mod telemetry;
pub mod http;
pub mod shell;
pub mod output;
pub mod service;
pub mod standalone;
pub mod sql;
pub mod router;
pub mod repartition;
pub mod query;
pub mod ddl;
pub mod doctor;
#[cfg(any(test, feature = "failpoints"))]
pub mod failpoint;
mod admin;
#[cfg(test)]
mod simulation;
pub mod procedures;
pub mod catalog;
pub mod copy;
pub mod error;
