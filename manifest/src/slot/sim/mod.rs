//! A seeded simulation of the slot log: writers, openers and followers on a store that fails.
//!
//! One seed is one run: the scheduler polls the actors by hand, each poll makes at most one store operation, and
//! any actor may be paused before and after any of its operations, for any time. There is no clock and no
//! runtime. `TESSERA_SIM_SEEDS` says how many seeds are tried, `TESSERA_SIM_SEED` replays one of them.

mod actor;
mod oracle;
mod store;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::guard::Guard;
use crate::testing::random::Random;
use actor::Role;
use store::World;

/// Seeds that are tried when nothing else is asked for.
const SEEDS: u64 = 1000;

/// Polls after which a run that still goes on counts as stuck.
const POLLS_MAX: usize = 60_000;

/// What a run did, to show that the runs reach what they should.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stats {
    pub(super) opened: usize,
    pub(super) acked: usize,
    pub(super) freed: usize,
    pub(super) fenced: usize,
    pub(super) unknown: usize,
    pub(super) ahead: usize,
    pub(super) void: usize,
    pub(super) passed: usize,
}

impl Stats {
    fn add(&mut self, other: Self) {
        let Self { opened, acked, freed, fenced, unknown, ahead, void, passed } = other;
        self.opened += opened;
        self.acked += acked;
        self.freed += freed;
        self.fenced += fenced;
        self.unknown += unknown;
        self.ahead += ahead;
        self.void += void;
        self.passed += passed;
    }
}

struct Running {
    id: usize,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    weight: u64,
}

/// Runs one seed without `without`; the error is the first broken invariant and the trace that led to it.
pub(super) fn run(seed: u64, without: Option<Guard>) -> Result<Stats, String> {
    // A trace costs more than the run, so it is made only once it is known to be wanted.
    let verdict = simulate(seed, without, false).verdict();
    verdict.map_err(|bad| format!("seed {seed}: {bad}\n{}", simulate(seed, without, true).trace()))
}

fn simulate(seed: u64, without: Option<Guard>, traced: bool) -> World {
    let mut random = Random::new(seed);
    let world = World::new(random.next(), without, traced);
    let mut actors: Vec<Running> = (0..2 + random.below(3) as usize)
        .map(|id| Running { id, future: Some(actor::start(world.clone(), id, Role::Owner)), weight: 1 })
        .collect();
    if random.chance(1, 2) {
        let id = actors.len();
        actors.push(Running { id, future: Some(actor::start(world.clone(), id, Role::Follower)), weight: 1 });
    }
    let mut polls = 0;
    let faulty = 50 + random.below(400) as usize;
    while actors.iter().any(|actor| actor.future.is_some()) && polls < faulty && world.is_sound() {
        polls += burst(&world, &mut random, &mut actors);
    }
    world.heal();
    finish(&world, &mut random, &mut actors);
    world
}

/// Lets one actor run for a while; now and then pauses, wakes or kills one, or lands a delayed put.
fn burst(world: &World, random: &mut Random, actors: &mut [Running]) -> usize {
    if random.chance(1, 6) {
        let actor = random.below(actors.len() as u64) as usize;
        actors[actor].weight = [0, 1, 1, 6][random.below(4) as usize];
    }
    if random.chance(1, 10) {
        world.land_one();
    }
    if random.chance(1, 60) {
        let actor = random.below(actors.len() as u64) as usize;
        world.note(actor, "killed");
        actors[actor].future = Some(actor::start(world.clone(), actors[actor].id, Role::Owner));
    }
    let total: u64 = actors.iter().filter(|actor| actor.future.is_some()).map(|actor| actor.weight).sum();
    if total == 0 {
        actors.iter_mut().for_each(|actor| actor.weight = 1);
        return 1;
    }
    let mut pick = random.below(total);
    let chosen = actors.iter_mut().filter(|actor| actor.future.is_some()).find(|actor| {
        let hit = pick < actor.weight;
        pick = pick.saturating_sub(actor.weight);
        hit
    });
    let Some(chosen) = chosen else { return 1 };
    let length = 1 + if random.chance(1, 4) { random.below(40) } else { random.below(5) };
    for poll in 0..length {
        if !poll_once(world, chosen) || !world.is_sound() {
            return poll as usize + 1;
        }
    }
    length as usize
}

/// Whether the actor goes on.
fn poll_once(world: &World, actor: &mut Running) -> bool {
    let Some(future) = &mut actor.future else { return false };
    world.permit_one();
    let done = matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    if done {
        actor.future = None;
    }
    !done
}

/// With a store that works again: everyone comes to an end, and a last opener finds everything.
fn finish(world: &World, random: &mut Random, actors: &mut [Running]) {
    while world.land_one() {}
    let mut order: Vec<usize> = (0..actors.len()).collect();
    random.shuffle(&mut order);
    let last = actors.len();
    let drain = |mut actor: Running| {
        for _ in 0..POLLS_MAX {
            if !world.is_sound() || !poll_once(world, &mut actor) {
                return;
            }
        }
        world.broken(format!("actor {} never comes to an end", actor.id));
    };
    for index in order {
        let (id, future) = (actors[index].id, actors[index].future.take());
        drain(Running { id, future, weight: 1 });
    }
    for role in [Role::Last, Role::LastFollower] {
        drain(Running { id: last, future: Some(actor::start(world.clone(), last, role)), weight: 1 });
    }
}

fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of the environment"));
    match number("TESSERA_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TESSERA_SIM_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn no_seed_breaks_an_invariant() {
    let mut stats = Stats::default();
    let seeds = seeds();
    for seed in &seeds {
        match run(*seed, None) {
            Ok(run) => stats.add(run),
            Err(broken) => panic!("{broken}\nreplay with TESSERA_SIM_SEED={seed}"),
        }
    }
    println!("{} seeds: {stats:?}", seeds.len());
    if seeds.len() > 500 {
        let Stats { opened, acked, freed, fenced, unknown, ahead, void, passed } = stats;
        for (name, count) in [
            ("takeovers", opened),
            ("acknowledged commits", acked),
            ("freed slots", freed),
            ("fenced writers", fenced),
            ("unknown outcomes", unknown),
            ("seals put ahead", ahead),
            ("void seals", void),
            ("followers that were passed", passed),
        ] {
            assert!(count > 0, "no run reaches {name}: {stats:?}");
        }
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        let trace = simulate(seed, None, true).trace();
        assert!(trace.lines().count() > 20, "seed {seed} does something");
        assert_eq!(trace, simulate(seed, None, true).trace(), "seed {seed}");
    }
}

/// The first seed at which the oracle notices that `guard` is gone, and what it says.
fn first_caught(guard: Guard, at_most: u64) -> Option<(u64, String)> {
    (0..at_most).find_map(|seed| simulate(seed, Some(guard), false).verdict().err().map(|broken| (seed, broken)))
}

macro_rules! needed {
    ($($name:ident: $guard:ident within $seeds:literal;)*) => {$(
        #[test]
        fn $name() {
            let caught = first_caught(Guard::$guard, $seeds);
            println!("{:?} is missed: {caught:?}", Guard::$guard);
            assert!(caught.is_some(), "the simulation does not notice that {:?} is gone", Guard::$guard);
        }
    )*};
}

needed! {
    believing_already_exists_is_noticed: ReadBack within 2000;
    not_listing_after_the_own_seal_is_noticed: ListAfterSeal within 2000;
    leaving_the_gap_below_a_seal_ahead_is_noticed: FillBelowAhead within 2000;
    writing_on_after_a_conflict_is_noticed: FencedForEver within 2000;
    deleting_seals_is_noticed: KeepSeals within 2000;
    deleting_opens_is_noticed: KeepOpens within 2000;
}
