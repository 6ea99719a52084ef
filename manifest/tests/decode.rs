//! A short run of the fuzz targets on a stable compiler: arbitrary bytes, and the golden files with some of their
//! bytes changed and their checksums put right.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::PathBuf;

use proptest::prelude::*;

#[path = "../fuzz/decoders.rs"]
mod decoders;

/// The golden files with this extension.
fn golden(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/compat/v001").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no golden files in {}", folder.display());
    paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Delete(usize, usize),
    Repeat(usize, usize),
    /// A number becomes another one, which is how damage gets past a parser of text.
    Number(usize, &'static str),
    Cut(usize),
}

const NUMBERS: [&str; 8] = ["0", "1", "255", "4294967295", "4294967296", "18446744073709551615", "-1", "1e400"];

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        2 => (any::<usize>(), 1_usize..20).prop_map(|(at, len)| Change::Delete(at, len)),
        2 => (any::<usize>(), 1_usize..60).prop_map(|(at, len)| Change::Repeat(at, len)),
        6 => (any::<usize>(), 0_usize..8).prop_map(|(at, which)| Change::Number(at, NUMBERS[which])),
        1 => any::<usize>().prop_map(Change::Cut),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let len = bytes.len().max(1);
        match change {
            Change::Set(at, byte) => bytes.iter_mut().skip(at % len).take(1).for_each(|old| *old = *byte),
            Change::Insert(at, byte) => bytes.insert(at % len.min(bytes.len() + 1), *byte),
            Change::Delete(at, by) => drop(bytes.drain(at % len..(at % len + by).min(bytes.len()))),
            Change::Repeat(at, by) => {
                let part = bytes[at % len..(at % len + by).min(bytes.len())].to_vec();
                bytes.splice(at % len..at % len, part);
            }
            Change::Number(at, number) => {
                let numbers: Vec<usize> = (1..bytes.len())
                    .filter(|at| bytes[*at].is_ascii_digit() && matches!(bytes[at - 1], b':' | b',' | b'[' | b'"'))
                    .collect();
                let Some(start) = numbers.get(at % numbers.len().max(1)).copied() else { continue };
                let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(start..start + digits, number.bytes());
            }
            Change::Cut(at) => bytes.truncate(at % len),
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

/// Golden bytes, changed.
fn damaged(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (proptest::sample::select(files), proptest::collection::vec(any_change(), 0..5)).prop_map(|(bytes, changes)| changed(bytes, &changes))
}

fn bodies() -> Vec<Vec<u8>> {
    let body = |record: Vec<u8>| record.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().to_vec();
    golden("manifest", "json").into_iter().map(body).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decoders::record(&bytes);
        decoders::body(&bytes);
        decoders::root(&bytes);
        decoders::segment(&bytes);
    }

    #[test]
    fn a_damaged_record_is_an_error_or_a_record(bytes in damaged(golden("manifest", "json"))) {
        decoders::record(&bytes);
    }

    #[test]
    fn a_damaged_body_is_an_error_or_a_body(bytes in damaged(bodies())) {
        decoders::body(&bytes);
    }

    #[test]
    fn a_damaged_root_is_an_error_or_a_root(bytes in damaged(golden("checkpoint", "checkpoint"))) {
        decoders::root(&bytes);
    }

    #[test]
    fn a_damaged_segment_is_an_error_or_a_segment(bytes in damaged(golden("checkpoint", "parquet"))) {
        decoders::segment(&bytes);
    }
}

#[test]
fn what_is_not_damaged_is_read() {
    for file in golden("manifest", "json") {
        assert_eq!(decoders::with_checksum(&file), file, "the checksum of a golden file is found and right");
        assert!(decoders::record(&file));
    }
    assert!(bodies().iter().all(|file| decoders::body(file)));
    assert!(golden("checkpoint", "checkpoint").iter().all(|file| decoders::root(file)));
    assert!(golden("checkpoint", "parquet").iter().all(|file| decoders::segment(file)));
}
