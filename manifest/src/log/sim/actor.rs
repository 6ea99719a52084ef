//! What the actors of the simulation do.

use object_store::{ObjectStore, PutMode, PutOptions};

use super::world::World;
use crate::action::{Action, Floor};
use crate::checkpoint::{read_root, read_state};
use crate::error::Error;
use crate::id::{NodeId, Slot};
use crate::log::{Context, Follower, Manifest, Outcome, load, load_at};
use crate::testing::history::propose;
use crate::testing::sample::{OPENER, REGION, meta};

/// Opens the region and works on it; whatever happens to it, it goes on for a while, as a zombie does.
pub(super) async fn own(world: World, process: usize) {
    for _ in 0..1 + world.below(2) {
        let context = world.context(process);
        let opened = match world.newest() {
            None => Manifest::create(&context, meta("t"), OPENER).await,
            Some(state) if state.is_dropped() => Manifest::open_ownerless(&context, REGION, NodeId(1)).await,
            Some(_) => Manifest::open(&context, REGION, OPENER).await,
        };
        match opened {
            Ok(manifest) => {
                world.count(|stats| &mut stats.opened);
                world.saw(process, "opens", manifest.state());
                Owner { world: world.clone(), process, context, manifest }.work().await;
            }
            Err(Error::Exists { .. } | Error::Dropped { .. }) => {}
            Err(error) => world.expected(process, &error),
        }
    }
}

struct Owner {
    world: World,
    process: usize,
    context: Context,
    manifest: Manifest,
}

impl Owner {
    async fn work(mut self) {
        // In a storm more is done for history, and less for rows.
        let (commits, checkpoints) = if self.world.is_stormy() { (8, 12) } else { (11, 13) };
        for _ in 0..4 + self.world.below(14) {
            match self.world.below(16) {
                choice if choice < commits => self.commit().await,
                choice if choice < checkpoints => self.checkpoint().await,
                choice if choice < 15 => self.retain().await,
                _ => self.snapshot().await,
            }
            if !self.world.is_sound() {
                return;
            }
        }
    }

    async fn commit(&mut self) {
        let slot = self.manifest.state().version().expect("an opened region has a version").next();
        let Some(proposal) = propose(self.manifest.state(), slot, &mut self.world.random()) else {
            self.world.count(|stats| &mut stats.ended);
            return;
        };
        for (segment, bytes) in proposal.segments {
            self.world.count(|stats| &mut stats.remaps);
            let path = self.context.root.segment(REGION, segment.file);
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            if self.context.store.put_opts(&path, bytes.into(), options).await.is_err() {
                return;
            }
        }
        let was_good = self.manifest.is_good();
        let outcome = self.manifest.commit(proposal.actions).await;
        self.outcome(outcome, was_good);
    }

    fn outcome(&mut self, outcome: Result<Outcome, Error>, was_good: bool) {
        match outcome {
            Ok(Outcome::Committed(state)) => {
                self.world.note(self.process, format_args!("commits {:?}", state.version()));
                self.world.acknowledged(&state);
                if !was_good {
                    self.world.broken(format!("{}: a writer that was told to stop commits", self.process));
                }
            }
            Ok(Outcome::Conflict { slot, .. }) => {
                self.world.note(self.process, format_args!("conflict at {slot}"));
                self.world.count(|stats| &mut stats.fenced);
            }
            Ok(Outcome::Unknown(error)) | Err(error) => self.world.expected(self.process, &error),
        }
    }

    async fn checkpoint(&mut self) {
        match self.manifest.checkpoint().await {
            Ok(_) if self.is_fenced() => self.world.count(|stats| &mut stats.zombie_checkpoints),
            Ok(_) => self.world.count(|stats| &mut stats.checkpoints),
            Err(error) => self.world.expected(self.process, &error),
        }
    }

    async fn retain(&mut self) {
        match self.manifest.retain().await {
            Ok(_) if self.is_fenced() => self.world.count(|stats| &mut stats.zombie_retentions),
            Ok(_) => self.world.count(|stats| &mut stats.retained),
            Err(error) => self.world.expected(self.process, &error),
        }
    }

    async fn snapshot(&mut self) {
        if !self.manifest.state().pins().is_empty() {
            return;
        }
        let was_good = self.manifest.is_good();
        let name = format!("p{}", self.world.below(1000));
        let outcome = self.manifest.snapshot(&name, None).await;
        if matches!(outcome, Ok(Outcome::Committed(_))) {
            self.world.count(|stats| &mut stats.snapshots);
        }
        self.outcome(outcome, was_good);
    }

    /// Whether somebody else opened the region since, known or not.
    fn is_fenced(&self) -> bool {
        self.world.newest().and_then(|state| state.version()).is_some_and(|newest| newest.epoch > self.manifest.epoch())
    }
}

/// Reads the newest state, old versions, and follows.
pub(super) async fn read(world: World, process: usize) {
    for _ in 0..3 + world.below(4) {
        let context = world.context(process);
        match load(&context, REGION).await {
            Ok(state) => {
                world.saw(process, "reads", &state);
                read_old(&world, process, &context, state.floor()).await;
            }
            Err(error) => world.expected(process, &error),
        }
        let mut follower = match Follower::open(&context, REGION).await {
            Ok(follower) => follower,
            Err(error) => {
                world.expected(process, &error);
                continue;
            }
        };
        for _ in 0..8 {
            match follower.poll().await {
                Ok(true) => world.saw(process, "follows", follower.state()),
                Ok(false) => {}
                Err(error) => {
                    world.expected(process, &error);
                    break;
                }
            }
        }
    }
}

async fn read_old(world: &World, process: usize, context: &Context, floor: Slot) {
    let versions: Vec<Slot> = world.states().range(floor..).map(|(version, _)| *version).collect();
    let version = versions[world.below(versions.len() as u64) as usize];
    match load_at(context, REGION, version).await {
        Ok(state) if state.version() == Some(version) => world.saw(process, "looks back at", &state),
        Ok(state) => world.broken(format!("{process} asks for {version} and gets {:?}", state.version())),
        Err(Error::NoVersion { .. }) => {}
        Err(error) => world.expected(process, &error),
    }
}

/// Opens the region once the store works again, and goes on until retention has done what it may.
pub(super) async fn own_at_last(world: World, process: usize) {
    let context = world.context(process);
    let opened = match world.newest() {
        None => Manifest::create(&context, meta("t"), OPENER).await,
        Some(_) => Manifest::open_ownerless(&context, REGION, NodeId(1)).await,
    };
    let mut manifest = match opened {
        Ok(manifest) => manifest,
        Err(error) => return world.broken(format!("the last opener fails: {error}")),
    };
    world.saw(process, "opens at last", manifest.state());
    for _ in 0..3 {
        if let Err(error) = manifest.checkpoint().await {
            return world.broken(format!("the last owner cannot write a checkpoint: {error}"));
        }
        let version = manifest.state().floor();
        match manifest.commit(vec![Action::Floor(Floor { version })]).await {
            Ok(Outcome::Committed(state)) => world.acknowledged(&state),
            other => return world.broken(format!("the last owner cannot commit: {other:?}")),
        }
    }
    match manifest.retain().await {
        Ok(retained) => world.note(process, format_args!("{retained:?}")),
        Err(error) => world.broken(format!("the last owner's retention fails: {error}")),
    }
    manifest.settle().await;
}

/// Once everybody is done: all is there, and reads as it was.
pub(super) async fn check_at_last(world: World, process: usize) {
    world.check_acknowledged();
    let context = world.context(process);
    let newest = match load(&context, REGION).await {
        Ok(newest) => newest,
        Err(error) => return world.broken(format!("the last reader fails: {error}")),
    };
    if Some(&newest) != world.newest().as_ref() {
        return world.broken("the last reader does not read the replay of everything".to_owned());
    }
    let states = world.states();
    for checkpoint in newest.checkpoints() {
        let read = async {
            let (root, reference) = read_root(&context, REGION, checkpoint.version).await?;
            Ok::<_, Error>((reference, read_state(&context, REGION, root).await?))
        };
        match read.await {
            Ok((reference, state)) if reference == *checkpoint && states.get(&checkpoint.version) == Some(&state) => {}
            Ok(_) => world.broken(format!("the checkpoint of {} is another one", checkpoint.version)),
            Err(error) => world.broken(format!("the logged checkpoint of {} cannot be read: {error}", checkpoint.version)),
        }
    }
    let pinned = newest.pins().values().map(|pin| pin.checkpoint.version);
    let promised: Vec<Slot> = states.range(newest.floor()..).map(|(version, _)| *version).take(3).chain(pinned).collect();
    for version in promised {
        match load_at(&context, REGION, version).await {
            Ok(state) => world.saw(process, "looks back at last at", &state),
            Err(error) => world.broken(format!("the promised version {version} cannot be read: {error}")),
        }
    }
}
