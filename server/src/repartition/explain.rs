//! `EXPLAIN ALTER TABLE`: what a repartition would do now.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use tessera_manifest::id::RegionId;
use tessera_manifest::schema::Schema;
use tessera_metaclient::repartition::{DraftError, PlannedGroup, RemapPreview, RepartitionPlan, draft};

use super::request::request;
use crate::catalog::from_catalog;
use crate::ddl::Ddl;
use crate::error::{ServerError, chain};
use crate::query::error::from_arrow;
use crate::query::rules;
use crate::service::Output;
use crate::sql::{self, TableName};

/// One region of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    group: Option<u64>,
    region: String,
    action: &'static str,
    rule: String,
    from: Option<String>,
    preview: Option<RemapPreview>,
    note: Option<String>,
}

/// Plans a statement and shows the plan; nothing is changed.
///
/// # Errors
/// What the statement itself would be refused with, or a table that is being repartitioned.
pub async fn explain(statement: &sql::Repartition, session: &str, ddl: &Ddl) -> Result<Output, ServerError> {
    let TableName { database, table } = &statement.name;
    let catalogs = &ddl.tools.catalogs;
    let table = catalogs.table(database.as_deref().unwrap_or(session), table).await?;
    let request = request(&statement.change, &table)?;
    let view = catalogs.catalog.table_view(table.info.id).await.map_err(|error| from_catalog(&error))?;
    let plan = draft(&view, &*ddl.tools.repartition.port, &request).await.map_err(|error| from_draft(&error))?;
    shown(&lines(&plan, &view.info.schema))
}

fn from_draft(error: &DraftError) -> ServerError {
    match error {
        DraftError::Catalog { source } => from_catalog(source),
        other => ServerError { message: chain(other), ..ServerError::from_class(error.class(), other) },
    }
}

/// The regions of a plan: of each group the sources that retire, then the targets; last the regions that stay.
fn lines(plan: &RepartitionPlan, schema: &Schema) -> Vec<Line> {
    let groups = plan.groups.iter().zip(0_u64..).flat_map(|(group, number)| group_lines(group, number, schema));
    let stay = plan.unchanged.iter().map(|number| Line {
        group: None,
        region: RegionId::new(plan.table, *number).to_string(),
        action: "stays",
        rule: String::new(),
        from: None,
        preview: None,
        note: None,
    });
    groups.chain(stay).collect()
}

fn group_lines(group: &PlannedGroup, number: u64, schema: &Schema) -> Vec<Line> {
    let retired: Vec<RegionId> = group.retired().collect();
    let gone = group.sources.iter().filter(|source| retired.contains(&source.region)).map(|source| Line {
        group: Some(number),
        region: source.region.to_string(),
        action: "retires",
        rule: rules::text(&source.rule, schema),
        from: None,
        preview: None,
        note: None,
    });
    let taken = group.targets.iter().map(|target| {
        let preview = group.estimates.iter().find(|preview| preview.target == target.region).cloned();
        Line {
            group: Some(number),
            region: target.region.to_string(),
            action: if target.is_new { "is created" } else { "changes" },
            rule: rules::text(&target.rule, schema),
            from: Some(target.from.iter().map(RegionId::to_string).collect::<Vec<_>>().join(", ")),
            note: note(preview.as_ref()),
            preview,
        }
    });
    gone.chain(taken).collect()
}

/// What reading costs until files are rewritten.
fn note(preview: Option<&RemapPreview>) -> Option<String> {
    let Some(preview) = preview else { return Some("no estimate: a region did not answer".to_owned()) };
    let mut notes = Vec::new();
    if preview.residual_files > 0 {
        let (files, verb, they) = words(preview.residual_files, "holds", "hold");
        notes.push(format!("{files} {verb} rows of other regions, which scans filter out until {they} localized"));
    }
    if preview.foreign_files > 0 {
        let (files, verb, they) = words(preview.foreign_files, "stays", "stay");
        notes.push(format!("{files} {verb} in the folders of other regions until {they} localized"));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Some files, what they do, and what they are.
fn words(files: u64, one: &'static str, many: &'static str) -> (String, &'static str, &'static str) {
    if files == 1 { ("1 file".to_owned(), one, "it is") } else { (format!("{files} files"), many, "they are") }
}

fn shown(lines: &[Line]) -> Result<Output, ServerError> {
    let text = |get: fn(&Line) -> Option<String>| -> ArrayRef { Arc::new(lines.iter().map(get).collect::<StringArray>()) };
    let number = |get: fn(&RemapPreview) -> u64| -> ArrayRef {
        Arc::new(lines.iter().map(|line| line.preview.as_ref().map(get)).collect::<UInt64Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("group", Arc::new(lines.iter().map(|line| line.group).collect::<UInt64Array>())),
        ("region", text(|line| Some(line.region.clone()))),
        ("action", text(|line| Some(line.action.to_owned()))),
        ("rule", text(|line| (!line.rule.is_empty()).then(|| line.rule.clone()))),
        ("from", text(|line| line.from.clone())),
        ("files", number(|preview| preview.files)),
        ("bytes", number(|preview| preview.bytes)),
        ("rows", number(|preview| preview.rows)),
        ("foreign_files", number(|preview| preview.foreign_files)),
        ("residual_files", number(|preview| preview.residual_files)),
        ("note", text(|line| line.note.clone())),
    ];
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(from_arrow)?;
    Ok(Output::Rows { schema: batch.schema(), stream: Box::pin(futures::stream::iter([Ok(batch)])) })
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::{RegionNumber, TableId};

    use super::*;

    #[test]
    fn notes_say_one_file_and_two_files() {
        let of = |foreign_files, residual_files| {
            let target = RegionId::new(TableId(1024), RegionNumber(0));
            note(Some(&RemapPreview { target, files: 3, foreign_files, bytes: 300, rows: 30, residual_files })).unwrap_or_default()
        };
        assert_eq!(
            of(1, 1),
            "1 file holds rows of other regions, which scans filter out until it is localized; \
             1 file stays in the folders of other regions until it is localized"
        );
        assert_eq!(of(2, 0), "2 files stay in the folders of other regions until they are localized");
        assert_eq!(of(0, 0), "");
    }
}
