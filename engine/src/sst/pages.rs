//! Which row groups and rows of a file a predicate can select, by the statistics in its footer.
//!
//! Invariant: statistics are remembered by file, column and type, all that they depend on.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use tessera_manifest::file::ColumnStats;
use tessera_manifest::id::{ColumnId, FileKey};
use tessera_manifest::rule::Expr;
use tessera_manifest::rule::domain::{Box as ValueBox, Tri};
use tessera_manifest::schema::{Column, Schema};
use tessera_manifest::value::{DataType, Value};

use super::evolve::{conform_column, stats_of_absent};
use super::read::Footer;
use crate::cache::Counted;
use crate::merge::value::value_at;

/// Rows of a row group that are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) index: usize,
    /// Not empty, ascending, apart.
    pub(crate) rows: Vec<Range<u32>>,
}

impl Group {
    /// How many rows these are.
    pub(crate) fn selected(&self) -> usize {
        self.rows.iter().map(|range| (range.end - range.start) as usize).sum()
    }
}

/// What is to be read of a file.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) groups: Vec<Group>,
    pub(super) skipped: usize,
}

/// Which bounds: of a column of a file under a type, in its row groups or in the pages of one.
pub(crate) type BoundsKey = (FileKey, Option<u32>, ColumnId, DataType);

/// Bounds of the values of a column in parts of a file, ascending; `None` if nothing is known of it.
pub(crate) type Bounds = Arc<Option<Vec<Part>>>;

/// Bounds of the values of one column in some rows.
#[derive(Debug)]
pub(crate) struct Part {
    rows: Range<usize>,
    stats: ColumnStats,
    /// The same.
    within: ValueBox,
}

impl Part {
    fn new(rows: Range<usize>, stats: ColumnStats) -> Self {
        let within = ValueBox::from_stats(std::slice::from_ref(&stats));
        Self { rows, stats, within }
    }

    fn holds(&self, expr: &Expr) -> bool {
        expr.evaluate_box(&self.within) == Tri::True
    }

    fn excludes(&self, expr: &Expr) -> bool {
        expr.evaluate_box(&self.within) == Tri::False
    }
}

/// What bounds take in memory, about.
pub(crate) fn bounds_bytes(bounds: &Bounds) -> usize {
    /// A part, with a node of a map and an interval of two values.
    const PART_BYTES: usize = size_of::<Part>() + 512;
    let text = |value: &Value| match value {
        Value::String(text) => text.len(),
        Value::Binary(bytes) => bytes.len(),
        _ => 0,
    };
    let values = |part: &Part| part.stats.range.as_ref().map_or(0, |(low, high)| 2 * (text(low) + text(high)));
    bounds.as_ref().as_ref().map_or(0, |parts| parts.iter().map(|part| PART_BYTES + values(part)).sum())
}

/// What the footer of a file says of its values, as those of a schema. What was looked up is remembered.
pub(super) struct Known<'a> {
    pub(super) key: FileKey,
    pub(super) footer: &'a Footer,
    pub(super) schema: &'a Schema,
    pub(super) bounds: &'a Counted<BoundsKey, Bounds>,
}

impl Known<'_> {
    /// Skips what cannot satisfy the predicate. `usable` says which columns may be used.
    pub(super) fn select(&self, filter: &Expr, usable: impl Fn(&Column) -> bool) -> Selected {
        let groups: Vec<Group> = self.selected(filter, usable).map(|(group, _)| group).collect();
        Selected { skipped: self.footer.row_groups() - groups.len(), groups }
    }

    /// The row groups that [`select`](Self::select) leaves, each looked at when it is asked for, and whether all of its rows
    /// satisfy the predicate.
    pub(super) fn selected<'a>(&'a self, filter: &'a Expr, usable: impl Fn(&Column) -> bool) -> impl Iterator<Item = (Group, bool)> + 'a {
        let columns = filter.columns();
        let columns: Vec<&Column> = columns.iter().filter_map(|id| self.schema.column(*id)).filter(|column| usable(column)).collect();
        let bounds = self.in_row_groups(&columns);
        let rows = move |index: usize| {
            let whole = 0..self.footer.rows_of(index) as u32;
            match filter.evaluate_box(&bounds.of(index)) {
                Tri::False => (Vec::new(), false),
                _ if whole.is_empty() => (Vec::new(), true),
                Tri::True => (vec![whole], true),
                Tri::Unknown => (self.select_rows(filter, &columns, index), false),
            }
        };
        let groups = (0..self.footer.row_groups()).map(move |index| {
            let (rows, all) = rows(index);
            (Group { index, rows }, all)
        });
        groups.filter(|(group, _)| !group.rows.is_empty())
    }

    /// What is known of columns in the row groups.
    pub(super) fn in_row_groups(&self, columns: &[&Column]) -> InRowGroups {
        let of = |column: &&Column| match self.footer.leaf(column.id) {
            Some(_) => self.row_groups(column),
            None => {
                let stats = stats_of_absent(column);
                let part = |group: usize| Part::new(0..self.footer.rows_of(group), stats.clone());
                Arc::new(Some((0..self.footer.row_groups()).map(part).collect()))
            }
        };
        InRowGroups { columns: columns.iter().map(of).collect() }
    }

    /// The rows of a row group on pages whose statistics prove a conjunction.
    pub(super) fn proven_in_pages(&self, exact: &Expr, group: usize) -> Vec<Range<u32>> {
        let parts = if let Expr::And(parts) = exact { parts.as_slice() } else { std::slice::from_ref(exact) };
        let whole = 0..self.footer.rows_of(group);
        let mut proven = vec![whole];
        for part in parts {
            let columns = part.columns();
            let column = columns.first().filter(|_| columns.len() == 1).and_then(|id| self.schema.column(*id));
            let pages = column.and_then(|column| self.pages(column, group, |page| page.holds(part)));
            proven = intersect(&proven, &pages.unwrap_or_default());
        }
        joined(proven)
    }

    /// The rows of a row group on pages whose statistics do not exclude a predicate.
    pub(super) fn possible_in_pages(&self, exact: &Expr, group: usize) -> Vec<Range<u32>> {
        let columns = exact.columns();
        self.select_rows(exact, &columns.iter().filter_map(|id| self.schema.column(*id)).collect::<Vec<_>>(), group)
    }

    fn select_rows(&self, filter: &Expr, columns: &[&Column], group: usize) -> Vec<Range<u32>> {
        let whole = 0..self.footer.rows_of(group);
        let mut kept = vec![whole];
        for column in columns {
            if let Some(pages) = self.pages(column, group, |page| !page.excludes(filter)) {
                kept = intersect(&kept, &pages);
            }
        }
        joined(kept)
    }

    /// Values of a column that is the first of the key, ascending, at which the rows of a file are cut into so many about
    /// equal parts, by what is known of its row groups; there may be fewer.
    pub(super) fn cuts(&self, column: &Column, parts: usize) -> Vec<Value> {
        let groups = self.row_groups(column);
        let groups = groups.as_ref().as_deref().unwrap_or_default();
        let total: usize = groups.iter().map(|group| group.rows.len()).sum();
        let (mut cuts, mut at): (Vec<Value>, usize) = (Vec::new(), 0);
        for (n, group) in groups.iter().enumerate() {
            let due = total * (cuts.len() + 1) / parts.max(1);
            if n > 0
                && at >= due
                && cuts.len() + 1 < parts
                && let Some((least, _)) = &group.stats.range
                && cuts.last().is_none_or(|last| last < least)
            {
                cuts.push(least.clone());
            }
            at += group.rows.len();
        }
        cuts
    }

    /// The rows of the pages with such bounds of this column; `None` if nothing is known.
    fn pages(&self, column: &Column, group: usize, wanted: impl Fn(&Part) -> bool) -> Option<Vec<Range<usize>>> {
        let pages = self.look_up(Some(group), column, |file| file.pages(group));
        let pages = pages.as_ref().as_ref()?;
        Some(pages.iter().filter(|page| wanted(page)).map(|page| page.rows.clone()).collect())
    }

    fn row_groups(&self, column: &Column) -> Bounds {
        self.look_up(None, column, |file| file.row_groups())
    }

    fn look_up(&self, group: Option<usize>, column: &Column, read: impl FnOnce(&FileColumn<'_>) -> Option<Vec<Part>>) -> Bounds {
        let key = (self.key, group.map(|group| group as u32), column.id, column.data_type);
        if let Some(bounds) = self.bounds.get(&key) {
            return bounds;
        }
        let bounds: Bounds = Arc::new(FileColumn::new(self.footer, column).and_then(|file| read(&file)));
        self.bounds.insert(key, Arc::clone(&bounds));
        bounds
    }
}

/// What is known of some columns in the row groups of a file.
pub(super) struct InRowGroups {
    columns: Vec<Bounds>,
}

impl InRowGroups {
    /// The values of these columns in a row group.
    fn of(&self, group: usize) -> Cow<'_, ValueBox> {
        let mut known = self.columns.iter().filter_map(|bounds| bounds.as_ref().as_ref()?.get(group)).peekable();
        let first = known.next();
        match first.filter(|_| known.peek().is_none()) {
            Some(only) => Cow::Borrowed(&only.within),
            None => Cow::Owned(ValueBox::from_stats(&first.into_iter().chain(known).map(|part| part.stats.clone()).collect::<Vec<_>>())),
        }
    }

    /// Of predicates those that do not hold for every row of a row group, as far as its statistics say.
    pub(super) fn open(&self, parts: &[Expr], group: usize) -> Vec<Expr> {
        let within = self.of(group);
        parts.iter().filter(|part| part.evaluate_box(&within) != Tri::True).cloned().collect()
    }
}

/// The same rows, with ranges that touch as one.
fn joined(ranges: Vec<Range<usize>>) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.end as usize == range.start => last.end = range.end as u32,
            _ => out.push(range.start as u32..range.end as u32),
        }
    }
    out
}

/// What ascending ranges have in common with others.
pub(super) fn intersect<T: Ord + Copy>(a: &[Range<T>], b: &[Range<T>]) -> Vec<Range<T>> {
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let both = x.start.max(y.start)..x.end.min(y.end);
        if !both.is_empty() {
            out.push(both);
        }
        if x.end <= y.end {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

/// A column of the present schema that the file has.
struct FileColumn<'a> {
    footer: &'a Footer,
    column: &'a Column,
    leaf: usize,
    converter: StatisticsConverter<'a>,
}

impl<'a> FileColumn<'a> {
    fn new(footer: &'a Footer, column: &'a Column) -> Option<Self> {
        let leaf = footer.leaf(column.id)?;
        let parquet = footer.reader.parquet_schema();
        let field = footer.reader.schema().fields().get(leaf)?;
        let converter = StatisticsConverter::from_column_index(leaf, field, parquet).ok()?;
        Some(Self { footer, column, leaf, converter: converter.with_missing_null_counts_as_zero(false) })
    }

    fn row_groups(&self) -> Option<Vec<Part>> {
        let groups = self.footer.reader.metadata().row_groups();
        let mins = self.converter.row_group_mins(groups).ok()?;
        let maxes = self.converter.row_group_maxes(groups).ok()?;
        let nulls = self.converter.row_group_null_counts(groups).ok()?;
        let rows = (0..groups.len()).map(|group| 0..self.footer.rows_of(group)).collect();
        self.parts(&mins, &maxes, &nulls, rows)
    }

    fn pages(&self, group: usize) -> Option<Vec<Part>> {
        let metadata = self.footer.reader.metadata();
        let (index, offsets) = (metadata.column_index()?, metadata.offset_index()?);
        let locations = offsets.get(group)?.get(self.leaf)?.page_locations();
        index.get(group)?.get(self.leaf)?;
        let starts = locations.iter().map(|l| usize::try_from(l.first_row_index).ok()).collect::<Option<Vec<usize>>>()?;
        let ends = starts.iter().skip(1).copied().chain([self.footer.rows_of(group)]);
        let pages = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        let mins = self.converter.data_page_mins(index, offsets, [&group]).ok()?;
        let maxes = self.converter.data_page_maxes(index, offsets, [&group]).ok()?;
        let nulls = self.converter.data_page_null_counts(index, offsets, [&group]).ok()?;
        self.parts(&mins, &maxes, &nulls, pages)
    }

    /// Statistics in the present type. Without least and greatest value nothing is known, unless all is NULL.
    fn parts(&self, mins: &ArrayRef, maxes: &ArrayRef, nulls: &UInt64Array, rows: Vec<Range<usize>>) -> Option<Vec<Part>> {
        if mins.len() != rows.len() || maxes.len() != rows.len() || nulls.len() != rows.len() {
            return None;
        }
        let present = |array: &ArrayRef| conform_column(self.column, Some(&Arc::clone(array)), array.len()).ok();
        let (mins, maxes) = (present(mins)?, present(maxes)?);
        let has_nan = matches!(self.column.data_type, DataType::Float32 | DataType::Float64);
        let each = rows.into_iter().enumerate().map(|(at, rows)| {
            let all_null = nulls.is_valid(at) && nulls.value(at) == rows.len() as u64;
            let has_null = nulls.is_null(at) || nulls.value(at) > 0;
            let range = match (mins.is_null(at) || maxes.is_null(at), all_null) {
                (false, _) => Some((value_at(&mins, at, self.column.data_type).ok()?, value_at(&maxes, at, self.column.data_type).ok()?)),
                (true, true) => None,
                (true, false) => return None,
            };
            let stats = ColumnStats { column: self.column.id, range, has_null, has_nan: has_nan && !all_null };
            Some(Part::new(rows, stats))
        });
        each.collect()
    }
}
