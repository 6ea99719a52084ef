//! Tests of the visible files: blocks and changes together are as one map.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::file::{FileMeta, Scope};
use crate::id::{Epoch, FileId, Generation, RegionId, RegionNumber, Sequence, Slot, TableId};
use crate::rule::Expr;
use crate::state::block::{Packed, Shared};

fn key(number: u32) -> FileKey {
    // Some differ in the origin, some in the epoch, some in the high and some in the low half of the ulid.
    let origin = RegionId::new(TableId(1024), RegionNumber(number / 32));
    let ulid = Ulid(u128::from(number % 8 / 2) << 64 | u128::from(number % 2));
    FileKey { origin, file: FileId::new(Epoch(number / 8 % 4), ulid) }
}

fn listed(number: u32, since: u64) -> Listed {
    let meta = FileMeta {
        time_range: (i64::from(number), i64::from(number) + 2),
        rows: number.into(),
        deletes: 0,
        bytes: 100,
        sequences: (Sequence::ZERO, Sequence::ZERO),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: number,
    };
    Listed { file: Arc::new(FileRef { key: key(number), scope: Scope::all(), meta }), since: Slot::new(Epoch(1), since) }
}

fn packed(number: u32) -> Packed {
    let key = key(number);
    Packed {
        origin: key.origin.as_u64(),
        ulid: ((key.file.ulid().0 >> 64) as u64, key.file.ulid().0 as u64),
        since_seq: 0,
        time: (i64::from(number), i64::from(number) + 2),
        rows: number.into(),
        deletes: 0,
        bytes: 100,
        sequences: (0, 0),
        epoch: key.file.epoch.0,
        since_epoch: 1,
        generation_and_level: 1,
        schema_version: 1,
        crc32: number,
        scope: 0,
        rule: 0,
        stats: 0,
    }
}

fn shared() -> Shared {
    Shared { scopes: [Some(Scope::all())].into(), rules: [Some(Arc::new(Expr::always()))].into(), stats: [Some(Arc::from([]))].into() }
}

fn block(numbers: &[u32]) -> Block {
    Block::new(numbers.iter().map(|number| packed(*number)).collect(), shared())
}

#[test]
fn a_block_out_of_order_or_incomplete_is_noticed() {
    assert_eq!(block(&[1, 2, 9, 40]).first_bad_row(), None);
    assert_eq!(block(&[1, 9, 2]).first_bad_row(), Some(2));
    assert_eq!(block(&[1, 1]).first_bad_row(), Some(1));
    let nothing = Shared { scopes: [None].into(), ..shared() };
    assert_eq!(Block::new(vec![packed(1)], nothing).first_bad_row(), Some(0));
    let generation = Packed { generation_and_level: 0x00ff_ffff, ..packed(2) };
    assert_eq!(Block::new(vec![packed(1), generation], shared()).first_bad_row(), Some(1));
}

#[test]
fn the_place_of_a_key_is_found_in_large_blocks_however_they_are_spread() {
    let spread: [fn(u64) -> u64; 4] = [|n| n, |n| n * n * n, |n| if n < 150 { n } else { u64::MAX - 1000 + n }, |n| (n + 1).ilog2().into()];
    for spread in spread {
        let block = Block::new((0..300).map(|n| Packed { ulid: (spread(n), n), ..packed(3) }).collect(), shared());
        assert_eq!(block.first_bad_row(), None);
        for row in 0..300 {
            let key = block.key(row);
            assert_eq!((block.position(&key), block.lower_bound(&key)), (Some(row), row));
            for ulid in [key.file.ulid().0.wrapping_sub(1), key.file.ulid().0 + 1] {
                let key = FileKey { file: FileId::new(key.file.epoch, Ulid(ulid)), ..key };
                let bound = (0..300).find(|row| block.key(*row) >= key).unwrap_or(300);
                assert_eq!(block.lower_bound(&key), bound, "{key}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn files_are_as_a_map(
        begin in proptest::collection::btree_set(0_u32..96, 0..40),
        block_len in 1_usize..9,
        changes in proptest::collection::vec((any::<bool>(), 0_u32..96), 0..120),
        range in (proptest::option::of(0_u32..96), proptest::option::of(0_u32..96)),
    ) {
        let numbers: Vec<u32> = begin.into_iter().collect();
        let mut model: BTreeMap<FileKey, Listed> = numbers.iter().map(|number| (key(*number), listed(*number, 0))).collect();
        let mut files = Files::from_blocks(numbers.chunks(block_len).map(block).collect());
        for (step, (add, number)) in (1..).zip(changes) {
            let before = files.clone();
            if !add {
                prop_assert_eq!(files.remove(&key(number)), model.remove(&key(number)));
            } else if let Entry::Vacant(vacant) = model.entry(key(number)) {
                files.insert(listed(number, step));
                vacant.insert(listed(number, step));
            }
            prop_assert_eq!(before.len().abs_diff(files.len()) <= 1, true);
        }
        prop_assert_eq!(files.len(), model.len());
        prop_assert!(files.iter().eq(model.iter().map(|(key, listed)| (*key, listed.clone()))));
        for number in 0..96 {
            prop_assert_eq!(files.get(&key(number)), model.get(&key(number)).cloned());
            prop_assert_eq!(files.contains_key(&key(number)), model.contains_key(&key(number)));
        }
        let (from, to) = (range.0.map(key), range.1.map(key));
        let within = |key: &FileKey| from.is_none_or(|from| *key >= from) && to.is_none_or(|to| *key < to);
        let expected = model.iter().filter(|(key, _)| within(key)).map(|(key, listed)| (*key, listed.clone()));
        prop_assert!(files.range(from, to).eq(expected));
        let in_time = model.values().filter(|listed| listed.file.meta.time_range.0 <= 50 && listed.file.meta.time_range.1 >= 40);
        prop_assert!(files.in_time((40, 50)).eq(in_time.map(|listed| Arc::clone(&listed.file))));
        let again: Files = model.values().cloned().collect();
        prop_assert!(files == again);
    }
}
