//! Waiting for procedures.

use std::thread;
use std::time::Duration;

use serde_json::Value;
use tessera_manifest::env::Stopwatch;

use super::Server;

/// How long procedures may go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until no procedure goes on; what became of all of them.
pub(crate) fn settle(server: &Server) -> Vec<Value> {
    try_settle(server).unwrap_or_else(|| panic!("the server is gone: {}", server.log()))
}

/// The same; none when the server is gone.
pub(crate) fn try_settle(server: &Server) -> Option<Vec<Value>> {
    let watch = Stopwatch::start();
    loop {
        let body = server.try_get("/admin/procedures?limit=1000").ok()?.body;
        let list: Value = serde_json::from_str(&body).ok()?;
        let list = list["procedures"].as_array()?.clone();
        let open: Vec<&Value> =
            list.iter().filter(|one| !["done", "failed", "cancelled"].contains(&one["status"].as_str().unwrap())).collect();
        if open.is_empty() {
            return Some(list);
        }
        assert!(watch.elapsed() < PATIENCE, "{open:?}: {}", server.log());
        thread::park_timeout(Duration::from_millis(10));
    }
}
