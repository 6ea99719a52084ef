//! What is done to a region, drawn at random.

use proptest::prelude::*;
use tessera_manifest::rule::Expr;
use tessera_manifest::value::Value;

use super::table;
use crate::options::MergeMode;

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// One batch; later rows of it are newer.
    Put(Vec<Vec<Value>>),
    /// Keys, given as whole rows.
    Delete(Vec<Vec<Value>>),
    Flush,
    /// The process dies and starts again.
    Crash,
    /// The process ends cleanly and starts again.
    Restart,
    Scan {
        filter: Expr,
        projection: Option<Vec<usize>>,
        limit: Option<usize>,
    },
}

pub(super) fn history(mode: MergeMode) -> BoxedStrategy<Vec<Op>> {
    prop::collection::vec(op(mode), 1..28).boxed()
}

fn op(mode: MergeMode) -> BoxedStrategy<Op> {
    let schema = table::schema();
    let rows = prop::collection::vec(table::row(&schema), 1..6);
    let many = prop::collection::vec(table::row(&schema), 30..60);
    let columns = schema.columns().len();
    let projection = prop::option::of(prop::sample::subsequence((0..columns).collect::<Vec<_>>(), 0..=columns));
    let scan = (table::filter(&schema), projection, prop::option::weighted(0.2, 0..6_usize))
        .prop_map(|(filter, projection, limit)| Op::Scan { filter, projection, limit });
    let deletes = if mode == MergeMode::Append { 0 } else { 3 };
    prop_oneof![
        8 => rows.clone().prop_map(Op::Put),
        1 => many.prop_map(Op::Put),
        deletes => rows.prop_map(Op::Delete),
        4 => Just(Op::Flush),
        1 => Just(Op::Crash),
        1 => Just(Op::Restart),
        3 => scan,
    ]
    .boxed()
}
