//! The decision of a repartition group.

use bytes::Bytes;
use tessera_manifest::format::TooNew;
use tessera_manifest::id::{Epoch, Generation, RegionId, RegionNumber, Slot, TableId, TxnId};
use tessera_manifest::slot::DecodeError;
use tessera_manifest::txn::{Decided, TxnError, Verdict};
use ulid::Ulid;

use super::{flipped, golden, replaced, write_missing};

fn decided(commits: bool) -> Decided {
    let region = |number| RegionId::new(TableId(1024), RegionNumber(number));
    let stages = vec![(region(0), Slot::new(Epoch(1), 4)), (region(3), Slot::new(Epoch(2), 1))];
    let verdict = if commits { Verdict::Commit { stages } } else { Verdict::Abort };
    let generation = |number| Generation::new(number).unwrap();
    Decided { txn: TxnId(Ulid(77)), table: TableId(1024), commit: generation(5), abort: generation(6), verdict }
}

fn name(commits: bool) -> &'static str {
    if commits { "txn/commit.json" } else { "txn/abort.json" }
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_decisions() {
    for commits in [true, false] {
        write_missing(name(commits), &decided(commits).encode());
    }
}

#[test]
fn a_decision_is_read_as_ever_and_written_as_ever() {
    for commits in [true, false] {
        let bytes = Bytes::from(golden(name(commits)));
        assert_eq!(Decided::decode(&bytes), Ok(decided(commits)));
        assert_eq!(decided(commits).encode(), bytes);
    }
}

#[test]
fn a_decision_with_a_flipped_bit_is_refused() {
    let bytes = golden(name(true));
    for bit in (0..bytes.len() * 8).step_by(7) {
        assert!(Decided::decode(&Bytes::from(flipped(&bytes, bit))).is_err(), "bit {bit}");
    }
}

#[test]
fn a_decision_for_a_newer_reader_is_refused_with_both_versions() {
    let text = replaced(&golden(name(false)), b"\"format\":1,\"min_reader\":1", b"\"format\":9,\"min_reader\":8");
    // The checksum comes first, so it has to be that of the changed bytes.
    let error = Decided::decode(&Bytes::from(text.clone())).unwrap_err();
    let TxnError::Envelope(DecodeError::Checksum { recorded, computed, .. }) = error else { panic!("{error:?}") };
    let bytes = replaced(&text, recorded.as_bytes(), format!("{computed:08x}").as_bytes());
    let error = Decided::decode(&Bytes::from(bytes)).unwrap_err();
    assert_eq!(error, TxnError::Envelope(DecodeError::TooNew(TooNew { written: 9, min_reader: 8, supported: 1 })));
}
