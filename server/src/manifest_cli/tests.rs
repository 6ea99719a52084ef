//! Tests of what is typed and shown; the verbs themselves are tested with the real binary.

use std::sync::Arc;

use tessera_manifest::id::{Epoch, Slot};
use tessera_manifest::value::TimeUnit;

use super::version::{Expiry, Version, short};
use super::{store, text};

#[test]
fn a_version_may_be_typed_in_three_ways() {
    for typed in ["2-17", "2/17", "0000000002-00000000000000000017"] {
        assert_eq!(typed.parse::<Version>().unwrap().0, Slot::new(Epoch(2), 17), "{typed}");
    }
    assert_eq!(short(Slot::new(Epoch(2), 17)), "2-17");
    for typed in ["", "2", "2-", "-17", "2-17-1", "+2-17", "2- 17", "99999999999-1", "2-99999999999999999999999"] {
        let error = typed.parse::<Version>().unwrap_err();
        assert!(error.to_string().contains("as in 2-17"), "{error}");
    }
}

#[test]
fn an_age_is_a_number_with_a_unit() {
    for (typed, ms) in [("90s", 90_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000), ("2w", 1_209_600_000)] {
        assert_eq!(typed.parse::<Expiry>().unwrap().after_ms, ms);
    }
    for typed in ["", "7", "d", "7days", "-7d", "7é", "99999999999999999999d", "9999999999999999w"] {
        assert!(typed.parse::<Expiry>().is_err(), "{typed}");
    }
}

#[test]
fn times_are_utc_in_every_unit_and_never_panic() {
    assert_eq!(text::time(1_357_020_000, TimeUnit::Second), "2013-01-01T06:00:00Z");
    assert_eq!(text::time(-1, TimeUnit::Millisecond), "1969-12-31T23:59:59.999Z");
    assert_eq!(text::time(1, TimeUnit::Nanosecond), "1970-01-01T00:00:00.000000001Z");
    assert_eq!(text::time(i64::MAX, TimeUnit::Second), i64::MAX.to_string());
    assert_eq!(text::utc_ms(u64::MAX), format!("{} ms", u64::MAX));
}

#[test]
fn sizes_and_counts_read_well() {
    assert_eq!([0, 1023, 1024, 1536 << 20].map(text::bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]);
    assert_eq!(text::bytes(u64::MAX), "16.0 EiB");
    assert_eq!((text::count(1_u64, "file"), text::count(2_u64, "file")), ("1 file".to_owned(), "2 files".to_owned()));
}

#[test]
fn a_folder_that_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (text, part) in [
        (folder.path().to_str().unwrap(), "neither a data home nor a store"),
        ("/no/such/folder", "is not a folder"),
        ("ftp://host/x", "does not name an object store"),
    ] {
        let failure = store::Place::open(text).unwrap_err();
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn regions_are_found_by_their_folders() {
    let home = tempfile::tempdir().unwrap();
    for folder in ["0000001024/0000000000", "0000001024/0000000002", "0000001024/drop", "0000001025/0000000001", "other/0000000000"] {
        let folder = home.path().join("store").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("x"), "x").unwrap();
    }
    for text in [home.path().to_owned(), home.path().join("store")] {
        let place = store::Place::open(text.to_str().unwrap()).unwrap();
        let found: Vec<String> = place.regions().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["1024/0", "1024/2", "1025/1"]);
        assert_eq!(Arc::strong_count(&place.context.store), 1);
    }
}
