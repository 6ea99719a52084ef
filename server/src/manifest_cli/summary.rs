//! What the actions of a record did, in words.

use std::sync::Arc;

use tessera_manifest::action::{Action, Decision, Doom, Edit, Flushed, Open, Stage, StagedEdit};
use tessera_manifest::file::FileRef;
use tessera_manifest::wal::WalRef;

use super::text;
use super::version::short;

/// One action in words.
pub(super) fn summary(action: &Action) -> String {
    match action {
        Action::Open(open) => opened(open),
        Action::Seal(seal) if seal.clean => "sealed cleanly by its writer, every row in a file".to_owned(),
        Action::Seal(seal) => format!("sealed by the next opener {}", seal.by),
        Action::Change(change) => {
            let meta = &change.meta;
            let columns = text::count(meta.schema.columns().len() as u64, "column");
            let rule = text::rule(&meta.rule, Some(&meta.schema));
            format!(
                "{}.{}: schema version {} with {columns}, generation {}, rule {rule}, {}",
                meta.database,
                meta.table,
                meta.schema.version(),
                meta.generation,
                text::count(meta.options.len() as u64, "option")
            )
        }
        Action::Edit(edit) => edited(edit),
        Action::Truncate(truncate) => {
            parts("truncated", flushed(&truncate.flushed).into_iter().chain([format!("sequence {}", truncate.sequence)]))
        }
        Action::Stage(stage) => staged(stage),
        Action::StagedEdit(edit) => staged_edit(edit),
        Action::RemapStaged(remap) => {
            let rows: u64 = remap.segments.iter().map(|segment| segment.rows).sum();
            format!("remapped for txn {}: {} in {}", remap.txn, text::count(rows, "reference"), segments(remap.segments.len()))
        }
        Action::Resolve(resolve) => match resolve.decision {
            Decision::Commit => format!("committed txn {}: what was staged is visible", resolve.txn),
            Decision::Abort { generation } => format!("aborted txn {}, now in generation {generation}", resolve.txn),
        },
        Action::Retire(_) => "retired".to_owned(),
        Action::Checkpointed(logged) => {
            let checkpoint = logged.checkpoint;
            format!("checkpoint of {} noted ({})", short(checkpoint.version), text::bytes(checkpoint.bytes))
        }
        Action::Floor(floor) => format!("floor raised to {}", short(floor.version)),
        Action::Pin(pin) => {
            let expires = pin.expires_unix_ms.map_or_else(String::new, |ms| format!(", until {}", text::utc_ms(ms)));
            format!("snapshot '{}' of {}{expires}", pin.name, short(pin.checkpoint.version))
        }
        Action::Unpin(unpin) => format!("snapshot '{}' dropped", unpin.name),
        Action::Doom(doom) => doomed(doom),
        Action::Drop(_) => "dropped".to_owned(),
    }
}

fn segments(number: usize) -> String {
    text::count(number as u64, "segment")
}

/// What was done, and with what, if anything.
fn parts(done: &str, parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().collect();
    if parts.is_empty() { done.to_owned() } else { format!("{done}: {}", parts.join(", ")) }
}

fn opened(open: &Open) -> String {
    let Open { writer, node, wal, wals, abandoned } = open;
    let own = wal.map_or_else(|| "writing no rows".to_owned(), |wal| format!("writing {wal}"));
    let others = wals.iter().filter(|listed| Some(listed.id) != *wal).count();
    let others = if others > 0 { format!(", {} to replay", text::count(others as u64, "other log")) } else { String::new() };
    let lost = |wal: &WalRef| format!(", by force without the {}: rows behind position {} may be lost", wal.id, wal.flushed);
    let lost: String = abandoned.iter().map(lost).collect();
    format!("opened by node {node} as {writer}, {own}{others}{lost}")
}

/// `+2 files (10 rows, 1.2 KiB)`.
fn added(files: &[Arc<FileRef>]) -> Option<String> {
    let (rows, bytes) = files.iter().fold((0, 0), |(rows, bytes), file| (rows + file.meta.rows, bytes + file.meta.bytes));
    let number = files.len() as u64;
    (number > 0).then(|| format!("+{} ({}, {})", text::count(number, "file"), text::count(rows, "row"), text::bytes(bytes)))
}

fn flushed(flushed: &[Flushed]) -> Vec<String> {
    let one = |Flushed { wal, position, done }: &Flushed| {
        let done = if *done { ", done with it" } else { "" };
        format!("{wal} flushed up to {position}{done}")
    };
    flushed.iter().map(one).collect()
}

fn edited(edit: &Edit) -> String {
    let number = |files: usize| (files > 0).then(|| text::count(files as u64, "file"));
    let mut said: Vec<String> = Vec::new();
    said.extend(added(&edit.add));
    said.extend(number(edit.remove.len()).map(|files| format!("-{files}")));
    said.extend(number(edit.restore.len()).map(|files| format!("{files} restored")));
    said.extend(flushed(&edit.flushed));
    said.extend(edit.sequence.map(|sequence| format!("sequence {sequence}")));
    parts("edit", said)
}

fn staged_edit(edit: &StagedEdit) -> String {
    let mut said: Vec<String> = added(&edit.add).into_iter().collect();
    said.extend(flushed(&edit.flushed));
    said.extend(edit.sequence.map(|sequence| format!("sequence {sequence}")));
    parts(&format!("staged edit of txn {}", edit.txn), said)
}

fn staged(stage: &Stage) -> String {
    let becomes = if stage.target.is_some() { "to change its rule" } else { "to retire" };
    let Stage { txn, base, generation, .. } = stage;
    format!("staged {becomes} by txn {txn}: generation {base} -> {generation}")
}

fn doomed(doom: &Doom) -> String {
    let number = |files: usize, what: &str| (files > 0).then(|| format!("{} {what}", text::count(files as u64, "file")));
    let said = [number(doom.files.len(), "doomed"), number(doom.forget.len(), "forgotten")];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
