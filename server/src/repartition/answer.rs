//! What a repartition answers to its statement.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use tessera_manifest::id::RegionId;
use tessera_metaclient::procedure::ProcedureId;
use tessera_metaclient::repartition::{GroupOutcome, Outcome, Times};

use crate::catalog::rows;
use crate::error::{Code, ServerError};
use crate::service::Output;

/// The answer to a statement that does not wait: the id of its procedure.
///
/// # Errors
/// None in practice.
pub fn submitted(id: &ProcedureId) -> Result<Output, ServerError> {
    rows(vec![("procedure_id", text([id.to_string()]))])
}

/// The answer to a statement that waited: a row for each group.
///
/// # Errors
/// Groups that failed; the message says which, why, and what became of the others.
pub fn done(id: &ProcedureId, output: &str) -> Result<Output, ServerError> {
    let unreadable =
        |error: serde_json::Error| ServerError::new(Code::Internal, format!("the answer of procedure {id} cannot be read: {error}"));
    let outcome: Outcome = serde_json::from_str(output).map_err(unreadable)?;
    if let Some(failure) = outcome.failure() {
        return Err(failed(id, &outcome, &failure));
    }
    let groups = &outcome.groups;
    let number = |get: fn(&GroupOutcome) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(groups.iter().map(get))) };
    rows(vec![
        ("procedure_id", text(groups.iter().map(|_| id.to_string()))),
        ("sources", text(groups.iter().map(|group| list(&group.sources)))),
        ("targets", text(groups.iter().map(|group| list(&group.targets)))),
        ("retired", text(groups.iter().map(|group| list(&group.retired)))),
        ("generation", number(|group| group.generation.map_or(0, |generation| u64::from(generation.as_u32())))),
        ("references", number(|group| group.references)),
        ("no_ingestion_ms", number(|group| window_ms(&group.times))),
        ("staging_ms", number(|group| staging_ms(&group.times))),
        ("notes", text(groups.iter().map(|group| group.notes.join("; ")))),
    ])
}

/// How long no writes were taken.
fn window_ms(times: &Times) -> u64 {
    between(times.fenced_unix_ms, times.decided_unix_ms)
}

/// How long rows that were written were not seen by queries.
fn staging_ms(times: &Times) -> u64 {
    between(times.decided_unix_ms, times.published_unix_ms)
}

fn between(from: Option<u64>, to: Option<u64>) -> u64 {
    from.zip(to).map_or(0, |(from, to)| to.saturating_sub(from))
}

fn text(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn list(regions: &[RegionId]) -> String {
    regions.iter().map(RegionId::to_string).collect::<Vec<_>>().join(", ")
}

fn failed(id: &ProcedureId, outcome: &Outcome, failure: &str) -> ServerError {
    let done: Vec<String> = outcome
        .groups
        .iter()
        .filter(|group| group.committed)
        .map(|group| format!("{} became {}", list(&group.sources), list(&group.targets)))
        .collect();
    let number = outcome.failed().find_map(|group| group.cause.as_ref()?.code);
    let code = number.and_then(Code::of_number).unwrap_or(Code::RegionBusy);
    let rest = if done.is_empty() { String::new() } else { format!("; done is: {}", done.join("; ")) };
    ServerError::new(code, format!("{failure}{rest} (procedure {id})"))
}
