//! What is done to a region, drawn at random.

use proptest::prelude::*;
use tessera_manifest::value::Value;

use super::table::{self, Filter, Row};
use crate::compaction::Strategy as Compaction;
use crate::options::MergeMode;
use crate::request::{OpType, Order, Tags};

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// One batch; later rows of it are newer. Deletes are keys, given as whole rows.
    Write {
        op: OpType,
        rows: Vec<Row>,
        /// The rows were made under the schema of so many steps ago.
        ago: usize,
    },
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
    /// History becomes old enough to be forgotten.
    HoursPass,
    Scan(Look),
}

/// A change of the table; one that is not possible is left out.
#[derive(Debug, Clone)]
pub(super) enum Alter {
    /// A column of the n-th type of [`table::ADDED`], always of the same name, so that names are used again.
    Add {
        kind: usize,
        tag: bool,
        default: Value,
        /// If it has a default.
        not_null: bool,
        spot: Spot,
    },
    /// The n-th field of those that there are.
    Drop(usize),
    /// The n-th added field gets the n-th wider type of [`table::WIDER`] that it may get.
    Widen(usize, usize),
    /// The n-th column gets or loses a bloom filter.
    Index { column: usize, false_positives: Option<&'static str> },
    /// An option is set, or is as if it had never been.
    Option(&'static str, Option<&'static str>),
}

/// Where a column is shown.
#[derive(Debug, Clone)]
pub(super) enum Spot {
    Last,
    First,
    /// After the n-th.
    After(usize),
}

/// A scan, and what must come of it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) filter: Filter,
    pub(super) projection: Option<Vec<usize>>,
    /// Only if the filter leaves nothing to test.
    pub(super) limit: Option<usize>,
    pub(super) order: Order,
    pub(super) streams: usize,
    pub(super) tags: Tags,
    pub(super) last_rows: bool,
    pub(super) at: At,
}

/// What is read, and with which columns.
#[derive(Debug, Clone)]
pub(super) enum At {
    Now,
    /// What there is now, under the schema of so many steps ago.
    NowUnder(usize),
    /// What was in files so many steps ago.
    Past {
        ago: usize,
        by_time: bool,
        under_todays_schema: bool,
    },
}

impl Look {
    /// At everything.
    pub(super) fn all(at: At) -> Self {
        Self {
            filter: Filter::none(),
            projection: None,
            limit: None,
            order: Order::Any,
            streams: 1,
            tags: Tags::Values,
            last_rows: false,
            at,
        }
    }
}

/// Steps back that are drawn; more than a history has, so that each is as likely.
const AGO: std::ops::Range<usize> = 0..28;

pub(super) fn history(mode: MergeMode) -> BoxedStrategy<Vec<Op>> {
    prop::collection::vec(op(mode), 1..28).boxed()
}

fn op(mode: MergeMode) -> BoxedStrategy<Op> {
    let schema = table::schema();
    let rows = prop::collection::vec(table::row(&schema), 1..6);
    let many = prop::collection::vec(table::row(&schema), 30..60);
    let ago = || prop_oneof![6 => Just(0), 1 => AGO];
    let write = |op, rows| (rows, ago()).prop_map(move |(rows, ago)| Op::Write { op, rows, ago });
    // An append-only table takes no deletes.
    let delete = if mode == MergeMode::Append { OpType::Put } else { OpType::Delete };
    let ranges = (-4..12_i64, 0..6_i64).prop_map(|(from, length)| Op::TruncateRange(from, from.saturating_add(length)));
    let compaction = prop_oneof![2 => Just(Compaction::StrictWindow), 1 => Just(Compaction::Regular)];
    prop_oneof![
        8 => write(OpType::Put, rows.clone().boxed()),
        1 => write(OpType::Put, many.boxed()),
        3 => write(delete, rows.boxed()),
        5 => Just(Op::Flush),
        3 => compaction.prop_map(Op::Compact),
        1 => Just(Op::Truncate),
        1 => ranges,
        3 => alter().prop_map(Op::Alter),
        1 => Just(Op::Crash),
        1 => Just(Op::Restart),
        1 => Just(Op::HoursPass),
        6 => look().prop_map(Op::Scan),
    ]
    .boxed()
}

fn alter() -> BoxedStrategy<Alter> {
    let add = (0..table::ADDED.len()).prop_flat_map(|kind| {
        let column = crate::merge::fixtures::column(100, "added", table::ADDED[kind], tessera_manifest::schema::SemanticType::Field);
        let spot = prop_oneof![Just(Spot::Last), Just(Spot::First), (0..16_usize).prop_map(Spot::After)];
        let default = prop_oneof![Just(Value::Null), table::value(&column)];
        let parts = (prop::bool::weighted(0.25), default, any::<bool>(), spot);
        parts.prop_map(move |(tag, default, not_null, spot)| Alter::Add { kind, tag, default, not_null, spot })
    });
    let rates = prop::sample::select(vec![Some("0.01"), Some("0.000001"), Some("0.5"), None]);
    let index = (0..16_usize, rates).prop_map(|(column, false_positives)| Alter::Index { column, false_positives });
    let options = prop::sample::select(vec![
        ("compaction.twcs.trigger_file_num", Some("2")),
        ("compaction.twcs.trigger_file_num", Some("4")),
        ("compaction.twcs.trigger_file_num", None),
        ("compaction.twcs.time_window", Some("1s")),
        ("compaction.twcs.time_window", Some("1h")),
        ("compaction.twcs.time_window", None),
        ("compaction.twcs.max_output_file_size", Some("1MB")),
        ("ttl", Some("forever")),
        ("ttl", None),
    ]);
    let option = options.prop_map(|(name, value)| Alter::Option(name, value));
    let widen = (0..8_usize, 0..8_usize).prop_map(|(field, to)| Alter::Widen(field, to));
    prop_oneof![4 => add, 2 => (0..6_usize).prop_map(Alter::Drop), 2 => widen, 3 => index, 1 => option].boxed()
}

fn look() -> impl Strategy<Value = Look> {
    let projection =
        prop::option::of((prop::sample::subsequence((0..16).collect::<Vec<_>>(), 0..=8), any::<bool>()).prop_map(|(mut columns, back)| {
            if back {
                columns.reverse();
            }
            columns
        }));
    let order = prop_oneof![3 => Just(Order::Any), 2 => Just(Order::Key), 1 => Just(Order::Time), 1 => Just(Order::NewestFirst)];
    let tags = prop_oneof![3 => Just(Tags::Values), 1 => Just(Tags::Runs)];
    let past = (AGO, any::<bool>(), prop::bool::weighted(0.3));
    let at = prop_oneof![
        6 => Just(At::Now),
        1 => AGO.prop_map(At::NowUnder),
        4 => past.prop_map(|(ago, by_time, under_todays_schema)| At::Past { ago, by_time, under_todays_schema }),
    ];
    let limit = prop::option::weighted(0.3, 0..6_usize);
    let parts = (table::filter(), projection, limit, order, 1..4_usize, tags, prop::bool::weighted(0.2), at);
    parts.prop_map(|(filter, projection, limit, order, streams, tags, last_rows, at)| Look {
        filter,
        projection,
        limit,
        order,
        streams,
        tags,
        last_rows,
        at,
    })
}
