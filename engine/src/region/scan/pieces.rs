//! Cutting a scan into pieces that have no key and time in common.
//!
//! A piece is some sources that may share keys, and a *slice*: a range of the first tag, or a share of the row groups
//! of a single file. Slices make work for several streams out of one group.

use std::sync::Arc;

use tessera_manifest::file::FileRef;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::value::Value;

use super::reader::Reader;
use crate::memtable::Snapshot;
use crate::merge::{Dedup, group_by_time};
use crate::request::Order;
use crate::sst;

/// Rows from which on it pays to read a group in several streams; few in tests, so that the models meet it.
const SLICE_ROWS_MIN: u64 = if cfg!(test) { 16 } else { 128 * 1024 };

/// One input of a scan.
#[derive(Debug, Clone)]
pub(super) enum Source {
    File { file: Arc<FileRef>, residual: Option<Arc<Expr>> },
    Memtable(Arc<Snapshot>),
}

impl Source {
    pub(super) fn file(&self) -> Option<&Arc<FileRef>> {
        match self {
            Self::File { file, .. } => Some(file),
            Self::Memtable(_) => None,
        }
    }

    pub(super) fn time_range(&self) -> (i64, i64) {
        match self {
            Self::File { file, .. } => file.meta.time_range,
            Self::Memtable(snapshot) => snapshot.time_range().unwrap_or((i64::MAX, i64::MIN)),
        }
    }

    pub(super) fn overlaps(&self, time: (i64, i64)) -> bool {
        let (from, to) = self.time_range();
        from <= to && from <= time.1 && time.0 <= to
    }

    pub(super) fn has_deletes(&self) -> bool {
        match self {
            Self::File { file, .. } => file.meta.deletes > 0,
            Self::Memtable(snapshot) => snapshot.has_deletes(),
        }
    }

    /// The number of rows, where none of them are tested or merged.
    pub(super) fn unmerged_rows(&self) -> Option<u64> {
        match self {
            Self::File { residual: Some(_), .. } => None,
            source => Some(source.rows()),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::File { file, .. } => file.meta.rows,
            Self::Memtable(snapshot) => snapshot.rows() as u64,
        }
    }
}

/// Which rows of its sources a piece has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slice {
    All,
    /// Those of the `number`-th of so many shares of the row groups of its one file.
    Share {
        number: usize,
        of: usize,
    },
    /// Those that satisfy a condition on the first tag.
    Keys(Expr),
}

/// Sources that may share keys, and which of their rows are read.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) sources: Vec<Source>,
    pub(super) slice: Slice,
}

impl Piece {
    pub(super) fn has_deletes(&self) -> bool {
        self.sources.iter().any(Source::has_deletes)
    }

    /// The times, inclusive, that a file has in common with another source: elsewhere its rows meet no others of their keys.
    pub(super) fn contested(&self, file: &FileRef) -> Vec<(i64, i64)> {
        let (from, to) = file.meta.time_range;
        let others = self.sources.iter().filter(|source| source.file().is_none_or(|other| !std::ptr::eq(other.as_ref(), file)));
        let common = others.map(|other| other.time_range()).map(|range| (range.0.max(from), range.1.min(to)));
        common.filter(|(from, to)| from <= to).collect()
    }

    /// Whether only a small part of a file's times is contested, and no row of it may be there twice, as where files were
    /// cut in the middle of an instant.
    pub(super) fn is_mostly_apart(&self, file: &FileRef) -> bool {
        let (from, to) = file.meta.time_range;
        let length = |(from, to): (i64, i64)| to.saturating_sub(from).saturating_add(1);
        let contested = self.contested(file).into_iter().map(length).fold(0, i64::saturating_add);
        file.meta.deletes == 0 && contested.saturating_mul(CONTESTED_SHARE) <= length((from, to))
    }
}

/// It is worth while to test fields before rows meet when at most one in so many of a file's times is contested.
const CONTESTED_SHARE: i64 = 4;

impl Reader {
    /// The pieces of each stream; at least one stream.
    pub(super) async fn plan(&self, sources: Vec<Source>, streams: usize) -> Result<Vec<Vec<Arc<Piece>>>, sst::Error> {
        let groups = self.groups(sources);
        if self.last_rows || self.order == Order::Key {
            // Slices of keys go through all groups.
            let cuts = self.cuts(&groups.iter().flatten().collect::<Vec<_>>(), streams).await?;
            let of_slice =
                |slice: Slice| groups.iter().map(|group| Arc::new(Piece { sources: group.clone(), slice: slice.clone() })).collect();
            return Ok(self.slices(&cuts).into_iter().map(of_slice).collect());
        }
        if self.order != Order::Any || streams == 1 {
            let whole = |sources| Arc::new(Piece { sources, slice: Slice::All });
            // By time each stream has some of every time, so that who merges them reads from all at once.
            return Ok(spread(groups.into_iter().map(whole).collect(), streams));
        }
        let mut pieces = Vec::new();
        for sources in groups {
            for slice in self.group_slices(&sources, streams).await? {
                pieces.push(Arc::new(Piece { sources: sources.clone(), slice }));
            }
        }
        Ok(spread(pieces, streams))
    }

    /// Sources that may share keys, in order of time; all together for rows in the order of keys.
    fn groups(&self, sources: Vec<Source>) -> Vec<Vec<Source>> {
        if self.order == Order::Key && !self.last_rows {
            return vec![sources];
        }
        let deletes = sources.iter().any(Source::has_deletes);
        if self.dedup == Dedup::Keep && !deletes && self.order == Order::Any && !self.last_rows {
            return sources.into_iter().map(|source| vec![source]).collect();
        }
        let ranges: Vec<(i64, i64)> = sources.iter().map(Source::time_range).collect();
        let groups = group_by_time(&ranges).into_iter();
        let mut groups: Vec<Vec<Source>> = groups.map(|group| group.into_iter().map(|at| sources[at].clone()).collect()).collect();
        if self.last_rows || self.order == Order::NewestFirst {
            groups.reverse();
        }
        groups
    }

    async fn group_slices(&self, sources: &[Source], streams: usize) -> Result<Vec<Slice>, sst::Error> {
        if let [source @ Source::File { .. }] = sources
            && !source.has_deletes()
        {
            let of = usize::try_from(source.rows() / SLICE_ROWS_MIN).unwrap_or(usize::MAX).clamp(1, streams);
            return Ok((0..of).map(|number| if of == 1 { Slice::All } else { Slice::Share { number, of } }).collect());
        }
        let cuts = self.cuts(&sources.iter().collect::<Vec<_>>(), streams).await?;
        Ok(self.slices(&cuts))
    }

    /// Values of the first tag at which the rows of sources are cut into about equal parts.
    async fn cuts(&self, sources: &[&Source], streams: usize) -> Result<Vec<Value>, sst::Error> {
        let rows: u64 = sources.iter().map(|source| source.rows()).sum();
        let parts = usize::try_from(rows / SLICE_ROWS_MIN).unwrap_or(usize::MAX).min(streams);
        let largest = sources.iter().filter_map(|source| source.file()).max_by_key(|file| file.meta.rows);
        let (Some(file), Some(tag)) = (largest, self.schema.primary_key().first()) else { return Ok(Vec::new()) };
        if parts < 2 {
            return Ok(Vec::new());
        }
        let Some(column) = self.schema.column(*tag) else { return Ok(Vec::new()) };
        self.access.cuts(file, &self.schema, column, parts).await
    }

    fn slices(&self, cuts: &[Value]) -> Vec<Slice> {
        let Some(tag) = self.schema.primary_key().first().copied().filter(|_| !cuts.is_empty()) else { return vec![Slice::All] };
        let compare = |op, value: &Value| Expr::Compare { column: tag, op, value: value.clone() };
        let mut slices = vec![Slice::Keys(compare(CompareOp::Lt, &cuts[0]))];
        for pair in cuts.windows(2) {
            slices.push(Slice::Keys(Expr::And(vec![compare(CompareOp::GtEq, &pair[0]), compare(CompareOp::Lt, &pair[1])])));
        }
        slices.extend(cuts.last().map(|last| Slice::Keys(compare(CompareOp::GtEq, last))));
        slices
    }
}

/// Pieces for so many streams, in turn, so that each has some of every time.
fn spread(pieces: Vec<Arc<Piece>>, streams: usize) -> Vec<Vec<Arc<Piece>>> {
    let mut out = vec![Vec::new(); streams.min(pieces.len()).max(1)];
    let count = out.len();
    for (number, piece) in pieces.into_iter().enumerate() {
        out[number % count].push(piece);
    }
    out
}

/// The pieces that were dealt out to streams in turn, in the order that they had before.
pub(super) fn dealt_back(streams: &[Vec<Arc<Piece>>]) -> Vec<Arc<Piece>> {
    let turns = streams.iter().map(Vec::len).max().unwrap_or(0);
    (0..turns).flat_map(|turn| streams.iter().filter_map(move |pieces| pieces.get(turn)).map(Arc::clone)).collect()
}
