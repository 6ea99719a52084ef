//! What the actors of the simulation do: open, commit, checkpoint, free slots, follow.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::follower::Follower;
use super::super::history::{Base, CheckpointSource, load};
use super::super::record::{Kind, Record};
use super::super::store::{Listing, SlotStore};
use super::super::takeover::{OpenDraft, take_over};
use super::super::writer::{Outcome, Writer};
use super::oracle::Entries;
use super::store::World;
use crate::error::{Error, ErrorClass};
use crate::id::{Epoch, Nonce, Slot};

/// What an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Opens and commits, a few times over.
    Owner,
    /// Reads along.
    Follower,
    /// Opens once at the end, which must succeed.
    Last,
    /// Reads everything at the end.
    LastFollower,
}

pub(super) fn start(world: World, id: usize, role: Role) -> Pin<Box<dyn Future<Output = ()>>> {
    match role {
        Role::Owner => Box::pin(own(world, id)),
        Role::Follower => Box::pin(follow(world, id)),
        Role::Last => Box::pin(own_at_last(world, id)),
        Role::LastFollower => Box::pin(read_at_last(world, id)),
    }
}

/// Bytes of one entry: epoch, sequence, name.
const ENTRY: usize = 4 + 8 + 16;

fn encode_entries(entries: &Entries) -> Bytes {
    let entry = |(slot, id): &(Slot, Nonce)| slot.epoch.0.to_le_bytes().into_iter().chain(slot.seq.to_le_bytes()).chain(id.0.to_le_bytes());
    entries.iter().flat_map(entry).collect::<Vec<u8>>().into()
}

pub(super) fn decode_entries(bytes: &Bytes) -> Entries {
    let entry = |bytes: &[u8]| {
        let epoch = Epoch(u32::from_le_bytes(bytes[..4].try_into().unwrap()));
        let slot = Slot::new(epoch, u64::from_le_bytes(bytes[4..12].try_into().unwrap()));
        (slot, Nonce(u128::from_le_bytes(bytes[12..].try_into().unwrap())))
    };
    bytes.chunks_exact(ENTRY).map(entry).collect()
}

/// What an opener has in memory.
struct Draft {
    world: World,
    actor: usize,
    slots: SlotStore,
    objects: Arc<dyn ObjectStore>,
    stale: Arc<AtomicBool>,
    before: Entries,
    insists: bool,
}

impl Draft {
    fn new(world: &World, actor: usize) -> Self {
        let (slots, stale) = world.slots(actor);
        let objects = Arc::new(world.object_store(actor));
        Self { world: world.clone(), actor, slots, objects, stale, before: Vec::new(), insists: false }
    }

    fn entries(&self, history: &[Record]) -> Entries {
        let mut entries = self.before.clone();
        entries.extend(history.iter().filter(|record| record.kind == Kind::Data).map(|record| (record.slot, record.commit_id)));
        entries
    }
}

#[async_trait]
impl CheckpointSource for Draft {
    fn hint(&self) -> Option<Slot> {
        self.stale.store(true, Ordering::Relaxed);
        if self.world.chance(1, 2) { self.world.hint() } else { None }
    }

    async fn base(&mut self, listing: &Listing) -> Result<Option<Base>, Error> {
        self.stale.store(false, Ordering::Relaxed);
        self.before.clear();
        for slot in listing.checkpoints.iter().rev() {
            let path = self.slots.checkpoint_path(*slot);
            let bytes = match self.objects.get(&path).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            let Ok(bytes) = bytes else { continue };
            let entries = decode_entries(&bytes);
            let Some((slot, id)) = entries.last().copied() else { continue };
            self.before = entries;
            return Ok(Some(Base { slot, commit_id: Some(id) }));
        }
        Ok(None)
    }
}

#[async_trait]
impl OpenDraft for Draft {
    fn commit_id(&mut self) -> Nonce {
        self.world.nonce()
    }

    async fn seal_body(&mut self, _: &[Record]) -> Result<Bytes, Error> {
        Ok(Bytes::from_static(b"seal"))
    }

    async fn open_body(&mut self, _: Slot, history: &[Record]) -> Result<Bytes, Error> {
        Ok(encode_entries(&self.entries(history)))
    }

    fn may_create(&self) -> bool {
        true
    }

    async fn still_owner(&mut self) -> Result<bool, Error> {
        Ok(self.insists || self.world.is_named_owner(self.actor))
    }
}

/// Errors that an actor may meet while the store fails and others get in between; any other is a finding.
fn expected(world: &World, actor: usize, error: &Error) {
    world.note(actor, format_args!("error: {error}"));
    match error {
        Error::Fenced { .. } => world.oracle(|oracle| oracle.stats.fenced += 1),
        Error::Unknown { .. } => world.oracle(|oracle| oracle.stats.unknown += 1),
        _ => {}
    }
    if matches!(error.class(), ErrorClass::Corrupt | ErrorClass::Bug) {
        world.broken(format!("actor {actor} takes the log for damaged: {error}"));
    }
}

async fn own(world: World, actor: usize) {
    for _ in 0..=world.below(3) {
        world.name_owner(actor);
        let mut draft = Draft::new(&world, actor);
        let opening = world.nonce();
        match take_over(&draft.slots.clone(), opening, &mut draft).await {
            Ok(opened) => {
                let epoch = opened.writer.next_slot().epoch;
                world.note(actor, format_args!("owns epoch {epoch:?}"));
                world.oracle(|oracle| oracle.owns(epoch, opening));
                let entries = draft.entries(&opened.history);
                let owner = Owner { world: world.clone(), actor, draft, writer: opened.writer, entries, logged: Vec::new() };
                owner.work().await;
            }
            Err(error) => expected(&world, actor, &error),
        }
    }
}

/// An actor that owns an epoch, as far as it knows.
struct Owner {
    world: World,
    actor: usize,
    draft: Draft,
    writer: Writer,
    entries: Entries,
    logged: Vec<Slot>,
}

impl Owner {
    async fn work(mut self) {
        for _ in 0..self.world.below(10) {
            if !self.commit().await {
                return;
            }
            if self.world.chance(1, 3) && !self.checkpoint().await {
                return;
            }
        }
    }

    /// Whether the record was acknowledged.
    async fn commit(&mut self) -> bool {
        let (id, slot) = (self.world.nonce(), self.writer.next_slot());
        match self.writer.commit(id, Kind::Data, Bytes::from_static(b"data")).await {
            Ok(Outcome::Committed(_)) => {
                self.world.note(self.actor, format_args!("acknowledges {slot}"));
                self.world.oracle(|oracle| oracle.acked(slot, id));
                self.entries.push((slot, id));
                true
            }
            Ok(Outcome::Conflict(_)) => {
                self.world.note(self.actor, format_args!("conflict at {slot}"));
                self.world.oracle(|oracle| oracle.stats.fenced += 1);
                // A writer asks to commit again whatever it was told; it must be refused.
                self.writer.is_good()
            }
            Ok(Outcome::Unknown(error)) | Err(error) => {
                expected(&self.world, self.actor, &error);
                false
            }
        }
    }

    /// Writes a checkpoint of the present state, logs it, and frees what is behind the older of the two newest
    /// that are logged. Whether the writer goes on.
    async fn checkpoint(&mut self) -> bool {
        let Some((slot, _)) = self.entries.last().copied() else { return true };
        let path = self.draft.slots.checkpoint_path(slot);
        if self.draft.objects.put(&path, encode_entries(&self.entries).into()).await.is_err() {
            return true;
        }
        if !self.commit().await {
            return false;
        }
        self.logged.push(slot);
        if self.world.chance(1, 2) {
            self.world.set_hint(slot);
        }
        if let [.., older, _] = self.logged[..] {
            self.free_behind(older).await;
        }
        true
    }

    async fn free_behind(&self, older: Slot) {
        let Ok(listing) = self.draft.slots.list(None).await else { return };
        let behind: Vec<Slot> = listing.slots.into_iter().filter(|slot| *slot < older).collect();
        let Ok(data) = self.draft.slots.data_slots(&behind).await else { return };
        let freed = self.draft.slots.free(&data, older).await;
        self.world.oracle(|oracle| oracle.stats.freed += freed.freed);
        let roots = listing.checkpoints.into_iter().filter(|slot| *slot < older);
        let roots: Vec<_> = roots.map(|slot| Ok(self.draft.slots.checkpoint_path(slot))).collect();
        let deleted = self.draft.objects.delete_stream(futures::stream::iter(roots).boxed());
        deleted.for_each(|_| async {}).await;
    }
}

async fn own_at_last(world: World, actor: usize) {
    let mut draft = Draft { insists: true, ..Draft::new(&world, actor) };
    let opening = world.nonce();
    let opened = match take_over(&draft.slots.clone(), opening, &mut draft).await {
        Ok(opened) => opened,
        Err(error) => return world.broken(format!("the last opener fails: {error}")),
    };
    let epoch = opened.writer.next_slot().epoch;
    world.oracle(|oracle| oracle.owns(epoch, opening));
    let entries = draft.entries(&opened.history);
    let mut owner = Owner { world: world.clone(), actor, draft, writer: opened.writer, entries, logged: Vec::new() };
    if !owner.commit().await {
        world.broken("the last owner cannot commit".to_owned());
    }
}

async fn read_at_last(world: World, actor: usize) {
    let mut draft = Draft::new(&world, actor);
    match load(&draft.slots.clone(), &mut draft).await {
        Ok(loaded) => {
            let entries = draft.entries(&loaded.history);
            world.oracle(|oracle| oracle.read_in_the_end(&entries));
        }
        Err(error) => world.broken(format!("the last reader fails: {error}")),
    }
}

async fn follow(world: World, actor: usize) {
    for _ in 0..4 {
        let mut draft = Draft::new(&world, actor);
        let loaded = match load(&draft.slots.clone(), &mut draft).await {
            Ok(loaded) => loaded,
            Err(error) => {
                expected(&world, actor, &error);
                continue;
            }
        };
        let mut entries = draft.entries(&loaded.history);
        let mut follower = Follower::after(draft.slots.clone(), &loaded);
        for _ in 0..40 {
            match follower.poll().await {
                Ok(Some(record)) if record.kind == Kind::Data => entries.push((record.slot, record.commit_id)),
                Ok(_) => {}
                Err(error @ Error::MissingRecord { .. }) => {
                    world.oracle(|oracle| oracle.stats.passed += 1);
                    expected(&world, actor, &error);
                    break;
                }
                Err(error) => expected(&world, actor, &error),
            }
            world.oracle(|oracle| oracle.followed(&entries));
        }
    }
}
