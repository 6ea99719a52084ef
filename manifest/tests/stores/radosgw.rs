//! radosgw: S3 as Ceph has it, a cluster of one node in memory. Debian packages: ceph-mon ceph-osd ceph-mgr radosgw.
//!
//! It takes root to start.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tessera_manifest::env;
use tessera_manifest::store::{self, Options};

use super::moto::{KEYS, s3_options};
use super::server::{Processes, create_bucket, find, free_port, http, skip};

/// A cluster with a gateway and the bucket `tessera`.
pub(crate) struct Gateway {
    port: u16,
    _processes: Processes,
}

impl Gateway {
    /// What a client needs to know.
    pub(crate) fn options(&self) -> Options {
        s3_options(self.port)
    }
}

/// The programs that must be installed.
const PROGRAMS: [&str; 8] = ["radosgw", "radosgw-admin", "ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool"];

/// Tries of one command.
const TRIES_MAX: u32 = 10;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts a cluster, in about half a minute; `None`, and a note, where it is not installed.
pub(crate) async fn start() -> Option<Gateway> {
    for program in PROGRAMS {
        find(None, program)?;
    }
    if std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        skip("a Ceph cluster takes root to start");
        return None;
    }
    let (port, monitor) = (free_port(), free_port());
    let processes = Processes::new();
    let fsid = "6f1c2f6e-0d9b-4f0c-9f0e-7f3f1b0c5a11";
    for folder in ["mon", "mgr", "osd", "run", "rgw"] {
        std::fs::create_dir(processes.dir().join(folder)).expect("a folder");
    }
    std::fs::write(processes.dir().join("ceph.conf"), configuration(processes.dir(), fsid, monitor, port)).expect("a configuration");
    let mut cluster = Cluster { processes };
    cluster.start_monitor(fsid, monitor).await;
    cluster.daemon("ceph-mgr", &["-i", "x"]);
    cluster.start_osd().await;
    cluster.start_gateway(port).await;
    let processes = cluster.processes;
    store::open("s3://tessera", &s3_options(port)).expect("a client");
    create_bucket(port, "tessera", KEYS.0, KEYS.1).await;
    Some(Gateway { port, _processes: processes })
}

struct Cluster {
    processes: Processes,
}

impl Cluster {
    async fn start_monitor(&mut self, fsid: &str, port: u16) {
        let address = format!("[v1:127.0.0.1:{port}]");
        self.run("monmaptool", &["--create", "--clobber", "--addv", "a", &address, "--fsid", fsid, "monmap"]).await;
        self.run("ceph-mon", &["-i", "a", "--mkfs", "--monmap", "monmap"]).await;
        self.daemon("ceph-mon", &["-i", "a"]);
        self.wait("the monitor", &["-s"], "mon: 1 daemons").await;
    }

    async fn start_osd(&mut self) {
        let id = "1f6d0f0e-6f0a-4c38-8d69-0b9d4b6f2c22";
        self.run("ceph", &["osd", "new", id, "0"]).await;
        self.run("ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", id]).await;
        self.run("ceph", &["osd", "crush", "add-bucket", "localhost", "host"]).await;
        self.run("ceph", &["osd", "crush", "move", "localhost", "root=default"]).await;
        self.run("ceph", &["osd", "crush", "add", "osd.0", "1.0", "host=localhost"]).await;
        self.daemon("ceph-osd", &["-i", "0"]);
        self.wait("the osd", &["osd", "stat"], "1 up").await;
    }

    async fn start_gateway(&mut self, port: u16) {
        let caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"];
        self.run("ceph-authtool", &[&["--create-keyring", "rgw/keyring", "--gen-key", "-n", "client.rgw"][..], &caps].concat()).await;
        self.run("ceph", &["auth", "import", "-i", "rgw/keyring"]).await;
        self.daemon("radosgw", &["-n", "client.rgw"]);
        self.processes.wait("the gateway", || async { http("GET", port, "/").await.is_ok() }).await;
        let user = ["-n", "client.rgw", "user", "create", "--uid=t", "--display-name=t", "--access-key", KEYS.0, "--secret", KEYS.1];
        self.run("radosgw-admin", &user).await;
    }

    /// Waits until a command of the cluster succeeds with these words.
    async fn wait(&mut self, what: &str, args: &[&str], words: &str) {
        let dir = self.processes.dir().to_owned();
        let ready = || std::future::ready(ceph(&dir, "ceph", args).is_ok_and(|text| text.contains(words)));
        self.processes.wait(what, ready).await;
    }

    /// Runs a command of the cluster. A daemon that has just started refuses one now and then, so it is tried again.
    async fn run(&self, program: &str, args: &[&str]) {
        let mut last = String::new();
        for _ in 0..TRIES_MAX {
            match ceph(self.processes.dir(), program, args) {
                Ok(_) => return,
                Err(error) => last = error,
            }
            env::sleep(PAUSE).await;
        }
        panic!("{last}");
    }

    fn daemon(&mut self, program: &str, args: &[&str]) {
        self.processes.spawn(program, Command::new(program).args(["-c", "ceph.conf", "-f"]).args(args));
    }
}

/// Runs a command of the cluster in `dir`.
fn ceph(dir: &Path, program: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.args(["60", program]).current_dir(dir);
    if !matches!(program, "monmaptool" | "ceph-authtool") {
        command.args(["-c", "ceph.conf"]);
    }
    Processes::output(command.args(args))
}

fn configuration(dir: &Path, fsid: &str, monitor: u16, port: u16) -> String {
    let dir = dir.display();
    format!(
        "[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms bind msgr2 = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
osd crush chooseleaf type = 0
run dir = {dir}/run
log file = {dir}/$name.log
admin socket = {dir}/run/$name.asok
mon data = {dir}/mon
mon data avail warn = 0
mon data avail crit = 0
mgr data = {dir}/mgr
osd data = {dir}/osd
osd objectstore = memstore
osd class update on start = false
osd crush update on start = false
memstore device bytes = 2147483648
setuser = root
setgroup = root
[client.rgw]
rgw data = {dir}/rgw
keyring = {dir}/rgw/keyring
rgw frontends = beast endpoint=127.0.0.1:{port}
"
    )
}
