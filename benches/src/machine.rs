//! What the figures were measured on.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

/// The machine and the code.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What the processor calls itself.
    pub cpu: String,
    /// Threads that it runs at a time.
    pub cores: usize,
    /// Main memory in bytes; 0 where it cannot be known.
    pub memory_bytes: u64,
    /// The commit, with a `+` if files differ from it.
    pub commit: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn read() -> Self {
        Self { cpu: cpu(), cores: std::thread::available_parallelism().map_or(1, usize::from), memory_bytes: memory(), commit: commit() }
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { cpu, cores, memory_bytes, commit } = self;
        json!({ "cpu": cpu, "cores": cores, "memory_bytes": memory_bytes, "commit": commit })
    }
}

/// The value behind `key` in a file of `key: value` lines.
fn line_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

fn cpu() -> String {
    line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn memory() -> u64 {
    let line = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
    line.trim_end_matches(" kB").parse().map_or(0, |kb: u64| kb << 10)
}

fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

fn commit() -> String {
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    let dirty = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    if dirty { format!("{commit}+") } else { commit }
}
