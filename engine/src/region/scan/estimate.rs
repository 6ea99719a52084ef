//! About how many rows a scan would give, for who plans it.

use tessera_manifest::file::FileMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use super::pieces::Source;
use super::{Pruned, Region, of_series, prune, tag_parts, time_bounds};
use crate::merge::group_by_time;

/// Files up to which their pages are looked at; of more, conditions on tags are not asked.
const FILES_MAX: usize = 16;

impl Region {
    /// About how many rows a scan now with this filter gives, at most `enough`, by what is in memory: all of memtables whose times
    /// it asks for; of files as much as it asks for of their times, or, where it has conditions on tags and the file was read
    /// before, by row groups and pages. Conditions on fields are not asked. Nothing is read for it. `filter` is one of columns
    /// of `schema`, as in a scan.
    #[must_use]
    pub fn estimate_rows(&self, schema: &Schema, filter: &Expr, enough: u64) -> u64 {
        let version = self.pin();
        let access = &self.shared.access;
        let time = time_bounds(filter, schema.time_index().id);
        let Pruned { sources, .. } = prune(access, &version, filter, time);
        let by_pages = sources.iter().filter_map(Source::file).count() <= FILES_MAX && !tag_parts(filter, schema).is_empty();
        let of_series = by_pages.then(|| of_series(filter, schema, time));
        let mut rows = 0_u64;
        for source in &sources {
            let left = enough.saturating_sub(rows);
            let known = |file| of_series.as_ref().and_then(|filter| access.estimate_rows(file, schema, filter, left));
            rows += source.file().map_or_else(|| source.rows(), |file| known(file).unwrap_or_else(|| in_time(&file.meta, time)));
            if rows >= enough {
                return enough;
            }
        }
        rows
    }

    /// How many rows one stream of a scan in order of time with this filter sorts at a time, by what is in memory: those of the files
    /// and memtables that overlap in time. Conditions on tags and fields are not asked. `filter` is one of columns of `schema`, as
    /// in a scan.
    #[must_use]
    pub fn estimate_rows_at_once(&self, schema: &Schema, filter: &Expr) -> RowsAtOnce {
        let time = time_bounds(filter, schema.time_index().id);
        let Pruned { sources, .. } = prune(&self.shared.access, &self.pin(), filter, time);
        let ranges: Vec<(i64, i64)> = sources.iter().map(Source::time_range).collect();
        let likely = |source: &Source| source.file().map_or_else(|| source.rows(), |file| in_time(&file.meta, time));
        let groups = group_by_time(&ranges);
        let largest = |rows: &dyn Fn(&Source) -> u64| {
            let of_group = |group: &Vec<usize>| group.iter().map(|at| rows(&sources[*at])).sum();
            groups.iter().map(of_group).max().unwrap_or(0)
        };
        RowsAtOnce { likely: largest(&likely), most: largest(&Source::rows) }
    }
}

/// Rows that are sorted at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowsAtOnce {
    /// As many if the rows of each file are spread over its times evenly.
    pub likely: u64,
    /// No more than these, but for rows that are written meanwhile.
    pub most: u64,
}

/// About how many rows of a file lie within a time, inclusive: as if they were spread over its times evenly.
fn in_time(file: &FileMeta, time: (i64, i64)) -> u64 {
    let length = |(from, to): (i64, i64)| (i128::from(to) - i128::from(from) + 1).max(0);
    let common = length((file.time_range.0.max(time.0), file.time_range.1.min(time.1)));
    let share = i128::from(file.rows) * common / length(file.time_range).max(1);
    u64::try_from(share).unwrap_or(file.rows).max(1)
}
