//! The `tessera` binary: connects the command line to what it starts.

use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_server::cli::{self, Running};
use tessera_server::config::Config;
use tessera_server::error::ServerError;
use tessera_server::home::Home;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::main(|config| start(config).boxed())
}

/// Builds the server of `tessera standalone`. The data home is locked until the server is closed.
async fn start(config: Config) -> Result<Running, ServerError> {
    let home = Home::open(&config.data_home)?;
    let standalone = home.start(&config).await?;
    let service = Arc::new(standalone.clone());
    let close: BoxFuture<'static, Result<(), ServerError>> = async move {
        let closed = standalone.close().await;
        drop(home);
        closed
    }
    .boxed();
    Ok(Running { service, close })
}
