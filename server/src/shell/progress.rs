//! A line on the terminal that tells how far a statement is which works for long in the server: a repartition.
//!
//! Nothing is shown where standard error is no terminal. What is shown is asked of the server beside the statement; when it
//! does not answer, nothing is shown either.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use tessera_manifest::env;

use super::Client;
use crate::sql::{self, Statement};

/// How often the server is asked.
const PERIOD: Duration = Duration::from_millis(200);
/// Thousandths in the whole.
const WHOLE: u64 = 1000;

#[derive(Debug, Deserialize)]
struct List {
    procedures: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    kind: String,
    status: String,
    progress: Shown,
    submitted_unix_ms: u64,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct Shown {
    text: String,
    permille: u64,
}

/// Does `work`, which executes `sql`, and shows meanwhile how far it is.
pub(super) fn shown<T>(client: &Client, sql: &str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() || !takes_long(sql) {
        return work();
    }
    let (done, ended) = sync_channel::<()>(0);
    let client = client.clone();
    let watcher = env::spawn_thread("progress", move || {
        let bar = ProgressBar::new(WHOLE);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {wide_msg}") {
            bar.set_style(style);
        }
        while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let Ok(body) = client.get("/admin/procedures") else { continue };
            if let Some(Shown { text, permille }) = newest(&body) {
                bar.set_position(permille);
                bar.set_message(text);
            }
        }
        bar.finish_and_clear();
    });
    let result = work();
    drop(done);
    if let Ok(watcher) = watcher {
        // One that panicked has nothing more to show.
        let _ = watcher.join();
    }
    result
}

/// Whether a text is a repartition that is waited for.
fn takes_long(sql: &str) -> bool {
    let repartition = |statement: &Statement| match statement {
        Statement::Repartition(repartition) => repartition.options.wait,
        Statement::Admin { function, .. } => function == "rollback_repartition",
        _ => false,
    };
    sql::parse(sql).is_ok_and(|statements| statements.iter().any(repartition))
}

/// The progress of the newest repartition that is not over.
fn newest(body: &str) -> Option<Shown> {
    let list: List = serde_json::from_str(body).ok()?;
    let running = list.procedures.into_iter().filter(|listed| listed.kind == "repartition");
    let running = running.filter(|listed| !matches!(listed.status.as_str(), "done" | "failed" | "cancelled"));
    running.max_by_key(|listed| listed.submitted_unix_ms).map(|listed| listed.progress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_repartition_that_runs_is_shown() {
        let one = |kind: &str, status: &str, at: u64| {
            format!(
                r#"{{"id":"x","kind":"{kind}","status":"{status}","progress":{{"text":"{kind} {at}","permille":{at}}},"submitted_unix_ms":{at}}}"#
            )
        };
        let list = [
            one("repartition", "running", 3),
            one("repartition", "done", 9),
            one("alter_table", "running", 8),
            one("repartition", "queued", 5),
        ];
        let shown = newest(&format!(r#"{{"procedures":[{}]}}"#, list.join(",")));
        assert_eq!(shown, Some(Shown { text: "repartition 5".into(), permille: 5 }));
        assert_eq!(newest("no JSON"), None);
    }

    #[test]
    fn only_repartitions_that_are_waited_for_take_long() {
        assert!(takes_long("ALTER TABLE t MERGE PARTITION (a < 1, a >= 1)"));
        assert!(takes_long("ADMIN rollback_repartition('x')"));
        assert!(!takes_long("ALTER TABLE t MERGE PARTITION (a < 1, a >= 1) WITH (wait = false)"));
        assert!(!takes_long("SELECT 1") && !takes_long("SELECT '"));
    }
}
