//! moto: S3 in memory, in Python. `pip install 'moto[server]'`; the program is `moto_server`.

use std::fs;
use std::process::Command;

use tessera_manifest::store::{self, Options};

use super::server::{Processes, create_bucket, find, free_port, http};

/// A server with the bucket `tessera`.
pub(crate) struct Moto {
    port: u16,
    _processes: Processes,
}

impl Moto {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What a client needs to know.
    pub(crate) fn options(&self) -> Options {
        s3_options(self.port)
    }
}

/// Key and secret, which moto does not check.
pub(crate) const KEYS: (&str, &str) = ("AKEXAMPLE", "SKEXAMPLE");

/// What a client of an S3 server on loopback needs to know.
pub(crate) fn s3_options(port: u16) -> Options {
    let options = Options::explicit().with("endpoint", format!("http://127.0.0.1:{port}")).with("allow_http", "true");
    options.with("access_key_id", KEYS.0).with("secret_access_key", KEYS.1).with("region", "us-east-1")
}

/// Python imports this before it runs the program. moto looks whether an object is there and then puts it, each request in a
/// thread of its own: where another thread runs in between, two creates of one object succeed, and the store is refused as
/// it should be. Here it answers one request at a time.
const ONE_AT_A_TIME: &str = "
import threading
import werkzeug.serving

make_server = werkzeug.serving.make_server
lock = threading.Lock()

def make_locked(host, port, app, *args, **options):
    def locked(environ, start_response):
        with lock:
            return app(environ, start_response)
    return make_server(host, port, locked, *args, **options)

werkzeug.serving.make_server = make_locked
";

/// Starts a server; `None`, and a note, where it is not installed.
pub(crate) async fn start() -> Option<Moto> {
    let program = find(Some("TESSERA_TEST_MOTO_SERVER"), "moto_server")?;
    let port = free_port();
    let mut processes = Processes::new();
    fs::write(processes.dir().join("sitecustomize.py"), ONE_AT_A_TIME).expect("a file in the servers' folder");
    let mut command = Command::new(program);
    processes.spawn("moto", command.env("PYTHONPATH", processes.dir()).args(["-H", "127.0.0.1", "-p", &port.to_string()]));
    processes.wait("moto", || async { http("GET", port, "/").await.is_ok() }).await;
    store::open("s3://tessera", &s3_options(port)).expect("a client");
    create_bucket(port, "tessera", KEYS.0, KEYS.1).await;
    Some(Moto { port, _processes: processes })
}
