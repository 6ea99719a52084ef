//! The `tessera` binary: connects the command line to what it starts.

use std::process::ExitCode;

use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_server::cli::{self, Running};
use tessera_server::config::Config;
use tessera_server::error::{Code, ServerError};

fn main() -> ExitCode {
    cli::main(start)
}

/// Builds the server of `tessera standalone`.
fn start(_config: Config) -> BoxFuture<'static, Result<Running, ServerError>> {
    let error = ServerError::new(Code::Unsupported, "this build has no executor of SQL");
    std::future::ready(Err(error)).boxed()
}
