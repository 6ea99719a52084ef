//! Tests of the WAL payload.

use bytes::Bytes;
use proptest::prelude::*;
use tessera_manifest::value::{DataType, Value};

use super::{Error, decode, encode};
use crate::merge::fixtures::{batch, every_type, every_type_schema, rows_of, sequence};
use crate::request::OpType;

fn value(data_type: DataType) -> BoxedStrategy<Value> {
    let some = match data_type {
        DataType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        DataType::Int8 => any::<i8>().prop_map(|v| Value::Int(v.into())).boxed(),
        DataType::Int16 => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
        DataType::Int32 => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
        DataType::Int64 => any::<i64>().prop_map(Value::Int).boxed(),
        DataType::UInt8 => any::<u8>().prop_map(|v| Value::UInt(v.into())).boxed(),
        DataType::UInt16 => any::<u16>().prop_map(|v| Value::UInt(v.into())).boxed(),
        DataType::UInt32 => any::<u32>().prop_map(|v| Value::UInt(v.into())).boxed(),
        DataType::UInt64 => any::<u64>().prop_map(Value::UInt).boxed(),
        DataType::Float32 => any::<f32>().prop_map(|v| Value::Float(v.into())).boxed(),
        DataType::Float64 => any::<f64>().prop_map(Value::Float).boxed(),
        DataType::String => "\\PC{0,5}".prop_map(Value::String).boxed(),
        DataType::Binary => prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Binary).boxed(),
        DataType::Date => any::<i32>().prop_map(Value::Date).boxed(),
        DataType::Timestamp(_) => any::<i64>().prop_map(Value::Timestamp).boxed(),
        DataType::Decimal { precision, .. } => {
            let most = 10_i128.pow(precision.into()) - 1;
            (-most..=most).prop_map(Value::Decimal).boxed()
        }
    };
    prop_oneof![3 => some, 1 => Just(Value::Null)].boxed()
}

fn rows() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let mut columns = vec![value(DataType::String), any::<i64>().prop_map(Value::Timestamp).boxed()];
    columns.extend(every_type().into_iter().map(value));
    prop::collection::vec(columns, 0..20)
}

/// The payload at an odd place in memory, so that no buffer is aligned by chance.
fn payload(parts: &[Bytes]) -> Bytes {
    let mut bytes = vec![0];
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    Bytes::from(bytes).slice(1..)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_type_survives(rows in rows(), skip in 0..10_usize, delete in any::<bool>()) {
        let schema = every_type_schema();
        let op = if delete { OpType::Delete } else { OpType::Put };
        let written = batch(&schema, op, &rows);
        let skip = skip.min(written.num_rows());
        let written = written.slice(skip, written.num_rows() - skip);
        let parts = encode(&schema, op, sequence(77), &written).unwrap();
        let read = decode(&payload(&parts)).unwrap();
        prop_assert_eq!((read.op, read.first_sequence, read.schema_version), (op, sequence(77), 1));
        let read = read.to_batch(&schema).unwrap();
        prop_assert_eq!(read.schema(), written.schema());
        prop_assert_eq!(rows_of(&[read]), rows_of(&[written]));
    }

    #[test]
    fn damaged_payloads_are_refused_or_read_but_never_panic(
        rows in rows(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
    ) {
        let schema = every_type_schema();
        let written = batch(&schema, OpType::Put, &rows);
        let sound = payload(&encode(&schema, OpType::Put, sequence(1), &written).unwrap()).to_vec();
        let mut damaged = sound.clone();
        for (at, byte) in damage {
            // Most of the interest is in the header and the column entries.
            let range = if byte % 2 == 0 { damaged.len() } else { damaged.len().min(24 + 16 * schema.columns().len()) };
            let at = at.index(range);
            damaged[at] = byte;
        }
        let read = decode(&Bytes::from(damaged)).ok().and_then(|read| read.to_batch(&schema).ok());
        drop(read.map(|read| rows_of(&[read])));
        let cut = cut.index(sound.len());
        if let Ok(read) = decode(&Bytes::copy_from_slice(&sound[..cut])) {
            // Only the padding at the end may be missing.
            prop_assert!(sound.len() - cut < 16);
            prop_assert_eq!(rows_of(&[read.to_batch(&schema).unwrap()]), rows_of(&[written]));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(decode(&Bytes::from(bytes)));
    }
}

#[test]
fn a_later_format_is_named() {
    let schema = every_type_schema();
    let parts = encode(&schema, OpType::Put, sequence(1), &batch(&schema, OpType::Put, &[])).unwrap();
    let mut bytes = payload(&parts).to_vec();
    bytes[1] = 9;
    assert!(matches!(decode(&Bytes::from(bytes)), Err(Error::NewerFormat { needed: 9 })));
}

#[test]
fn encoding_shares_column_memory() {
    let schema = every_type_schema();
    let mut row = vec![Value::String("h".into()), Value::Timestamp(1)];
    row.extend(every_type().iter().map(|_| Value::Null));
    let written = batch(&schema, OpType::Put, &[row]);
    let parts = encode(&schema, OpType::Put, sequence(1), &written).unwrap();
    let shared = written.column(1).to_data().buffers()[0].as_ptr();
    assert!(parts.iter().any(|part| part.as_ptr() == shared));
}
