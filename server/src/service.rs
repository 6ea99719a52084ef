//! The seam between the ways in (HTTP, shell) and what executes SQL and the requests of operators.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use tessera_manifest::id::TableId;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::procedure::{ProcedureId, Record};
use tokio_util::sync::CancellationToken;

use crate::doctor::Report;
use crate::error::ServerError;

/// The result of one statement.
pub enum Output {
    /// Rows, as they come.
    Rows {
        /// Their schema.
        schema: SchemaRef,
        /// Batches of that schema; an error ends the stream.
        stream: BoxStream<'static, Result<RecordBatch, ServerError>>,
    },
    /// The number of rows that a statement wrote or removed; 0 for DDL.
    Affected(u64),
}

/// Executes SQL text.
#[async_trait]
pub trait SqlService: Send + Sync + 'static {
    /// Executes the statements of `sql` (separated by `;`) in order, in `database`, and stops at the first
    /// that fails; what the earlier ones did stays done.
    ///
    /// Once `gone` is cancelled nobody waits for the answer. What the text writes is written all the same, as if somebody
    /// did; the statements behind the last one that writes end where they are, also before their first row, and give back
    /// what they hold.
    async fn execute(&self, sql: &str, database: &str, gone: &CancellationToken) -> Result<Vec<Output>, ServerError>;
}

/// What operators ask for, beside SQL.
#[async_trait]
pub trait AdminService: Send + Sync + 'static {
    /// The id that the next table gets.
    async fn next_table_id(&self) -> Result<TableId, ServerError>;

    /// Makes `asked` the id of the next table, at once; only in recovery mode, and only above every id in use.
    async fn set_next_table_id(&self, asked: TableId) -> Result<(), ServerError>;

    /// Whether a switch is on.
    async fn is_on(&self, switch: Switch) -> Result<bool, ServerError>;

    /// Turns a switch on or off; harmless when it is there already.
    async fn turn(&self, switch: Switch, to: Turn) -> Result<(), ServerError>;

    /// Up to `limit` procedures by id, those after `after`; those that are over for a while.
    async fn procedures(&self, after: Option<ProcedureId>, limit: usize) -> Result<Vec<Record>, ServerError>;

    /// A procedure as it is now.
    async fn procedure(&self, id: &ProcedureId) -> Result<Record, ServerError>;

    /// Asks that a procedure be undone, or tried again; as it is then.
    async fn act(&self, id: &ProcedureId, verb: ProcedureVerb) -> Result<Record, ServerError>;

    /// Compares the catalog with the object store.
    async fn examine(&self) -> Result<Report, ServerError>;
}

/// What an operator may do with a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcedureVerb {
    /// Undo it, if it has not passed the point of no return.
    Cancel,
    /// Let it go on, if it is blocked or waits; begin it again, if it failed.
    Retry,
}

/// Where a switch is turned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// On.
    On,
    /// Off.
    Off,
}

/// All that a process does for its clients.
pub trait Service: SqlService + AdminService {}

impl<S: SqlService + AdminService> Service for S {}
