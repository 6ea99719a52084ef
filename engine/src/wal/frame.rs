//! The bytes of a frame: what one group commit writes.
//!
//! ```text
//! head block | payload, zeros to 8 | payload, zeros to 8 | ... | tail block
//! block = header (56 bytes) | directory (16 bytes for each entry)
//! ```
//!
//! Invariants:
//! - Head and tail differ in their magic only, so either can stand in for the other: no single flipped bit
//!   hides which regions a frame holds entries of.
//! - A block is accepted only with the salt of its segment, which is drawn anew for each use of a file: stale
//!   bytes of a recycled file never pass.
//! - Decoding never panics, whatever the bytes are.

use tessera_manifest::id::RegionId;

/// Bytes of a block before its directory.
pub(super) const BLOCK_HEADER_BYTES: usize = 56;
/// Bytes of a directory entry.
pub(super) const DIRECTORY_ENTRY_BYTES: usize = 16;
/// Everything in a segment begins at a multiple of this.
pub(super) const ALIGN: usize = 8;

/// Which of the two blocks of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Head,
    Tail,
}

impl Side {
    /// The first bytes of the block.
    pub(super) const fn magic(self) -> [u8; 4] {
        match self {
            Self::Head => *b"TWFH",
            Self::Tail => *b"TWFT",
        }
    }
}

/// What a block says of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DirectoryEntry {
    pub(super) region: RegionId,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// A frame without its payloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) salt: u64,
    /// Consecutive through the whole life of the log.
    pub(super) number: u64,
    /// Every frame up to this one was durable before this one was written.
    pub(super) durable: u64,
    /// The number of the first entry; those after it count on.
    pub(super) first_entry: u64,
    pub(super) directory: Vec<DirectoryEntry>,
}

/// `bytes` rounded up to the alignment.
pub(super) const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// Bytes of a block with this many entries.
pub(super) const fn block_bytes(entries: usize) -> usize {
    BLOCK_HEADER_BYTES + entries * DIRECTORY_ENTRY_BYTES
}

impl Block {
    /// Bytes of all payloads with their padding.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.directory.iter().map(|e| padded(e.len as usize) as u64).sum()
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        2 * block_bytes(self.directory.len()) as u64 + self.payload_bytes()
    }

    /// The entry number after the last one.
    pub(super) fn next_entry(&self) -> u64 {
        self.first_entry.saturating_add(self.directory.len() as u64)
    }

    /// Each entry with the offset of its payload from the start of the frame.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u64, u64, DirectoryEntry)> + '_ {
        let mut offset = block_bytes(self.directory.len()) as u64;
        self.directory.iter().zip(self.first_entry..).map(move |(entry, number)| {
            let at = offset;
            offset += padded(entry.len as usize) as u64;
            (number, at, *entry)
        })
    }

    /// Appends the block to `out`.
    pub(super) fn encode(&self, side: Side, out: &mut Vec<u8>) {
        let Self { salt, number, durable, first_entry, directory } = self;
        let start = out.len();
        out.extend_from_slice(&side.magic());
        out.extend_from_slice(&[0; 4]);
        for word in [salt, number, durable, first_entry, &self.payload_bytes()] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let entries = u32::try_from(directory.len()).expect("a frame holds at most QUEUE_ENTRIES_MAX entries");
        out.extend_from_slice(&entries.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for DirectoryEntry { region, len, crc } in directory {
            out.extend_from_slice(&region.as_u64().to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// How long the block is that starts with `header`, if it can be a block of this side and salt at all.
    pub(super) fn peek(header: &[u8], side: Side, salt: u64) -> Option<usize> {
        if header.get(..4)? != side.magic() || le_u64(header, 8)? != salt {
            return None;
        }
        let entries = usize::try_from(le_u32(header, 48)?).ok()?;
        entries.checked_mul(DIRECTORY_ENTRY_BYTES)?.checked_add(BLOCK_HEADER_BYTES)
    }

    /// The block that `bytes` are, if they are exactly one, unharmed.
    pub(super) fn decode(bytes: &[u8], side: Side, salt: u64) -> Option<Self> {
        if Self::peek(bytes, side, salt)? != bytes.len() || le_u32(bytes, 4)? != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let directory = bytes[BLOCK_HEADER_BYTES..]
            .chunks_exact(DIRECTORY_ENTRY_BYTES)
            .map(|raw| Some(DirectoryEntry { region: RegionId::from_u64(le_u64(raw, 0)?), len: le_u32(raw, 8)?, crc: le_u32(raw, 12)? }))
            .collect::<Option<Vec<_>>>()?;
        let block = Self { salt, number: le_u64(bytes, 16)?, durable: le_u64(bytes, 24)?, first_entry: le_u64(bytes, 32)?, directory };
        (block.payload_bytes() == le_u64(bytes, 40)?).then_some(block)
    }
}

/// The little-endian number at `at`.
pub(super) fn le_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The little-endian number at `at`.
pub(super) fn le_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        let directory = vec![
            DirectoryEntry { region: RegionId::from_u64(7), len: 3, crc: 99 },
            DirectoryEntry { region: RegionId::from_u64(8), len: 16, crc: 5 },
        ];
        Block { salt: 0x1122_3344_5566_7788, number: 5, durable: 4, first_entry: 10, directory }
    }

    #[test]
    fn block_bytes_are_the_documented_ones() {
        let mut bytes = Vec::new();
        block().encode(Side::Head, &mut bytes);
        assert_eq!(bytes.len(), 88);
        assert_eq!(&bytes[..4], b"TWFH");
        assert_eq!(&bytes[8..16], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!((bytes[16], bytes[24], bytes[32], bytes[40], bytes[48]), (5, 4, 10, 24, 2));
        assert_eq!((bytes[56], bytes[64], bytes[68], bytes[72], bytes[80], bytes[84]), (7, 3, 99, 8, 16, 5));
        assert_eq!(Block::decode(&bytes, Side::Head, block().salt), Some(block()));
        assert_eq!(block().entries().map(|(n, at, _)| (n, at)).collect::<Vec<_>>(), [(10, 88), (11, 96)]);
    }

    #[test]
    fn any_flipped_bit_of_a_block_is_noticed() {
        let mut bytes = Vec::new();
        block().encode(Side::Tail, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Block::decode(&bytes, Side::Tail, block().salt), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Block::decode(&bytes, Side::Head, block().salt), None);
        assert_eq!(Block::decode(&bytes, Side::Tail, 1), None);
    }
}
