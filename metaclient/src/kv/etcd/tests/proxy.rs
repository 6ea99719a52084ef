//! A wire between client and server that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tessera_manifest::env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Default)]
struct Switches {
    /// New connections are closed at once.
    refusing: AtomicBool,
    /// What the server says is swallowed, until the end of the connection.
    mute: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Proxy {
    address: String,
    switches: Arc<Switches>,
    cuts: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(super) async fn to(target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let switches = Arc::new(Switches::default());
        let cuts = watch::Sender::new(0);
        let accepting = env::spawn(accept(listener, target, Arc::clone(&switches), cuts.clone()));
        Self { address, switches, cuts, accepting }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Cuts every connection.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(super) fn refuse(&self, refusing: bool) {
        self.switches.refusing.store(refusing, Ordering::SeqCst);
    }

    pub(super) fn mute(&self, mute: bool) {
        self.switches.mute.store(mute, Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, target: String, switches: Arc<Switches>, cuts: watch::Sender<u64>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if switches.refusing.load(Ordering::SeqCst) {
            continue;
        }
        let (target, switches, mut cut) = (target.clone(), Arc::clone(&switches), cuts.subscribe());
        env::spawn(async move {
            let Ok(server) = TcpStream::connect(&target).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let never = Arc::new(Switches::default());
            tokio::select! {
                _ = cut.changed() => {}
                () = forward(from_client, to_server, never) => {}
                () = forward(from_server, to_client, switches) => {}
            }
        });
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, switches: Arc<Switches>) {
    let mut buffer = vec![0; 16 << 10];
    let mut mute = false;
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        // Once, always: what follows a hole may not arrive, as it never does with TCP.
        mute |= switches.mute.load(Ordering::SeqCst);
        if !mute && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
