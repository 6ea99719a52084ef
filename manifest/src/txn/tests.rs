//! Tests of decisions: bytes, who decides first, stores that lose answers.

use std::sync::Arc;

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::env::Env;
use crate::id::{Epoch, RegionNumber};
use crate::paths::Root;
use crate::testing::{Fault, FaultStore};

const TABLE: TableId = TableId(1024);
const TXN: TxnId = TxnId(Ulid(77));

fn generation(number: u32) -> Generation {
    Generation::new(number).unwrap()
}

fn region(number: u32) -> RegionId {
    RegionId::new(TABLE, RegionNumber(number))
}

fn commit() -> Decided {
    let stages = vec![(region(0), Slot::new(Epoch(1), 4)), (region(3), Slot::new(Epoch(2), 1))];
    Decided { txn: TXN, table: TABLE, commit: generation(5), abort: generation(6), verdict: Verdict::Commit { stages } }
}

fn abort() -> Decided {
    Decided { verdict: Verdict::Abort, ..commit() }
}

fn context(store: &FaultStore) -> Context {
    Context::new(Arc::new(store.clone()), Root::default(), Env::system())
}

#[test]
fn a_decision_reads_back() {
    for decided in [commit(), abort()] {
        assert_eq!(Decided::decode(&decided.encode()), Ok(decided));
    }
}

#[test]
fn the_order_in_which_stages_are_named_does_not_matter() {
    let mut turned = commit();
    if let Verdict::Commit { stages } = &mut turned.verdict {
        stages.reverse();
    }
    assert_eq!(turned.encode(), commit().encode());
    assert_eq!(commit().stage_of(region(3)), Some(Slot::new(Epoch(2), 1)));
    assert_eq!((commit().stage_of(region(1)), abort().stage_of(region(3))), (None, None));
}

#[test]
fn any_flipped_bit_and_any_truncation_is_noticed() {
    let bytes = commit().encode();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Decided::decode(&Bytes::from(damaged)).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Decided::decode(&bytes.slice(..len)).is_err(), "{len} bytes");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let same = Decided { abort: generation(5), ..commit() };
    let foreign = Decided { table: TableId(9), ..commit() };
    let stage = (region(0), Slot::new(Epoch(1), 4));
    let twice = Decided { verdict: Verdict::Commit { stages: vec![stage, stage] }, ..commit() };
    for bad in [same, foreign, twice] {
        assert!(matches!(Decided::decode(&bad.encode()), Err(TxnError::Body { .. })), "{bad:?}");
    }
}

#[tokio::test]
async fn the_first_decides_and_the_others_are_told() {
    for (first, second) in [(commit(), abort()), (abort(), commit()), (commit(), commit())] {
        let store = FaultStore::default();
        let context = context(&store);
        assert_eq!(read(&context, TABLE, TXN).await.unwrap(), None);
        assert_eq!(decide(&context, first.clone()).await.unwrap(), first);
        assert_eq!(decide(&context, second).await.unwrap(), first);
        assert_eq!(read(&context, TABLE, TXN).await.unwrap(), Some(first));
    }
}

#[tokio::test]
async fn whatever_the_store_answers_all_are_told_the_same() {
    for fault in [Fault::None, Fault::LostResponse, Fault::SaysExists, Fault::NotDone] {
        let store = FaultStore::default();
        let context = context(&store);
        store.plan([fault]);
        assert_eq!(decide(&context, commit()).await.unwrap(), commit(), "{fault:?}");
        store.plan([fault]);
        assert_eq!(decide(&context, abort()).await.unwrap(), commit(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_proposal_that_could_not_be_read_is_not_written() {
    let store = FaultStore::default();
    let context = context(&store);
    let bad = Decided { abort: generation(5), ..commit() };
    assert!(matches!(decide(&context, bad).await, Err(Error::Body { .. })));
    assert_eq!(read(&context, TABLE, TXN).await.unwrap(), None);
}

#[tokio::test]
async fn a_decision_under_another_name_is_refused() {
    let store = FaultStore::default();
    let context = context(&store);
    let other = TxnId(Ulid(78));
    context.store.put(&context.root.txn(TABLE, other), commit().encode().into()).await.unwrap();
    assert!(matches!(read(&context, TABLE, other).await, Err(Error::Body { .. })));
    let proposal = Decided { txn: other, ..abort() };
    assert!(matches!(decide(&context, proposal).await, Err(Error::Body { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Decided::decode(&Bytes::from(bytes));
    }
}
