//! A process that is not dead but slow, and its successor; and two successors at the same time.
//!
//! Nobody has to act: no repartition is blocked because another process has had one of its regions, and the one whose claim
//! of the procedures is current ends it while the other lives. In a data home the lock keeps two processes apart.
//!
//! What these races do not show is that the runner's epoch is compared: nearly every write of an overtaken runner is refused
//! for the record's revision too, and what it still asks of regions is refused by their manifests. What rests on the epoch
//! alone is in the tests of procedures (`metaclient/src/procedure/tests`), at the level of requests to the metadata.

use super::*;

/// Places of a scenario that are tried by default.
const CASES: u64 = 6;

/// When the slow process goes on.
#[derive(Debug, Clone, Copy)]
enum Wakes {
    /// As soon as its successor is open: both work on the same decision.
    Meanwhile,
    /// When its successor has done everything: its last write comes late.
    Late,
}

/// A process falls asleep at a write, another takes over, and the first one wakes up. Whether it fell asleep.
fn fall_asleep(disk: &Disk, ledger: &Ledger, scene: &Scene, slow: &Arc<Fuse>, at: u64, wakes: Wakes) -> bool {
    ledger.see();
    disk.alone(async {
        let first = disk.open(slow, scene.store(disk)).await.unwrap();
        slow.light(at);
        let clients = Clients { may_be_overtaken: true, ..Clients::new(&first, ledger) };
        let over = tokio::sync::Notify::new();
        // Whatever it answers, it does not hang.
        let life = async {
            clients.run(scene.repartition(&first)).await;
            over.notify_one();
        };
        let successor = async {
            tokio::select! {
                () = slow.burnt() => {}
                () = over.notified() => return false,
            }
            // Its clients go elsewhere; what they have asked for is on its way.
            clients.stop.store(true, Ordering::Relaxed);
            let fuse = unlit();
            let second = disk.open(&fuse, Arc::clone(&disk.store)).await.unwrap();
            if matches!(wakes, Wakes::Meanwhile) {
                slow.awake();
            }
            settle(&second).await;
            slow.awake();
            over.notified().await;
            settle(&second).await;
            true
        };
        let ((), slept) = futures::join!(life, successor);
        ledger.see();
        slept
    })
}

fn sleep_everywhere(scene: Scene, wakes: Wakes) {
    let (ends, writes) = undisturbed(&scene);
    let mut slept = 0;
    for case in tried(2 * writes, CASES) {
        let (side, at) = (if case % 2 == 0 { Side::Before } else { Side::After }, case / 2);
        let (disk, ledger) = scene.prepare();
        let slow = Fuse::far(side, Death::Silence, WAY);
        slept += u64::from(fall_asleep(&disk, &ledger, &scene, &slow, at, wakes));
        let when = format!("{} slept {side:?} write {at} of {writes}, {:?}, and woke {wakes:?}", scene.sql, slow.last());
        println!("{when}");
        check(&disk, &ledger, &scene, &ends, None, &when);
    }
    eprintln!("{scene:?}: slept {slept} times, woke {wakes:?}");
    assert!(slept > 0);
}

/// A process dies, and two others take over at the same time.
fn succeed_twice(scene: Scene) {
    let (ends, writes) = undisturbed(&scene);
    for case in tried(2 * writes, CASES) {
        let (side, at) = (if case % 2 == 0 { Side::Before } else { Side::After }, case / 2);
        let (disk, ledger) = scene.prepare();
        let fuse = Fuse::far(side, Death::Silence, WAY);
        let answered = scene.run(&disk, &ledger, &fuse, at);
        let when = format!("{} died {side:?} write {at} of {writes}, {:?}, and had two successors", scene.sql, fuse.last());
        println!("{when}");
        disk.alone(async {
            let (one, other) = (unlit(), unlit());
            let successor = async |fuse: &Arc<Fuse>, late: Duration| {
                sleep(late).await;
                let session = disk.open(fuse, Arc::clone(&disk.store)).await?;
                settle(&session).await;
                Ok::<Session, ServerError>(session)
            };
            // The one that is overtaken while it opens may say so; not both.
            let both = futures::join!(successor(&one, Duration::ZERO), successor(&other, WAY * (case % 16) as u32));
            assert!(both.0.is_ok() || both.1.is_ok(), "{when}: {:?} {:?}", both.0.err(), both.1.err());
        });
        check(&disk, &ledger, &scene, &ends, answered, &when);
    }
}

const CHANGES_ALL: Scene = Scene::new(&[], THREE);

#[test]
fn a_slow_process_and_its_successor_may_both_work_on_a_decision() {
    sleep_everywhere(CHANGES_ALL, Wakes::Meanwhile);
    sleep_everywhere(CHANGES_ALL.with(Trouble::Stage), Wakes::Meanwhile);
}

#[test]
fn what_a_slow_process_does_late_changes_nothing() {
    sleep_everywhere(CHANGES_ALL, Wakes::Late);
    sleep_everywhere(Scene::new(&[SPLIT], MERGE), Wakes::Late);
}

#[test]
fn two_successors_at_once_end_the_same_repartition() {
    succeed_twice(CHANGES_ALL);
    succeed_twice(CHANGES_ALL.with(Trouble::Stage));
}
