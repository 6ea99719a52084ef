//! s3s-fs: S3 on a folder, in Rust, which looks whether an object exists and then writes it: several of concurrent
//! creators win. `cargo install s3s-fs --version '^0.14' --features binary`; the program is `s3s-fs`.

use std::process::Command;

use tessera_manifest::store::Options;

use super::moto::{KEYS, s3_options};
use super::server::{Processes, find, free_port, http};

/// A server with the bucket `tessera`.
pub(crate) struct S3sFs {
    port: u16,
    _processes: Processes,
}

impl S3sFs {
    /// What a client needs to know.
    pub(crate) fn options(&self) -> Options {
        s3_options(self.port)
    }
}

/// Starts a server; `None`, and a note, where it is not installed.
pub(crate) async fn start() -> Option<S3sFs> {
    let program = find(Some("TESSERA_TEST_S3S_FS"), "s3s-fs")?;
    let port = free_port();
    let mut processes = Processes::new();
    std::fs::create_dir_all(processes.dir().join("root/tessera")).expect("a folder for the bucket");
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", KEYS.0, "--secret-key", KEYS.1, "root"]);
    processes.spawn("s3s-fs", &mut command);
    processes.wait("s3s-fs", || async { http("GET", port, "/").await.is_ok() }).await;
    Some(S3sFs { port, _processes: processes })
}
