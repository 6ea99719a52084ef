//! Tests of the queue.

use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::queue::{Ended, Queue};

fn region(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

#[test]
fn a_busy_region_lets_every_other_have_its_turn() {
    let mut queue = Queue::new(1);
    assert!((0..4).all(|number| queue.wish(region(number))));
    let mut turns = Vec::new();
    for _ in 0..8 {
        let next = queue.next(usize::MAX).unwrap();
        turns.push(next.number().0);
        // Region 0 never has enough.
        queue.ended(next, if next == region(0) { Ended::More } else { Ended::Done });
        queue.wish(region(3));
    }
    assert_eq!(turns, [0, 1, 2, 3, 0, 3, 0, 3]);
}

#[test]
fn slots_bound_what_runs_and_no_region_runs_twice() {
    let mut queue = Queue::new(2);
    assert!((0..3).all(|number| queue.wish(region(number))));
    assert_eq!((queue.next(1), queue.next(1)), (Some(region(0)), None));
    queue.wish(region(0));
    assert_eq!((queue.next(2), queue.next(2)), (Some(region(1)), None));
    queue.ended(region(1), Ended::Done);
    assert_eq!(queue.next(2), Some(region(2)), "region 0 is still at it");
    queue.ended(region(2), Ended::Done);
    assert_eq!(queue.next(2), None);
    queue.ended(region(0), Ended::Done);
    assert_eq!(queue.next(2), Some(region(0)), "it asked again while it ran");
}

#[test]
fn a_region_that_failed_rests_and_counts() {
    let mut queue = Queue::new(1);
    queue.wish(region(0));
    queue.wish(region(1));
    assert_eq!(queue.next(1), Some(region(0)));
    assert_eq!(queue.ended(region(0), Ended::Failed), 1);
    assert_eq!(queue.next(1), Some(region(1)));
    queue.ended(region(1), Ended::Done);
    assert_eq!(queue.next(1), None);
    queue.rested(region(0));
    assert_eq!(queue.next(1), Some(region(0)));
    assert_eq!(queue.ended(region(0), Ended::Failed), 2);
    queue.rested(region(0));
    queue.next(1);
    assert_eq!(queue.ended(region(0), Ended::Done), 0);
    assert_eq!(queue.next(1), None);
}
