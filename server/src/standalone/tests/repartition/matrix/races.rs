//! A process that is not dead but slow, and its successor; and two successors at the same time.
//!
//! A process that does not know whether a record of a region is there opens the region again, and so takes it over, also
//! from its successor, whose repartition is held up then. In a data home the lock keeps two processes apart.

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
            settle_beside_a_rival(&second).await;
            slow.awake();
            over.notified().await;
            settle_beside_a_rival(&second).await;
            true
        };
        let ((), slept) = futures::join!(life, successor);
        ledger.see();
        slept
    })
}

/// Waits until no procedure has anything to do; those that are blocked because the rival took a region are retried.
async fn settle_beside_a_rival(session: &Session) {
    let client = session.server.procedures().client();
    for record in client.list(None, 1000).await.unwrap() {
        let mut end = client.wait(&record.id).await.unwrap();
        for _ in 0..50 {
            if end.phase.is_over() {
                break;
            }
            assert!(end.error.as_deref().is_some_and(|error| error.contains("was taken over by another writer")), "{end:?}");
            sleep(Duration::from_secs(1)).await;
            // The rival may be the one whose verb is accepted.
            let _ = client.retry(&record.id).await;
            end = client.wait(&record.id).await.unwrap();
        }
        assert!(end.phase.is_over(), "{end:?}");
    }
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
                settle_beside_a_rival(&session).await;
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
