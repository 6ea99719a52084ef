//! Procedures as they are shown: over HTTP and by `ADMIN procedure_state`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tessera_metaclient::procedure::{Record, State};

/// How far a procedure is.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ProgressView {
    /// What it does now.
    text: String,
    /// Thousandths that are done.
    permille: u16,
}

/// A procedure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcedureView {
    id: String,
    kind: String,
    /// `queued`, `running`, `rolling back`, `blocked`, `done`, `failed` or `cancelled`.
    status: String,
    progress: ProgressView,
    /// Why its last attempt failed, or why it did.
    error: Option<String>,
    /// What it answered.
    output: Option<String>,
    /// Whether it can only go forward.
    past_no_return: bool,
    cancel_requested: bool,
    /// Steps that are done.
    steps: u64,
    /// Failed attempts of the step that is under way.
    attempts: u32,
    /// The locks that it holds, or waits for: `shared` or `exclusive`.
    locks: BTreeMap<String, String>,
    submitted_unix_ms: u64,
    written_unix_ms: u64,
    /// What its next step begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Value>,
}

impl ProcedureView {
    /// The procedure without its state, which may be large.
    #[must_use]
    pub fn new(record: &Record) -> Self {
        Self {
            id: record.id.to_string(),
            kind: record.kind.clone(),
            status: record.phase.to_string(),
            progress: ProgressView { text: record.progress.text.clone(), permille: record.progress.permille },
            error: record.error.clone(),
            output: record.output.clone(),
            past_no_return: record.past_no_return,
            cancel_requested: record.cancel_requested,
            steps: record.steps,
            attempts: record.attempts,
            locks: record.locks.iter().map(|(resource, mode)| (resource.to_owned(), mode.to_string())).collect(),
            submitted_unix_ms: record.submitted_unix_ms,
            written_unix_ms: record.written_unix_ms,
            state: None,
        }
    }

    /// The procedure with all that there is.
    #[must_use]
    pub fn whole(record: &Record) -> Self {
        Self { state: Some(shown(&record.state)), ..Self::new(record) }
    }
}

fn shown(State { version, bytes }: &State) -> Value {
    let content = serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(bytes.escape_ascii().to_string()));
    serde_json::json!({ "version": version, "content": content })
}

/// Several procedures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcedureList {
    procedures: Vec<ProcedureView>,
}

impl ProcedureList {
    /// The procedures, in the order given.
    #[must_use]
    pub fn new(records: &[Record]) -> Self {
        Self { procedures: records.iter().map(ProcedureView::new).collect() }
    }
}
