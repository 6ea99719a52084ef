//! Our requests as etcd's, and etcd's answers as ours. Pure.
//!
//! Invariants:
//! - An operation on an empty range is not sent: etcd knows no empty range, and its answer is known.
//! - A transaction that sends no operation sends a read. Without one etcd takes it for a read that may be
//!   stale, and a server that lags behind would compare with what was.
//! - An end of `\0` means "no end" to etcd, and an empty key is refused; no key lies below `\0`, so an empty
//!   start is sent as that.

use bytes::Bytes;
use etcd_client::proto::{PbKeyValue, PbTxnOpResponse, PbTxnResponse};
use etcd_client::{Compare as EtcdCompare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn as EtcdTxn, TxnOp};

use super::failure::StrangeAnswer;
use crate::kv::{Compare, Entry, Key, KeyRange, LeaseId, Limits, Op, OpAnswer, RangeRequest, Revision, Txn, TxnAnswer};

/// etcd's least key, and its mark for "no end".
const ZERO: &[u8] = b"\0";

/// What stands for an operation in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Get,
    Range,
    Put,
    Delete,
    /// Not sent: a range without keys.
    EmptyRange,
    /// Not sent: the deletion of a range without keys.
    EmptyDelete,
    /// Not asked for: see the module.
    Read,
}

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) txn: EtcdTxn,
    then_slots: Vec<Slot>,
    else_slots: Vec<Slot>,
}

/// The first key and the end of a range that is not empty.
pub(super) fn bounds(range: &KeyRange) -> Option<(Vec<u8>, Vec<u8>)> {
    if range.is_empty() {
        return None;
    }
    let start = if range.start.as_bytes().is_empty() { ZERO } else { range.start.as_bytes() };
    match &range.end {
        Some(end) if end.as_bytes() <= start => None,
        Some(end) => Some((start.to_vec(), end.as_bytes().to_vec())),
        None => Some((start.to_vec(), ZERO.to_vec())),
    }
}

/// How many entries to ask for.
pub(super) fn page_limit(request: &RangeRequest, limits: &Limits) -> usize {
    request.limit.clamp(1, limits.range_entries_max)
}

pub(super) fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn revision(value: i64) -> Revision {
    Revision(u64::try_from(value).unwrap_or(0))
}

/// An id as etcd has it; -1 for what cannot be one, since 0 would mean "no lease".
pub(super) fn lease_number(id: LeaseId) -> i64 {
    i64::try_from(id.0).ok().filter(|id| *id != 0).unwrap_or(-1)
}

pub(super) fn lease_id(value: i64) -> Option<LeaseId> {
    u64::try_from(value).ok().filter(|id| *id != 0).map(LeaseId)
}

pub(super) fn entry(kv: PbKeyValue) -> Entry {
    let PbKeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    Entry {
        key: Key::from(key),
        value: Bytes::from(value),
        create_revision: revision(create_revision),
        mod_revision: revision(mod_revision),
        version: u64::try_from(version).unwrap_or(0),
        lease: lease_id(lease),
    }
}

pub(super) fn request(txn: &Txn, limits: &Limits) -> Request {
    let mut compares: Vec<EtcdCompare> = Vec::with_capacity(txn.compares.len());
    compares.extend(txn.compares.iter().map(compare));
    let (mut then_ops, mut then_slots) = branch(&txn.then_ops, limits);
    let (else_ops, else_slots) = branch(&txn.else_ops, limits);
    if then_ops.is_empty() && else_ops.is_empty() {
        then_ops.push(TxnOp::get(ZERO, Some(GetOptions::new().with_keys_only())));
        then_slots.push(Slot::Read);
    }
    Request { txn: EtcdTxn::new().when(compares).and_then(then_ops).or_else(else_ops), then_slots, else_slots }
}

fn compare(compare: &Compare) -> EtcdCompare {
    let bytes = |key: &Key| key.as_bytes().to_vec();
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    match compare {
        Compare::Value { key, value } => EtcdCompare::value(bytes(key), CompareOp::Equal, value.to_vec()),
        Compare::Version { key, version } => EtcdCompare::version(bytes(key), CompareOp::Equal, signed(*version)),
        Compare::ModRevision { key, revision } => EtcdCompare::mod_revision(bytes(key), CompareOp::Equal, signed(revision.0)),
        Compare::Absent { key } => EtcdCompare::version(bytes(key), CompareOp::Equal, 0),
        Compare::Exists { key } => EtcdCompare::version(bytes(key), CompareOp::Greater, 0),
        Compare::PrefixEmpty { prefix } => {
            // Holds when each key of the range has version 0: none has, and of a range without keys etcd
            // compares one that is all zeros.
            let (start, end) = bounds(&KeyRange::prefix(prefix.clone())).unwrap_or_else(|| (ZERO.to_vec(), ZERO.to_vec()));
            EtcdCompare::version(start, CompareOp::Equal, 0).with_range(end)
        }
    }
}

fn branch(ops: &[Op], limits: &Limits) -> (Vec<TxnOp>, Vec<Slot>) {
    let (mut sent, mut slots) = (Vec::with_capacity(ops.len()), Vec::with_capacity(ops.len()));
    for op in ops {
        let slot = match op {
            Op::Get { key } => {
                sent.push(TxnOp::get(key.as_bytes(), None));
                Slot::Get
            }
            Op::Range { request } => match bounds(&request.range) {
                Some((start, end)) => {
                    let limit = number(page_limit(request, limits));
                    sent.push(TxnOp::get(start, Some(GetOptions::new().with_range(end).with_limit(limit))));
                    Slot::Range
                }
                None => Slot::EmptyRange,
            },
            Op::Put { key, value, lease } => {
                let options = lease.map(|id| PutOptions::new().with_lease(lease_number(id)));
                sent.push(TxnOp::put(key.as_bytes(), value.to_vec(), options));
                Slot::Put
            }
            Op::Delete { key } => {
                sent.push(TxnOp::delete(key.as_bytes(), None));
                Slot::Delete
            }
            Op::DeleteRange { range } => match bounds(range) {
                Some((start, end)) => {
                    sent.push(TxnOp::delete(start, Some(DeleteOptions::new().with_range(end))));
                    Slot::Delete
                }
                None => Slot::EmptyDelete,
            },
        };
        slots.push(slot);
    }
    (sent, slots)
}

impl Request {
    /// Reads the answer to this request.
    pub(super) fn answer(&self, response: PbTxnResponse) -> Result<TxnAnswer, StrangeAnswer> {
        let PbTxnResponse { header, succeeded, responses } = response;
        let header = header.ok_or(StrangeAnswer("it has no header"))?;
        let mut responses = responses.into_iter();
        let mut answers = Vec::new();
        for slot in if succeeded { &self.then_slots } else { &self.else_slots } {
            let unsent = match slot {
                Slot::EmptyRange => Some(OpAnswer::Range { entries: Vec::new(), more: false }),
                Slot::EmptyDelete => Some(OpAnswer::Delete { deleted: 0 }),
                Slot::Get | Slot::Range | Slot::Put | Slot::Delete | Slot::Read => None,
            };
            if let Some(answer) = unsent {
                answers.push(answer);
                continue;
            }
            let response = responses.next().and_then(|response| response.response).ok_or(StrangeAnswer("it is too short"))?;
            answers.extend(op_answer(*slot, response)?);
        }
        Ok(TxnAnswer { succeeded, revision: revision(header.revision), answers })
    }
}

fn op_answer(slot: Slot, response: PbTxnOpResponse) -> Result<Option<OpAnswer>, StrangeAnswer> {
    Ok(Some(match (slot, response) {
        (Slot::Read, _) => return Ok(None),
        (Slot::Get, PbTxnOpResponse::ResponseRange(found)) => OpAnswer::Get(found.kvs.into_iter().next().map(entry)),
        (Slot::Range, PbTxnOpResponse::ResponseRange(found)) => {
            OpAnswer::Range { entries: found.kvs.into_iter().map(entry).collect(), more: found.more }
        }
        (Slot::Put, PbTxnOpResponse::ResponsePut(_)) => OpAnswer::Put,
        (Slot::Delete, PbTxnOpResponse::ResponseDeleteRange(gone)) => {
            OpAnswer::Delete { deleted: u64::try_from(gone.deleted).unwrap_or(0) }
        }
        _ => return Err(StrangeAnswer("an operation is answered as another one")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_keys_are_not_sent_and_others_have_etcds_bounds() {
        let sent = |range: KeyRange| bounds(&range);
        assert_eq!(sent(KeyRange::all()), Some((b"\0".to_vec(), b"\0".to_vec())));
        assert_eq!(sent(KeyRange::prefix("a")), Some((b"a".to_vec(), b"b".to_vec())));
        assert_eq!(sent(KeyRange::prefix(vec![0xff])), Some((vec![0xff], b"\0".to_vec())));
        assert_eq!(sent(KeyRange::between("b", "a")), None);
        assert_eq!(sent(KeyRange::between("a", "a")), None);
        assert_eq!(sent(KeyRange::between("a", "")), None);
        assert_eq!(sent(KeyRange::between("", vec![0])), None, "an end of zero would mean no end");
        assert_eq!(sent(KeyRange::between(vec![0], vec![0, 0])), Some((b"\0".to_vec(), b"\0\0".to_vec())));
    }

    #[test]
    fn a_transaction_without_operations_sends_a_read() {
        let limits = Limits::EMBEDDED;
        let plain = request(&Txn::new().when(Compare::Absent { key: "a".into() }), &limits);
        assert_eq!((plain.then_slots.as_slice(), plain.else_slots.len()), (&[Slot::Read][..], 0));
        let empty = request(&Txn::new().otherwise([Op::DeleteRange { range: KeyRange::between("b", "a") }]), &limits);
        assert_eq!(empty.then_slots, [Slot::Read]);
        let reading = request(&Txn::new().otherwise([Op::get("a")]), &limits);
        assert_eq!((reading.then_slots.len(), reading.else_slots.as_slice()), (0, &[Slot::Get][..]));
    }

    #[test]
    fn a_lease_id_that_etcd_cannot_have_is_not_sent_as_none() {
        assert_eq!(lease_number(LeaseId(7)), 7);
        assert_eq!(lease_number(LeaseId(0)), -1);
        assert_eq!(lease_number(LeaseId(u64::MAX)), -1);
        assert_eq!((lease_id(0), lease_id(7)), (None, Some(LeaseId(7))));
    }
}
