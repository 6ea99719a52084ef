//! Crashes and power failures at each operation of the log on its disk.
//!
//! After each: what was acknowledged and not released is replayed, once, in order and as it was written; nothing is replayed
//! that was not submitted at that position; nothing looks damaged; and the log goes on.

mod device;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;

use self::device::{Device, Image};
use super::{payload, region, replayed, small};
use crate::testing::{Crash, some_crashes};
use crate::wal::{LocalWal, LogStore, Options, SyncMode, WalError};

const SEGMENT: u64 = 8192;
const REGIONS: u32 = 3;

/// What the users of a log know.
#[derive(Debug, Default, Clone)]
struct Ledger(Arc<Mutex<Known>>);

#[derive(Debug, Default, Clone)]
struct Known {
    submitted: BTreeMap<(RegionId, WalPosition), Bytes>,
    /// What was acknowledged, or seen in a replay.
    promised: BTreeSet<(RegionId, WalPosition)>,
    released: BTreeMap<RegionId, WalPosition>,
    /// Up to here a power failure takes nothing, however the log is synced.
    durable: Option<WalPosition>,
}

impl Ledger {
    fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    /// Submits entries of some regions together and waits for all of them.
    async fn write(&self, wal: &LocalWal, entries: &[(u32, usize)]) -> Result<(), WalError> {
        let mut pending = Vec::new();
        for (number, bytes) in entries {
            let region = region(*number);
            let text = format!("{} {}", self.0.lock().unwrap().submitted.len(), "x".repeat(*bytes));
            let submitted = wal.submit(region, payload(&text)).await?;
            self.0.lock().unwrap().submitted.insert((region, submitted.position()), Bytes::from(text));
            pending.push((region, submitted));
        }
        for (region, pending) in pending {
            let position = pending.wait().await?;
            self.0.lock().unwrap().promised.insert((region, position));
        }
        Ok(())
    }

    /// Releases all entries of a region but so many.
    fn release(&self, wal: &LocalWal, number: u32, but: usize) {
        let mut known = self.0.lock().unwrap();
        let region = region(number);
        let positions: Vec<_> = known.promised.iter().filter(|(of, _)| *of == region).map(|(_, position)| *position).collect();
        if let Some(position) = positions.iter().rev().nth(but) {
            known.released.insert(region, *position);
            wal.release(region, *position);
        }
    }

    /// Everything that is promised is durable.
    fn settle(&self) {
        let mut known = self.0.lock().unwrap();
        known.durable = known.promised.iter().map(|(_, position)| *position).max();
    }

    /// Takes back what the log has not: it may be some of the last entries, over all regions.
    async fn forget_tail(&self, wal: &LocalWal) {
        let mut found = BTreeSet::new();
        for region in (0..REGIONS).map(region) {
            let all = replayed(wal, region, WalPosition::START).await.unwrap();
            found.extend(all.into_iter().map(|(position, _)| (region, position)));
        }
        let mut known = self.0.lock().unwrap();
        let Known { promised, released, durable, .. } = &mut *known;
        let needed = |(region, position): &(RegionId, WalPosition)| released.get(region).is_none_or(|released| position > released);
        let lost: BTreeSet<_> = promised.iter().filter(|entry| needed(entry) && !found.contains(entry)).copied().collect();
        let first_lost = lost.iter().map(|(_, position)| *position).min();
        let last_found = found.iter().map(|(_, position)| *position).max().max(*durable);
        assert!(first_lost.is_none() || last_found < first_lost, "{lost:?} are lost, and {found:?} not");
        promised.retain(|entry| !lost.contains(entry));
    }

    /// That the entries of earlier openings are those that have to be there. From now on they are promised.
    async fn check(&self, wal: &LocalWal) {
        let newest = self.0.lock().unwrap().submitted.keys().map(|(_, position)| position.epoch).max();
        assert!(newest < Some(wal.epoch()), "{} was an epoch before", wal.epoch());
        for region in (0..REGIONS).map(region) {
            let released = self.0.lock().unwrap().released.get(&region).copied().unwrap_or(WalPosition::START);
            let after = replayed(wal, region, released).await.unwrap_or_else(|error| panic!("a crash looks like damage: {error}"));
            let all = replayed(wal, region, WalPosition::START).await.unwrap();
            let mut known = self.0.lock().unwrap();
            assert!(all.ends_with(&after));
            assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].0.entry < pair[1].0.entry), "in order");
            for (position, bytes) in &all {
                assert!(known.submitted.get(&(region, *position)) == Some(bytes), "{region} never wrote what is at {position}");
            }
            let found: BTreeSet<_> = after.iter().map(|(position, _)| (region, *position)).collect();
            let wanted = known.promised.iter().filter(|(of, position)| *of == region && *position > released);
            let lost: Vec<_> = wanted.filter(|entry| !found.contains(entry)).collect();
            assert!(lost.is_empty(), "{lost:?} of {found:?}");
            known.promised.extend(found);
        }
    }
}

fn open(device: &Arc<Device>, segment_bytes: u64, sync: SyncMode) -> Result<LocalWal, WalError> {
    let options = Options { sync, ..small(segment_bytes) };
    LocalWal::open_on(Arc::<Device>::clone(device), device.dir().to_owned(), options, Env::system())
}

/// Three openings: one that fills segments and closes, one that releases them and writes on in their files, one that has files of
/// another size to remove.
async fn scenario(device: &Arc<Device>, ledger: &Ledger, sync: SyncMode) -> Result<(), WalError> {
    let wal = open(device, SEGMENT, sync)?;
    for bytes in [300, 1_500, 2_900] {
        ledger.write(&wal, &[(0, 100), (1, bytes), (0, 10)]).await?;
        ledger.write(&wal, &[(2, 900)]).await?;
    }
    wal.close().await?;
    ledger.settle();
    drop(wal);
    let wal = open(device, SEGMENT, sync)?;
    ledger.check(&wal).await;
    for but in [2, 1, 0] {
        (0..REGIONS).for_each(|number| ledger.release(&wal, number, but));
        ledger.write(&wal, &[(but as u32, 2_500)]).await?;
        ledger.write(&wal, &[(0, 700), (2, 40)]).await?;
    }
    drop(wal);
    let wal = open(device, SEGMENT + 4096, sync)?;
    ledger.check(&wal).await;
    ledger.settle();
    ledger.write(&wal, &[(1, 6_000), (2, 20)]).await?;
    (0..REGIONS).for_each(|number| ledger.release(&wal, number, 1));
    ledger.write(&wal, &[(1, 6_000)]).await?;
    wal.close().await?;
    ledger.settle();
    Ok(())
}

/// A process that opens the log and looks, and may die at that.
async fn reopen(device: &Arc<Device>, ledger: &Ledger, sync: SyncMode) -> Result<(), WalError> {
    let wal = open(device, SEGMENT, sync)?;
    ledger.check(&wal).await;
    ledger.settle();
    Ok(())
}

/// The log works: what is there is right, what is added stays.
async fn works_on(dir: &Path, image: &Image, ledger: &Ledger, sync: SyncMode) {
    let (ledger, device) = (ledger.copy(), Arc::new(Device::new(dir, image)));
    let wal = open(&device, SEGMENT, sync).unwrap();
    if sync != SyncMode::Always {
        ledger.forget_tail(&wal).await;
    }
    ledger.check(&wal).await;
    ledger.write(&wal, &[(0, 50), (1, 3_000), (2, 2_000)]).await.unwrap();
    ledger.release(&wal, 0, 1);
    wal.close().await.unwrap();
    drop(wal);
    let wal = open(&device, SEGMENT, sync).unwrap();
    ledger.check(&wal).await;
}

/// A coin, the same sequence for the same seed.
fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 63 == 0
    }
}

/// The log goes on from whatever a power failure may leave now: nothing that is not durable, everything, everything but one name,
/// or parts of it.
async fn survives_power_failures(device: &Device, ledger: &Ledger, sync: SyncMode, seed: u64) {
    let mut images = BTreeSet::from([device.survivors(|| false, |_| false), device.survivors(|| true, |_| true)]);
    for lost in 0..device.unsettled_names() {
        images.insert(device.survivors(|| true, |name| name != lost));
    }
    for seed in [2 * seed, 2 * seed + 1] {
        let mut names = coin(!seed);
        images.insert(device.survivors(coin(seed), |_| names()));
    }
    for image in images {
        let dir = TempDir::new().unwrap();
        works_on(dir.path(), &image, ledger, sync).await;
    }
}

async fn crash_everywhere(sync: SyncMode, cases: usize) {
    let operations = {
        let dir = TempDir::new().unwrap();
        let (device, ledger) = (Arc::new(Device::new(dir.path(), &Image::new())), Ledger::default());
        scenario(&device, &ledger, sync).await.unwrap();
        device.trace()
    };
    let verbs = ["create", "write", "sync", "rename", "remove", "sync_dir"];
    assert!(verbs.iter().all(|verb| operations.contains(verb)), "{operations:?}");
    // The threads of a log race, so that there may be some operations more the next time.
    for (case, crash) in some_crashes(operations.len() + 8, cases).enumerate() {
        let dir = TempDir::new().unwrap();
        let (device, ledger) = (Arc::new(Device::new(dir.path(), &Image::new())), Ledger::default());
        device.begin(crash);
        let ended = scenario(&device, &ledger, sync).await;
        let trace = device.trace();
        println!("{crash:?}: {:?} is the last of {}", trace.last(), trace.len());
        assert!(ended.is_ok() || device.is_dead(), "{ended:?}");
        survives_power_failures(&device, &ledger, sync, case as u64).await;
        // A process that was killed leaves its page cache, which the next one sees; then the power fails under that.
        let at = case / 2 % 12;
        let again = if case % 2 == 0 { Crash::Before(at) } else { Crash::After(at) };
        println!("then {again:?}");
        device.begin(again);
        let ended = reopen(&device, &ledger, sync).await;
        assert!(ended.is_ok() || device.is_dead(), "{ended:?}");
        survives_power_failures(&device, &ledger, sync, case as u64).await;
    }
}

#[tokio::test]
async fn a_crash_at_any_operation_of_the_log_loses_nothing_acknowledged() {
    crash_everywhere(SyncMode::Always, 160).await;
}

/// A killed process loses nothing, a power failure only the end.
#[tokio::test]
async fn a_power_failure_of_a_log_that_is_synced_now_and_then_cuts_its_end() {
    crash_everywhere(SyncMode::Interval(Duration::from_secs(3_600)), 80).await;
}

/// A process dies with a name not yet durable, and the next one, which sees it, wherever it dies in its opening.
#[tokio::test]
async fn an_opening_names_no_segment_whose_name_the_power_may_take() {
    let write = async |device: &Arc<Device>, ledger: &Ledger| {
        let wal = open(device, SEGMENT, SyncMode::Always)?;
        ledger.write(&wal, &[(0, 100)]).await?;
        ledger.write(&wal, &[(0, 3_500)]).await
    };
    let (dir, ledger) = (TempDir::new().unwrap(), Ledger::default());
    let device = Arc::new(Device::new(dir.path(), &Image::new()));
    write(&device, &ledger).await.unwrap();
    for (at, _) in device.trace().iter().enumerate().filter(|(_, verb)| **verb == "rename") {
        for again in 0..10 {
            let (dir, ledger) = (TempDir::new().unwrap(), Ledger::default());
            let device = Arc::new(Device::new(dir.path(), &Image::new()));
            device.begin(Crash::After(at));
            drop(write(&device, &ledger).await);
            device.begin(Crash::After(again));
            drop(reopen(&device, &ledger, SyncMode::Always).await);
            survives_power_failures(&device, &ledger, SyncMode::Always, at as u64).await;
        }
    }
}
