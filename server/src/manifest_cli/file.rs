//! A file reference as it is shown.

use std::sync::Arc;

use serde::Serialize;
use tessera_manifest::file::{FileMeta, FileRef};
use tessera_manifest::id::{FileKey, Generation, Slot};
use tessera_manifest::paths::Root;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;
use tessera_manifest::state::Row;

use super::text;
use super::version::short;

/// How a region refers to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Listed {
    /// Readers see it.
    Visible,
    /// It ended; older versions may show it.
    Removed,
    /// Rows written since the fence of a repartition.
    Staged,
    /// What a repartition will refer to.
    Remapped,
    /// Its end is decided.
    Doomed,
}

impl Listed {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Removed => "removed",
            Self::Staged => "staged",
            Self::Remapped => "remapped",
            Self::Doomed => "doomed",
        }
    }
}

/// A file of a region.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FileView {
    pub(super) key: String,
    pub(super) state: Listed,
    pub(super) path: String,
    pub(super) bytes: u64,
    /// The version that listed it first.
    pub(super) since: Option<Slot>,
    /// The version that removed or doomed it.
    pub(super) until: Option<Slot>,
    /// All but its size is forgotten of a doomed file.
    #[serde(flatten)]
    pub(super) content: Option<Content>,
}

/// What is known of a file's rows.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Content {
    pub(super) rows: u64,
    pub(super) deletes: u64,
    pub(super) time_min: String,
    pub(super) time_max: String,
    /// As numbers, in the unit of the time index.
    time_range: (i64, i64),
    pub(super) sequence_min: String,
    pub(super) sequence_max: String,
    pub(super) level: u8,
    pub(super) generation: Generation,
    pub(super) schema_version: u32,
    pub(super) scope: String,
    pub(super) rule: String,
    crc32: String,
}

/// What names are needed to show a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) root: &'a Root,
    pub(super) schema: Option<&'a Schema>,
}

impl Names<'_> {
    /// A reference of whatever kind.
    pub(super) fn row(&self, row: &Row) -> FileView {
        match row {
            Row::Visible(listed) => self.file(&listed.file, Listed::Visible, Some(listed.since), None),
            Row::Removed(removed) => self.file(&removed.file, Listed::Removed, Some(removed.since), Some(removed.by)),
            Row::Staged(staged) => self.view(staged.key(), Listed::Staged, Some((staged.meta(), staged.scope())), staged.meta().bytes),
            Row::Remapped(staged) => self.view(staged.key(), Listed::Remapped, Some((staged.meta(), staged.scope())), staged.meta().bytes),
            Row::Doomed(key, doomed) => FileView { until: Some(doomed.by), ..self.view(*key, Listed::Doomed, None, doomed.bytes) },
        }
    }

    pub(super) fn file(&self, file: &Arc<FileRef>, state: Listed, since: Option<Slot>, until: Option<Slot>) -> FileView {
        FileView { since, until, ..self.view(file.key, state, Some((&file.meta, &file.scope)), file.meta.bytes) }
    }

    fn view(&self, key: FileKey, state: Listed, content: Option<(&FileMeta, &Expr)>, bytes: u64) -> FileView {
        let content = content.map(|(meta, scope)| self.content(meta, scope));
        FileView { key: key.to_string(), state, path: self.root.sst(key).to_string(), bytes, since: None, until: None, content }
    }

    fn content(&self, meta: &FileMeta, scope: &Expr) -> Content {
        let unit = text::time_unit(self.schema);
        Content {
            rows: meta.rows,
            deletes: meta.deletes,
            time_min: text::time(meta.time_range.0, unit),
            time_max: text::time(meta.time_range.1, unit),
            time_range: meta.time_range,
            sequence_min: meta.sequences.0.to_string(),
            sequence_max: meta.sequences.1.to_string(),
            level: meta.level,
            generation: meta.generation,
            schema_version: meta.schema_version,
            scope: text::rule(scope, self.schema),
            rule: text::rule(&meta.rule, self.schema),
            crc32: format!("{:08x}", meta.crc32),
        }
    }
}

impl FileView {
    /// In one line: name, rows, size, times.
    pub(super) fn line(&self) -> String {
        let Some(content) = &self.content else { return format!("{}: {}", self.key, text::bytes(self.bytes)) };
        let deletes = if content.deletes > 0 { format!(", {} of them deletes", content.deletes) } else { String::new() };
        format!(
            "{}: {}{deletes}, {}, {} to {}",
            self.key,
            text::count(content.rows, "row"),
            text::bytes(self.bytes),
            content.time_min,
            content.time_max
        )
    }

    /// The cells after key, state and path.
    pub(super) fn cells(&self) -> Vec<String> {
        let of = |show: &dyn Fn(&Content) -> String| self.content.as_ref().map_or_else(String::new, show);
        let slot = |slot: Option<Slot>| slot.map_or_else(String::new, short);
        vec![
            of(&|content| content.rows.to_string()),
            of(&|content| content.deletes.to_string()),
            self.bytes.to_string(),
            of(&|content| content.time_min.clone()),
            of(&|content| content.time_max.clone()),
            of(&|content| format!("{}..{}", content.sequence_min, content.sequence_max)),
            of(&|content| content.level.to_string()),
            of(&|content| content.generation.to_string()),
            slot(self.since),
            of(&|content| content.scope.clone()),
            of(&|content| content.rule.clone()),
        ]
    }
}
