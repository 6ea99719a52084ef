//! Server processes: found, started, waited for, ended.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::signer::Signer;
use tempfile::TempDir;
use tessera_manifest::env;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pause between looks at a server that starts.
const LOOK: Duration = Duration::from_millis(100);
/// Looks before a server counts as broken.
const LOOKS_MAX: u32 = 900;

/// Processes and the folder that they work in; both go when it is dropped.
pub(crate) struct Processes {
    children: Vec<(String, Child)>,
    dir: TempDir,
}

impl Processes {
    /// None yet, and a fresh folder.
    pub(crate) fn new() -> Self {
        Self { children: Vec::new(), dir: tempfile::tempdir().expect("a folder for a server") }
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a process in the folder, with its output in a file that is called as it is.
    pub(crate) fn spawn(&mut self, name: &str, command: &mut Command) {
        let log = File::create(self.log(name)).expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let child = command.current_dir(self.dir()).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.children.push((name.to_owned(), child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"))));
    }

    /// Runs a command to its end; what it prints, or what went wrong.
    pub(crate) fn output(command: &mut Command) -> Result<String, String> {
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{command:?}: {}\n{out}\n{err}", output.status)) }
    }

    /// Waits until `ready` says so. Panics with the servers' last words if it never does, or if one of them ended.
    pub(crate) async fn wait<F: Future<Output = bool>>(&mut self, what: &str, mut ready: impl FnMut() -> F) {
        for _ in 0..LOOKS_MAX {
            if ready().await {
                return;
            }
            for (name, child) in &mut self.children {
                if let Some(status) = child.try_wait().expect("a child that was started") {
                    panic!("{name} ended with {status}: {}", tail(&self.dir.path().join(format!("{name}.out"))));
                }
            }
            env::sleep(LOOK).await;
        }
        let words: Vec<String> = self.children.iter().map(|(name, _)| format!("{name}: {}", tail(&self.log(name)))).collect();
        panic!("{what} is not ready: {}", words.join("\n"));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.out"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned()
}

/// The program that the variable, if any, names, or that is on the path. If there is none, says so: the test is skipped.
pub(crate) fn find(variable: Option<&str>, name: &str) -> Option<PathBuf> {
    if let Some(path) = variable.and_then(std::env::var_os).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let by = variable.map_or(String::new(), |variable| format!(", nor named by {variable}"));
        skip(&format!("{name} is not installed{by}"));
    }
    found
}

/// Says that a store is not tested.
pub(crate) fn skip(why: &str) {
    eprintln!("\nSKIPPED: {why}. This store is not tested in this run.\n");
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The status of a request without a body.
pub(crate) async fn http(method: &str, port: u16, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| io::Error::other(format!("'{line}' is no HTTP answer")))
}

/// Creates a bucket on an S3 server. A store must have been opened before: that makes TLS work in this process.
pub(crate) async fn create_bucket(port: u16, bucket: &str, key_id: &str, secret: &str) {
    let builder = AmazonS3Builder::new().with_endpoint(format!("http://127.0.0.1:{port}")).with_allow_http(true);
    let builder = builder.with_bucket_name(bucket).with_region("us-east-1").with_access_key_id(key_id).with_secret_access_key(secret);
    let client = builder.build().expect("a client");
    let root = object_store::path::Path::default();
    let url = client.signed_url(reqwest::Method::PUT, &root, Duration::from_secs(60)).await.expect("a signed URL");
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    let status = http("PUT", port, &path).await.expect("an answer");
    assert_eq!(status, 200, "cannot create bucket {bucket}");
}
