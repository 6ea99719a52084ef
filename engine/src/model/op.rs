//! What is done to a region, drawn at random.

use proptest::prelude::*;
use tessera_manifest::rule::Expr;
use tessera_manifest::value::Value;

use super::table::{self, Row};
use crate::compaction::Strategy as Compaction;
use crate::options::MergeMode;

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// One batch; later rows of it are newer.
    Put(Vec<Row>),
    /// Keys, given as whole rows.
    Delete(Vec<Row>),
    Flush,
    /// The process dies and starts again.
    Crash,
    /// The process ends cleanly and starts again.
    Restart,
    Compact(Compaction),
    Truncate,
    /// Both ends inclusive.
    TruncateRange(i64, i64),
    Alter(Alter),
    Scan {
        filter: Expr,
        projection: Option<Vec<usize>>,
        limit: Option<usize>,
    },
}

/// A change of the schema; one that is not possible is left out.
#[derive(Debug, Clone)]
pub(super) enum Alter {
    /// A field of the n-th type of [`table::ADDED`], always of the same name, so that names are used again.
    Add { kind: usize, default: Option<Value>, first: bool },
    /// The n-th field of those that there are.
    Drop(usize),
    /// An added integer becomes wider.
    Widen,
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
    // An append-only table takes no deletes.
    let deletes = if mode == MergeMode::Append { Just(Op::Flush).boxed() } else { rows.clone().prop_map(Op::Delete).boxed() };
    let ranges = (-4..12_i64, 0..6_i64).prop_map(|(from, length)| Op::TruncateRange(from, from.saturating_add(length)));
    let compaction = prop_oneof![2 => Just(Compaction::StrictWindow), 1 => Just(Compaction::Regular)];
    prop_oneof![
        8 => rows.prop_map(Op::Put),
        1 => many.prop_map(Op::Put),
        3 => deletes,
        5 => Just(Op::Flush),
        3 => compaction.prop_map(Op::Compact),
        1 => Just(Op::Truncate),
        1 => ranges,
        2 => alter().prop_map(Op::Alter),
        1 => Just(Op::Crash),
        1 => Just(Op::Restart),
        3 => scan,
    ]
    .boxed()
}

fn alter() -> BoxedStrategy<Alter> {
    let add = (0..table::ADDED.len()).prop_flat_map(|kind| {
        let column = crate::merge::fixtures::column(100, "added", table::ADDED[kind], tessera_manifest::schema::SemanticType::Field);
        (prop::option::of(table::value(&column)), any::<bool>()).prop_map(move |(default, first)| Alter::Add { kind, default, first })
    });
    prop_oneof![3 => add, 2 => (0..6_usize).prop_map(Alter::Drop), 1 => Just(Alter::Widen)].boxed()
}
