//! Cases on reading: stamps, order, pages, sizes. The name of a case says what it checks.

use std::sync::Arc;

use bytes::Bytes;

use super::{delete, key, put, values, whole};
use crate::kv::{Key, KeyRange, KvBackend, KvError, Op, RangeRequest, Txn, range_all};

type Kv = Arc<dyn KvBackend>;

pub async fn an_absent_key_is_answered_as_none(kv: Kv, scope: &str) -> Result<(), KvError> {
    let revision = put(&*kv, scope, "other", "x").await?;
    let answer = kv.get(&key(scope, "absent")).await?;
    assert_eq!(answer.entry, None);
    assert_eq!(answer.revision, revision);
    Ok(())
}

pub async fn a_put_stamps_revisions_and_counts_versions(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "1").await?;
    put(&*kv, scope, "b", "1").await?;
    let third = put(&*kv, scope, "a", "2").await?;
    assert_eq!(third, first.next().next(), "each writing transaction adds one");
    let entry = kv.get(&key(scope, "a")).await?.entry.expect("it was put");
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (first, third, 2));
    assert_eq!(entry.value, "2");
    Ok(())
}

pub async fn a_deleted_key_starts_again_at_version_one(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "a", "1").await?;
    put(&*kv, scope, "a", "2").await?;
    delete(&*kv, scope, "a").await?;
    assert_eq!(kv.get(&key(scope, "a")).await?.entry, None);
    let revision = put(&*kv, scope, "a", "3").await?;
    let entry = kv.get(&key(scope, "a")).await?.entry.expect("it was put");
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (revision, revision, 1));
    Ok(())
}

pub async fn an_empty_value_is_a_value(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "a", "").await?;
    let entry = kv.get(&key(scope, "a")).await?.entry.expect("it was put");
    assert!(entry.value.is_empty());
    Ok(())
}

pub async fn multi_get_answers_in_the_order_asked(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "a", "1").await?;
    let revision = put(&*kv, scope, "b", "2").await?;
    let asked = ["b", "absent", "a", "b"].map(|name| key(scope, name));
    let answer = kv.multi_get(&asked).await?;
    let found: Vec<Option<Bytes>> = answer.entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect();
    assert_eq!(found, [Some("2".into()), None, Some("1".into()), Some("2".into())]);
    assert_eq!(answer.revision, revision);
    assert!(kv.multi_get(&[]).await?.entries.is_empty());
    Ok(())
}

pub async fn a_range_has_a_first_but_no_last_key_and_byte_order(kv: Kv, scope: &str) -> Result<(), KvError> {
    for name in ["b", "aa", "a", "c", "B"] {
        put(&*kv, scope, name, name).await?;
    }
    assert_eq!(values(&*kv, scope).await?, "B a aa b c");
    let page = kv.range(&RangeRequest::new(KeyRange::between(key(scope, "a"), key(scope, "b")))).await?;
    let found: Vec<&[u8]> = page.entries.iter().map(|entry| &entry.value[..]).collect();
    assert_eq!(found, [&b"a"[..], b"aa"]);
    assert!(!page.more);
    Ok(())
}

pub async fn pages_join_to_the_whole_range(kv: Kv, scope: &str) -> Result<(), KvError> {
    for number in 0..7 {
        put(&*kv, scope, &format!("{number}"), &format!("{number}")).await?;
    }
    for limit in [1, 2, 3, 6, 7, 8] {
        let mut request = RangeRequest::new(whole(scope)).with_limit(limit);
        let mut found = String::new();
        loop {
            let page = kv.range(&request).await?;
            assert!(page.entries.len() <= limit);
            for entry in &page.entries {
                found.push_str(&String::from_utf8_lossy(&entry.value));
            }
            match page.entries.last() {
                Some(last) if page.more => request.range.start = last.key.successor(),
                _ => break,
            }
        }
        assert_eq!(found, "0123456", "with pages of {limit}");
    }
    let page = kv.range(&RangeRequest::new(whole(scope)).with_limit(0)).await?;
    assert_eq!((page.entries.len(), page.more), (1, true), "a limit of zero is taken as one");
    Ok(())
}

pub async fn an_inverted_range_is_empty(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "b", "1").await?;
    let inverted = KeyRange::between(key(scope, "c"), key(scope, "a"));
    assert!(range_all(&*kv, inverted.clone()).await?.is_empty());
    kv.txn(Txn::new().then([Op::DeleteRange { range: inverted }, Op::DeleteRange { range: KeyRange::between("x", "x") }])).await?;
    assert_eq!(values(&*kv, scope).await?, "1");
    Ok(())
}

pub async fn binary_keys_and_values_survive(kv: Kv, scope: &str) -> Result<(), KvError> {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let binary = Key::from([format!("{scope}/").as_bytes(), &bytes[..]].concat());
    let highest = Key::from([format!("{scope}/").as_bytes(), &[u8::MAX, u8::MAX]].concat());
    kv.txn(Txn::new().then([Op::put(binary.clone(), bytes.clone()), Op::put(highest.clone(), "high")])).await?;
    let entries = range_all(&*kv, whole(scope)).await?;
    assert_eq!(entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [binary, highest.clone()]);
    assert_eq!(entries.first().map(|entry| entry.value.to_vec()), Some(bytes));
    assert_eq!(range_all(&*kv, KeyRange::prefix(highest)).await?.len(), 1, "a prefix may end in 0xff");
    Ok(())
}

pub async fn a_value_of_the_largest_size_survives_and_one_byte_more_is_refused(kv: Kv, scope: &str) -> Result<(), KvError> {
    let bytes_max = kv.limits().value_bytes_max;
    let largest = Bytes::from(vec![7; bytes_max]);
    kv.txn(Txn::new().then([Op::put(key(scope, "a"), largest.clone())])).await?;
    assert_eq!(kv.get(&key(scope, "a")).await?.entry.map(|entry| entry.value), Some(largest));
    let refused = kv.txn(Txn::new().then([Op::put(key(scope, "b"), vec![7; bytes_max + 1])])).await;
    assert!(matches!(refused, Err(KvError::ValueTooLarge { .. })), "{refused:?}");
    let key_bytes_max = kv.limits().key_bytes_max;
    let long = Key::from(format!("{scope}/{}", "k".repeat(key_bytes_max)));
    let refused = kv.get(&long).await;
    assert!(matches!(refused, Err(KvError::KeyTooLarge { .. })), "{refused:?}");
    assert_eq!(range_all(&*kv, whole(scope)).await?.len(), 1);
    Ok(())
}
