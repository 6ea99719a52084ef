//! Which files a target of a repartition refers to, and for which of their rows.
//!
//! ```text
//!   scope of F in target = OR over the sources that list F of (their scope of F ∧ their rule at the fence)
//! ```
//!
//! Invariants:
//! - What a reader of the target sees of a file, scope ∧ rule of the target, is what readers of the sources saw of it,
//!   cut to the target's rule: "their rule at the fence" is in the scope, so that a row which a source had lost to
//!   another region, and which was deleted there since, does not come back.
//! - Scopes are said relative to the rule under which the file was written, which all of its rows satisfy: a file that
//!   comes home has the scope *true* again, and loops of splits and merges do not grow scopes.
//! - A reference is left out only if no row of the file can satisfy scope ∧ rule.
//! - The same sources give the same references: two who compute a remap agree on its hash.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::{PutMode, PutOptions};

use crate::action::{RemapStaged, SegmentRef};
use crate::by_address::ByAddress;
use crate::checkpoint::encode_segment;
use crate::env;
use crate::error::Error;
use crate::file::{ColumnStats, FileRef, Scope, StagedFile};
use crate::id::{Epoch, FileKey, RegionId, TxnId};
use crate::limits;
use crate::log::Context;
use crate::rule::{Expr, RuleVersion, Tri, domain, residual};
use crate::set_hash::{MemberHash, SetHash};
use crate::state::{Entry, Files, Row};

/// What a source was at its fence.
#[derive(Debug, Clone, Copy)]
pub struct Fenced<'a> {
    /// Its rule, under which the files are visible.
    pub rule: &'a Expr,
    /// Its visible files, which are frozen.
    pub files: &'a Files,
}

/// A reference that a target will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The file and its scope in the target.
    pub file: Arc<FileRef>,
    /// Whether rows have to be tested when it is read: what the file's rule and statistics do not imply of what the
    /// target shows.
    pub tested: bool,
}

/// What files that are treated alike have in common: who lists them with which scopes, and the rule that they were written
/// under.
type Kind = (Vec<(usize, RuleVersion)>, RuleVersion);

/// The scope of some sources' references to files that were written under one rule, and what a target shows of these.
struct Mapped {
    scope: Scope,
    shown: Expr,
}

/// Answers about statistics that are kept at a time.
const ANSWERS_MAX: usize = 1 << 16;

/// The references of a target with this rule, ascending by file.
#[must_use]
pub fn remap(sources: &[Fenced<'_>], rule: &Expr) -> Vec<Reference> {
    let mut lists: Vec<_> = sources.iter().map(|source| source.files.entries().peekable()).collect();
    // The next file of each source, the least of all on top.
    let mut next: BinaryHeap<Reverse<(FileKey, usize)>> =
        lists.iter_mut().enumerate().filter_map(|(source, list)| Some(Reverse((list.peek()?.key(), source)))).collect();
    let mut kinds = Kinds { sources, rule, versions: ByAddress::default(), known: HashMap::new(), mapped: Vec::new(), last: None };
    // Many files share their statistics; what is listed keeps them where they are.
    let mut answers: HashMap<(usize, *const [ColumnStats]), Tri> = HashMap::new();
    let mut references = Vec::with_capacity(sources.iter().map(|source| source.files.len()).max().unwrap_or(0));
    let mut group: Vec<(usize, Entry<'_>)> = Vec::with_capacity(sources.len());
    while let Some(Reverse((file, _))) = next.peek().copied() {
        group.clear();
        while let Some(mut top) = next.peek_mut().filter(|top| top.0.0 == file) {
            let source = top.0.1;
            group.extend(lists[source].next().map(|entry| (source, entry)));
            match lists[source].peek() {
                Some(entry) => *top = Reverse((entry.key(), source)),
                None => drop(PeekMut::pop(top)),
            }
        }
        let Some((_, entry)) = group.first() else { continue };
        let kind = kinds.of(&group);
        let Some(Mapped { scope, shown }) = &kinds.mapped[kind] else { continue };
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        let stats = entry.stats();
        let answer = answers.entry((kind, Arc::as_ptr(stats)));
        let tested = match answer.or_insert_with(|| shown.evaluate_box(&domain::Box::from_stats(stats))) {
            Tri::False => continue,
            Tri::True => false,
            _ => true,
        };
        references.push(Reference { file: entry.with_scope(scope), tested });
    }
    references
}

/// The kinds of files that were met.
struct Kinds<'a> {
    sources: &'a [Fenced<'a>],
    rule: &'a Expr,
    /// Files of one checkpoint or writer share their rule.
    versions: ByAddress<'a, Expr, RuleVersion>,
    known: HashMap<Kind, usize>,
    mapped: Vec<Option<Mapped>>,
    /// A group and its kind: the next is mostly of the same.
    last: Option<(Vec<(usize, Entry<'a>)>, usize)>,
}

impl<'a> Kinds<'a> {
    /// The kind of a file, of which these are the references, in order of their sources.
    fn of(&mut self, group: &[(usize, Entry<'a>)]) -> usize {
        let alike = |(a, b): (&(usize, Entry<'_>), &(usize, Entry<'_>))| {
            a.0 == b.0 && a.1.scope().version() == b.1.scope().version() && Arc::ptr_eq(a.1.rule(), b.1.rule())
        };
        if let Some((last, kind)) = &self.last
            && last.len() == group.len()
            && last.iter().zip(group).all(alike)
        {
            return *kind;
        }
        let Self { sources, rule, versions, known, mapped, .. } = self;
        let written = group[0].1.rule();
        let version = versions.get_or_insert_with(written, || written.version());
        let scopes = group.iter().map(|(source, entry)| (*source, entry.scope().version())).collect();
        let kind = *known.entry((scopes, version)).or_insert_with(|| {
            let parts = group.iter().map(|(source, entry)| Expr::clone(entry.scope()).and(sources[*source].rule.clone()));
            mapped.push(map(parts.collect(), written, rule));
            mapped.len() - 1
        });
        self.last = Some((group.to_vec(), kind));
        kind
    }
}

/// `None` if the target shows no row of such files.
fn map(parts: Vec<Expr>, written: &Expr, rule: &Expr) -> Option<Mapped> {
    let unbounded = domain::Box::unbounded();
    let scope = residual(&Expr::Or(parts), written, &unbounded);
    let shown = residual(&scope.clone().and(rule.clone()), written, &unbounded);
    let scope = if scope == Expr::always() { Scope::all() } else { Scope::new(scope) };
    (shown != Expr::never()).then_some(Mapped { scope, shown })
}

/// Writes references as segments into the folder of `region`, which is in `epoch`, and answers how the region records
/// them. What is written is named by nothing until then; what was written for an epoch that is over is swept.
///
/// # Errors
/// The store's failure: write them again.
pub async fn write(
    context: &Context,
    region: RegionId,
    epoch: Epoch,
    txn: TxnId,
    references: Vec<Arc<FileRef>>,
) -> Result<RemapStaged, Error> {
    let set_hash = references.iter().fold(SetHash::EMPTY, |hash, file| hash.with(MemberHash::of(file)));
    let parts: Vec<Vec<Arc<FileRef>>> = references.chunks(limits::SEGMENT_ROWS_MAX).map(<[_]>::to_vec).collect();
    let writes = parts.into_iter().map(|part| write_segment(context, region, epoch, part));
    let segments = futures::stream::iter(writes).buffered(limits::PARALLEL_READS_MAX).try_collect().await?;
    Ok(RemapStaged { txn, segments, set_hash })
}

async fn write_segment(context: &Context, region: RegionId, epoch: Epoch, part: Vec<Arc<FileRef>>) -> Result<SegmentRef, Error> {
    let rows = part.len() as u64;
    let encode = move || encode_segment(&part.into_iter().map(|file| Row::Remapped(StagedFile::new(file))).collect::<Vec<_>>());
    let file = context.env.file_id(epoch);
    let path = context.root.segment(region, file);
    let stopped = |_| Error::Checkpoint { path: path.to_string(), reason: "its writer was stopped".into() };
    let bytes = env::spawn_blocking(encode).await.map_err(stopped)?;
    let segment = SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows };
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    context.store.put_opts(&path, bytes.into(), options).await.map_err(|source| Error::store("write", &path, source))?;
    Ok(segment)
}

#[cfg(test)]
mod tests;
