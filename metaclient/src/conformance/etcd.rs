//! Clusters of etcd servers on this machine, for tests.
//!
//! Invariants:
//! - Each server listens on loopback only, on ports that were free, and keeps its data in a folder of the
//!   cluster that goes with it.
//! - Servers end with their cluster, by the handle of their process.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tessera_manifest::env::{self, Env};

/// Attempts to start a cluster: another process may take a port that was free.
const STARTS_MAX: usize = 5;
/// Looks at a server that starts, and the time between them.
const LOOKS_MAX: usize = 600;
const LOOK: Duration = Duration::from_millis(50);

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterOptions {
    /// Servers.
    pub nodes: usize,
    /// More arguments of each server.
    pub arguments: Vec<String>,
    /// Whether clients speak TLS; the certificates come with `arguments`.
    pub tls: bool,
}

#[derive(Debug)]
struct Node {
    name: String,
    client_port: u16,
    peer_port: u16,
    process: Option<Child>,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    options: ClusterOptions,
    folder: PathBuf,
}

/// The name of the program: `TESSERA_TEST_ETCD`, or `etcd`.
fn program() -> String {
    std::env::var("TESSERA_TEST_ETCD").unwrap_or_else(|_| "etcd".to_owned())
}

/// Whether etcd is installed. Without it tests of it must say so and pass.
#[must_use]
pub fn is_installed() -> bool {
    Command::new(program()).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    // All are held until all are known, so that none comes twice.
    let listeners = (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Cluster {
    /// Starts a cluster and waits until every server takes connections.
    ///
    /// # Panics
    /// When it does not start: a test cannot go on.
    pub async fn start(options: ClusterOptions) -> Self {
        for _ in 0..STARTS_MAX {
            let folder = std::env::temp_dir().join(format!("tessera-etcd-{}", Env::system().ulid()));
            std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
            let ports = free_ports(options.nodes * 2).expect("loopback has free ports");
            let node = |(at, ports): (usize, &[u16])| {
                let [client_port, peer_port] = *ports else { panic!("ports come in pairs") };
                Node { name: format!("n{at}"), client_port, peer_port, process: None }
            };
            let nodes = ports.chunks(2).enumerate().map(node).collect();
            let mut cluster = Self { nodes, options: options.clone(), folder };
            for at in 0..options.nodes {
                cluster.spawn(at);
            }
            if cluster.listens().await {
                return cluster;
            }
        }
        panic!("etcd did not start in {STARTS_MAX} attempts");
    }

    /// One server with default options.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn single() -> Self {
        Self::start(ClusterOptions { nodes: 1, ..ClusterOptions::default() }).await
    }

    /// The folder of the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of one server.
    ///
    /// # Panics
    /// When there is no such server.
    #[must_use]
    pub fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node].client_port)
    }

    /// The client URL of each server.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.nodes.len()).map(|node| self.endpoint(node)).collect()
    }

    /// The client URL of one server.
    #[must_use]
    pub fn endpoint(&self, node: usize) -> String {
        format!("{}://{}", if self.options.tls { "https" } else { "http" }, self.address(node))
    }

    fn spawn(&mut self, at: usize) {
        let members: Vec<String> = self.nodes.iter().map(|node| format!("{}=http://127.0.0.1:{}", node.name, node.peer_port)).collect();
        let (client_url, node) = (self.endpoint(at), &mut self.nodes[at]);
        let peer_url = format!("http://127.0.0.1:{}", node.peer_port);
        let log = |kind: &str| {
            let path = self.folder.join(format!("{}.{kind}", node.name));
            File::options().create(true).append(true).open(path).expect("the cluster's folder can be written")
        };
        let mut command = Command::new(program());
        command
            .args(["--name", &node.name, "--data-dir"])
            .arg(self.folder.join(&node.name))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("err"));
        node.process = Some(command.spawn().expect("etcd is installed"));
    }

    /// Waits until each server that runs takes connections; `false` when one has ended.
    async fn listens(&mut self) -> bool {
        for at in 0..self.nodes.len() {
            let address = self.address(at);
            let mut looks = 0;
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                let ended = self.nodes[at].process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
                looks += 1;
                if ended || looks > LOOKS_MAX {
                    return false;
                }
                env::sleep(LOOK).await;
            }
        }
        true
    }

    /// Kills a server as a loss of power of the process would, with SIGKILL, and waits for its end.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].process.take().expect("the server runs");
        process.kill().expect("a child can be killed");
        process.wait().expect("a child can be waited for");
    }

    /// Starts a killed server again, on its data and ports.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self, node: usize) {
        for _ in 0..STARTS_MAX {
            self.spawn(node);
            if self.listens().await {
                return;
            }
        }
        panic!("etcd did not start again");
    }

    /// Stops a server without ending it (SIGSTOP), or lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn set_paused(&self, node: usize, paused: bool) {
        let process = self.nodes[node].process.as_ref().expect("the server runs");
        let signal = if paused { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &process.id().to_string()]).status().expect("kill is installed");
        assert!(done.success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
