//! Tests of segments: what goes in comes out, and nothing else does.

use proptest::prelude::*;

use super::*;
use crate::id::{ColumnId, RegionNumber, TableId};
use crate::rule::CompareOp;
use crate::value::Value;

fn below(text: &str) -> Expr {
    Expr::Compare { column: ColumnId(0), op: CompareOp::Lt, value: Value::String(text.into()) }
}

fn any_file() -> impl Strategy<Value = FileRef> {
    let key = (0_u32..3, 0_u32..3, any::<u128>());
    let numbers = (any::<(i64, i64)>(), any::<(u64, u64, u64)>(), any::<(u64, u64)>(), any::<(u8, u32, u32)>(), 1_u32..1 << 20);
    (key, numbers, "[a-c]{0,2}", proptest::option::of("[a-zé]{0,3}")).prop_map(|(key, numbers, scope, stats)| {
        let (time_range, (rows, deletes, bytes), sequences, (level, schema_version, crc32), generation) = numbers;
        let range = stats.map(|text| (Value::String(text.clone()), Value::String(text)));
        let stats = ColumnStats { column: ColumnId(1), range, has_null: level % 2 == 0, has_nan: level % 3 == 0 };
        FileRef {
            key: FileKey { origin: RegionId::new(TableId(1024), RegionNumber(key.0)), file: FileId::new(Epoch(key.1), Ulid(key.2)) },
            scope: if scope.is_empty() { Scope::all() } else { Scope::new(below(&scope)) },
            meta: FileMeta {
                time_range,
                rows,
                deletes,
                bytes,
                sequences: (Sequence::from_u64(sequences.0), Sequence::from_u64(sequences.1)),
                level,
                generation: Generation::new(generation).unwrap(),
                schema_version,
                rule: Arc::new(below("m")),
                stats: [stats].into(),
                crc32,
            },
        }
    })
}

fn any_row() -> impl Strategy<Value = Row> {
    let slot = || (any::<u32>(), any::<u64>()).prop_map(|(epoch, seq)| Slot::new(Epoch(epoch), seq));
    (any_file(), slot(), slot(), 0_u8..5).prop_map(|(file, since, by, kind)| {
        let (key, bytes, file) = (file.key, file.meta.bytes, Arc::new(file));
        match kind {
            0 => Row::Visible(Listed { file, since }),
            1 => Row::Removed(Removed { file, since, by }),
            2 => Row::Staged(StagedFile::new(file)),
            3 => Row::Remapped(StagedFile::new(file)),
            _ => Row::Doomed(key, Doomed { by, bytes }),
        }
    })
}

fn named(bytes: &Bytes, rows: usize) -> SegmentRef {
    let file = FileId::new(Epoch(1), Ulid(1));
    SegmentRef { file, crc32: crc32fast::hash(bytes), bytes: bytes.len() as u64, rows: rows as u64 }
}

proptest! {
    #[test]
    fn a_segment_reads_back(rows in proptest::collection::vec(any_row(), 0..40)) {
        let bytes = encode_segment(&rows);
        let mut decoder = SegmentDecoder::default();
        prop_assert_eq!(decoder.decode(&named(&bytes, rows.len()), &bytes).unwrap(), rows.clone());
        // A decoder that has seen the expressions before says the same.
        prop_assert_eq!(decoder.decode(&named(&bytes, rows.len()), &bytes).unwrap(), rows);
    }

    /// Even with an honest checksum, as after a defect of the writer, decoding answers.
    #[test]
    fn damaged_segments_never_panic(
        rows in proptest::collection::vec(any_row(), 1..10),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encode_segment(&rows).to_vec();
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let bytes = Bytes::from(bytes);
        let _ = SegmentDecoder::default().decode(&named(&bytes, rows.len()), &bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        prop_assert!(SegmentDecoder::default().decode(&named(&bytes, 1), &bytes).is_err());
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let rows = [Row::Doomed(
        FileKey { origin: RegionId::from_u64(7), file: FileId::new(Epoch(1), Ulid(1)) },
        Doomed { by: Slot::new(Epoch(1), 1), bytes: 9 },
    )];
    let bytes = encode_segment(&rows);
    let named = named(&bytes, 1);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = SegmentDecoder::default().decode(&named, &Bytes::from(damaged)).unwrap_err();
        assert!(matches!(error, SegmentError::Checksum { .. }));
    }
}
