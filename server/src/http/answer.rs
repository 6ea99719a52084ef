//! Results as HTTP answers.
//!
//! | format | several statements | affected rows | memory |
//! |---|---|---|---|
//! | json | several outputs | `affectedrows` | whole answer, up to `http.json_bytes_max` |
//! | csv | a blank line between | the number on a line | a batch |
//! | table, vertical | one after the other | `affected rows: n` | up to [`limits::TABLE_ROWS_MAX`](crate::config::limits) rows |
//! | arrow | one IPC stream after the other | a row with `affected_rows` | a batch |
//!
//! Headers: `x-greptime-execution-time` in milliseconds until the first rows, `x-greptime-err-code` with an error.
//!
//! Streams begin when their first batch is there, so that most failures still have their status. One that comes later
//! breaks the connection off: a client never takes a part for the whole.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamEncoder;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::ready;
use futures::stream::{self, BoxStream, StreamExt};
use tessera_manifest::env::Stopwatch;

use crate::error::{Code, ServerError};
use crate::output::table::{self, Layout, Rows};
use crate::output::{Format, csv, json};
use crate::service::Output;

/// Header with the time until the first rows, in milliseconds.
pub(super) const EXECUTION_TIME: &str = "x-greptime-execution-time";

/// Header with the code of an error.
const ERROR_CODE: &str = "x-greptime-err-code";

/// Bytes of a column from which on they go out where they are, without being copied behind those before them.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// Bytes that follow each other.
type Piece = Result<Vec<Bytes>, ServerError>;

/// The answer to a request that failed.
pub(super) fn failure(status: StatusCode, code: Code, message: &str, elapsed: Duration) -> Response {
    let body = json::error_document(code as u32, message, millis(elapsed));
    let mut response = (status, [(header::CONTENT_TYPE, Format::Json.content_type())], body).into_response();
    response.headers_mut().insert(ERROR_CODE, HeaderValue::from(code as u32));
    response.headers_mut().insert(EXECUTION_TIME, HeaderValue::from(millis(elapsed)));
    response
}

/// The answer to a request whose statements succeeded.
pub(super) async fn render(outputs: Vec<Output>, format: Format, json_bytes_max: usize, watch: Stopwatch) -> Result<Response, ServerError> {
    let body = match format {
        Format::Json => Body::from(json_body(outputs, json_bytes_max, watch).await?),
        Format::Table => Body::from(table_body(outputs, Layout::Horizontal).await?),
        Format::Vertical => Body::from(table_body(outputs, Layout::Vertical).await?),
        Format::Csv => stream_body(outputs, csv_pieces).await?,
        Format::Arrow => stream_body(outputs, arrow_pieces).await?,
    };
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    response.headers_mut().insert(EXECUTION_TIME, HeaderValue::from(millis(watch.elapsed())));
    Ok(response)
}

async fn json_body(outputs: Vec<Output>, bytes_max: usize, watch: Stopwatch) -> Result<Vec<u8>, ServerError> {
    let mut document = json::Document::new();
    for output in outputs {
        match output {
            Output::Affected(rows) => document.affected(rows),
            Output::Rows { schema, mut stream } => {
                document.begin_rows(&schema);
                while let Some(batch) = stream.next().await {
                    document.rows(&batch?).map_err(unwritable)?;
                    if document.len() > bytes_max {
                        let text = format!("the result is larger than {bytes_max} bytes of JSON; use format=csv, format=arrow or LIMIT");
                        return Err(ServerError::new(Code::ResourcesExhausted, text));
                    }
                }
                document.end_rows();
            }
        }
    }
    Ok(document.finish(millis(watch.elapsed())))
}

async fn table_body(outputs: Vec<Output>, layout: Layout) -> Result<String, ServerError> {
    let mut text = String::new();
    for output in outputs {
        match output {
            Output::Affected(rows) => text.push_str(&table::affected(rows)),
            Output::Rows { schema, mut stream } => {
                let mut rows = Rows::new(schema);
                while let Some(batch) = stream.next().await {
                    if !rows.push(&batch?) {
                        break;
                    }
                }
                text.push_str(&rows.render(layout).map_err(unwritable)?);
            }
        }
    }
    Ok(text)
}

/// A body that is computed while it is read; its first piece is computed now.
async fn stream_body(outputs: Vec<Output>, pieces: fn(usize, Output) -> BoxStream<'static, Piece>) -> Result<Body, ServerError> {
    let mut all = joined(outputs, pieces);
    let first = match all.next().await {
        Some(Err(error)) => return Err(error),
        first => first,
    };
    let bytes = stream::iter(first).chain(all).flat_map(|piece| {
        let bytes = match piece {
            Ok(bytes) => bytes.into_iter().map(Ok).collect(),
            Err(error) => {
                tracing::error!(code = error.code as u32, %error, "a result broke off");
                vec![Err(error)]
            }
        };
        stream::iter(bytes)
    });
    Ok(Body::from_stream(bytes))
}

/// The pieces of all outputs, up to and with the first error: what follows it would be read as if nothing had failed.
fn joined(outputs: Vec<Output>, pieces: fn(usize, Output) -> BoxStream<'static, Piece>) -> BoxStream<'static, Piece> {
    let all = stream::iter(outputs.into_iter().enumerate()).flat_map(move |(index, output)| pieces(index, output));
    all.scan(false, |failed, piece| ready((!std::mem::replace(failed, piece.is_err())).then_some(piece))).boxed()
}

fn csv_pieces(index: usize, output: Output) -> BoxStream<'static, Piece> {
    let gap = if index > 0 { b"\n".to_vec() } else { Vec::new() };
    match output {
        Output::Affected(rows) => {
            let mut bytes = gap;
            bytes.extend_from_slice(format!("{rows}\n").as_bytes());
            stream::once(ready(Ok(vec![bytes.into()]))).boxed()
        }
        Output::Rows { schema, stream } => {
            let mut head = Some((gap, schema));
            with_head(stream, move |batch| {
                let (mut bytes, schema) = head.take().map_or((Vec::new(), None), |(gap, schema)| (gap, Some(schema)));
                bytes.extend(csv::to_bytes(schema.as_deref(), batch).map_err(unwritable)?);
                Ok(vec![bytes.into()])
            })
        }
    }
}

fn arrow_pieces(_index: usize, output: Output) -> BoxStream<'static, Piece> {
    let (schema, stream) = match output {
        Output::Rows { schema, stream } => (schema, stream),
        Output::Affected(rows) => affected_batch(rows),
    };
    // The encoder is taken at the end, when it writes the mark that tells a reader that the stream is whole.
    let mut encoder = StreamEncoder::try_new(&schema).map(Some);
    with_end(stream, move |batch| {
        let begun = match &mut encoder {
            Ok(begun) => begun,
            Err(error) => return Err(ServerError::new(Code::Internal, format!("cannot begin an Arrow stream: {error}"))),
        };
        let buffers = match (batch, begun) {
            (Some(batch), Some(encoder)) => encoder.encode(batch),
            (None, begun @ Some(_)) => begun.take().map_or(Ok(Vec::new()), StreamEncoder::finish),
            (_, None) => Ok(Vec::new()),
        };
        Ok(joined_bytes(buffers.map_err(unwritable)?))
    })
}

/// A buffer that others may have, too.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Buffers one after the other: large ones as they are, small ones copied together.
fn joined_bytes(buffers: Vec<Buffer>) -> Vec<Bytes> {
    let (mut out, mut small): (Vec<Bytes>, Vec<u8>) = (Vec::new(), Vec::new());
    for buffer in buffers {
        if buffer.len() < SHARED_BYTES_MIN {
            small.extend_from_slice(&buffer);
            continue;
        }
        if !small.is_empty() {
            out.push(std::mem::take(&mut small).into());
        }
        out.push(Bytes::from_owner(Shared(buffer)));
    }
    if !small.is_empty() {
        out.push(small.into());
    }
    out
}

fn affected_batch(rows: u64) -> (SchemaRef, BoxStream<'static, Result<RecordBatch, ServerError>>) {
    let schema = Arc::new(Schema::new(vec![Field::new("affected_rows", DataType::UInt64, false)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(UInt64Array::from(vec![rows]))]).map_err(unwritable);
    (schema, stream::once(ready(batch)).boxed())
}

/// A piece per batch; of an empty result one piece without a batch.
fn with_head(
    batches: BoxStream<'static, Result<RecordBatch, ServerError>>,
    mut encode: impl FnMut(Option<&RecordBatch>) -> Piece + Send + 'static,
) -> BoxStream<'static, Piece> {
    let mut seen = false;
    with_end(batches, move |batch| {
        if batch.is_none() && seen {
            return Ok(Vec::new());
        }
        seen = true;
        encode(batch)
    })
}

/// A piece per batch, and one at the end.
fn with_end(
    batches: BoxStream<'static, Result<RecordBatch, ServerError>>,
    mut encode: impl FnMut(Option<&RecordBatch>) -> Piece + Send + 'static,
) -> BoxStream<'static, Piece> {
    let marked: BoxStream<'static, Result<Option<RecordBatch>, ServerError>> =
        batches.map(|batch| batch.map(Some)).chain(stream::once(ready(Ok(None)))).boxed();
    marked.map(move |batch| batch.and_then(|batch| encode(batch.as_ref()))).boxed()
}

fn unwritable(error: ArrowError) -> ServerError {
    ServerError::new(Code::Internal, format!("cannot write the result: {error}"))
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
