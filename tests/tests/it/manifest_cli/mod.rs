//! `tessera manifest` as a process, on data homes that real servers have left behind.

mod reading;
mod verify;
mod writing;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, binary};

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// Runs `tessera manifest` with these arguments.
fn manifest(args: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command.arg("manifest").args(args).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    ended
}

impl Ended {
    #[track_caller]
    fn expect(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        let all = format!("{}{}", self.out, self.err);
        for part in parts {
            assert!(all.contains(part), "'{part}' is not in: {all}");
        }
        self
    }
}

/// Runs a verb that must succeed; what it printed.
#[track_caller]
fn text(args: &[&str]) -> String {
    let ended = manifest(args);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{args:?}: {ended:?}");
    ended.out
}

/// Runs a verb with `--json`, whatever its exit code.
#[track_caller]
fn json(args: &[&str]) -> Value {
    let ended = manifest(&[args, &["--json"]].concat());
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{args:?}: {error}: {ended:?}"))
}

/// A slot as JSON has it.
fn slot(epoch: u32, seq: u64) -> String {
    format!("{epoch:010}-{seq:020}")
}

/// A data home with the table `cpu` (1024) in two regions. Region 0 was written to in two epochs, each of which left one
/// file, at versions 1-1 and 2-1, and a clean seal; region 1 in the first of them only.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { folder: TempDir::new().unwrap() };
        let create = "CREATE TABLE cpu (host STRING, ts TIMESTAMP(3) TIME INDEX, usage DOUBLE DEFAULT 1.5 COMMENT 'percent', \
                      PRIMARY KEY (host)) PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')";
        fixture.serve(&[create, "INSERT INTO cpu VALUES ('a', 1000, 1), ('z', 2000, 2)"]);
        fixture.serve(&["INSERT INTO cpu VALUES ('b', 3000, 3)"]);
        fixture
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Starts a server, runs statements and stops it.
    fn serve(&self, statements: &[&str]) {
        let server = Server::start(self.home());
        for statement in statements {
            server.run(statement);
        }
        assert_eq!(server.terminate().code, Some(0));
    }

    /// What a server answers to a query.
    fn ask(&self, sql: &str) -> Vec<String> {
        let server = Server::start(self.home());
        let lines = server.lines(sql);
        assert_eq!(server.terminate().code, Some(0));
        lines
    }

    /// Every file below the store, with its content.
    fn store(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.home().join("store")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = fs::read(&path).unwrap();
                    found.insert(path, content);
                }
            }
        }
        found
    }
}
