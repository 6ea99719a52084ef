//! The first 4096 bytes of a segment file.
//!
//! Invariants:
//! - The header is written twice, so that one damaged copy does not take the segment with it.
//! - It is on disk before the file has its name, and never changes afterwards.
//! - `first_frame` makes the cut of a torn tail permanent: frames of earlier segments with that number or a
//!   higher one do not exist.

use tessera_manifest::id::{Epoch, Nonce};

use super::frame::{le_u32, le_u64};

/// The format that this release writes.
///
/// - 1: segments, frames with two directories, identity file.
pub(super) const FORMAT: u32 = 1;
/// The oldest format whose readers can read what this release writes.
pub(super) const MIN_READER: u32 = 1;
/// Where the first frame is.
pub(super) const HEADER_BYTES: usize = 4096;
/// Bytes of one copy.
pub(super) const COPY_BYTES: usize = 80;
/// Where the copies are.
pub(super) const COPIES_AT: [usize; 2] = [0, 2048];

const MAGIC: [u8; 8] = *b"TESSWAL\n";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: Nonce,
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    pub(super) first_frame: u64,
    pub(super) first_entry: u64,
    pub(super) salt: u64,
}

/// Why a header could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is well-formed, but of a newer format.
    Newer { min_reader: u32 },
    /// Both copies are damaged.
    Damaged,
}

impl SegmentHeader {
    /// Both copies with the zeros around them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { log, epoch, number, first_frame, first_entry, salt } = self;
        let mut copy = Vec::with_capacity(COPY_BYTES);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&FORMAT.to_le_bytes());
        copy.extend_from_slice(&MIN_READER.to_le_bytes());
        copy.extend_from_slice(&log.0.to_le_bytes());
        copy.extend_from_slice(&epoch.0.to_le_bytes());
        copy.extend_from_slice(&[0; 4]);
        for word in [number, first_frame, first_entry, salt] {
            copy.extend_from_slice(&word.to_le_bytes());
        }
        copy.extend_from_slice(&crc32fast::hash(&copy).to_le_bytes());
        copy.extend_from_slice(&[0; 4]);
        let mut bytes = vec![0; HEADER_BYTES];
        for at in COPIES_AT {
            bytes[at..at + COPY_BYTES].copy_from_slice(&copy);
        }
        bytes
    }

    /// Reads the first copy that is unharmed.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let copies = COPIES_AT.iter().filter_map(|at| Self::decode_copy(bytes.get(*at..*at + COPY_BYTES)?));
        copies.into_iter().next().unwrap_or(Err(BadHeader::Damaged))
    }

    fn decode_copy(copy: &[u8]) -> Option<Result<Self, BadHeader>> {
        if copy.get(..8)? != MAGIC || le_u32(copy, 72)? != crc32fast::hash(&copy[..72]) {
            return None;
        }
        let min_reader = le_u32(copy, 12)?;
        if min_reader > FORMAT {
            return Some(Err(BadHeader::Newer { min_reader }));
        }
        Some(Ok(Self {
            log: Nonce(u128::from_le_bytes(copy.get(16..32)?.try_into().ok()?)),
            epoch: Epoch(le_u32(copy, 32)?),
            number: le_u64(copy, 40)?,
            first_frame: le_u64(copy, 48)?,
            first_entry: le_u64(copy, 56)?,
            salt: le_u64(copy, 64)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_any_single_flipped_bit() {
        let header = SegmentHeader { log: Nonce(77), epoch: Epoch(3), number: 9, first_frame: 100, first_entry: 500, salt: 1 << 60 };
        let mut bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for at in COPIES_AT {
            bytes[at + 50] ^= 1;
        }
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged));
        assert_eq!(SegmentHeader::decode(&[]), Err(BadHeader::Damaged));
    }
}
