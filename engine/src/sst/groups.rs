//! From the row groups of a file to blocks of a merge.
//!
//! Invariants:
//! - Where the series of a row group are known, or most of it is read, tags are not decoded with the rows: conditions
//!   on them choose rows before anything is read.
//! - Rows of a block are of one row group.
//! - Where many rows are selected, those that their times and fields exclude are found first (see `late`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema as ArrowSchema};
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Column;

use super::Error;
use super::decode::RowGroup;
use super::evolve::conform_column;
use super::memory::Reserved;
use super::pages::{Group, InRowGroups, Known};
use super::read::FileRead;
use super::rule::{Tests, without};
use super::store_reader::StoreReader;
use crate::merge::block::{Block, BlockStream, Need, op_types_of, payload_batch, sequences_of, times_of};
use crate::merge::key::KeyEncoder;
use crate::merge::layout::{DELETE, OP_TYPE_FIELD_ID, SEQUENCE_FIELD_ID};
use crate::merge::series::Stretches;

/// The series of a row group are read when at least one in so many of its rows is.
const SERIES_SHARE: usize = 4;
/// They are, too, when they take at most so many bytes for each row: then rows of a series stand together, and runs of tags are
/// decoded in a moment.
const TAG_BYTES_PER_ROW: u64 = 1;
/// Else they are when reads of fewer have tested the tags of one in so many: what those cost is about what it costs to read the
/// series, and what is to come would cost as much again.
const TESTED_SHARE: u64 = 2;
/// Selected rows of a row group below which they are asked of the store together with its tags: two pages.
const FEW_ROWS: usize = 16 * 1024;

/// What a decoded column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Meaning {
    User(ColumnId),
    Sequence,
    OpType,
}

/// What is the same for all row groups of a read.
pub(super) struct Reading {
    pub(super) file: FileRead,
    need: Need,
    /// `None` without tags, or when neither merge nor output depends on them.
    encoder: Option<KeyEncoder>,
    /// Whether keys are compared.
    merges: bool,
    /// Of the columns that its predicates name.
    pub(super) bounds: InRowGroups,
    /// Whether to choose rows before all columns are decoded.
    pub(super) narrows: AtomicBool,
}

impl FileRead {
    /// The rows that are wanted.
    pub(crate) fn blocks(self, need: &Need) -> BlockStream {
        let reading = match Reading::new(self, need.clone()) {
            Ok(reading) => Arc::new(reading),
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let groups = reading.file.groups.clone();
        let opened = stream::iter(groups).then(move |group| {
            let reading = Arc::clone(&reading);
            async move { reading.read_group(group).await }
        });
        opened.try_flatten().boxed()
    }

    /// The tags, in key order.
    pub(super) fn tag_columns(&self) -> Vec<&Column> {
        let schema = self.layout.schema();
        schema.primary_key().iter().filter_map(|id| schema.column(*id)).collect()
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known { key: self.key, footer: &self.footer, schema: self.layout.schema(), bounds: &self.access.caches.bounds }
    }

    pub(super) fn reader(&self) -> StoreReader {
        let (store, caches) = (Arc::clone(&self.access.store), self.access.caches.clone());
        let metadata = Arc::clone(self.footer.reader.metadata());
        StoreReader { store, caches, path: self.path.clone(), key: self.key, metadata, chunks: Vec::new(), fetched: None }
    }

    /// A reader of pages of these columns of a row group, by leaf.
    pub(super) fn page_reader(&self, group: usize, leaves: impl Iterator<Item = usize>) -> StoreReader {
        let mut reader = self.reader();
        let columns = reader.metadata.row_group(group);
        reader.chunks = leaves.map(|leaf| columns.column(leaf).byte_range()).map(|(at, bytes)| at..at + bytes).collect();
        reader.chunks.sort_unstable_by_key(|chunk| chunk.start);
        reader
    }

    pub(super) fn leaf(&self, meaning: Meaning) -> Result<Option<usize>, Error> {
        let missing = || Error::Mismatch { path: self.path.clone(), detail: "it has no internal columns".to_owned() };
        match meaning {
            Meaning::User(id) => Ok(self.footer.leaf(id)),
            Meaning::Sequence => self.footer.leaf_of(SEQUENCE_FIELD_ID).ok_or_else(missing).map(Some),
            Meaning::OpType => self.footer.leaf_of(OP_TYPE_FIELD_ID).ok_or_else(missing).map(Some),
        }
    }
}

impl Reading {
    fn new(file: FileRead, need: Need) -> Result<Self, Error> {
        let merges = need.times || file.last_rows || file.seen.is_some();
        let by_series = file.layout.keys().is_some() && (merges || need.assembly.has_tags());
        let types = file.tag_columns().into_iter().map(|column| column.data_type.to_arrow()).collect::<Vec<_>>();
        let encoder = if by_series && !types.is_empty() { Some(KeyEncoder::new(types)?) } else { None };
        let tested = [Some(&file.filter), file.exact.as_ref(), file.rule.as_ref()].into_iter().flatten();
        let tested: BTreeSet<ColumnId> = tested.flat_map(|expr| expr.columns()).collect();
        let schema = file.layout.schema();
        let bounds = file.known().in_row_groups(&tested.iter().filter_map(|id| schema.column(*id)).collect::<Vec<_>>());
        Ok(Self { file, need, encoder, merges, bounds, narrows: AtomicBool::new(true) })
    }

    async fn read_group(self: Arc<Self>, group: Group) -> Result<BlockStream, Error> {
        let Tests { rule, mut exact, of_rows, mut of_tags } = self.tests(group.index);
        let mut group = group;
        if let Some(rule) = rule {
            match self.choose_by_rule(&group, &rule, of_rows).await? {
                Some(rows) => group.rows = rows,
                None => {
                    of_tags.push(Expr::clone(&rule));
                    exact = Some(exact.map_or_else(|| Arc::clone(&rule), |exact| Arc::new(Expr::clone(&exact).and(Expr::clone(&rule)))));
                }
            }
            if group.rows.is_empty() {
                return Ok(stream::empty().boxed());
            }
        }
        let mut series = self.series_of(&group, of_rows).await?;
        if let (None, Some(exact), false) = (&series, &exact, of_rows) {
            series = self.series_of_tested(&group, exact).await?;
        }
        let (selected, exact) = match (&series, exact) {
            (Some(series), _) => (self.choose(series, &group.rows, of_tags)?, None),
            (None, Some(exact)) if !of_rows => match self.choose_by_runs(&group, &exact).await? {
                Some(chosen) => (chosen, None),
                None => (group.rows.clone(), Some(exact)),
            },
            (None, exact) => (group.rows.clone(), exact),
        };
        if selected.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let inline = if series.is_none() { self.inline_tags() } else { Vec::new() };
        let wanted = self.wanted(&inline, exact.as_deref())?;
        let selected = match &series {
            Some(series) => self.newest(&group, series, selected).await?,
            None => selected,
        };
        let selected = self.narrow(&group, selected, &wanted).await?;
        if selected.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let reserved = self.reserve_encoded(&group, &wanted, &selected)?;
        let batches = self.decode(&group, &wanted, &selected)?;
        let mut places = Places::new(selected);
        let blocks = batches.map(move |batch| {
            let _counted = &reserved;
            let batch = batch?;
            let stretches = series.as_ref().map(|series| series.select(&places.take(batch.num_rows() as u32)));
            self.block(&wanted, batch, stretches, exact.as_deref())
        });
        Ok(blocks.boxed())
    }

    /// The series of a row group, where they are known or are worth reading for what is selected of it. Tests of single rows need
    /// the tags of each.
    pub(super) async fn series_of(&self, group: &Group, of_rows: bool) -> Result<Option<Arc<Stretches>>, Error> {
        if of_rows || self.file.layout.keys().is_none() {
            return Ok(None);
        }
        if let Some(known) = self.file.known_series(group.index) {
            return Ok(Some(known));
        }
        let Some(encoder) = &self.encoder else { return Ok(None) };
        if group.selected() * SERIES_SHARE >= self.file.footer.rows_of(group.index) {
            return self.file.read_series(group.index, encoder).await.map(Some);
        }
        if !self.has_short_tags(group) {
            return Ok(None);
        }
        // Where there is no memory for it, tags are decoded with the rows.
        let Ok(_counted) = self.reserve_tags(group) else { return Ok(None) };
        self.fetch_with_tags(group).await?;
        self.file.read_series(group.index, encoder).await.map(Some)
    }

    /// Counts the encoded bytes of all tags of a row group.
    fn reserve_tags(&self, group: &Group) -> Result<Option<Reserved>, Error> {
        let whole = 0..self.file.footer.rows_of(group.index) as u32;
        self.reserve_encoded(group, &self.tag_leaves()?, std::slice::from_ref(&whole))
    }

    fn tag_leaves(&self) -> Result<BTreeMap<usize, Meaning>, Error> {
        self.leaves(self.file.tag_columns().into_iter().map(|column| column.id))
    }

    /// Asks the store for the tags of a row group together with its selected rows, where these are so few that choosing among them
    /// first is not worth a request of its own.
    async fn fetch_with_tags(&self, group: &Group) -> Result<(), Error> {
        if group.selected() >= FEW_ROWS {
            return Ok(());
        }
        let (metadata, wanted) = (&self.file.footer.reader, self.wanted(&[], None)?);
        let part = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index: group.index };
        let rows = wanted.keys().flat_map(|leaf| part.ranges(*leaf, Some(&group.rows)));
        let tags = self.tag_leaves()?;
        let mut ranges: Vec<Range<u64>> = rows.chain(tags.keys().flat_map(|leaf| part.ranges(*leaf, None))).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let read = self.file.page_reader(group.index, wanted.keys().copied()).read(&ranges).await;
        // It is kept in memory, or read again.
        read.map(drop).map_err(|source| Error::decode(&self.file.path, source))
    }

    /// Whether the tags of a row group are so few bytes that reading all of them costs about what testing some pages does.
    fn has_short_tags(&self, group: &Group) -> bool {
        self.file.tag_bytes(group.index) <= self.file.footer.rows_of(group.index) as u64 * TAG_BYTES_PER_ROW
    }

    /// The series of a row group where they are not known, if its tags are few bytes, or if reads have tested enough tags row by
    /// row, with those that this one would test for a predicate.
    async fn series_of_tested(&self, group: &Group, exact: &Expr) -> Result<Option<Arc<Stretches>>, Error> {
        let open = without(&group.rows, &self.file.known().proven_in_pages(exact, group.index));
        let (columns, all) = (self.file.tag_columns(), self.file.footer.rows_of(group.index));
        if columns.is_empty() || open.is_empty() {
            return Ok(None);
        }
        let short = self.has_short_tags(group);
        if !short && !self.file.adds_up(group.index, count(&open) as u64, (all as u64).div_ceil(TESTED_SHARE)) {
            return Ok(None);
        }
        // Where there is no memory for it, tags are tested row by row once more.
        let Ok(_counted) = self.reserve_tags(group) else { return Ok(None) };
        if short {
            self.fetch_with_tags(group).await?;
        }
        let types: Vec<_> = columns.into_iter().map(|column| column.data_type.to_arrow()).collect();
        let encoder = KeyEncoder::new(types)?;
        self.file.read_series(group.index, &encoder).await.map(Some)
    }

    /// The tags that are decoded with the rows: all if keys are compared, else those that come out.
    fn inline_tags(&self) -> Vec<ColumnId> {
        let tags = self.file.layout.schema().primary_key().iter().enumerate();
        tags.filter(|(tag, _)| self.encoder.is_some() && (self.merges || self.need.assembly.has_tag(*tag))).map(|(_, id)| *id).collect()
    }

    fn has_times(&self) -> bool {
        self.need.times || self.file.time.is_some()
    }

    /// The rows of series that are wanted.
    fn choose(&self, series: &Stretches, rows: &[Range<u32>], conditions: Vec<Expr>) -> Result<Vec<Range<u32>>, Error> {
        if conditions.is_empty() && self.file.seen.is_none() && !self.file.last_rows {
            return Ok(rows.to_vec());
        }
        let mask = self.test_series(series, conditions)?;
        let (mut out, mut start, mut at): (Vec<Range<u32>>, u32, usize) = (Vec::new(), 0, 0);
        for stretch in &series.list {
            let whole = start..stretch.end;
            start = stretch.end;
            let unseen = || self.file.seen.as_ref().is_none_or(|seen| !seen.contains(series.table.key(stretch.series)));
            if mask.as_ref().is_some_and(|mask| !mask.value(stretch.series as usize)) || !unseen() {
                continue;
            }
            let wanted = if self.file.last_rows { whole.end - 1..whole.end } else { whole };
            while at < rows.len() && rows[at].end <= wanted.start {
                at += 1;
            }
            for range in rows[at..].iter().take_while(|range| range.start < wanted.end) {
                let both = range.start.max(wanted.start)..range.end.min(wanted.end);
                push_range(&mut out, both);
            }
        }
        Ok(out)
    }

    /// The rows of series that satisfy a condition on tags.
    pub(super) fn rows_of_series(&self, series: &Stretches, condition: &Expr) -> Result<Vec<Range<u32>>, Error> {
        let mask = self.test_series(series, vec![condition.clone()])?;
        let (mut rows, mut start): (Vec<Range<u32>>, u32) = (Vec::new(), 0);
        for stretch in &series.list {
            if mask.as_ref().is_none_or(|mask| mask.value(stretch.series as usize)) {
                push_range(&mut rows, start..stretch.end);
            }
            start = stretch.end;
        }
        Ok(rows)
    }

    /// Which series of a table satisfy the conditions; `None` for all.
    fn test_series(&self, series: &Stretches, conditions: Vec<Expr>) -> Result<Option<BooleanArray>, Error> {
        if conditions.is_empty() {
            return Ok(None);
        }
        self.count_tested(series.table.len());
        let columns = self.file.tag_columns();
        let fields: Vec<Field> = columns.iter().map(|column| column.to_arrow().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(series.table.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), series.table.tags().to_vec(), &options);
        let batch = batch.map_err(Error::arrow("test tags"))?;
        let mask = Expr::And(conditions).filter(&batch, self.file.layout.schema());
        mask.map(Some).map_err(|error| Error::BatchShape { detail: error.to_string() })
    }

    pub(super) fn count_tested(&self, rows: usize) {
        if let Some(tested) = &self.file.rows_tested {
            tested.fetch_add(rows as u64, Ordering::Relaxed);
            metrics::counter!("tessera_rule_rows_tested_total").increment(rows as u64);
        }
    }

    /// The columns to decode, by leaf.
    fn wanted(&self, inline: &[ColumnId], exact: Option<&Expr>) -> Result<BTreeMap<usize, Meaning>, Error> {
        let layout = &self.file.layout;
        let columns: Vec<ColumnId> = layout.columns().map(|column| column.id).collect();
        let internal = |position: &usize| if *position == columns.len() { Meaning::Sequence } else { Meaning::OpType };
        let meaning = |position: &usize| columns.get(*position).map_or_else(|| internal(position), |id| Meaning::User(*id));
        let mut meanings: Vec<Meaning> = self.need.assembly.payload().iter().map(meaning).collect();
        if self.has_times() {
            meanings.push(Meaning::User(layout.schema().time_index().id));
        }
        if self.need.sequences {
            meanings.push(Meaning::Sequence);
        }
        if self.need.op_types {
            meanings.push(Meaning::OpType);
        }
        meanings.extend(inline.iter().copied().map(Meaning::User));
        meanings.extend(exact.into_iter().flat_map(Expr::columns).map(Meaning::User));
        let mut leaves = BTreeMap::new();
        for meaning in meanings {
            if let Some(leaf) = self.file.leaf(meaning)? {
                leaves.insert(leaf, meaning);
            }
        }
        Ok(leaves)
    }

    /// Counts the encoded bytes that the decoder will hold.
    pub(super) fn reserve_encoded(
        &self,
        group: &Group,
        wanted: &BTreeMap<usize, Meaning>,
        selected: &[Range<u32>],
    ) -> Result<Option<Reserved>, Error> {
        let Some(memory) = &self.file.memory else { return Ok(None) };
        let metadata = self.file.footer.reader.metadata().row_group(group.index);
        let bytes: i64 = wanted.keys().map(|leaf| metadata.column(*leaf).compressed_size()).sum();
        let rows = count(selected) as u64;
        let all = self.file.footer.rows_of(group.index) as u64;
        // Of a column of which half is wanted all may be read.
        let rows = if rows * 2 >= all { all } else { rows };
        let share = u64::try_from(bytes).unwrap_or(0).saturating_mul(rows) / all.max(1);
        memory.reserve(usize::try_from(share).unwrap_or(usize::MAX)).map(Some)
    }

    /// A block of decoded rows.
    fn block(
        &self,
        wanted: &BTreeMap<usize, Meaning>,
        batch: RecordBatch,
        stretches: Option<Stretches>,
        exact: Option<&Expr>,
    ) -> Result<Block, Error> {
        let batch = match exact {
            Some(exact) => self.test_rows(exact, wanted, &batch)?,
            None => batch,
        };
        let rows = batch.num_rows();
        let found: HashMap<Meaning, &ArrayRef> = wanted.values().copied().zip(batch.columns()).collect();
        let layout = &self.file.layout;
        let columns: Vec<&Column> = layout.columns().collect();
        let shape = |name: &str| Error::BatchShape { detail: format!("column {name} is missing") };
        let user = |column: &Column| conform_column(column, found.get(&Meaning::User(column.id)).copied(), rows);
        let payload = self.need.assembly.payload().iter().map(|position| match columns.get(*position) {
            Some(column) => user(column),
            None if *position == columns.len() => found.get(&Meaning::Sequence).map(|c| Arc::clone(c)).ok_or_else(|| shape("__sequence")),
            None => found.get(&Meaning::OpType).map(|c| Arc::clone(c)).ok_or_else(|| shape("__op_type")),
        });
        let payload = payload_batch(&self.need.assembly, payload.collect::<Result<_, _>>()?, rows)?;
        let stretches = match stretches {
            Some(known) => known,
            None if self.merges => {
                let tags = self.file.tag_columns().into_iter().map(user).collect::<Result<Vec<_>, _>>()?;
                Stretches::find(self.encoder.as_ref(), &tags, rows)?
            }
            None => {
                let inline = self.inline_tags();
                if inline.is_empty() {
                    Stretches::untagged(rows)
                } else {
                    let tag = |column: &Column| inline.contains(&column.id).then(|| user(column)).transpose();
                    Stretches::find_unkeyed(self.file.tag_columns().into_iter().map(tag).collect::<Result<_, _>>()?, rows)?
                }
            }
        };
        let times = if self.has_times() { times_of(&user(layout.schema().time_index())?)? } else { Vec::new().into() };
        let sequences = if self.need.sequences { found.get(&Meaning::Sequence).map(|c| sequences_of(c)).transpose()? } else { None };
        let op_types = if self.need.op_types { found.get(&Meaning::OpType).map(|c| op_types_of(c)).transpose()? } else { None };
        let op_types = op_types.filter(|ops| ops.contains(&DELETE));
        let mut block = Block { payload, times, sequences, op_types, stretches, memory: None };
        if let Some(time) = self.file.time {
            block = block.within(time)?;
        }
        if let Some(memory) = &self.file.memory {
            block.memory = Some(Arc::new(memory.reserve(block.bytes())?));
        }
        Ok(block)
    }

    /// The rows that satisfy a predicate.
    fn test_rows(&self, exact: &Expr, wanted: &BTreeMap<usize, Meaning>, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let mask = self.evaluate(exact, wanted, batch)?;
        self.count_tested(batch.num_rows());
        filter_record_batch(batch, &mask).map_err(Error::arrow("test rows"))
    }

    /// Which rows of a decoded batch satisfy a predicate.
    pub(super) fn evaluate(&self, predicate: &Expr, wanted: &BTreeMap<usize, Meaning>, batch: &RecordBatch) -> Result<BooleanArray, Error> {
        let schema = self.file.layout.schema();
        let found: HashMap<Meaning, &ArrayRef> = wanted.values().copied().zip(batch.columns()).collect();
        let tested: Vec<&Column> = predicate.columns().iter().filter_map(|id| schema.column(*id)).collect();
        let columns = tested.iter().map(|c| conform_column(c, found.get(&Meaning::User(c.id)).copied(), batch.num_rows()));
        let fields: Vec<Field> = tested.iter().map(|column| column.to_arrow().with_nullable(true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let tested = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options);
        let tested = tested.map_err(Error::arrow("test rows"))?;
        predicate.filter(&tested, schema).map_err(|error| Error::BatchShape { detail: error.to_string() })
    }
}

/// How many rows these are.
pub(super) fn count(rows: &[Range<u32>]) -> usize {
    rows.iter().map(|range| (range.end - range.start) as usize).sum()
}

/// Adds rows behind those that are there.
pub(super) fn push_range(ranges: &mut Vec<Range<u32>>, rows: Range<u32>) {
    match ranges.last_mut() {
        Some(last) if last.end == rows.start => last.end = rows.end,
        _ => ranges.push(rows),
    }
}

/// Where in a row group the rows of a selection are.
pub(super) struct Places(VecDeque<Range<u32>>);

impl Places {
    pub(super) fn new(selected: Vec<Range<u32>>) -> Self {
        Self(selected.into())
    }

    /// The next rows as (first, rows).
    pub(super) fn take(&mut self, mut rows: u32) -> Vec<(u32, u32)> {
        let mut taken = Vec::new();
        while rows > 0
            && let Some(range) = self.0.front_mut()
        {
            let count = rows.min(range.end - range.start);
            taken.push((range.start, count));
            range.start += count;
            rows -= count;
            if range.start >= range.end {
                self.0.pop_front();
            }
        }
        taken
    }
}
