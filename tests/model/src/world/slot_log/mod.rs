//! The slot log: writers that take it over from one another, by sealing. DESIGN section 3.
//!
//! Slots are `(epoch, seq)`. A PUT leaves its sender and lands at any later time, once, and only in an empty slot; its
//! sender learns the outcome by reading the slot back. The KV hands ownership from writer to writer; each may be paused
//! anywhere, and openers may crash after a PUT of a seal. Any writer that logged a checkpoint deletes what is below it,
//! in any order, at any time: also one that was fenced long ago.
//!
//! - Invariants: a record that was acknowledged is in the replay of whoever opens the next epoch; nobody acknowledges in
//!   an epoch that has ended for it; an epoch has one owner.
//! - Goal (where a scenario asks for it): the last writer named by the KV gets to own the log, or its tries are used up.
//! - After the code: an opener that meets a seal, its own or another's, lists beyond it as if it had just put it there.

mod opener;

use crate::explore::{Steps, World};
use crate::guard::{Guard, Guards};

const EPOCHS: usize = 4;
const SLOTS: usize = 5;
const WRITERS: usize = 3;
/// An opener starts over so often.
const TRIES_MAX: u8 = 2;

/// Epoch and sequence number.
type Slot = (u8, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Empty,
    Open,
    Record,
    Seal,
    /// What fills the gap below a seal ahead, without the rule that it is a seal.
    Fill,
}

/// What a slot holds: who wrote it, and a number that tells its writes apart (a nonce).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Content {
    kind: Kind,
    writer: u8,
    number: u8,
}

const EMPTY: Content = Content { kind: Kind::Empty, writer: 0, number: 0 };
const SEAL: u8 = 9;
const SEAL_AHEAD: u8 = 8;
const SEAL_FILL: u8 = 7;

impl Content {
    /// The record as a bit of a set; other content is no member of one.
    fn bit(self) -> u16 {
        if self.kind == Kind::Record { 1 << (u16::from(self.writer) * 5 + u16::from(self.number)) } else { 0 }
    }
}

/// How far a writer is. `replayed` are the records that it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Listed { at: Slot, replayed: u16 },
    Sealing { at: Slot, replayed: u16 },
    SealingAhead { ahead: Slot, at: Slot, replayed: u16 },
    Filling { ahead: Slot, at: Slot, replayed: u16 },
    Sealed { at: Slot, replayed: u16 },
    Ready { epoch: u8, replayed: u16 },
    Opening { epoch: u8, replayed: u16 },
    Owner { epoch: u8, next: u8, pending: bool },
    Fenced,
}

/// Everything on the store, on the wire, and in the writers.
#[derive(Debug, Clone, Hash)]
pub struct State {
    slots: [[Content; SLOTS]; EPOCHS],
    /// The newest checkpoint, and the records that it stands for.
    checkpoint: Option<(Slot, u16)>,
    network: Vec<(Slot, Content)>,
    writers: [Phase; WRITERS],
    tries: [u8; WRITERS],
    written: [u8; WRITERS],
    own_checkpoint: [Option<Slot>; WRITERS],
    /// The owner that the KV names.
    named: u8,
    acknowledged: u16,
    /// What the first `Open` of each epoch replayed, and who created it.
    opened: [Option<u16>; EPOCHS],
    opened_by: [u8; EPOCHS],
    broken: Option<&'static str>,
}

/// The world and its size.
#[derive(Debug)]
pub struct SlotLog {
    /// Which rules hold.
    pub guards: Guards,
    /// Writers, up to three.
    pub writers: usize,
    /// Records that the first writer commits.
    pub first_records: u8,
    /// Records that each later writer commits.
    pub records: u8,
    /// Whether openers may seal a slot ahead of a busy writer.
    pub ahead: bool,
    /// Whether the last writer must be able to become the owner.
    pub progress: bool,
}

impl SlotLog {
    fn holds(&self, guard: Guard) -> bool {
        self.guards.holds(guard)
    }

    /// What a reader gets: the records, and the first free slot, or the seal of the last epoch. `None` for a gap that it
    /// takes for an error, or at the end of the model.
    fn replay(&self, state: &State) -> Option<(Result<Slot, Slot>, u16)> {
        let ((mut epoch, mut seq), mut records) = state.checkpoint.unwrap_or(((0, 0), 0));
        while usize::from(seq) < SLOTS {
            let row = &state.slots[usize::from(epoch)];
            let content = row[usize::from(seq)];
            match content.kind {
                Kind::Empty => {
                    let beyond = row[usize::from(seq)..].iter().any(|content| content.kind != Kind::Empty);
                    let refused = beyond && !self.holds(Guard::GapBelowSealIsNoError);
                    return (!refused).then_some((Ok((epoch, seq)), records));
                }
                Kind::Seal if usize::from(epoch) + 1 < EPOCHS && state.slots[usize::from(epoch) + 1][0].kind != Kind::Empty => {
                    (epoch, seq) = (epoch + 1, 0);
                }
                Kind::Seal => return Some((Err((epoch, seq)), records)),
                Kind::Open | Kind::Record | Kind::Fill => {
                    records |= content.bit();
                    seq += 1;
                }
            }
        }
        None
    }

    /// Whether anything above the seal says that the slot had been freed: records and checkpoints do, seals of the same
    /// epoch do not.
    fn beyond(&self, state: &State, seal: Slot) -> bool {
        let checkpoint = state.checkpoint.is_some_and(|(version, _)| version > seal);
        checkpoint
            || each_slot(state).any(|(slot, content)| {
                let exempt = slot.0 == seal.0 && matches!(content.kind, Kind::Seal | Kind::Fill);
                slot > seal && !(exempt && self.holds(Guard::SealsBeyondAreExempt))
            })
    }

    /// Any writer that logged a checkpoint deletes below it.
    fn retention(&self, state: &State, steps: &mut Steps<State>) {
        for (writer, checkpoint) in state.own_checkpoint.iter().enumerate().take(self.writers) {
            let Some(checkpoint) = checkpoint else { continue };
            for (slot, content) in each_slot(state).filter(|(slot, _)| slot < checkpoint) {
                let kept = match content.kind {
                    Kind::Seal => self.holds(Guard::SealsKept),
                    Kind::Open => self.holds(Guard::OpensKept),
                    _ => false,
                };
                if !kept {
                    steps.change(format_args!("retention of writer {writer} deletes {slot:?}"), state, |next| put(next, slot, EMPTY));
                }
            }
        }
    }

    /// A PUT that was sent lands: in an empty slot, or nowhere.
    fn land(&self, state: &State, steps: &mut Steps<State>) {
        for (index, (slot, content)) in state.network.iter().copied().enumerate() {
            let free = at(state, slot).kind == Kind::Empty;
            let label = if free { "lands" } else { "finds the slot taken" };
            steps.change(format_args!("{:?} of writer {} to {slot:?} {label}", content.kind, content.writer), state, |next| {
                next.network.remove(index);
                if free {
                    put(next, slot, content);
                    note_open(next, slot, content);
                }
            });
        }
    }

    fn own(&self, state: &State, writer: usize, (epoch, seq): Slot, pending: bool, steps: &mut Steps<State>) {
        let slot = (epoch, seq);
        let record = Content { kind: Kind::Record, writer: writer as u8, number: state.written[writer] };
        let records_max = if writer == 0 { self.first_records } else { self.records };
        if usize::from(seq) >= SLOTS - 1 {
            return;
        }
        if pending {
            return self.settle_commit(state, writer, slot, record, steps);
        }
        if state.written[writer] < records_max {
            steps.change(format_args!("writer {writer} sends a record to {slot:?}"), state, |next| {
                send(next, slot, record);
                next.writers[writer] = Phase::Owner { epoch, next: seq, pending: true };
            });
        }
        // The last record of its own is the one that logs a checkpoint.
        let version = (epoch, seq - 1);
        if seq >= 2 && state.own_checkpoint[writer] != Some(version) {
            steps.change(format_args!("writer {writer} logs a checkpoint at {version:?}"), state, |next| {
                let before = state.own_checkpoint[writer].and(state.checkpoint).map_or(0, |(_, records)| records);
                let own = state.slots[usize::from(epoch)][..usize::from(seq)].iter().fold(0, |records, content| records | content.bit());
                next.own_checkpoint[writer] = Some(version);
                if state.checkpoint.is_none_or(|(newest, _)| newest < version) {
                    next.checkpoint = Some((version, before | own | state.opened[usize::from(epoch)].unwrap_or(0)));
                }
            });
        }
    }

    /// The outcome of a commit, by reading the slot back.
    fn settle_commit(&self, state: &State, writer: usize, slot: Slot, record: Content, steps: &mut Steps<State>) {
        let found = at(state, slot);
        if found == record {
            steps.change(format_args!("writer {writer} acknowledges {slot:?}"), state, |next| {
                next.acknowledged |= record.bit();
                next.written[writer] += 1;
                next.writers[writer] = Phase::Owner { epoch: slot.0, next: slot.1 + 1, pending: false };
                let successor = state.opened.get(usize::from(slot.0) + 1).copied().flatten();
                if successor.is_some_and(|replayed| replayed & record.bit() == 0) {
                    next.broken = Some("a fenced writer acknowledged a commit");
                }
            });
        } else if found.kind != Kind::Empty {
            steps.change(format_args!("writer {writer} is fenced at {slot:?}"), state, |next| next.writers[writer] = Phase::Fenced);
        } else if !state.network.contains(&(slot, record)) {
            steps.change(format_args!("writer {writer} sends its record to {slot:?} again"), state, |next| send(next, slot, record));
        }
    }
}

fn at(state: &State, slot: Slot) -> Content {
    state.slots[usize::from(slot.0)][usize::from(slot.1)]
}

fn put(state: &mut State, slot: Slot, content: Content) {
    state.slots[usize::from(slot.0)][usize::from(slot.1)] = content;
}

fn send(state: &mut State, slot: Slot, content: Content) {
    if !state.network.contains(&(slot, content)) {
        state.network.push((slot, content));
        state.network.sort_unstable();
    }
}

/// Every slot that holds something.
fn each_slot(state: &State) -> impl Iterator<Item = (Slot, Content)> + '_ {
    let all = state
        .slots
        .iter()
        .enumerate()
        .flat_map(|(epoch, row)| row.iter().enumerate().map(move |(seq, content)| ((epoch as u8, seq as u8), *content)));
    all.filter(|(_, content)| content.kind != Kind::Empty)
}

/// The first `Open` of an epoch fixes what the history before it is: what its creator replayed.
fn note_open(state: &mut State, slot: Slot, content: Content) {
    let epoch = usize::from(slot.0);
    if content.kind != Kind::Open || state.opened[epoch].is_some() {
        return;
    }
    let replayed = match state.writers[usize::from(content.writer)] {
        Phase::Opening { replayed, .. } => replayed,
        _ => u16::MAX,
    };
    if state.acknowledged & !replayed != 0 {
        state.broken = Some("an acknowledged record is not in the new owner's replay");
    }
    state.opened[epoch] = Some(replayed);
    state.opened_by[epoch] = content.writer;
}

impl World for SlotLog {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: [[EMPTY; SLOTS]; EPOCHS],
            checkpoint: None,
            network: Vec::new(),
            writers: [Phase::Idle; WRITERS],
            tries: [0; WRITERS],
            written: [0; WRITERS],
            own_checkpoint: [None; WRITERS],
            named: 0,
            acknowledged: 0,
            opened: [None; EPOCHS],
            opened_by: [u8::MAX; EPOCHS],
            broken: None,
        };
        state.slots[0][0] = Content { kind: Kind::Open, writer: 0, number: 0 };
        state.writers[0] = Phase::Owner { epoch: 0, next: 1, pending: false };
        state.opened[0] = Some(0);
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if usize::from(state.named) + 1 < self.writers {
            steps.change(format_args!("the KV names writer {} as the owner", state.named + 1), state, |next| next.named += 1);
        }
        self.land(state, steps);
        self.retention(state, steps);
        for writer in 0..self.writers {
            match state.writers[writer] {
                Phase::Owner { epoch, next, pending } => self.own(state, writer, (epoch, next), pending, steps),
                phase => self.take_over(state, writer, phase, steps),
            }
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn has_goal(&self) -> bool {
        self.progress
    }

    fn is_goal(&self, state: &State) -> bool {
        let last = self.writers - 1;
        let phase = state.writers[last];
        let tired = state.tries[last] >= TRIES_MAX && matches!(phase, Phase::Idle | Phase::Fenced);
        let at_the_end = |slot: Slot| usize::from(slot.1) >= SLOTS - 2;
        let full = state.slots.iter().any(|row| row[SLOTS - 2].kind != Kind::Empty);
        let sealing_at_the_end =
            state.writers.iter().any(|phase| matches!(phase, Phase::Sealing { at, .. } | Phase::Listed { at, .. } if at_the_end(*at)));
        matches!(phase, Phase::Owner { .. }) || tired || full || sealing_at_the_end
    }
}
