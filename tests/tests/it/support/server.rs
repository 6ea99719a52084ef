//! The real binary as a process.
//!
//! - Its log is collected; whenever a server ends, the log must not tell of a panic.
//! - A server that is dropped is killed and waited for.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tessera_manifest::env;

use super::answer::{Refusal, Reply, text};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(180);
/// How long a start or an end may take.
const LIFE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    process: Process,
    url: String,
    agent: ureq::Agent,
}

/// A server that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything that it wrote to stderr.
    pub(crate) log: String,
}

struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    ready: Mutex<Receiver<String>>,
    closed: Mutex<Receiver<()>>,
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TESSERA_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tessera-under-test")), PathBuf::from)
}

impl Server {
    /// Starts a server on `home`, on a free port.
    pub(crate) fn start(home: &Path) -> Self {
        Self::start_with(home, &[])
    }

    /// Starts a server with settings, each as `key=value`.
    pub(crate) fn start_with(home: &Path, settings: &[&str]) -> Self {
        Self::try_start(home, "127.0.0.1:0", settings).unwrap_or_else(|ended| panic!("the server did not start: {ended:?}"))
    }

    /// Starts a server; one that ends before it is ready is given back.
    pub(crate) fn try_start(home: &Path, addr: &str, settings: &[&str]) -> Result<Self, Ended> {
        Self::wait(Process::spawn(home, addr, settings, &[]))
    }

    /// Starts a server with these settings and environment variables, on a free port.
    pub(crate) fn start_with_env(home: &Path, settings: &[&str], env: &[(&str, &str)]) -> Self {
        Self::try_start_with_env(home, settings, env).unwrap_or_else(|ended| panic!("the server did not start: {ended:?}"))
    }

    /// The same; one that ends before it is ready is given back.
    pub(crate) fn try_start_with_env(home: &Path, settings: &[&str], env: &[(&str, &str)]) -> Result<Self, Ended> {
        Self::wait(Process::spawn(home, "127.0.0.1:0", settings, env))
    }

    /// Starts a server as the user `uid` by a binary that this user may run.
    #[cfg(unix)]
    pub(crate) fn start_as(uid: u32, binary: &Path, home: &Path, settings: &[&str]) -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(binary);
        command.uid(uid).gid(uid).current_dir("/");
        let process = Process::spawn_by(command, home, "127.0.0.1:0", settings, &[]);
        Self::wait(process).unwrap_or_else(|ended| panic!("the server did not start: {ended:?}"))
    }

    fn wait(process: Process) -> Result<Self, Ended> {
        match process.wait_ready(LIFE) {
            Ok(url) => {
                let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(ANSWER));
                Ok(Self { process, url, agent: config.build().new_agent() })
            }
            Err(RecvTimeoutError::Disconnected) => Err(process.end()),
            Err(error) => panic!("the server is not ready: {error}: {}", process.log()),
        }
    }

    /// Starts a server and kills it after `delay`, ready or not.
    pub(crate) fn start_and_kill(home: &Path, settings: &[&str], delay: Duration) -> Ended {
        let mut process = Process::spawn(home, "127.0.0.1:0", settings, &[]);
        let _ = process.wait_ready(delay);
        process.child.kill().unwrap();
        process.end()
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Sends SQL; an error means that no whole answer came.
    pub(crate) fn send(&self, sql: &str, format: &str) -> Result<Reply, ureq::Error> {
        let request = self.agent.post(format!("{}/v1/sql", self.url));
        let mut response = request.send_form([("sql", sql), ("format", format)])?;
        let body = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        Ok(Reply { status: response.status().as_u16(), body })
    }

    /// Runs statements; the outputs, one per statement.
    #[track_caller]
    fn outputs(&self, sql: &str) -> Vec<Value> {
        let reply = self.send(sql, "json").unwrap_or_else(|error| panic!("{sql}: {error}: {}", self.log()));
        reply.outputs().unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    /// The answer to a GET of a path.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.try_get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The same; an error means that no whole answer came.
    pub(crate) fn try_get(&self, path: &str) -> Result<Reply, ureq::Error> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call()?;
        Ok(Reply { status: response.status().as_u16(), body: response.body_mut().read_to_string()? })
    }

    /// The answer to a POST of this body to a path.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        let sent = self.agent.post(format!("{}{path}", self.url)).content_type("application/json").send(body);
        let mut response = sent.unwrap_or_else(|error| panic!("{path}: {error}: {}", self.log()));
        Reply { status: response.status().as_u16(), body: response.body_mut().read_to_string().unwrap() }
    }

    /// The rows of a statement.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let output = self.outputs(sql).pop().unwrap();
        let rows = output["records"]["rows"].as_array().unwrap_or_else(|| panic!("no rows: {output}"));
        rows.iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    /// The rows of a statement, each with `|` between its values.
    #[track_caller]
    pub(crate) fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.rows(sql);
        rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("|")).collect()
    }

    /// The only row of a statement, with `|` between its values.
    #[track_caller]
    pub(crate) fn line(&self, sql: &str) -> String {
        let lines = self.lines(sql);
        let [line] = &lines[..] else { panic!("{sql}: {lines:?}") };
        line.clone()
    }

    /// Runs statements; how many rows the last one wrote.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) -> u64 {
        let output = self.outputs(sql).pop().unwrap();
        output["affectedrows"].as_u64().unwrap_or_else(|| panic!("{sql}: {output}"))
    }

    /// Runs a statement that must be refused.
    #[track_caller]
    pub(crate) fn refused(&self, sql: &str) -> Refusal {
        let reply = self.send(sql, "json").unwrap_or_else(|error| panic!("{sql}: {error}: {}", self.log()));
        reply.outputs().expect_err(sql)
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) -> Ended {
        self.process.child.kill().unwrap();
        self.process.end()
    }

    /// Sends SIGKILL and does not wait, for one that others still talk to.
    pub(crate) fn kill_now(&self) {
        self.process.signal("KILL");
    }

    /// Ends it by SIGTERM.
    pub(crate) fn terminate(self) -> Ended {
        self.process.signal("TERM");
        self.process.end()
    }

    /// Ends it by Ctrl-C.
    pub(crate) fn interrupt(self) -> Ended {
        self.process.signal("INT");
        self.process.end()
    }

    /// Asks it to end by SIGTERM and does not wait.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal("TERM");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn join(self) -> Ended {
        self.process.end()
    }

    /// The Prometheus page.
    pub(crate) fn metrics(&self) -> String {
        self.agent.get(format!("{}/metrics", self.url)).call().unwrap().body_mut().read_to_string().unwrap()
    }
}

impl Process {
    fn spawn(home: &Path, addr: &str, settings: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_by(Command::new(binary()), home, addr, settings, env)
    }

    fn spawn_by(mut command: Command, home: &Path, addr: &str, settings: &[&str], env: &[(&str, &str)]) -> Self {
        command.args(["standalone", "--http-addr", addr, "--data-home"]).arg(home);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        for (name, _) in std::env::vars_os() {
            let foreign = name.to_string_lossy().starts_with("TESSERA_") || name == "RUST_LOG";
            if foreign {
                command.env_remove(name);
            }
        }
        command.envs(env.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&log);
        let (send_ready, ready) = sync_channel(1);
        let (open, closed) = sync_channel(0);
        let read = move || {
            let _open: SyncSender<()> = open;
            for line in stderr.lines() {
                let line = line.unwrap();
                if let Some((_, addr)) = line.split_once("ready at http://") {
                    // Nobody waits for a server that is killed while it starts.
                    let _ = send_ready.send(format!("http://{}", addr.trim()));
                }
                collected.lock().unwrap().push_str(&(line + "\n"));
            }
        };
        env::spawn_thread("server-log", read).unwrap();
        Self { child, log, ready: Mutex::new(ready), closed: Mutex::new(closed) }
    }

    /// The address, once it is ready; disconnected when it has ended.
    fn wait_ready(&self, timeout: Duration) -> Result<String, RecvTimeoutError> {
        self.ready.lock().unwrap().recv_timeout(timeout)
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}: {status}");
    }

    /// Waits until it has ended and everything that it logged is here.
    fn end(mut self) -> Ended {
        let still_open = self.closed.lock().unwrap().recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout);
        assert!(!still_open, "the server does not end: {}", self.log());
        let code = self.child.wait().unwrap().code();
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        Ended { code, log }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            assert!(!self.log().contains("panicked"), "{}", self.log());
        }
    }
}
