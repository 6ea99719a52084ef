//! What the commands that look at data without a server have in common.
//!
//! Invariant: each verb makes a view, a plain value, of which text and JSON are two renderings.

use std::future::Future;
use std::io::{self, Write};

use serde::Serialize;

use super::{Exit, print};
use crate::config::{Log, LogFormat};
use crate::error::{Code, ServerError};
use crate::telemetry;

/// Why a verb did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// It was refused, or did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }
}

impl Failure {
    /// A data home that cannot be opened: the command line is wrong if there is none.
    pub(crate) fn of_home(error: ServerError) -> Self {
        match error.code {
            Code::InvalidArguments => Self::usage(error.message),
            _ => error.into(),
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::failed(error.message)
    }
}

/// What a verb found or did.
pub(crate) trait View: Serialize {
    /// For people; ends with a line end, unless it is empty.
    fn text(&self) -> String;

    /// How the process ends.
    fn exit(&self) -> Exit {
        Exit::Ok
    }
}

/// Runs a verb in a runtime of its own, with a log of this level.
pub(crate) fn run(level: &str, verb: impl Future<Output = Exit>) -> Exit {
    let logs = telemetry::install_logs(&Log { level: level.to_owned(), format: LogFormat::Human });
    if let Err(error) = logs {
        return complain(&Failure::usage(error.message));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&Failure::failed(format!("cannot start: {error}"))),
    };
    runtime.block_on(verb)
}

/// Waits for the work and prints what came of it.
pub(crate) async fn answer<V: View>(work: impl Future<Output = Result<V, Failure>>, json: bool) -> Exit {
    match work.await {
        Ok(view) => show(&view, json),
        Err(failure) => complain(&failure),
    }
}

fn show(view: &impl View, json: bool) -> Exit {
    let text = match json {
        false => view.text(),
        true => match serde_json::to_string_pretty(view) {
            Ok(text) => text + "\n",
            Err(error) => return complain(&Failure::failed(format!("cannot write JSON: {error}"))),
        },
    };
    match print(&text) {
        Exit::Ok => view.exit(),
        exit => exit,
    }
}

pub(crate) fn complain(failure: &Failure) -> Exit {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "tessera: {}", failure.message);
    failure.exit
}
