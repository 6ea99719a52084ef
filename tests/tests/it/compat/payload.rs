//! The WAL payload of a put and of a delete.

use arrow::array::RecordBatch;
use bytes::Bytes;
use tessera_engine::codec::{self, Error};
use tessera_engine::request::OpType;
use tessera_manifest::id::{Generation, Sequence};

use super::sample::{rows, schema};
use super::{flipped, golden, write_missing};

/// Name, operation and rows of each golden payload.
fn expected() -> [(&'static str, OpType, RecordBatch); 2] {
    [("payload/put.bin", OpType::Put, rows()), ("payload/delete.bin", OpType::Delete, rows().project(&[0, 1, 2]).unwrap())]
}

fn sequence() -> Sequence {
    Sequence::new(Generation::FIRST, 41).unwrap()
}

fn encoded(op: OpType, batch: &RecordBatch) -> Vec<u8> {
    codec::encode(&schema(), op, sequence(), batch).unwrap().concat()
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_payloads() {
    for (name, op, batch) in expected() {
        write_missing(name, &encoded(op, &batch));
    }
}

#[test]
fn payloads_are_read_and_written_as_ever() {
    for (name, op, batch) in expected() {
        let bytes = golden(name);
        let payload = codec::decode(&Bytes::from(bytes.clone())).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((payload.op, payload.first_sequence, payload.schema_version, payload.rows), (op, sequence(), 1, 3), "{name}");
        assert_eq!(payload.to_batch(&schema()).unwrap().columns(), batch.columns(), "{name}");
        assert_eq!(encoded(op, &batch), bytes, "{name}: what is written has changed, and that needs a new version");
    }
}

/// Checksums are the log's; what the payload can notice by itself is a wrong header.
#[test]
fn payloads_with_a_flipped_bit_in_the_shape_are_refused() {
    for (name, _, _) in expected() {
        let bytes = golden(name);
        // Operation, spare byte, rows, columns, type of the first column, bytes of its values.
        for (byte, bit) in [(2, 1), (3, 0), (16, 7), (20, 0), (24 + 4, 4), (24 + 8, 3)] {
            let twin = Bytes::from(flipped(&bytes, byte * 8 + bit));
            assert!(codec::decode(&twin).is_err(), "{name}: bit {bit} of byte {byte}");
        }
    }
}

#[test]
fn payloads_for_newer_readers_are_refused_with_both_versions() {
    for (name, _, _) in expected() {
        let mut bytes = golden(name);
        bytes[..2].copy_from_slice(&[3, 2]);
        let error = codec::decode(&Bytes::from(bytes)).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { needed: 2 }), "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains("format 2") && text.contains("up to 1"), "{name}: {text}");
    }
}
