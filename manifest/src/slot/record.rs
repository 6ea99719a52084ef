//! The bytes of a slot: one line of JSON header, then the body.
//!
//! ```text
//! {"format":1,"min_reader":1,"kind":"data","commit_id":"…","prev":"…","writer":"…","epoch":2,"seq":7,"len":81,"crc32":"1a2b3c4d"}\n
//! <len bytes of body>
//! ```
//!
//! Invariants:
//! - `crc32` is the CRC-32 (IEEE) of the whole object with the eight digits of the CRC itself set to zeros, so
//!   that no bit of header or body can change unnoticed, and unknown header fields of a later format are
//!   covered too.
//! - `prev` is the commit id of the record before it. It is absent in the first record of a log, and in a seal
//!   that was put ahead of a busy writer, which cannot know the records that still get in before it.
//! - `writer` is drawn anew by each opening; two writers can therefore never write the same bytes into a slot.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::format::{self, Format, TooNew};
use crate::id::{Epoch, Nonce, Slot};

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The first record of an epoch.
    Open,
    /// The end of an epoch.
    Seal,
    /// Anything else.
    Data,
}

/// The first line of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format that wrote it.
    pub format: u32,
    /// The oldest format whose readers understand it.
    pub min_reader: u32,
    /// What the slot holds.
    pub kind: Kind,
    /// The record's own name.
    pub commit_id: Nonce,
    /// The name of the record before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Nonce>,
    /// The opening that wrote it.
    pub writer: Nonce,
    /// The slot's epoch.
    pub epoch: Epoch,
    /// The slot's place in the epoch.
    pub seq: u64,
    /// Bytes of the body.
    pub len: u64,
    /// Checksum of the object, eight lower-case hex digits.
    crc32: String,
}

/// A slot's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What the slot holds.
    pub kind: Kind,
    /// The record's own name.
    pub commit_id: Nonce,
    /// The name of the record before it.
    pub prev: Option<Nonce>,
    /// The opening that wrote it.
    pub writer: Nonce,
    /// Where it stands.
    pub slot: Slot,
    /// What the log's owner wrote.
    pub body: Bytes,
}

/// A slot that holds neither a seal nor an Open, so that retention may free it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataSlot(Slot);

impl DataSlot {
    /// The slot.
    #[must_use]
    pub fn slot(self) -> Slot {
        self.0
    }

    /// A slot that the caller has looked at.
    pub(super) fn unchecked(slot: Slot) -> Self {
        Self(slot)
    }
}

/// Why the bytes of a slot are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No header line.
    #[error("there is no header line")]
    NoHeader,
    /// The header is not the JSON it should be.
    #[error("the header line is damaged at offset {offset}: {reason}")]
    Header {
        /// Bytes from the start of the object.
        offset: usize,
        /// What the JSON parser says.
        reason: String,
    },
    /// Written by a newer format.
    #[error(transparent)]
    TooNew(#[from] TooNew),
    /// Truncated, or longer than it should be.
    #[error("the body from offset {offset} should be {expected} bytes long and is {found}")]
    Length {
        /// Where the body starts.
        offset: usize,
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// Some bit is not as it was written.
    #[error("checksum mismatch over bytes 0 to {len}: recorded {recorded}, computed {computed:08x}")]
    Checksum {
        /// Length of the object.
        len: usize,
        /// What the header says.
        recorded: String,
        /// What the bytes say.
        computed: u32,
    },
    /// The record belongs to another slot.
    #[error("the record says that it belongs to slot {found}")]
    WrongSlot {
        /// The slot in the header.
        found: Slot,
    },
}

const CRC_FIELD: &[u8] = b"\"crc32\":\"";
/// What stands for the checksum while it is computed.
pub(crate) const NO_CRC: &str = "00000000";

impl Record {
    /// The record's slot as one that retention may free; `None` for a seal or an Open.
    #[must_use]
    pub fn data_slot(&self) -> Option<DataSlot> {
        (self.kind == Kind::Data).then_some(DataSlot(self.slot))
    }

    /// The bytes of the slot.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { kind, commit_id, prev, writer, slot, body } = self;
        let version = format::current(Format::SlotRecord);
        let header = Header {
            format: version.version,
            min_reader: version.min_reader,
            kind: *kind,
            commit_id: *commit_id,
            prev: *prev,
            writer: *writer,
            epoch: slot.epoch,
            seq: slot.seq,
            len: body.len() as u64,
            crc32: NO_CRC.to_owned(),
        };
        wrap(&header, body)
    }

    /// The record in `bytes`, which were read from `slot`.
    ///
    /// # Errors
    /// What is wrong with the bytes, with the offset where it is known.
    pub fn decode(slot: Slot, bytes: &Bytes) -> Result<Self, DecodeError> {
        let (header, body): (Header, Bytes) = unwrap(Format::SlotRecord, bytes)?;
        let found = Slot::new(header.epoch, header.seq);
        if found != slot {
            return Err(DecodeError::WrongSlot { found });
        }
        let Header { kind, commit_id, prev, writer, .. } = header;
        Ok(Self { kind, commit_id, prev, writer, slot, body })
    }
}

/// The part of a header that every enveloped object has.
#[derive(Deserialize)]
struct Envelope {
    format: u32,
    min_reader: u32,
    len: u64,
    crc32: String,
}

/// The bytes of `body` behind a line of `header`, which has the fields of [`Envelope`], with [`NO_CRC`] as its `crc32`.
pub(crate) fn wrap(header: &impl Serialize, body: &[u8]) -> Bytes {
    let mut bytes = serde_json::to_vec(header).expect("a struct of numbers and text always serializes");
    bytes.push(b'\n');
    let line = bytes.len();
    bytes.extend_from_slice(body);
    let crc = format!("{:08x}", crc32fast::hash(&bytes));
    let at = crc_position(&bytes[..line]).expect("the header was just written with its checksum field");
    bytes[at..at + crc.len()].copy_from_slice(crc.as_bytes());
    Bytes::from(bytes)
}

/// The header and the body of an enveloped object, once its checksum and length are what its header says and it is
/// not too new.
pub(crate) fn unwrap<H: DeserializeOwned>(format: Format, bytes: &Bytes) -> Result<(H, Bytes), DecodeError> {
    let line = bytes.iter().position(|b| *b == b'\n').ok_or(DecodeError::NoHeader)?;
    let damaged = |e: serde_json::Error| DecodeError::Header { offset: e.column().saturating_sub(1), reason: e.to_string() };
    let envelope: Envelope = serde_json::from_slice(&bytes[..line]).map_err(damaged)?;
    let computed = checksum(bytes, line).ok_or(DecodeError::NoHeader)?;
    // The checksum comes first: a flipped bit in `min_reader` is damage, not a newer format.
    if envelope.crc32 != format!("{computed:08x}") {
        return Err(DecodeError::Checksum { len: bytes.len(), recorded: envelope.crc32, computed });
    }
    format::check(format, envelope.format, envelope.min_reader)?;
    let body = bytes.slice(line + 1..);
    if body.len() as u64 != envelope.len {
        return Err(DecodeError::Length { offset: line + 1, expected: envelope.len, found: body.len() as u64 });
    }
    Ok((serde_json::from_slice(&bytes[..line]).map_err(damaged)?, body))
}

/// Where the eight digits of the checksum stand in the header line.
fn crc_position(line: &[u8]) -> Option<usize> {
    let field = line.windows(CRC_FIELD.len()).position(|window| window == CRC_FIELD)?;
    let start = field + CRC_FIELD.len();
    (start + NO_CRC.len() <= line.len()).then_some(start)
}

fn checksum(bytes: &[u8], line: usize) -> Option<u32> {
    let at = crc_position(&bytes[..line])?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..at]);
    hasher.update(NO_CRC.as_bytes());
    hasher.update(&bytes[at + NO_CRC.len()..]);
    Some(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            kind: Kind::Data,
            commit_id: Nonce(1),
            prev: Some(Nonce(2)),
            writer: Nonce(3),
            slot: Slot::new(Epoch(4), 5),
            body: Bytes::from_static(b"{\"actions\":[]}"),
        }
    }

    #[test]
    fn a_record_reads_back() {
        let bytes = record().encode();
        assert_eq!(Record::decode(record().slot, &bytes), Ok(record()));
        assert!(bytes.starts_with(b"{\"format\":1,\"min_reader\":1,\"kind\":\"data\""));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = record().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(record().slot, &Bytes::from(damaged)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn any_truncation_is_noticed() {
        let bytes = record().encode();
        for len in 0..bytes.len() {
            assert!(Record::decode(record().slot, &bytes.slice(..len)).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_record_of_another_slot_is_refused() {
        let bytes = record().encode();
        let error = Record::decode(Slot::new(Epoch(4), 6), &bytes).unwrap_err();
        assert_eq!(error, DecodeError::WrongSlot { found: record().slot });
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let text = String::from_utf8(record().encode().to_vec()).unwrap();
        let text = text.replace("\"format\":1,\"min_reader\":1", "\"format\":9,\"min_reader\":8");
        let (line, _) = text.split_once('\n').unwrap();
        let crc = checksum(text.as_bytes(), line.len()).unwrap();
        let at = crc_position(line.as_bytes()).unwrap();
        let mut bytes = text.clone().into_bytes();
        bytes[at..at + 8].copy_from_slice(format!("{crc:08x}").as_bytes());
        let error = Record::decode(record().slot, &Bytes::from(bytes)).unwrap_err();
        assert_eq!(error, DecodeError::TooNew(TooNew { written: 9, min_reader: 8, supported: 1 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Record::decode(Slot::new(Epoch(1), 0), &Bytes::from(bytes));
        }
    }
}
