//! The connections to etcd, and attempts until a call is answered or its time is up.
//!
//! Invariants:
//! - What may be repeated is repeated on another server for as long as the call may take; what may not be is
//!   repeated only when the attempt was certainly not applied.
//! - Watches have connections of their own: a watcher that does not read fills the window that all requests
//!   of a connection share.

use std::future::Future;
use std::time::Duration;

use etcd_client::{GetOptions, KvClient, LeaseClient, WatchClient};
use tessera_manifest::env::{self, Env, Moment};

use super::failure::{Failure, NoAnswer};
use super::options::EtcdOptions;
use crate::kv::{KvError, Limits};

/// Bytes of one message to a watcher. Servers cut them at their `--max-request-bytes`, up to one change more.
const WATCH_BYTES_MAX: usize = 64 << 20;

const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Attempts of a read within its time, when servers do not answer at all.
const READ_ATTEMPTS: u32 = 3;

/// An attempt begins only with this part of the time of a call before it.
const ATTEMPT_SHARE: u32 = 10;

/// Waits between attempts: longer each time, and by chance, so that clients do not come all at once.
#[derive(Debug, Clone)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        let tenths = u32::try_from(Env::system().nonce().0 % 11).unwrap_or(0);
        env::sleep(self.0 / 2 + self.0 * tenths / 20).await;
        self.lengthen();
    }

    pub(super) fn lengthen(&mut self) {
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

/// Which attempts may be followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// All: doing it twice is harmless.
    Always,
    /// Those that were certainly not applied.
    WhenNotApplied,
}

pub(super) struct Client {
    pub(super) kv: KvClient,
    pub(super) lease: LeaseClient,
    pub(super) watch: WatchClient,
    /// Reads on the connections of the watches, which have a token of their own.
    watch_kv: KvClient,
    pub(super) limits: Limits,
    endpoints: String,
    request_timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects, and reads once to see that the cluster answers.
    pub(super) async fn connect(options: &EtcdOptions) -> Result<Self, KvError> {
        let endpoints = options.endpoints.join(",");
        let connected = async {
            let requests = etcd_client::Client::connect(&options.endpoints, Some(options.connect_options())).await?;
            let watches = etcd_client::Client::connect(&options.endpoints, Some(options.connect_options())).await?;
            Ok((requests, watches))
        };
        let (requests, watches) = connected.await.map_err(|error: etcd_client::Error| match Failure::from(error) {
            Failure::NotApplied(source) | Failure::Unknown(source) => {
                KvError::Unavailable { endpoints: endpoints.clone(), doing: "log in to", source }
            }
            Failure::Refused(reason) => KvError::Refused { endpoints: endpoints.clone(), doing: "log in", reason },
            other => KvError::Refused { endpoints: endpoints.clone(), doing: "log in", reason: format!("{other:?}") },
        })?;
        let client = Self {
            kv: requests.kv_client().max_decoding_message_size(options.answer_bytes_max),
            lease: requests.lease_client(),
            watch_kv: watches.kv_client(),
            watch: watches.watch_client().max_decoding_message_size(options.answer_bytes_max.max(WATCH_BYTES_MAX)),
            limits: options.limits(),
            endpoints,
            request_timeout: options.request_timeout,
        };
        client.probe().await?;
        Ok(client)
    }

    /// A linearizable read of nothing much, on the connections of the watches. It renews their token.
    pub(super) async fn probe(&self) -> Result<(), KvError> {
        let probed = self.call(Repeat::Always, || {
            let mut kv = self.watch_kv.clone();
            async move { kv.get(b"\0", Some(GetOptions::new().with_keys_only())).await }
        });
        probed.await.map(|_| ()).map_err(|failure| self.error("read from", failure))
    }

    /// Makes attempts until one is answered, or time is up.
    pub(super) async fn call<T, F, C>(&self, repeat: Repeat, mut attempt: F) -> Result<T, Failure>
    where
        F: FnMut() -> C,
        C: Future<Output = Result<T, etcd_client::Error>>,
    {
        let started = Moment::now();
        let mut backoff = Backoff::default();
        loop {
            let left = self.request_timeout.saturating_sub(Moment::now().since(started));
            let patience = match repeat {
                Repeat::Always => left.min(self.request_timeout / READ_ATTEMPTS),
                Repeat::WhenNotApplied => left,
            };
            let failure = match within(patience, attempt()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::NotApplied(_) => true,
                Failure::Unknown(_) => repeat == Repeat::Always,
                _ => false,
            };
            if !again {
                return Err(failure);
            }
            backoff.wait().await;
            // A last attempt without the time for an answer would only make a known outcome unknown.
            let left = self.request_timeout.saturating_sub(Moment::now().since(started));
            if left < self.request_timeout / ATTEMPT_SHARE {
                return Err(failure);
            }
        }
    }

    /// What to tell the caller of what cannot have changed anything, or may have been repeated.
    pub(super) fn error(&self, doing: &'static str, failure: Failure) -> KvError {
        let endpoints = self.endpoints.clone();
        match failure {
            Failure::NotApplied(source) | Failure::Unknown(source) | Failure::AnswerTooLarge(source) => {
                KvError::Unavailable { endpoints, doing, source }
            }
            Failure::Refused(reason) => KvError::Refused { endpoints, doing, reason },
            other => KvError::Refused { endpoints, doing, reason: format!("{other:?}") },
        }
    }

    /// The name of the store in messages.
    pub(super) fn store(&self) -> String {
        format!("etcd at {}", self.endpoints)
    }
}

async fn within<T>(patience: Duration, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Failure> {
    tokio::select! {
        answer = call => answer.map_err(Failure::from),
        () = env::sleep(patience) => Err(Failure::Unknown(Box::new(NoAnswer(patience)))),
    }
}
