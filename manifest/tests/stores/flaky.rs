//! A server that is overloaded for its first requests, or leaves them without an answer, and then has nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tessera_manifest::env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server, until it is dropped.
pub(crate) struct Flaky {
    port: u16,
    requests: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Flaky {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Requests since the last call.
    pub(crate) fn take_requests(&self) -> u32 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Flaky {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server does with a request that it does not like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers 503.
    Overloaded,
    /// Closes the connection without an answer.
    Gone,
}

/// Starts a server that is in this mood for the first `bad` requests after each look at their number, then answers 404.
pub(crate) async fn start(mood: Mood, bad: u32) -> Flaky {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let requests = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&requests);
    let task = env::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            read_head(&mut client).await;
            let status = match (count.fetch_add(1, Ordering::Relaxed) < bad, mood) {
                (true, Mood::Gone) => continue,
                (true, Mood::Overloaded) => "503 Slow Down",
                (false, _) => "404 Not Found",
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // A client that does not wait for it has its reasons.
            let _ = client.write_all(answer.as_bytes()).await;
            let _ = client.shutdown().await;
        }
    });
    Flaky { port, requests, task }
}

/// Reads the head of a request; its body, if any, is a few bytes and comes with it.
async fn read_head(client: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if !matches!(client.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}
