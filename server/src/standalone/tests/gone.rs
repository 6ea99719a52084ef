//! What becomes of statements whose clients go away, through real connections.

use std::net::SocketAddr;
use std::sync::Arc;

use tessera_manifest::env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::held::HeldStore;
use super::{CPU, Recorded, Session, World};
use crate::config::Http;
use crate::error::ServerError;
use crate::http::serve;
use crate::service::Service;

/// A server over a store that may be held, with rows in a file of each of its table's regions.
struct Served {
    _world: World,
    store: Arc<HeldStore>,
    session: Session,
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Served {
    async fn start() -> Self {
        let store = Arc::new(HeldStore::default());
        let world = World { store: Arc::clone(&store) as _, ..World::new() };
        let session = world.open().await;
        session.run(CPU).await;
        session.run("CREATE TABLE copies (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE, PRIMARY KEY (host))").await;
        let rows: Vec<String> =
            ["a", "b", "h", "i", "q", "r"].iter().flat_map(|host| (0..9).map(move |ts| format!("('{host}', {ts}, {ts})"))).collect();
        session.run(&format!("INSERT INTO cpu (host, ts, v) VALUES {}", rows.join(", "))).await;
        session.rows("ADMIN flush_table('cpu')").await;
        // Footers are known from here on, and keys; values are not.
        assert_eq!(session.rows("SELECT host FROM cpu").await.len(), 54);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service: Arc<dyn Service> = Arc::new(session.server.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let config = Http { shutdown_ms: 60_000, ..Http::default() };
        let task = env::spawn(async move { serve(listener, service, None, &config, async { stopped.await.unwrap() }).await });
        Self { _world: world, store, session, addr, stop, task }
    }

    /// Asks for statements, and waits until one waits for the store.
    async fn ask(&self, sql: &str) -> TcpStream {
        self.store.hold();
        let mut connection = TcpStream::connect(self.addr).await.unwrap();
        let encoded: String = sql.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = format!("GET /v1/sql?format=csv&sql={encoded} HTTP/1.1\r\nhost: x\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        self.store.is_waited_for(1).await;
        connection
    }

    /// Stops the server, which waits for all statements.
    async fn stop(self) -> (Arc<HeldStore>, Session) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        (self.store, self.session)
    }
}

/// Hangs up; the server has noticed when this ends.
async fn leave(mut connection: TcpStream) {
    connection.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The server closes its side without a word.
    let _closed_or_reset = connection.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_statement_that_only_reads_ends_when_its_client_goes_away() {
    let metrics = Recorded::begin();
    for (number, sql) in [
        "SELECT host, sum(v) FROM cpu GROUP BY host",
        "EXPLAIN ANALYZE SELECT sum(v) FROM cpu",
        "SELECT v FROM cpu ORDER BY v",
        "INSERT INTO copies VALUES ('a', 1, 1); SELECT sum(v) FROM cpu; SELECT v FROM cpu",
    ]
    .into_iter()
    .enumerate()
    {
        let server = Served::start().await;
        let client = server.ask(sql).await;
        assert!(metrics.value("tessera_scan_bytes") > 0.0, "{sql}");
        leave(client).await;
        let begun = server.store.reads().begun;
        // The store is held all the time: a statement that went on would wait for it until the server gives up.
        let (store, session) = server.stop().await;
        assert_eq!((store.reads().waiting, store.reads().begun), (0, begun), "{sql}");
        assert_eq!(metrics.value("tessera_scan_bytes"), 0.0, "{sql}");
        assert_eq!(metrics.value("tessera_reads_abandoned_total"), (number + 1) as f64, "{sql}");
        store.release();
        assert_eq!(session.rows("SELECT count(*), sum(v) FROM cpu").await, ["54|216.0"], "the regions are as they were");
    }
}

#[tokio::test]
async fn what_a_request_writes_is_written_even_if_its_client_goes_away() {
    for (sql, rows) in [
        ("INSERT INTO copies SELECT host, ts, v FROM cpu", 54),
        // Whether a read fails decides about the writes behind it.
        ("SELECT sum(v) FROM cpu; INSERT INTO copies VALUES ('a', 1, 1)", 1),
        ("INSERT INTO copies SELECT host, ts, v FROM cpu; INSERT INTO copies VALUES ('z', 1, 1)", 55),
    ] {
        let server = Served::start().await;
        leave(server.ask(sql).await).await;
        assert_eq!(server.session.rows("SELECT count(*) FROM copies").await, ["0"], "{sql}: it waits");
        server.store.release();
        let (_, session) = server.stop().await;
        assert_eq!(session.rows("SELECT count(*) FROM copies").await, [rows.to_string()], "{sql}");
    }
}
