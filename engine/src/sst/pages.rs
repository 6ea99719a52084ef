//! Which row groups and rows of a file a predicate can select, by the statistics in its footer.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use tessera_manifest::file::ColumnStats;
use tessera_manifest::rule::Expr;
use tessera_manifest::rule::domain::{Box as ValueBox, Tri};
use tessera_manifest::schema::{Column, Schema};
use tessera_manifest::value::{DataType, Value};

use super::evolve::{conform_column, stats_of_absent};
use super::prune::excludes;
use super::read::Footer;
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

/// Skips what cannot satisfy the predicate. `usable` says which columns may be used.
pub(super) fn select(footer: &Footer, schema: &Schema, filter: &Expr, usable: impl Fn(&Column) -> bool) -> Selected {
    let total = footer.row_groups();
    let columns: Vec<FileColumn<'_>> = filter
        .columns()
        .iter()
        .filter_map(|id| schema.column(*id))
        .filter(|column| usable(column))
        .filter_map(|column| FileColumn::new(footer, column))
        .collect();
    let mut stats: Vec<Vec<ColumnStats>> = columns.iter().filter_map(FileColumn::of_row_groups).collect();
    stats.extend(of_absent(footer, schema, filter, &usable));
    let alive = |group: &usize| {
        let known: Vec<ColumnStats> = stats.iter().filter_map(|column| column.get(*group).cloned()).collect();
        footer.rows_of(*group) > 0 && !excludes(filter, &known)
    };
    let groups = (0..total).filter(alive).map(|index| Group { index, rows: select_rows(footer, filter, &columns, index) });
    let groups: Vec<Group> = groups.filter(|group| !group.rows.is_empty()).collect();
    Selected { skipped: total - groups.len(), groups }
}

/// Of predicates those that do not hold for every row of a row group, as far as its statistics say.
pub(super) fn open_in_group(footer: &Footer, schema: &Schema, parts: &[Expr], group: usize) -> Vec<Expr> {
    let holds = |part: &Expr| {
        let columns = part.columns();
        let stats = columns.iter().filter_map(|id| schema.column(*id)).filter_map(|column| match FileColumn::new(footer, column) {
            Some(column) => column.of_row_group(group),
            None => footer.leaf(column.id).is_none().then(|| stats_of_absent(column)),
        });
        part.evaluate_box(&ValueBox::from_stats(&stats.collect::<Vec<_>>())) == Tri::True
    };
    parts.iter().filter(|part| !holds(part)).cloned().collect()
}

/// The rows of a row group on pages whose statistics prove a conjunction.
pub(super) fn proven_in_pages(footer: &Footer, schema: &Schema, exact: &Expr, group: usize) -> Vec<Range<u32>> {
    let rows = footer.rows_of(group);
    let parts = if let Expr::And(parts) = exact { parts.as_slice() } else { std::slice::from_ref(exact) };
    let whole = 0..rows;
    let mut proven = vec![whole];
    for part in parts {
        let columns = part.columns();
        let column = columns.first().filter(|_| columns.len() == 1).and_then(|id| schema.column(*id));
        let holds = |stats: &ColumnStats| part.evaluate_box(&ValueBox::from_stats(std::slice::from_ref(stats))) == Tri::True;
        let pages = column.and_then(|column| FileColumn::new(footer, column)?.pages(group, rows, holds));
        proven = intersect(&proven, &pages.unwrap_or_default());
    }
    joined(proven)
}

/// The rows of a row group on pages whose statistics do not exclude a predicate.
pub(super) fn possible_in_pages(footer: &Footer, schema: &Schema, exact: &Expr, group: usize) -> Vec<Range<u32>> {
    let columns = exact.columns();
    let columns: Vec<FileColumn<'_>> =
        columns.iter().filter_map(|id| schema.column(*id)).filter_map(|column| FileColumn::new(footer, column)).collect();
    select_rows(footer, exact, &columns, group)
}

/// Statistics of the columns that the file was written without, for each row group: their default, or NULL.
fn of_absent(footer: &Footer, schema: &Schema, filter: &Expr, usable: impl Fn(&Column) -> bool) -> Vec<Vec<ColumnStats>> {
    let columns = filter.columns();
    let absent = columns.iter().filter_map(|id| schema.column(*id)).filter(|column| usable(column) && footer.leaf(column.id).is_none());
    absent.map(|column| vec![stats_of_absent(column); footer.row_groups()]).collect()
}

/// Values of a column that is the first of the key, ascending, at which the rows of a file are cut into so many about
/// equal parts, by what is known of its row groups; there may be fewer.
pub(super) fn cuts(footer: &Footer, column: &Column, parts: usize) -> Vec<Value> {
    let Some(stats) = FileColumn::new(footer, column).and_then(|column| column.of_row_groups()) else { return Vec::new() };
    let total: usize = (0..stats.len()).map(|group| footer.rows_of(group)).sum();
    let (mut cuts, mut at): (Vec<Value>, usize) = (Vec::new(), 0);
    for (group, stats) in stats.iter().enumerate() {
        let due = total * (cuts.len() + 1) / parts.max(1);
        if group > 0
            && at >= due
            && cuts.len() + 1 < parts
            && let Some((least, _)) = &stats.range
            && cuts.last().is_none_or(|last| last < least)
        {
            cuts.push(least.clone());
        }
        at += footer.rows_of(group);
    }
    cuts
}

fn select_rows(footer: &Footer, filter: &Expr, columns: &[FileColumn<'_>], group: usize) -> Vec<Range<u32>> {
    let rows = footer.rows_of(group);
    let whole = 0..rows;
    let mut kept = vec![whole];
    for column in columns {
        if let Some(pages) = column.pages(group, rows, |stats| !excludes(filter, std::slice::from_ref(stats))) {
            kept = intersect(&kept, &pages);
        }
    }
    joined(kept)
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

    fn of_row_groups(&self) -> Option<Vec<ColumnStats>> {
        let groups = self.footer.reader.metadata().row_groups();
        let mins = self.converter.row_group_mins(groups).ok()?;
        let maxes = self.converter.row_group_maxes(groups).ok()?;
        let nulls = self.converter.row_group_null_counts(groups).ok()?;
        let rows: Vec<usize> = (0..groups.len()).map(|g| self.footer.rows_of(g)).collect();
        self.stats(&mins, &maxes, &nulls, &rows)
    }

    fn of_row_group(&self, group: usize) -> Option<ColumnStats> {
        let groups = || std::iter::once(self.footer.reader.metadata().row_group(group));
        let mins = self.converter.row_group_mins(groups()).ok()?;
        let maxes = self.converter.row_group_maxes(groups()).ok()?;
        let nulls = self.converter.row_group_null_counts(groups()).ok()?;
        self.stats(&mins, &maxes, &nulls, &[self.footer.rows_of(group)])?.pop()
    }

    /// The rows of the pages with such statistics, those of this column being all that is known.
    fn pages(&self, group: usize, rows: usize, wanted: impl Fn(&ColumnStats) -> bool) -> Option<Vec<Range<usize>>> {
        let metadata = self.footer.reader.metadata();
        let (index, offsets) = (metadata.column_index()?, metadata.offset_index()?);
        let locations = offsets.get(group)?.get(self.leaf)?.page_locations();
        index.get(group)?.get(self.leaf)?;
        let starts = locations.iter().map(|l| usize::try_from(l.first_row_index).ok()).collect::<Option<Vec<usize>>>()?;
        let ends = starts.iter().skip(1).copied().chain([rows]);
        let pages: Vec<Range<usize>> = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        let mins = self.converter.data_page_mins(index, offsets, [&group]).ok()?;
        let maxes = self.converter.data_page_maxes(index, offsets, [&group]).ok()?;
        let nulls = self.converter.data_page_null_counts(index, offsets, [&group]).ok()?;
        let lengths: Vec<usize> = pages.iter().map(Range::len).collect();
        let stats = self.stats(&mins, &maxes, &nulls, &lengths)?;
        Some(pages.into_iter().zip(&stats).filter(|(_, stats)| wanted(stats)).map(|(page, _)| page).collect())
    }

    /// Statistics in the present type. Without least and greatest value nothing is known, unless all is NULL.
    fn stats(&self, mins: &ArrayRef, maxes: &ArrayRef, nulls: &UInt64Array, rows: &[usize]) -> Option<Vec<ColumnStats>> {
        if mins.len() != rows.len() || maxes.len() != rows.len() || nulls.len() != rows.len() {
            return None;
        }
        let present = |array: &ArrayRef| conform_column(self.column, Some(&Arc::clone(array)), array.len()).ok();
        let (mins, maxes) = (present(mins)?, present(maxes)?);
        let has_nan = matches!(self.column.data_type, DataType::Float32 | DataType::Float64);
        let each = rows.iter().enumerate().map(|(at, rows)| {
            let all_null = nulls.is_valid(at) && nulls.value(at) == *rows as u64;
            let has_null = nulls.is_null(at) || nulls.value(at) > 0;
            let range = match (mins.is_null(at) || maxes.is_null(at), all_null) {
                (false, _) => Some((value_at(&mins, at, self.column.data_type).ok()?, value_at(&maxes, at, self.column.data_type).ok()?)),
                (true, true) => None,
                (true, false) => return None,
            };
            Some(ColumnStats { column: self.column.id, range, has_null, has_nan: has_nan && !all_null })
        });
        each.collect()
    }
}
