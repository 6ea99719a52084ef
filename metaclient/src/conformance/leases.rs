//! Cases on leases: attachment, expiry, revocation. The name of a case says what it checks.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Moment};

use super::{key, put, values, whole};
use crate::kv::{Change, Compare, Entry, Key, KvBackend, KvError, Lease, LeaseId, Op, Revision, Txn, Watch};
use crate::limits::LEASE_TTL_MAX;

type Kv = Arc<dyn KvBackend>;

/// Asked for where a case waits for the end; a backend may grant more.
const SHORT: Duration = Duration::from_millis(250);
/// Asked for where no case waits for the end.
const LONG: Duration = Duration::from_mins(10);

async fn put_leased(kv: &dyn KvBackend, scope: &str, name: &str, lease: Lease) -> Result<Revision, KvError> {
    let op = Op::put(key(scope, name), name.to_owned()).with_lease(lease.id);
    Ok(kv.txn(Txn::new().then([op])).await?.revision)
}

async fn expect_deleted(watch: &mut Box<dyn Watch>, scope: &str, names: &[&str]) -> Result<Revision, KvError> {
    let batch = watch.next().await?;
    let expected: Vec<Change> = names.iter().map(|name| Change::Delete { key: key(scope, name) }).collect();
    assert_eq!(batch.changes, expected);
    Ok(batch.revision)
}

fn assert_not_found<T: std::fmt::Debug>(answer: &Result<T, KvError>, expected: LeaseId) {
    assert!(matches!(answer, Err(KvError::LeaseNotFound { id }) if *id == expected), "{answer:?}");
}

async fn lease_of(kv: &dyn KvBackend, key: &Key) -> Result<Option<LeaseId>, KvError> {
    Ok(kv.get(key).await?.entry.and_then(|entry| entry.lease))
}

pub async fn the_keys_of_an_expired_lease_are_deleted_in_one_transaction(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(SHORT).await?;
    let other = kv.grant(LONG).await?;
    put(&*kv, scope, "d", "d").await?;
    put_leased(&*kv, scope, "c", other).await?;
    put_leased(&*kv, scope, "b", lease).await?;
    let last = put_leased(&*kv, scope, "a", lease).await?;
    let mut watch = kv.watch(whole(scope), last.next()).await?;
    let revision = expect_deleted(&mut watch, scope, &["a", "b"]).await?;
    assert!(revision > last);
    let answer = kv.multi_get(&["a", "b"].map(|name| key(scope, name))).await?;
    assert_eq!(answer.entries, [None, None]);
    assert!(answer.revision >= revision);
    assert_eq!(values(&*kv, scope).await?, "c d");
    kv.revoke(other.id).await
}

pub async fn a_revoked_lease_takes_its_keys_along(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(LONG).await?;
    for name in ["c", "a", "b"] {
        put_leased(&*kv, scope, name, lease).await?;
    }
    let last = put(&*kv, scope, "d", "d").await?;
    let mut watch = kv.watch(whole(scope), last.next()).await?;
    kv.revoke(lease.id).await?;
    assert_eq!(values(&*kv, scope).await?, "d", "gone when the call answers");
    assert_eq!(expect_deleted(&mut watch, scope, &["a", "b", "c"]).await?, last.next());
    Ok(())
}

pub async fn a_lease_that_has_ended_is_not_found(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(LONG).await?;
    kv.revoke(lease.id).await?;
    let never = LeaseId(0x7001_0203_0405_0607);
    let before = put(&*kv, scope, "a", "1").await?;
    for id in [lease.id, never] {
        assert_not_found(&kv.keep_alive(id).await, id);
        assert_not_found(&kv.revoke(id).await, id);
        let ops = [Op::put(key(scope, "b"), "2"), Op::put(key(scope, "a"), "2").with_lease(id), Op::delete(key(scope, "c"))];
        assert_not_found(&kv.txn(Txn::new().then(ops)).await, id);
    }
    assert_eq!(values(&*kv, scope).await?, "1", "nothing of a refused transaction is applied");
    assert_eq!(kv.get(&key(scope, "a")).await?.revision, before);
    Ok(())
}

pub async fn an_expired_lease_cannot_be_kept_alive(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(SHORT).await?;
    let last = put_leased(&*kv, scope, "a", lease).await?;
    let mut watch = kv.watch(whole(scope), last.next()).await?;
    expect_deleted(&mut watch, scope, &["a"]).await?;
    assert_not_found(&kv.keep_alive(lease.id).await, lease.id);
    assert_not_found(&put_leased(&*kv, scope, "a", lease).await, lease.id);
    let again = kv.grant(SHORT).await?;
    assert_ne!(again.id, lease.id, "an id is never given twice");
    Ok(())
}

pub async fn a_lease_that_is_kept_alive_lasts(kv: Kv, scope: &str) -> Result<(), KvError> {
    let mut asked = Moment::now();
    let lease = kv.grant(SHORT).await?;
    put_leased(&*kv, scope, "a", lease).await?;
    for _ in 0..4 {
        env::sleep(lease.ttl / 2).await;
        let now = Moment::now();
        match kv.keep_alive(lease.id).await {
            Ok(ttl) => assert_eq!(ttl, lease.ttl),
            // A machine that stalls may be late, and then this is right.
            Err(KvError::LeaseNotFound { .. }) => {
                assert!(Moment::now().since(asked) >= lease.ttl, "it ended before its time");
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        asked = now;
    }
    let found = kv.get(&key(scope, "a")).await?.entry;
    assert!(found.is_some() || Moment::now().since(asked) >= lease.ttl, "it was kept alive past its first term");
    kv.revoke(lease.id).await
}

pub async fn a_put_replaces_the_attachment(kv: Kv, scope: &str) -> Result<(), KvError> {
    let (first, second) = (kv.grant(LONG).await?, kv.grant(LONG).await?);
    let (a, b) = (key(scope, "a"), key(scope, "b"));
    put_leased(&*kv, scope, "a", first).await?;
    put_leased(&*kv, scope, "b", first).await?;
    assert_eq!(lease_of(&*kv, &a).await?, Some(first.id));
    put(&*kv, scope, "a", "free").await?;
    assert_eq!(lease_of(&*kv, &a).await?, None);
    put_leased(&*kv, scope, "b", second).await?;
    assert_eq!(lease_of(&*kv, &b).await?, Some(second.id));
    kv.revoke(first.id).await?;
    assert_eq!(values(&*kv, scope).await?, "free b");
    kv.revoke(second.id).await?;
    assert_eq!(values(&*kv, scope).await?, "free");
    Ok(())
}

pub async fn deleting_a_key_detaches_it(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(LONG).await?;
    put_leased(&*kv, scope, "a", lease).await?;
    put_leased(&*kv, scope, "b", lease).await?;
    kv.txn(Txn::new().then([Op::DeleteRange { range: whole(scope) }])).await?;
    put(&*kv, scope, "a", "free").await?;
    kv.revoke(lease.id).await?;
    assert_eq!(values(&*kv, scope).await?, "free");
    Ok(())
}

pub async fn only_the_leases_of_the_branch_that_runs_are_looked_at(kv: Kv, scope: &str) -> Result<(), KvError> {
    let gone = kv.grant(LONG).await?.id;
    kv.revoke(gone).await?;
    let leased = || Op::put(key(scope, "a"), "leased").with_lease(gone);
    let absent = || Compare::Absent { key: key(scope, "absent") };
    let txn = Txn::new().when(absent()).then([Op::put(key(scope, "a"), "free")]).otherwise([leased()]);
    assert!(kv.txn(txn).await?.succeeded);
    let txn = Txn::new().when(absent()).then([leased()]).otherwise([Op::put(key(scope, "a"), "other")]);
    assert_not_found(&kv.txn(txn).await, gone);
    assert_eq!(values(&*kv, scope).await?, "free");
    Ok(())
}

pub async fn a_lease_without_keys_makes_no_revision(kv: Kv, scope: &str) -> Result<(), KvError> {
    let before = put(&*kv, scope, "a", "1").await?;
    let lease = kv.grant(LONG).await?;
    kv.keep_alive(lease.id).await?;
    assert_eq!(kv.get(&key(scope, "a")).await?.revision, before);
    kv.revoke(lease.id).await?;
    assert_eq!(put(&*kv, scope, "a", "2").await?, before.next());
    Ok(())
}

pub async fn a_time_to_live_is_granted_in_full_or_refused(kv: Kv, _scope: &str) -> Result<(), KvError> {
    for asked in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(60_001), LEASE_TTL_MAX] {
        let lease = kv.grant(asked).await?;
        assert!(lease.ttl >= asked && !lease.ttl.is_zero(), "{asked:?}: {lease:?}");
        assert_ne!(lease.id, LeaseId(0));
    }
    let refused = kv.grant(LEASE_TTL_MAX + Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(KvError::TtlTooLong { .. })), "{refused:?}");
    Ok(())
}

pub async fn watchers_and_readers_see_the_lease_of_a_key(kv: Kv, scope: &str) -> Result<(), KvError> {
    let lease = kv.grant(LONG).await?;
    let start = put(&*kv, scope, "a", "1").await?;
    let mut watch = kv.watch(whole(scope), start.next()).await?;
    put_leased(&*kv, scope, "a", lease).await?;
    let batch = watch.next().await?;
    let Some(Change::Put(Entry { lease: seen, version: 2, .. })) = batch.changes.first() else { panic!("{batch:?}") };
    assert_eq!(*seen, Some(lease.id));
    let txn = Txn::new().then([Op::put(key(scope, "b"), "2").with_lease(lease.id), Op::get(key(scope, "b")), Op::get(key(scope, "a"))]);
    let answer = kv.txn(txn).await?;
    for index in [1, 2] {
        assert_eq!(answer.entry(index).and_then(|entry| entry.lease), Some(lease.id));
    }
    let entries = crate::kv::range_all(&*kv, whole(scope)).await?;
    assert!(entries.len() == 2 && entries.iter().all(|entry| entry.lease == Some(lease.id)));
    kv.revoke(lease.id).await
}
