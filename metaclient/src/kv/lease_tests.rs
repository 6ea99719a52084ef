//! Leases of the embedded stores in virtual time, across restarts, and in files of older formats.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tessera_manifest::env::{self, Moment};

use super::lease::{Deadlines, granted_ttl};
use super::*;

const TTL: Duration = Duration::from_secs(10);

fn leased(key: &str, lease: Lease) -> Txn {
    Txn::new().then([Op::put(key, "leased").with_lease(lease.id)])
}

async fn exists(kv: &dyn KvBackend, key: &str) -> bool {
    kv.get(&key.into()).await.unwrap().entry.is_some()
}

async fn embedded(folder: &Path) -> [Arc<dyn KvBackend>; 2] {
    let redb = RedbBackend::open(folder.join("meta.redb")).await.unwrap();
    [Arc::new(MemoryBackend::new()), Arc::new(redb)]
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_at_its_deadline_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    for kv in embedded(folder.path()).await {
        let granted = Moment::now();
        let lease = kv.grant(TTL).await.unwrap();
        let last = kv.txn(leased("a", lease)).await.unwrap().revision;
        env::sleep_until(granted.after(Duration::from_millis(9_999))).await;
        assert!(exists(&*kv, "a").await);
        kv.keep_alive(lease.id).await.unwrap();
        let renewed = Moment::now();
        let mut watch = kv.watch(KeyRange::all(), last.next()).await.unwrap();
        watch.next().await.unwrap();
        assert!(!exists(&*kv, "a").await);
        let lasted = Moment::now().since(renewed);
        assert!(lasted >= TTL && lasted < TTL + Duration::from_millis(10), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_lease_that_comes_later_ends_first() {
    let kv = MemoryBackend::new();
    let long = kv.grant(TTL * 5).await.unwrap();
    kv.txn(leased("long", long)).await.unwrap();
    let short = kv.grant(TTL).await.unwrap();
    let last = kv.txn(leased("short", short)).await.unwrap().revision;
    let mut watch = kv.watch(KeyRange::all(), last.next()).await.unwrap();
    for key in ["short", "long"] {
        assert_eq!(watch.next().await.unwrap().changes, [Change::Delete { key: key.into() }]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_redb_keeps_leases_and_starts_them_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let kv = RedbBackend::open(&path).await.unwrap();
    let lease = kv.grant(TTL).await.unwrap();
    let revoked = kv.grant(TTL).await.unwrap();
    kv.txn(leased("a", lease)).await.unwrap();
    kv.txn(leased("b", revoked)).await.unwrap();
    kv.revoke(revoked.id).await.unwrap();
    env::sleep(TTL / 2).await;
    drop(kv);
    env::sleep(TTL * 3).await;
    let opened = Moment::now();
    let kv = RedbBackend::open(&path).await.unwrap();
    let answer = kv.get(&"a".into()).await.unwrap();
    assert_eq!(answer.entry.unwrap().lease, Some(lease.id));
    assert!(matches!(kv.keep_alive(revoked.id).await, Err(KvError::LeaseNotFound { .. })));
    let later = kv.grant(TTL * 9).await.unwrap();
    assert!(later.id > revoked.id, "ids go on");
    let mut watch = kv.watch(KeyRange::all(), answer.revision.next()).await.unwrap();
    let batch = watch.next().await.unwrap();
    assert_eq!((batch.revision, batch.changes), (answer.revision.next(), vec![Change::Delete { key: "a".into() }]));
    assert!(Moment::now().since(opened) >= TTL, "it had its full term after the restart");
}

#[tokio::test]
async fn an_expired_lease_stays_ended_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let kv = RedbBackend::open(&path).await.unwrap();
    let lease = kv.grant(Duration::from_millis(20)).await.unwrap();
    let last = match kv.txn(leased("a", lease)).await {
        Ok(answer) => answer.revision,
        Err(error) => panic!("{error}"),
    };
    let mut watch = kv.watch(KeyRange::all(), last.next()).await.unwrap();
    watch.next().await.unwrap();
    // The file as a crash would leave it.
    let left = folder.path().join("left.redb");
    std::fs::copy(&path, &left).unwrap();
    let survivor = RedbBackend::open(&left).await.unwrap();
    assert!(!exists(&survivor, "a").await);
    assert!(matches!(survivor.keep_alive(lease.id).await, Err(KvError::LeaseNotFound { .. })));
}

#[tokio::test]
async fn a_dropped_store_with_leases_can_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    for _ in 0..5 {
        let kv = RedbBackend::open(&path).await.unwrap();
        kv.grant(TTL).await.unwrap();
    }
}

mod formats {
    use ::redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;

    const KV: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("kv");
    const STORE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("store");

    /// A file as the first version wrote it: one key at revision 5.
    fn write_format_1(path: &Path) {
        let db = Database::create(path).unwrap();
        let begun = db.begin_write().unwrap();
        {
            let mut kv = begun.open_table(KV).unwrap();
            let numbers = [3_u64, 5, 2].map(u64::to_le_bytes).concat();
            kv.insert(&b"a"[..], [&numbers[..], b"old"].concat().as_slice()).unwrap();
            let mut store = begun.open_table(STORE).unwrap();
            store.insert("format", 1).unwrap();
            store.insert("revision", 5).unwrap();
        }
        begun.commit().unwrap();
    }

    fn stored(path: &Path) -> (u64, Vec<u8>) {
        let db = Database::open(path).unwrap();
        let snapshot = db.begin_read().unwrap();
        let format = snapshot.open_table(STORE).unwrap().get("format").unwrap().unwrap().value();
        let entry = snapshot.open_table(KV).unwrap().get(&b"a"[..]).unwrap().unwrap().value().to_vec();
        (format, entry)
    }

    #[tokio::test]
    async fn a_file_of_format_1_opens_and_stays_so_until_the_first_grant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        write_format_1(&path);
        let kv = RedbBackend::open(&path).await.unwrap();
        let entry = kv.get(&"a".into()).await.unwrap().entry.unwrap();
        assert_eq!((entry.create_revision.0, entry.mod_revision.0, entry.version, entry.lease), (3, 5, 2, None));
        assert_eq!(kv.txn(Txn::new().then([Op::put("a", "new")])).await.unwrap().revision, Revision(6));
        drop(kv);
        assert_eq!(stored(&path), (1, [&[3_u64, 6, 3].map(u64::to_le_bytes).concat()[..], b"new"].concat()));
        let kv = RedbBackend::open(&path).await.unwrap();
        let lease = kv.grant(TTL).await.unwrap();
        kv.txn(leased("a", lease)).await.unwrap();
        drop(kv);
        let numbers = [3, 7, 4 | 1 << 63, lease.id.0].map(u64::to_le_bytes).concat();
        assert_eq!(stored(&path), (2, [&numbers[..], b"leased"].concat()));
    }

    #[tokio::test]
    async fn a_file_of_a_later_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        write_format_1(&path);
        let db = Database::create(&path).unwrap();
        let begun = db.begin_write().unwrap();
        begun.open_table(STORE).unwrap().insert("format", 3).unwrap();
        begun.commit().unwrap();
        drop(db);
        let refused = RedbBackend::open(&path).await.unwrap_err();
        assert!(matches!(refused, KvError::UnknownFormat { found: 3, known: 2, .. }), "{refused}");
    }
}

#[test]
fn a_time_to_live_is_rounded_up_to_milliseconds() {
    for (asked_us, granted_ms) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (1_500_000, 1500)] {
        assert_eq!(granted_ttl(Duration::from_micros(asked_us)).unwrap(), Duration::from_millis(granted_ms));
    }
}

proptest! {
    #[test]
    fn deadlines_agree_with_a_list(steps in proptest::collection::vec((0..4_u8, 1..6_u64, 0..20_u64), 1..60)) {
        let start = Moment::now();
        let (mut deadlines, mut model, mut ms) = (Deadlines::default(), Vec::<(u64, u64, u64)>::new(), 0_u64);
        for (what, id, amount) in steps {
            let now = start.after(Duration::from_millis(ms));
            let known = model.iter().position(|(of, ..)| *of == id);
            match what {
                0 if known.is_none() => {
                    deadlines.start(Lease { id: LeaseId(id), ttl: Duration::from_millis(amount) }, now);
                    model.push((id, amount, ms + amount));
                }
                1 => {
                    let renewed = deadlines.renew(LeaseId(id), now).is_ok();
                    let alive = known.filter(|at| model[*at].2 > ms);
                    prop_assert_eq!(renewed, alive.is_some());
                    if let Some(at) = alive {
                        model[at].2 = ms + model[at].1;
                    }
                }
                2 => {
                    let removed = deadlines.remove(LeaseId(id)).is_some();
                    prop_assert_eq!(removed, known.is_some());
                    model.retain(|(of, ..)| *of != id);
                }
                _ => ms += amount,
            }
            let now = start.after(Duration::from_millis(ms));
            let first = model.iter().map(|(of, _, deadline)| (*deadline, *of)).min();
            prop_assert_eq!(deadlines.due(now).map(|id| id.0), first.filter(|(at, _)| *at <= ms).map(|(_, of)| of));
            prop_assert_eq!(deadlines.next(), first.map(|(at, _)| start.after(Duration::from_millis(at))));
            prop_assert_eq!(deadlines.len(), model.len());
        }
    }
}
