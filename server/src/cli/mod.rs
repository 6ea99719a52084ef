//! The command line: arguments in, exit code out.
//!
//! Exit codes: 0 done, 1 the statement or the server failed or a check found a problem, 2 the command line or the settings
//! are wrong, 3 no server answers.

mod args;
pub(crate) mod verb;
mod doctor;
mod sql;
mod standalone;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::config::{Config, ConfigError};
use crate::{manifest_cli, meta_cli, region_cli};
use args::{Cli, Command};
pub use standalone::{Running, Start};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
}

/// Runs the command that the process was called with. `start` builds the server of `tessera standalone`.
#[must_use]
pub fn main(start: Start) -> ExitCode {
    // Wrong arguments and --help end the process here, with code 2 and 0.
    let cli = Cli::parse();
    let exit = match cli.command {
        Command::Standalone(args) => standalone::run(&args, start),
        Command::Sql(args) => sql::run(&args),
        Command::Manifest(args) => manifest_cli::run(&args),
        Command::Region(args) => region_cli::run(&args),
        Command::Meta(args) => meta_cli::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => match args.resolve() {
            Ok(config) => print(&config.to_toml()),
            Err(error) => complain(Exit::Usage, &error),
        },
    };
    ExitCode::from(exit as u8)
}

/// The settings that the environment gives, without a file and flags.
pub(crate) fn settings_of_environment() -> Result<Config, ConfigError> {
    args::settings_of_environment()
}

/// Writes to stdout.
pub(crate) fn print(text: &str) -> Exit {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Ok,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(error) => complain(Exit::Failed, &error),
    }
}

/// Writes an error and its causes to stderr.
fn complain(exit: Exit, error: &dyn std::error::Error) -> Exit {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "tessera: {}", crate::error::chain(error));
    exit
}
