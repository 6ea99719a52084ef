//! `tessera manifest diff`: what changed between two versions, in words.
//!
//! The comparison itself is pure: it follows from the two states alone.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;
use tessera_manifest::id::{FileKey, RegionId, Slot};
use tessera_manifest::log::load_at;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::paths::Root;
use tessera_manifest::schema::Schema;
use tessera_manifest::state::{RegionState, Staging};

use super::args::DiffArgs;
use super::file::{FileView, Listed, Names};
use super::show::names;
use super::store::Place;
use super::version::short;
use super::{Failure, View, text};

#[derive(Debug, Serialize)]
pub(super) struct DiffView {
    pub(super) region: RegionId,
    pub(super) from: Slot,
    pub(super) to: Slot,
    pub(super) files: FilesDiff,
    pub(super) changes: Vec<Change>,
}

/// How the visible files differ.
#[derive(Debug, Default, Serialize)]
pub(super) struct FilesDiff {
    /// Not listed at the first version.
    pub(super) added: Vec<FileView>,
    /// Visible at the first version only.
    pub(super) removed: Vec<FileView>,
    /// Visible at the second version only, and listed before the first one.
    pub(super) restored: Vec<FileView>,
    /// Standing for other rows.
    pub(super) rescoped: Vec<Rescoped>,
}

/// A file that stands for other rows than before.
#[derive(Debug, Serialize)]
pub(super) struct Rescoped {
    key: String,
    before: String,
    after: String,
}

/// A fact that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// What kind of fact.
    pub(super) about: &'static str,
    /// Which one of the kind; empty, if there is one only.
    pub(super) name: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, ": {before} -> {after}"),
            (None, Some(after)) => write!(f, " added: {after}"),
            (Some(before), None) => write!(f, " dropped: {before}"),
            (None, None) => Ok(()),
        }
    }
}

pub(super) async fn run(args: &DiffArgs) -> Result<DiffView, Failure> {
    let (place, region) = (Place::open(&args.target.store)?, args.target.region);
    let before = load_at(&place.context, region, args.before.0).await?;
    let after = load_at(&place.context, region, args.after.0).await?;
    Ok(DiffView {
        region,
        from: args.before.0,
        to: args.after.0,
        files: files(&place.context.root, &before, &after),
        changes: changes(&before, &after),
    })
}

/// How the visible files of two states differ.
pub(super) fn files(root: &Root, before: &RegionState, after: &RegionState) -> FilesDiff {
    let schema = |state: &RegionState| state.meta().map(|meta| meta.schema.clone());
    let (schema_before, schema_after) = (schema(before), schema(after));
    let names_before = Names { root, schema: schema_before.as_deref() };
    let names_after = Names { root, schema: schema_after.as_deref() };
    let mut diff = FilesDiff::default();
    for (key, listed) in after.files().iter() {
        match before.files().get(&key) {
            None => {
                let view = names_after.file(&listed.file, Listed::Visible, Some(listed.since), None);
                let back = before.version().is_some_and(|version| listed.since <= version) && before.version() <= after.version();
                if back { diff.restored.push(view) } else { diff.added.push(view) }
            }
            Some(was) if was.file.scope != listed.file.scope => {
                let scope = |names: &Names<'_>, scope| text::rule(scope, names.schema);
                let (before, after) = (scope(&names_before, &was.file.scope), scope(&names_after, &listed.file.scope));
                diff.rescoped.push(Rescoped { key: key.to_string(), before, after });
            }
            Some(_) => {}
        }
    }
    let gone = before.files().iter().filter(|(key, _)| !after.files().contains_key(key));
    diff.removed =
        gone.map(|(key, listed)| names_before.file(&listed.file, ended(after, &key), Some(listed.since), until(after, &key))).collect();
    diff
}

fn ended(after: &RegionState, key: &FileKey) -> Listed {
    if after.doomed().contains_key(key) { Listed::Doomed } else { Listed::Removed }
}

/// The version that ended a file, if it is still known.
fn until(after: &RegionState, key: &FileKey) -> Option<Slot> {
    after.removed().get(key).map(|removed| removed.by).or_else(|| after.doomed().get(key).map(|doomed| doomed.by))
}

/// The facts, other than visible files, in which two states differ.
pub(super) fn changes(before: &RegionState, after: &RegionState) -> Vec<Change> {
    let mut changes = Changes(Vec::new());
    changes.one("state", text::life(before), text::life(after));
    changes.optional("epoch", before.version().map(|version| version.epoch), after.version().map(|version| version.epoch));
    changes.optional("writer", before.writer(), after.writer());
    let none = (None, None);
    let (meta_before, meta_after) = (before.meta().map(|meta| &**meta), after.meta().map(|meta| &**meta));
    changes.metas(meta_before, meta_after);
    changes.each("log", &logs(before), &logs(after));
    changes.one("sequence", before.flushed_sequence(), after.flushed_sequence());
    let (staging_before, staging_after) = match (before.staging(), after.staging()) {
        (None, None) => none,
        (was, is) => (was.map(|staging| staging_text(staging, meta_before)), is.map(|staging| staging_text(staging, meta_after))),
    };
    changes.optional("repartition", staging_before, staging_after);
    changes.one("floor", short(before.floor()), short(after.floor()));
    changes.each("snapshot", &snapshots(before), &snapshots(after));
    changes.each("checkpoint", &checkpoints(before), &checkpoints(after));
    changes.one("visible files", before.files().len(), after.files().len());
    changes.one("rows in files", before.totals().rows, after.totals().rows);
    changes.one("bytes in files", text::bytes(before.totals().bytes), text::bytes(after.totals().bytes));
    changes.one("removed files", before.removed().len(), after.removed().len());
    changes.one("doomed files", before.doomed().len(), after.doomed().len());
    changes.0
}

/// Facts by name.
type Facts = BTreeMap<String, String>;

struct Changes(Vec<Change>);

impl Changes {
    fn push(&mut self, about: &'static str, name: &str, before: Option<String>, after: Option<String>) {
        if before != after {
            self.0.push(Change { about, name: name.to_owned(), before, after });
        }
    }

    fn one(&mut self, about: &'static str, before: impl ToString, after: impl ToString) {
        self.push(about, "", Some(before.to_string()), Some(after.to_string()));
    }

    fn optional(&mut self, about: &'static str, before: Option<impl ToString>, after: Option<impl ToString>) {
        self.push(about, "", before.map(|fact| fact.to_string()), after.map(|fact| fact.to_string()));
    }

    fn each(&mut self, about: &'static str, before: &Facts, after: &Facts) {
        for (name, fact) in before {
            self.push(about, name, Some(fact.clone()), after.get(name).cloned());
        }
        for (name, fact) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            self.push(about, name, None, Some(fact.clone()));
        }
    }

    fn metas(&mut self, before: Option<&RegionMeta>, after: Option<&RegionMeta>) {
        let (Some(before), Some(after)) = (before, after) else {
            let name = |meta: &RegionMeta| format!("{}.{}", meta.database, meta.table);
            return self.optional("table", before.map(name), after.map(name));
        };
        self.one("table", format!("{}.{}", before.database, before.table), format!("{}.{}", after.database, after.table));
        self.schemas(&before.schema, &after.schema);
        let partition = |meta: &RegionMeta| format!("({})", names(&meta.partition_columns, &meta.schema).join(", "));
        self.one("partition columns", partition(before), partition(after));
        let rule = |meta: &RegionMeta| text::rule(&meta.rule, Some(&meta.schema));
        if before.rule != after.rule {
            self.one("rule", rule(before), rule(after));
        }
        self.one("generation", before.generation, after.generation);
        self.each("option", &before.options, &after.options);
    }

    /// Columns are the same by id, whatever they are called.
    fn schemas(&mut self, before: &Schema, after: &Schema) {
        self.one("schema version", before.version(), after.version());
        for column in before.columns() {
            let now = after.column(column.id);
            let name = now.map_or(&column.name, |now| &now.name);
            self.push("column", name, Some(text::column(column)), now.map(text::column));
        }
        for column in after.columns().iter().filter(|column| before.column(column.id).is_none()) {
            self.push("column", &column.name, None, Some(text::column(column)));
        }
        let key = |schema: &Schema| format!("({})", names(schema.primary_key(), schema).join(", "));
        if before.primary_key() != after.primary_key() {
            self.one("primary key", key(before), key(after));
        }
    }
}

fn logs(state: &RegionState) -> Facts {
    let fact = |wal: &tessera_manifest::wal::WalRef| {
        let epochs: Vec<String> = wal.epochs.iter().map(ToString::to_string).collect();
        (wal.id.to_string(), format!("epochs {}, flushed up to {}", epochs.join(" "), wal.flushed))
    };
    state.wals().iter().map(fact).collect()
}

fn snapshots(state: &RegionState) -> Facts {
    let fact = |pin: &tessera_manifest::action::Pin| {
        let expires = pin.expires_unix_ms.map_or_else(|| "kept until it is dropped".to_owned(), |ms| format!("until {}", text::utc_ms(ms)));
        format!("of {}, {expires}", short(pin.checkpoint.version))
    };
    state.pins().iter().map(|(name, pin)| (format!("'{name}'"), fact(pin))).collect()
}

fn checkpoints(state: &RegionState) -> Facts {
    let checkpoints = state.checkpoints().iter();
    checkpoints.map(|checkpoint| (short(checkpoint.version), format!("written {}", text::utc_ms(checkpoint.time_ms)))).collect()
}

fn staging_text(staging: &Staging, meta: Option<&RegionMeta>) -> String {
    let stage = &staging.stage;
    let target = stage
        .target
        .as_ref()
        .map_or_else(|| "to retire".to_owned(), |target| format!("to become {}", text::rule(&target.rule, meta.map(|meta| &*meta.schema))));
    let remap = staging.remap().map_or_else(String::new, |remap| format!(", {} files remapped", remap.files().len()));
    let files = text::count(staging.added().len() as u64, "file");
    format!("txn {}, generation {} -> {}, {target}, {files} staged{remap}", stage.txn, stage.base, stage.generation)
}

impl FilesDiff {
    /// One line per file, one line for those of a kind together.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (what, mark, files) in [("added", '+', &self.added), ("removed", '-', &self.removed), ("restored", '^', &self.restored)] {
            if files.is_empty() {
                continue;
            }
            let rows: u64 = files.iter().filter_map(|file| file.content.as_ref()).map(|content| content.rows).sum();
            let bytes = text::bytes(files.iter().map(|file| file.bytes).sum());
            let _ = writeln!(out, "{} {what}: {}, {bytes}", text::count(files.len() as u64, "file"), text::count(rows, "row"));
            for file in files {
                let _ = writeln!(out, "  {mark} {}", file.line());
            }
        }
        if !self.rescoped.is_empty() {
            let _ = writeln!(out, "{} standing for other rows:", text::count(self.rescoped.len() as u64, "file"));
            for Rescoped { key, before, after } in &self.rescoped {
                let _ = writeln!(out, "  ~ {key}: {before} -> {after}");
            }
        }
        out
    }
}

impl View for DiffView {
    fn text(&self) -> String {
        let mut out = format!("region {}, from {} to {}\n", self.region, short(self.from), short(self.to));
        let files = self.files.text();
        if files.is_empty() && self.changes.is_empty() {
            out.push_str("no difference\n");
        }
        out.push_str(&files);
        for change in &self.changes {
            let _ = writeln!(out, "{change}");
        }
        out
    }
}

#[cfg(test)]
mod tests;
