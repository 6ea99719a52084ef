//! A proxy that drops the condition of every request: what stands behind it is a store that ignores conditions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tessera_manifest::env;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The header that makes a create exclusive.
const CONDITION: &str = "if-none-match:";

/// A proxy, until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    dropped: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Conditions that it dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a proxy to `port`.
pub(crate) async fn start(port: u16) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let own = listener.local_addr().expect("its address").port();
    let dropped = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&dropped);
    let task = env::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A connection ends with its client.
            drop(env::spawn(serve(client, port, Arc::clone(&count))));
        }
    });
    Proxy { port: own, dropped, task }
}

async fn serve(client: TcpStream, port: u16, dropped: Arc<AtomicU64>) -> io::Result<()> {
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    let answers = env::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let forwarded = forward(from_client, to_server, &dropped).await;
    answers.await??;
    forwarded
}

/// Forwards requests: each a head, and a body as long as the head says.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, dropped: &AtomicU64) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head_len = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if from.read_buf(&mut bytes).await? == 0 {
                return to.shutdown().await;
            }
        };
        let head: String = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
        let body_len =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
        while bytes.len() < head_len + body_len {
            if from.read_buf(&mut bytes).await? == 0 {
                return to.shutdown().await;
            }
        }
        let kept: String = head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with(CONDITION)).collect();
        dropped.fetch_add(u64::from(kept.len() < head.len()), Ordering::Relaxed);
        to.write_all(kept.as_bytes()).await?;
        to.write_all(&bytes[head_len..head_len + body_len]).await?;
        bytes.drain(..head_len + body_len);
    }
}
