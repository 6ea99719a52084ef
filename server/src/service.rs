//! The seam between the ways in (HTTP, shell) and what executes SQL.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;

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
    async fn execute(&self, sql: &str, database: &str) -> Result<Vec<Output>, ServerError>;
}
