//! `tessera standalone`: the life of a server process.
//!
//! ```text
//! settings ─► logs ─► listen ─► start ─► serve ─(signal)─► finish requests ─► close
//! ```
//!
//! The port is taken before the data is opened, so that a second server fails at once; requests that come before the
//! data is open wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::StandaloneArgs;
use super::{Exit, complain, print};
use crate::config::Config;
use crate::error::{Code, ServerError};
use crate::service::Service;
use crate::{http, telemetry};

/// How long blocking work may go on after everything is closed.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(1);
/// Stack of each thread, in bytes: address space, of which only what is touched costs memory. Parser and planner are
/// recursive, and a statement as deep as `sql::depth::DEPTH_MAX` allows must fit also in a build without optimisation.
const STACK_BYTES: usize = 64 << 20;

/// A server that executes SQL.
pub struct Running {
    /// What executes statements and the requests of operators.
    pub service: Arc<dyn Service>,
    /// Flushes and closes; awaited once, after the last request.
    pub close: BoxFuture<'static, Result<(), ServerError>>,
}

/// Builds a server from its settings: opens everything under `data_home`.
pub type Start = fn(Config) -> BoxFuture<'static, Result<Running, ServerError>>;

pub(super) fn run(args: &StandaloneArgs, start: Start) -> Exit {
    let config = match args.settings.resolve() {
        Ok(config) => config,
        Err(error) => return complain(Exit::Usage, &error),
    };
    if args.print_config {
        return print(&config.to_toml());
    }
    if let Err(error) = telemetry::install_logs(&config.log) {
        return complain(Exit::Usage, &error);
    }
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tessera").thread_stack_size(STACK_BYTES).build() {
            Ok(runtime) => runtime,
            Err(error) => return complain(Exit::Failed, &error),
        };
    let ended = runtime.block_on(live(config, start));
    runtime.shutdown_timeout(RUNTIME_TIMEOUT);
    match ended {
        Ok(()) => Exit::Ok,
        Err(error) => complain(Exit::Failed, &error),
    }
}

async fn live(config: Config, start: Start) -> Result<(), ServerError> {
    let metrics = telemetry::install_metrics()?;
    let mut signals = Signals::install()?;
    let listener = TcpListener::bind(config.http.addr).await.map_err(|error| {
        let text = format!("cannot listen on {}: {error}; is a server running there, or choose another with --http-addr", config.http.addr);
        ServerError::new(Code::InvalidArguments, text)
    })?;
    let addr = listener.local_addr().unwrap_or(config.http.addr);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), data_home = %config.data_home.display(), "opening");
    let http = config.http.clone();
    let Running { service, close } = start(config).await?;
    tracing::info!("ready at http://{addr}");
    let stop = CancellationToken::new();
    let asked = stop.clone().cancelled_owned();
    let work = async {
        let served = http::serve(listener, service, Some(metrics), &http, asked).await;
        tracing::info!("closing");
        let closed = close.await;
        served.and(closed)
    };
    until_stopped(work, &stop, async || signals.next().await).await?;
    tracing::info!("closed");
    Ok(())
}

/// Runs `work` to its end. The first signal asks it to stop; the second ends it where it is.
async fn until_stopped(
    work: impl Future<Output = Result<(), ServerError>>,
    stop: &CancellationToken,
    mut signal: impl AsyncFnMut(),
) -> Result<(), ServerError> {
    tokio::pin!(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = signal() => stop.cancel(),
    }
    tokio::select! {
        ended = work => ended,
        () = signal() => {
            let text = "stopped before everything was closed; the next start replays the WAL";
            Err(ServerError::new(Code::Internal, text))
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self, ServerError> {
        let install = |kind| signal(kind).map_err(|error| ServerError::new(Code::Internal, format!("cannot wait for signals: {error}")));
        Ok(Self { interrupt: install(SignalKind::interrupt())?, terminate: install(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        };
        tracing::info!(signal = name, "asked to stop");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_signal_stops_even_while_requests_run() {
        let stop = CancellationToken::new();
        let endless = async {
            stop.cancelled().await;
            std::future::pending().await
        };
        let error = until_stopped(endless, &stop, async || ()).await.unwrap_err();
        assert!(error.message.contains("the next start replays the WAL"), "{error}");
    }

    #[tokio::test]
    async fn one_signal_lets_the_work_end() {
        let stop = CancellationToken::new();
        let mut signals = 0;
        let work = async {
            stop.cancelled().await;
            Ok(())
        };
        let signal = async || {
            signals += 1;
            if signals > 1 {
                std::future::pending::<()>().await;
            }
        };
        until_stopped(work, &stop, signal).await.unwrap();
        assert!(stop.is_cancelled());
    }
}
