//! The state machine of a record: legal and illegal lives.

use proptest::prelude::*;

use super::*;
use crate::kv::Revision;

fn state(number: u8) -> State {
    State { version: 1, bytes: vec![number].into() }
}

fn record() -> Record {
    Record {
        id: id("p"),
        kind: KIND.into(),
        input: state(0),
        state: state(0),
        locks: Locks::none(),
        phase: Phase::Queued,
        past_no_return: false,
        cancel_requested: false,
        steps: 0,
        attempts: 0,
        error: None,
        progress: Progress::default(),
        output: None,
        epoch: 0,
        writes: 1,
        queued_after: Revision(0),
        in_place_of: None,
        submitted_unix_ms: 0,
        written_unix_ms: 0,
    }
}

fn stepped(number: u8, past_no_return: bool) -> Event {
    Event::Stepped { state: state(number), past_no_return, progress: None }
}

fn failed(retryable: bool) -> Event {
    Event::StepFailed { error: "e".into(), retryable, attempts_max: 3 }
}

fn after(events: impl IntoIterator<Item = Event>) -> Record {
    events.into_iter().fold(record(), |record, event| record.after(event.clone()).unwrap_or_else(|refused| panic!("{event:?}: {refused}")))
}

#[test]
fn a_procedure_without_trouble_runs_to_its_end() {
    let done = after([Event::Granted, stepped(1, false), stepped(2, true), Event::Finished { output: Some("o".into()) }]);
    assert_eq!((done.phase, done.steps, done.output.as_deref()), (Phase::Done, 3, Some("o")));
    assert_eq!(done.progress.permille, 1000);
}

#[test]
fn retryable_failures_are_tried_until_the_limit_and_then_turn_it_back() {
    let waiting = after([Event::Granted, failed(true), failed(true)]);
    assert_eq!((waiting.next(), waiting.attempts), (Next::Step(Direction::Forward), 2));
    let back = waiting.after(failed(true)).unwrap();
    assert_eq!((back.next(), back.attempts), (Next::Step(Direction::Back), 0));
    let over = back.after(Event::Finished { output: None }).unwrap();
    assert_eq!((over.phase, over.error.as_deref()), (Phase::Failed, Some("e")));
    let mended = waiting.after(stepped(1, false)).unwrap();
    assert_eq!((mended.attempts, mended.error), (0, None));
}

#[test]
fn past_the_point_of_no_return_it_is_tried_for_ever_or_blocked() {
    let mut past = after([Event::Granted, stepped(1, true)]);
    for _ in 0..100 {
        past = past.after(failed(true)).unwrap();
    }
    assert_eq!((past.next(), past.attempts), (Next::Step(Direction::Forward), 100));
    assert_eq!(past.after(Event::Cancel), Err(Refused::PastNoReturn));
    let blocked = past.after(failed(false)).unwrap();
    assert_eq!((blocked.next(), blocked.phase.is_settled(), blocked.standing()), (Next::Wait, true, Standing::Holds));
    assert_eq!(blocked.after(Event::Cancel), Err(Refused::PastNoReturn));
    let again = blocked.after(Event::Retry { now: Revision(9) }).unwrap();
    assert_eq!((again.next(), again.attempts, again.state.clone()), (Next::Step(Direction::Forward), 0, state(1)));
}

#[test]
fn the_point_of_no_return_is_never_taken_back() {
    assert!(after([Event::Granted, stepped(1, true), stepped(2, false)]).past_no_return);
}

#[test]
fn a_cancelled_procedure_takes_no_result_and_is_undone() {
    let cancelled = after([Event::Granted, stepped(1, false), Event::Cancel]);
    assert_eq!(cancelled.after(stepped(2, true)), Err(Refused::Impossible));
    assert_eq!(cancelled.after(Event::Finished { output: None }), Err(Refused::Impossible));
    assert_eq!(cancelled.next(), Next::TurnBack);
    let over = cancelled.after(Event::TurnedBack).unwrap().after(Event::Finished { output: None }).unwrap();
    assert_eq!((over.phase, over.state.clone()), (Phase::Cancelled, state(1)));
    assert_eq!(over.after(Event::Cancel), Err(Refused::Over));
    assert_eq!(after([Event::Cancel]).phase, Phase::Cancelled, "one that waits is over at once");
}

#[test]
fn a_failed_one_begins_again_from_its_input_and_at_the_end_of_the_queue() {
    let failed = after([Event::Granted, stepped(1, false), failed(false), Event::Finished { output: None }]);
    let again = failed.after(Event::Retry { now: Revision(70) }).unwrap();
    assert_eq!((again.next(), again.state.clone(), again.error.clone()), (Next::Grant, state(0), None));
    assert_eq!((again.ticket(Revision(5)), again.ticket(Revision(80))), (Revision(70), Revision(80)));
}

#[test]
fn what_no_program_can_read_waits_for_one_that_can() {
    let waiting = after([Event::Granted, stepped(1, false), failed(false), Event::Unreadable { error: "u".into() }]);
    assert_eq!((waiting.next(), waiting.phase.is_settled()), (Next::Wait, false));
    assert_eq!(waiting.after(Event::Readable).unwrap().next(), Next::Step(Direction::Back));
}

#[test]
fn long_errors_are_cut_at_a_character() {
    let error = "ä".repeat(5000);
    let event = Event::StepFailed { error, retryable: false, attempts_max: 1 };
    assert_eq!(after([Event::Granted, event]).error.unwrap(), "ä".repeat(2048));
}

#[test]
fn waits_double_up_to_the_longest_and_differ_by_half() {
    let retry = Retry { attempts_max: 9, first: Duration::from_millis(100), longest: Duration::from_secs(1) };
    for (attempts, whole) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (400, 1000)] {
        for random in [0, 1, u64::MAX, 12_345_678_901] {
            let wait = retry.wait(attempts, random).as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{attempts} {random}: {wait}");
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Granted),
        4 => (1..9_u8, prop::bool::weighted(0.2)).prop_map(|(number, past)| stepped(number, past)),
        1 => Just(Event::Finished { output: None }),
        3 => any::<bool>().prop_map(failed),
        2 => Just(Event::TurnedBack),
        1 => Just(Event::Cancel),
        1 => Just(Event::Retry { now: Revision(7) }),
        1 => Just(Event::Unreadable { error: "u".into() }),
        1 => Just(Event::Readable),
        1 => Just(Event::Progressed { progress: Progress::of("t", 1, 2) }),
    ]
}

proptest! {
    #[test]
    fn no_life_breaks_the_invariants(events in prop::collection::vec(any_event(), 1..40)) {
        let mut record = record();
        let (mut cancelled, mut done) = (false, false);
        for event in events {
            let Ok(next) = record.after(event.clone()) else { continue };
            prop_assert!(!record.past_no_return || next.past_no_return || record.phase.is_over(), "{:?}", event);
            let back = matches!(next.phase, Phase::RollingBack | Phase::Failed | Phase::Cancelled | Phase::Blocked { direction: Direction::Back, .. });
            prop_assert!(!(back && next.past_no_return), "{:?}: {:?}", event, next);
            // Locks go only with the end, and come only with the grant.
            if record.standing() == Standing::Holds {
                prop_assert!(next.standing() != Standing::Waits);
            } else {
                prop_assert!(next.standing() != Standing::Holds || event == Event::Granted);
            }
            cancelled |= event == Event::Cancel && record.phase != Phase::RollingBack && next.cancel_requested;
            done |= next.phase == Phase::Done;
            prop_assert!(!(cancelled && done), "an accepted cancel was overtaken");
            record = next;
        }
    }
}
