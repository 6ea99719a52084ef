//! Whether the SSTs that a state refers to are there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::{Files, Progress, Report, newest};
use crate::file::FileMeta;
use crate::id::FileKey;
use crate::limits;
use crate::log::Context;
use crate::state::RegionState;

/// SSTs that are read at the same time.
const PARALLEL_FILES_MAX: usize = 4;

/// What a reference expects of its object.
#[derive(Debug, Clone, Copy)]
struct Expected {
    key: FileKey,
    bytes: u64,
    crc32: u32,
    /// Who needs it.
    why: &'static str,
}

impl Expected {
    fn new(key: FileKey, meta: &FileMeta, why: &'static str) -> Self {
        Self { key, bytes: meta.bytes, crc32: meta.crc32, why }
    }
}

/// Every file that some reader may still ask for: visible and staged ones, and removed ones of readable versions.
fn expected(state: &RegionState) -> Vec<Expected> {
    let visible = state.files().values().map(|listed| Expected::new(listed.file.key, &listed.file.meta, "visible"));
    let staging = state.staging();
    let added = staging.into_iter().flat_map(|staging| staging.added().values());
    let remapped = staging.and_then(|staging| staging.remap()).into_iter().flat_map(|remap| remap.files());
    let staged = added.chain(remapped).map(|file| Expected::new(file.key(), file.meta(), "staged"));
    let removed = state.removed().values().filter(|removed| state.is_retained(removed));
    let removed = removed.map(|removed| Expected::new(removed.file.key, &removed.file.meta, "removed, and shown by a readable version"));
    let mut all: Vec<Expected> = visible.chain(staged).chain(removed).collect();
    all.sort_by_key(|file| file.key);
    all.dedup_by_key(|file| file.key);
    all
}

pub(super) async fn check(context: &Context, state: &RegionState, how: Files, progress: &dyn Progress, report: &mut Report) {
    let files = expected(state);
    progress.expect(files.len() as u64);
    report.files = files.len() as u64;
    let at_once = if how == Files::Crc { PARALLEL_FILES_MAX } else { limits::PARALLEL_READS_MAX };
    let checks = files.into_iter().map(|file| {
        let context = context.clone();
        async move { (file, if how == Files::Crc { content(&context, file).await } else { size(&context, file).await }) }
    });
    let mut checks = futures::stream::iter(checks).buffered(at_once);
    let mut wrong = Vec::new();
    while let Some((file, what)) = checks.next().await {
        progress.done(1);
        wrong.extend(what.map(|what| (file, what)));
    }
    if wrong.is_empty() {
        return;
    }
    // A collector may have deleted, with every right, what a newer version does not need any more.
    let now = newest(context, state.region()).await;
    let now: Option<BTreeSet<FileKey>> = now.map(|now| expected(&now).into_iter().map(|needed| needed.key).collect());
    for (file, what) in wrong {
        if now.as_ref().is_none_or(|now| now.contains(&file.key)) {
            report.problem(&context.root.sst(file.key), format!("{what} (the file is {})", file.why));
        }
    }
}

fn failure(error: &object_store::Error) -> String {
    match error {
        object_store::Error::NotFound { .. } => "is missing".to_owned(),
        error => format!("cannot be read: {}", super::chain(error)),
    }
}

async fn size(context: &Context, file: Expected) -> Option<String> {
    match context.store.head(&context.root.sst(file.key)).await {
        Ok(object) => of_size(file, object.size),
        Err(error) => Some(failure(&error)),
    }
}

fn of_size(file: Expected, found: u64) -> Option<String> {
    (found != file.bytes).then(|| format!("has {found} bytes, {} are recorded", file.bytes))
}

async fn content(context: &Context, file: Expected) -> Option<String> {
    let path = context.root.sst(file.key);
    let read = async {
        let stream = Arc::clone(&context.store).get(&path).await?.into_stream();
        let begin = (crc32fast::Hasher::new(), 0_u64);
        let add = |(mut hasher, bytes): (crc32fast::Hasher, u64), part: Bytes| async move {
            hasher.update(&part);
            Ok((hasher, bytes + part.len() as u64))
        };
        stream.try_fold(begin, add).await
    };
    match read.await {
        Err(error) => Some(failure(&error)),
        Ok((hasher, bytes)) => of_size(file, bytes).or_else(|| {
            let computed = hasher.finalize();
            (computed != file.crc32).then(|| format!("is damaged: CRC-32 {:08x} is recorded, {computed:08x} computed", file.crc32))
        }),
    }
}
