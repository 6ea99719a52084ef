//! What must never panic, whatever the bytes: the decoders of everything that a manifest keeps on the store.
//!
//! Shared by the fuzz targets and by a short run on a stable compiler (`tests/decode.rs`). Each function takes the
//! bytes as they are and once more with the checksum put right, so that mutations get behind it. What is decoded is
//! encoded again, and must read back as the same. Each answers whether the bytes could be read.

use bytes::Bytes;
use tessera_manifest::action::SegmentRef;
use tessera_manifest::body::Body;
use tessera_manifest::checkpoint::{Root, SegmentDecoder, encode_segment};
use tessera_manifest::id::{Epoch, FileId, RegionId, Slot};
use tessera_manifest::slot::Record;
use tessera_manifest::state::RegionState;
use ulid::Ulid;

/// References that whoever names a segment may announce: the right number is among these for all small ones.
const ROWS_MAX: u64 = 8;

/// A slot of a log: header, checksum, body.
pub(crate) fn record(bytes: &[u8]) -> bool {
    let mut read = false;
    for bytes in [Bytes::copy_from_slice(bytes), with_checksum(bytes)] {
        let slot = slot_of(&bytes);
        if let Ok(record) = Record::decode(slot, &bytes) {
            assert_eq!(Record::decode(slot, &record.encode()).as_ref(), Ok(&record));
            read |= body(&record.body);
        }
    }
    read
}

/// The actions of a manifest record.
pub(crate) fn body(bytes: &[u8]) -> bool {
    let Ok(body) = Body::decode(bytes) else { return false };
    let again = Body::decode(&body.encode()).expect("what was written can be read");
    assert_eq!(again.encode(), body.encode());
    true
}

/// The root of a checkpoint.
pub(crate) fn root(bytes: &[u8]) -> bool {
    let mut read = false;
    for bytes in [Bytes::copy_from_slice(bytes), with_checksum(bytes)] {
        for (region, version) in named_in(&bytes) {
            if let Ok(root) = Root::decode(region, version, &bytes) {
                let again = Root::decode(region, version, &root.encode()).expect("what was written can be read");
                assert_eq!(again.encode(), root.encode());
                if let Ok(state) = RegionState::from_image(root.image.clone(), []) {
                    assert_eq!(state.image().as_ref(), Some(&root.image));
                }
                read = true;
            }
        }
    }
    read
}

/// A segment of a checkpoint or of a remap; whoever names it vouches for these very bytes.
pub(crate) fn segment(bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut read = false;
    for rows in 0..ROWS_MAX {
        let named = named(&bytes, rows);
        if let Ok(rows) = SegmentDecoder::default().decode(&named, &bytes) {
            let again = encode_segment(&rows);
            let named = self::named(&again, rows.len() as u64);
            assert_eq!(SegmentDecoder::default().decode(&named, &again).as_ref(), Ok(&rows));
            read = true;
        }
    }
    read
}

fn named(bytes: &Bytes, rows: u64) -> SegmentRef {
    SegmentRef { file: FileId::new(Epoch(1), Ulid(1)), crc32: crc32fast::hash(bytes), bytes: bytes.len() as u64, rows }
}

/// The bytes with the eight digits after `"crc32":"` in their first line put right.
pub(crate) fn with_checksum(bytes: &[u8]) -> Bytes {
    const FIELD: &[u8] = b"\"crc32\":\"";
    let mut bytes = bytes.to_vec();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let Some(field) = bytes[..line].windows(FIELD.len()).position(|window| window == FIELD) else { return bytes.into() };
    let at = field + FIELD.len();
    if at + 8 > line {
        return bytes.into();
    }
    bytes[at..at + 8].copy_from_slice(b"00000000");
    let digits = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + 8].copy_from_slice(digits.as_bytes());
    bytes.into()
}

/// The number after `"name":` in the bytes.
fn number(bytes: &[u8], name: &str) -> Option<u64> {
    let field = format!("\"{name}\":");
    let at = bytes.windows(field.len()).position(|window| window == field.as_bytes())? + field.len();
    let digits: Vec<u8> = bytes[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

/// The slot that a record says it belongs to.
fn slot_of(bytes: &[u8]) -> Slot {
    let epoch = number(bytes, "epoch").and_then(|epoch| u32::try_from(epoch).ok()).unwrap_or(1);
    Slot::new(Epoch(epoch), number(bytes, "seq").unwrap_or(0))
}

/// What a root may be the checkpoint of: what it says, as far as it can be read.
fn named_in(bytes: &[u8]) -> Vec<(RegionId, Slot)> {
    let text = String::from_utf8_lossy(bytes);
    let quoted = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":\""))?.1;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let region = quoted("region").and_then(|region| region.parse().ok());
    let version = quoted("version").and_then(|version| version.parse().ok());
    region.zip(version).into_iter().collect()
}
