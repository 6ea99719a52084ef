//! Which rows of a row group satisfy the exact predicate of a read, found before they are decoded.
//!
//! Invariants:
//! - What statistics of a row group prove is not tested in it, and what those of a page prove is not tested in that.
//! - A predicate on tags is tested once per run of rows with the same tags, of which only those that it names are decoded,
//!   as dictionaries.
//! - Which rows of a row group satisfy a rule on tags is remembered by all that it depends on: the file, the row group, the
//!   version of the schema, and what the statistics leave open of the rule, as it is said.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema as ArrowSchema};
use futures::TryStreamExt;
use tessera_manifest::rule::Expr;

use super::Error;
use super::groups::{Places, Reading, count, push_range};
use super::late::{ROWS_MIN, add_chosen};
use super::pages::{Group, intersect};
use crate::merge::series::{plain, starts};

/// The rows of a whole row group are tested for a rule when at least one in so many of them is selected.
const SELECTED_SHARE: usize = 4;

/// What rows of a row group must still be tested with.
#[derive(Debug, Default)]
pub(super) struct Tests {
    /// The parts of the rule that its statistics leave open, if there are any.
    pub(super) rule: Option<Arc<Expr>>,
    /// The parts of the exact predicate that its statistics leave open, if there are any.
    pub(super) exact: Option<Arc<Expr>>,
    /// Whether they name more than tags.
    pub(super) of_rows: bool,
    /// The parts of filter and exact predicate that name tags alone and that its statistics leave open.
    pub(super) of_tags: Vec<Expr>,
}

impl Reading {
    /// The tests of a row group.
    pub(super) fn tests(&self, group: usize) -> Tests {
        let schema = self.file.layout.schema();
        let open = |expr: &Expr| {
            let mut parts = Vec::new();
            conjuncts(expr, &mut parts);
            self.bounds.open(&parts, group)
        };
        let all_tags = |expr: &Expr| expr.columns().iter().all(|column| schema.primary_key().contains(column));
        let exact = self.file.exact.as_deref().map(open).unwrap_or_default();
        let rule = self.file.rule.as_deref().map(open).unwrap_or_default();
        let of_filter = open(&self.file.filter);
        let of_rows = !exact.iter().all(all_tags);
        let of_tags = of_filter.into_iter().filter(|part| !rule.contains(part)).chain(exact.clone()).filter(all_tags).collect();
        let all = |parts: Vec<Expr>| (!parts.is_empty()).then(|| Arc::new(Expr::And(parts)));
        Tests { rule: all(rule), exact: all(exact), of_rows, of_tags }
    }

    /// The selected rows of a row group that satisfy a rule on tags; `None` where they are as well tested with the rest.
    pub(super) async fn choose_by_rule(&self, group: &Group, rule: &Arc<Expr>, of_rows: bool) -> Result<Option<Vec<Range<u32>>>, Error> {
        let key = ((self.file.key, group.index as u32), self.file.layout.schema().version(), Arc::clone(rule));
        let rules = &self.file.access.caches.rules;
        let rows = match rules.get(&key) {
            Some(rows) => rows,
            None => {
                let Some(rows) = self.find_by_rule(group, rule, of_rows).await? else { return Ok(None) };
                let rows: Arc<[Range<u32>]> = rows.into();
                rules.insert(key, Arc::clone(&rows));
                rows
            }
        };
        Ok(Some(intersect(&group.rows, &rows)))
    }

    /// The rows of the whole row group that satisfy a rule on tags; `None` where few of those to be tested are selected.
    async fn find_by_rule(&self, group: &Group, rule: &Expr, of_rows: bool) -> Result<Option<Vec<Range<u32>>>, Error> {
        if let Some(series) = self.series_of(group, of_rows).await? {
            return self.rows_of_series(&series, rule).map(Some);
        }
        let known = self.file.known();
        let proven = known.proven_in_pages(rule, group.index);
        let open = without(&known.possible_in_pages(rule, group.index), &proven);
        let selected = count(&intersect(&group.rows, &open));
        let inline = count(&open) < ROWS_MIN && selected == group.selected();
        if selected * SELECTED_SHARE < count(&open) || (inline && !open.is_empty()) {
            return Ok(None);
        }
        self.add_passing(group, rule, proven, open).await
    }

    /// The selected rows of a row group that satisfy a predicate on tags; `None` where they are as well tested when they are
    /// decoded.
    pub(super) async fn choose_by_runs(&self, group: &Group, exact: &Expr) -> Result<Option<Vec<Range<u32>>>, Error> {
        let open = without(&group.rows, &self.file.known().proven_in_pages(exact, group.index));
        if count(&open) < ROWS_MIN && count(&open) == group.selected() {
            return Ok(None);
        }
        let proven = without(&group.rows, &open);
        self.add_passing(group, exact, proven, open).await
    }

    /// These rows of a row group, and those of `open` that satisfy a predicate on tags; `None` where the file has none of
    /// the tags.
    async fn add_passing(
        &self,
        group: &Group,
        exact: &Expr,
        mut chosen: Vec<Range<u32>>,
        open: Vec<Range<u32>>,
    ) -> Result<Option<Vec<Range<u32>>>, Error> {
        let file = &self.file;
        if open.is_empty() {
            return Ok(Some(chosen));
        }
        let tested = self.leaves(exact.columns())?;
        if tested.is_empty() {
            // The file was written before the tags were there.
            return Ok(None);
        }
        let _counted = self.reserve_encoded(group, &tested, &open)?;
        let mut batches = self.decode_with(&file.footer.tags, group, &tested, &open)?;
        let mut places = Places::new(open);
        while let Some(batch) = batches.try_next().await? {
            let starts = starts(batch.columns(), batch.num_rows())?;
            let passes = self.evaluate(exact, &tested, &rows_at(&batch, &starts)?)?;
            self.count_tested(starts.len());
            let mut mask = BooleanBufferBuilder::new(batch.num_rows());
            let ends = starts.iter().skip(1).copied().chain([batch.num_rows() as u32]);
            for (run, (start, end)) in starts.iter().zip(ends).enumerate() {
                mask.append_n((end - start) as usize, passes.value(run));
            }
            add_chosen(&mask.finish(), &places.take(batch.num_rows() as u32), &mut chosen);
        }
        chosen.sort_unstable_by_key(|range| range.start);
        let mut joined = Vec::with_capacity(chosen.len());
        chosen.into_iter().for_each(|range| push_range(&mut joined, range));
        Ok(Some(joined))
    }
}

/// The parts of which all must hold.
fn conjuncts(expr: &Expr, parts: &mut Vec<Expr>) {
    match expr {
        Expr::And(all) => all.iter().for_each(|part| conjuncts(part, parts)),
        part => parts.push(part.clone()),
    }
}

/// Some rows of a batch, without dictionaries.
fn rows_at(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, Error> {
    let rows = UInt32Array::from(rows.to_vec());
    let columns = batch.columns().iter().map(|column| plain(&take(column, &rows, None)?));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("pick tags"))?;
    let schema = batch.schema();
    let plain_field = |(column, field): (&ArrayRef, &Arc<Field>)| Field::new(field.name(), column.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().zip(schema.fields()).map(plain_field).collect();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).map_err(Error::arrow("pick tags"))
}

/// The rows of ascending ranges that are in none of other ascending ranges.
pub(super) fn without(rows: &[Range<u32>], others: &[Range<u32>]) -> Vec<Range<u32>> {
    let (mut left, mut at) = (Vec::new(), 0);
    for range in rows {
        let mut from = range.start;
        while at < others.len() && others[at].end <= from {
            at += 1;
        }
        for other in others[at..].iter().take_while(|other| other.start < range.end) {
            if from < other.start {
                left.push(from..other.start);
            }
            from = other.end;
        }
        if from < range.end {
            left.push(from..range.end);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_ranges_is_what_others_do_not_cover() {
        assert_eq!(without(&[0..10, 20..30], &[0..10, 22..25]), [20..22, 25..30]);
        assert_eq!(without(&[0..10, 20..30], &[3..4, 8..22, 24..30]), [0..3, 4..8, 22..24]);
        assert_eq!(without(&[5..9, 9..12], &[]), [5..9, 9..12]);
    }
}
