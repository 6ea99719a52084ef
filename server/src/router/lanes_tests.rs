//! Tests of lanes: a model of regions that change their rules while rows are on their way.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::*;

/// A row: its key, and its place among the rows of that key.
type Row = (u8, u32);

fn region(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

/// Rules of one moment: keys below each bound go to the region of that place.
#[derive(Debug, Clone)]
struct Rules {
    generation: u32,
    bounds: Vec<u8>,
}

impl Rules {
    fn of(&self, key: u8) -> RegionId {
        let place = self.bounds.iter().filter(|bound| key >= **bound).count();
        region(u32::try_from(place).unwrap())
    }

    fn cut(&self, rows: &[Row]) -> Vec<(RegionId, Vec<Row>)> {
        let mut parts: BTreeMap<RegionId, Vec<Row>> = BTreeMap::new();
        for row in rows {
            parts.entry(self.of(row.0)).or_default().push(*row);
        }
        parts.into_iter().collect()
    }
}

#[test]
fn batches_of_a_region_are_sent_in_their_order() {
    let mut lanes = Lanes::default();
    for batch in 0..5 {
        lanes.push(region(batch % 2), batch);
    }
    assert_eq!(lanes.take(), [(region(0), vec![0, 2, 4]), (region(1), vec![1, 3])]);
    assert!(lanes.is_done());
}

#[test]
fn a_batch_that_cannot_be_cut_again_is_not_lost() {
    let mut lanes: Lanes<u32> = Lanes::default();
    lanes.refuse(region(0), vec![1, 2]);
    assert_eq!(lanes.reroute(|batch| if *batch == 1 { Ok(vec![(region(1), 1)]) } else { Err("no rule") }), Err("no rule"));
    assert_eq!(lanes.refused().copied().collect::<Vec<_>>(), [1, 2]);
    lanes.reroute(|batch| Ok::<_, ()>(vec![(region(2), *batch)])).unwrap();
    assert_eq!(lanes.take(), [(region(2), vec![1, 2])]);
    assert!(lanes.is_done());
}

proptest! {
    /// Regions change their rules between any two batches; whoever cut by older ones is refused.
    #[test]
    fn rows_arrive_once_and_in_the_order_of_their_keys(
        keys in prop::collection::vec(prop::collection::vec(0u8..20, 1..8), 1..12),
        moves in prop::collection::vec((0usize..6, prop::collection::btree_set(1u8..20, 0..4)), 0..8),
    ) {
        let mut rules = Rules { generation: 0, bounds: vec![10] };
        let mut known = rules.clone();
        let mut lanes: Lanes<Vec<Row>> = Lanes::default();
        let mut next: BTreeMap<u8, u32> = BTreeMap::new();
        let mut sent = 0;
        for batch in &keys {
            let rows: Vec<Row> = batch.iter().map(|key| {
                let place = next.entry(*key).or_default();
                *place += 1;
                (*key, *place)
            }).collect();
            sent += rows.len();
            for (region, part) in known.cut(&rows) {
                lanes.push(region, part);
            }
        }
        let mut written: Vec<(Row, RegionId, u32)> = Vec::new();
        let mut moves = moves.into_iter().peekable();
        let mut until_move = moves.peek().map(|(after, _)| *after);
        while !lanes.is_done() {
            for (region, batches) in lanes.take() {
                let mut left = batches.into_iter();
                while let Some(batch) = left.next() {
                    if until_move == Some(0) {
                        let (_, bounds) = moves.next().unwrap();
                        rules = Rules { generation: rules.generation + 1, bounds: bounds.into_iter().collect() };
                        until_move = moves.peek().map(|(after, _)| *after);
                    } else {
                        until_move = until_move.map(|left| left - 1);
                    }
                    if known.generation != rules.generation {
                        lanes.refuse(region, std::iter::once(batch).chain(left).collect());
                        break;
                    }
                    for row in batch {
                        prop_assert_eq!(rules.of(row.0), region, "a row outside the rule of its region");
                        written.push((row, region, rules.generation));
                    }
                }
            }
            if lanes.is_refused() {
                known = rules.clone();
                lanes.reroute(|batch| Ok::<_, ()>(known.cut(batch))).unwrap();
            }
        }
        prop_assert_eq!(written.len(), sent);
        let mut seen: BTreeMap<u8, u32> = BTreeMap::new();
        for ((key, place), _, _) in written {
            let last = seen.entry(key).or_default();
            prop_assert_eq!(place, *last + 1, "key {} out of order or twice", key);
            *last = place;
        }
    }
}
