//! The SQL shell: one statement text, a script, or a session with history. Speaks HTTP to a running server.

pub mod client;
pub mod input;
mod progress;
mod session;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;

pub use client::{Client, ClientError};
pub use session::run_interactive;

use crate::output::Format;

/// Why the shell ended early.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The server refused, or could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A statement of a script failed.
    #[error("the statement at line {line}: {source}")]
    Script {
        /// The line at which the statement begins, 1-based.
        line: usize,
        /// Why it failed.
        #[source]
        source: ClientError,
    },
    /// The terminal, or whatever reads the results, failed.
    #[error("cannot read or write: {0}")]
    Io(#[from] io::Error),
    /// The line editor failed.
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] rustyline::error::ReadlineError),
}

impl ShellError {
    /// The failure of the exchange with the server, if it was one.
    #[must_use]
    pub fn client(&self) -> Option<&ClientError> {
        match self {
            Self::Client(error) | Self::Script { source: error, .. } => Some(error),
            Self::Io(_) | Self::Terminal(_) => None,
        }
    }
}

/// Executes `sql` and copies the result to `out`.
///
/// # Errors
/// When the server refuses or does not answer, or `out` fails.
pub fn run_text(client: &Client, sql: &str, database: &str, format: Format, out: &mut dyn Write) -> Result<(), ShellError> {
    let mut answer = progress::shown(client, sql, || client.execute(sql, database, format))?;
    answer.copy_to(out)?;
    if format == Format::Json {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Executes the statements of a script one after the other, and stops at the first that fails.
///
/// # Errors
/// As [`run_text`], with the line of the statement.
pub fn run_script(client: &Client, script: &str, database: &str, format: Format, out: &mut dyn Write) -> Result<(), ShellError> {
    let pieces = input::split(script);
    let rest = (!input::is_blank(pieces.rest)).then_some((pieces.rest_line, pieces.rest));
    for (line, statement) in pieces.statements.into_iter().chain(rest) {
        run_text(client, statement, database, format, out).map_err(|error| match error {
            ShellError::Client(source @ (ClientError::Refused { .. } | ClientError::Broken { .. })) => ShellError::Script { line, source },
            other => other,
        })?;
    }
    Ok(())
}

/// Where the history of the shell is kept: in the user's data folder.
#[must_use]
pub fn history_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local").join("share")))?;
    Some(data.join("tessera").join("history"))
}
