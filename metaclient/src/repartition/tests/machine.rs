//! The state machine of a group: legal and illegal lives, and what is stored.

use proptest::prelude::*;
use tessera_manifest::env::Env;
use tessera_manifest::id::{Epoch, Slot};
use tessera_manifest::set_hash::SetHash;

use super::*;
use crate::procedure::State;

fn split_plan() -> RepartitionPlan {
    let (info, routes) = table(&["a < 10", "a >= 10"], &[0]);
    let request = Request::Split { rule: rule_of("a < 10"), into: rules_of(&["a < 5", "a >= 5 AND a < 10"]) };
    plan(&info, &routes, &request, |_, _| 1).unwrap()
}

fn group() -> Group {
    let txn = tessera_manifest::id::TxnId(crate::testing::counting_env(3).ulid());
    Group::new(split_plan().groups.remove(0), txn, generation(2), generation(3))
}

fn slot() -> Slot {
    Slot::new(Epoch(1), 7)
}

fn decided(verdict: Verdict) -> Event {
    let decided = group().proposal(TABLE, verdict);
    Event::Decided { decided, cause: None, fenced_unix_ms: Some(1), decided_unix_ms: 2 }
}

fn commit() -> Event {
    decided(Verdict::Commit { stages: vec![(region(0), slot()), (region(2), slot())] })
}

fn drained() -> Event {
    Event::Drained(vec![Drained { region: region(0), version: slot(), visible: SetHash::EMPTY }])
}

fn notes() -> Vec<String> {
    Vec::new()
}

fn to_fence() -> Vec<Event> {
    vec![Event::Begun, Event::Created(vec![Staged { region: region(2), version: slot() }]), Event::Prepared(vec![])]
}

fn after(events: impl IntoIterator<Item = Event>) -> Group {
    events.into_iter().fold(group(), |group, event| group.after(event.clone()).unwrap_or_else(|refused| panic!("{event:?}: {refused}")))
}

fn failed() -> Event {
    Event::Failed(Cause::new("c"))
}

#[test]
fn a_group_without_trouble_is_decided_and_done() {
    let end = [commit(), drained(), Event::Remapped { references: 4 }, Event::Published { at_unix_ms: 3 }];
    let end = end.into_iter().chain([Event::Resolved { notes: notes() }, Event::Finished { notes: notes() }]);
    let done = after(to_fence().into_iter().chain(end));
    assert_eq!((done.step, done.references, done.cause.clone()), (GroupStep::Done, 4, None));
    assert!(done.is_over() && done.is_committed());
}

#[test]
fn a_failure_before_the_fence_is_undone_and_one_before_anything_leaves_nothing() {
    for events in [&to_fence()[..1], &to_fence()[..2]] {
        let undo = after(events.iter().cloned().chain([failed()]));
        assert_eq!((undo.step, undo.fenced), (GroupStep::Undo, false));
        let over = undo.after(Event::Undone { notes: notes() }).unwrap();
        assert_eq!((over.step, over.cause.unwrap().message), (GroupStep::Failed, "c".to_owned()));
    }
    assert_eq!(after([failed()]).step, GroupStep::Failed);
}

#[test]
fn from_the_fence_only_a_decision_leads_on() {
    let fenced = after(to_fence());
    assert!(fenced.fenced);
    for event in [failed(), drained(), Event::Undone { notes: notes() }, Event::Begun, Event::Published { at_unix_ms: 1 }] {
        assert!(fenced.after(event.clone()).is_err(), "{event:?}");
    }
    let aborted = fenced.after(decided(Verdict::Abort)).unwrap();
    assert_eq!(aborted.step, GroupStep::ResolveAbort);
    assert!(aborted.cause.is_some());
    assert_eq!(fenced.after(commit()).unwrap().step, GroupStep::Drain);
}

#[test]
fn a_decision_that_is_not_of_the_group_is_refused() {
    let fenced = after(to_fence());
    let other = Decided { commit: generation(9), ..group().proposal(TABLE, Verdict::Abort) };
    let foreign = Event::Decided { decided: other, cause: None, fenced_unix_ms: None, decided_unix_ms: 0 };
    assert!(fenced.after(foreign).is_err());
    for stages in [vec![], vec![(region(0), slot())], vec![(region(2), slot())]] {
        assert!(fenced.after(decided(Verdict::Commit { stages })).is_err(), "it does not name the stage of every region");
    }
    assert_eq!(fenced.commit_of(vec![(region(0), slot())]), Verdict::Commit { stages: vec![(region(0), slot()), (region(2), slot())] });
}

#[test]
fn what_holds_a_group_up_is_kept_and_forgotten_once_it_goes_on() {
    let stalled = Event::Stalled { cause: Cause::new("no disk"), blocked: true, not_before_unix_ms: Some(9) };
    let waits = after(to_fence().into_iter().chain([commit()])).after(stalled.clone()).unwrap();
    assert_eq!((waits.step, waits.tries, waits.blocked), (GroupStep::Drain, 1, true));
    let goes_on = waits.after(drained()).unwrap();
    assert_eq!((goes_on.tries, goes_on.blocked, goes_on.cause), (0, false, None));
    assert!(after([failed()]).after(stalled).is_err(), "it is over");
}

fn data(groups: Vec<Group>) -> Data {
    let (info, _) = table(&["a < 10", "a >= 10"], &[0]);
    let tools = Tools::new(Arc::new(NoPort));
    let request = Request::Merge { rules: rules_of(&["a < 10", "a >= 10"]) };
    let options = Options { timeout: Some(Duration::from_secs(5)), localize: true };
    let data = Repartition::new(&info, request, options, &crate::testing::counting_env(1), tools).data().clone();
    Data { groups, stage: Stage::Groups, ..data }
}

#[test]
fn a_group_that_fails_lets_the_others_go_first() {
    let stalled =
        |group: &Group, blocked| group.after(Event::Stalled { cause: Cause::new("c"), blocked, not_before_unix_ms: None }).unwrap();
    let (fresh, over) = (group(), after([failed()]));
    let next = |groups: &[&Group]| data(groups.iter().copied().cloned().collect()).turn(0);
    assert_eq!(next(&[&fresh, &fresh]), Turn::Group(0));
    assert_eq!(next(&[&over, &fresh]), Turn::Group(1));
    assert_eq!(next(&[&stalled(&fresh, false), &fresh]), Turn::Group(1));
    assert_eq!(next(&[&stalled(&fresh, true), &stalled(&fresh, false)]), Turn::Group(1));
    assert_eq!(next(&[&over, &stalled(&fresh, true)]), Turn::Blocked(vec![1]), "only it is left: what is said about it is its error");
    assert_eq!(next(&[&stalled(&fresh, true), &over, &stalled(&fresh, true)]), Turn::Blocked(vec![0, 2]));
    assert_eq!(next(&[&over, &over]), Turn::Over);
    let later = fresh.after(Event::Stalled { cause: Cause::new("c"), blocked: false, not_before_unix_ms: Some(1200) }).unwrap();
    assert_eq!(data(vec![later.clone()]).turn(1000), Turn::Wait(Duration::from_millis(200)));
    assert_eq!(data(vec![later.clone()]).turn(1200), Turn::Group(0));
    let far = Group { not_before_unix_ms: Some(u64::MAX), ..later };
    assert_eq!(data(vec![far]).turn(0), Turn::Group(0), "a clock that was set stops nothing");
}

#[test]
fn the_stored_form_is_read_back_and_a_newer_one_is_refused() {
    let group = after(to_fence().into_iter().chain([commit(), drained()]));
    let data = data(vec![group, after([failed()])]);
    let state = data.to_state();
    assert_eq!(Data::from_state(&state).unwrap(), data);
    assert_eq!(Data::from_state(&state).unwrap().to_state(), state);
    let newer = State { version: 3, ..state };
    assert_eq!(Data::from_state(&newer).unwrap_err(), "it has version 3, and this program reads versions 1 to 2");
    assert_eq!(data.deadline_unix_ms, Some(crate::testing::counting_env(1).unix_ms() + 5000));
}

/// All that is stored, in some form.
fn full() -> Data {
    let mut full = after(to_fence().into_iter().chain([commit(), drained()]));
    full.plan.estimates = vec![RemapPreview { target: region(0), files: 3, foreign_files: 1, bytes: 300, rows: 30, residual_files: 2 }];
    full.notes = vec!["n".into()];
    let cause = Cause { message: "m".into(), code: Some(1004), region: Some(region(0)) };
    let full = full.after(Event::Stalled { cause, blocked: true, not_before_unix_ms: Some(9) }).unwrap();
    let aborted = after(to_fence().into_iter().chain([decided(Verdict::Abort)]));
    Data { columns: vec![ColumnId(0)], unchanged: vec![RegionNumber(1)], ..data(vec![full, aborted, group()]) }
}

#[test]
fn the_stored_forms_are_as_they_were() {
    let goldens = [
        (1, include_str!("../../../tests/compat/v001_repartition_state.json")),
        (2, include_str!("../../../tests/compat/v002_repartition_state.json")),
    ];
    for (version, golden) in goldens {
        // Version 1 knew no types.
        let data = if version == 1 { Data { types: BTreeMap::new(), ..full() } } else { full() };
        let state = data.to_state();
        let stored = String::from_utf8(state.bytes.to_vec()).unwrap();
        assert_eq!((state.version, &*stored), (version, golden.trim_end()));
        let state = State { version, bytes: golden.trim_end().as_bytes().to_vec().into() };
        assert_eq!(Data::from_state(&state).unwrap(), data);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Begun),
        Just(Event::Created(vec![Staged { region: region(2), version: slot() }])),
        Just(Event::Prepared(vec![])),
        Just(failed()),
        Just(commit()),
        Just(decided(Verdict::Abort)),
        Just(drained()),
        Just(Event::Remapped { references: 1 }),
        Just(Event::Published { at_unix_ms: 1 }),
        Just(Event::Resolved { notes: vec![] }),
        Just(Event::Undone { notes: vec![] }),
        Just(Event::Finished { notes: vec![] }),
        any::<bool>().prop_map(|blocked| Event::Stalled { cause: Cause::new("s"), blocked, not_before_unix_ms: None }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_life_breaks_the_invariants(events in prop::collection::vec(any_event(), 1..100)) {
        let mut now = group();
        for event in events {
            let Ok(next) = now.after(event.clone()) else { continue };
            prop_assert!(!now.is_over(), "{event:?}");
            prop_assert!(!now.fenced || next.fenced);
            if now.verdict.is_some() {
                prop_assert_eq!(&now.verdict, &next.verdict, "a decision is never changed");
            }
            prop_assert!(!next.is_committed() || next.step != GroupStep::Failed, "a committed group cannot fail");
            prop_assert!(next.step != GroupStep::Done || next.is_committed());
            prop_assert!(next.step != GroupStep::ResolveAbort || next.verdict == Some(Verdict::Abort));
            prop_assert!(next.step != GroupStep::Undo || !next.fenced, "what was fenced is not undone but aborted");
            now = next;
        }
    }
}

/// A port that nobody calls.
#[derive(Debug)]
struct NoPort;

#[async_trait::async_trait]
impl RegionPort for NoPort {
    async fn create_staged(&self, _: NodeId, _: &RegionMeta, _: &StageRequest) -> Result<Staged, PortError> {
        unreachable!()
    }
    async fn prepare(&self, _: NodeId, _: RegionId, _: tessera_manifest::id::TxnId) -> Result<Prepared, PortError> {
        unreachable!()
    }
    async fn dry_run(&self, _: NodeId, _: &[(RegionId, Arc<Expr>)], _: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        unreachable!()
    }
    async fn stage(&self, _: NodeId, _: &StageRequest) -> Result<Staged, PortError> {
        unreachable!()
    }
    async fn drain(&self, _: NodeId, _: RegionId, _: tessera_manifest::id::TxnId) -> Result<Drained, PortError> {
        unreachable!()
    }
    async fn remap(&self, _: NodeId, _: &RemapRequest) -> Result<Vec<(RegionId, tessera_manifest::action::RemapStaged)>, PortError> {
        unreachable!()
    }
    async fn apply_remap(&self, _: NodeId, _: RegionId, _: &tessera_manifest::action::RemapStaged) -> Result<Applied, PortError> {
        unreachable!()
    }
    async fn resolve(&self, _: NodeId, _: RegionId, _: Generation, _: &Decided) -> Result<Resolved, PortError> {
        unreachable!()
    }
    async fn create_retired(&self, _: NodeId, _: &RegionMeta, _: &Decided) -> Result<(), PortError> {
        unreachable!()
    }
    async fn take_back(&self, _: NodeId, _: RegionId) -> Result<(), PortError> {
        unreachable!()
    }
    async fn restart(&self, _: NodeId, _: RegionId) -> Result<(), PortError> {
        unreachable!()
    }
    async fn localize(&self, _: NodeId, _: RegionId) -> Result<(), PortError> {
        unreachable!()
    }
    async fn decide(&self, _: &Decided) -> Result<Decided, PortError> {
        unreachable!()
    }
    async fn decided(&self, _: TableId, _: tessera_manifest::id::TxnId) -> Result<Option<Decided>, PortError> {
        unreachable!()
    }
}

#[test]
fn an_env_of_the_system_gives_a_deadline_in_the_future() {
    let (info, _) = table(&["TRUE"], &[]);
    let options = Options { timeout: Some(Duration::MAX), localize: false };
    let request = Request::PartitionOn { columns: vec![], rules: vec![] };
    let repartition = Repartition::new(&info, request, options, &Env::system(), Tools::new(Arc::new(NoPort)));
    assert!(!repartition.data().is_expired(Env::system().unix_ms()));
}
