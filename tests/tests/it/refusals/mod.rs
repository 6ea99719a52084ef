//! What the server refuses, with which status and code, and in which words.

mod csv;
mod disk;
mod processes;
#[cfg(unix)]
mod rights;
mod sql;
