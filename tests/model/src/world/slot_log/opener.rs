//! A writer that takes the log over: read, seal, LIST once more, Open.

use super::{Content, EPOCHS, Kind, Phase, SEAL, SEAL_AHEAD, SEAL_FILL, SLOTS, SlotLog, State, TRIES_MAX, at, put, send};
use crate::explore::Steps;
use crate::guard::Guard;

impl SlotLog {
    pub(super) fn take_over(&self, state: &State, writer: usize, phase: Phase, steps: &mut Steps<State>) {
        match phase {
            Phase::Idle => self.read(state, writer, steps),
            Phase::Listed { at, replayed } => self.send_seal(state, writer, at, replayed, steps),
            Phase::Sealing { at, replayed } => self.settle_seal(state, writer, at, replayed, steps),
            Phase::SealingAhead { ahead, at, replayed } => self.settle_ahead(state, writer, (ahead, at), replayed, steps),
            Phase::Filling { ahead, at, replayed } => self.settle_fill(state, writer, (ahead, at), replayed, steps),
            Phase::Sealed { at, replayed } => self.list_again(state, writer, at, replayed, steps),
            Phase::Ready { epoch, replayed } => {
                let open = Content { kind: Kind::Open, writer: writer as u8, number: state.tries[writer] };
                steps.change(format_args!("writer {writer} sends Open ({epoch}, 0)"), state, |next| {
                    send(next, (epoch, 0), open);
                    next.writers[writer] = Phase::Opening { epoch, replayed };
                });
            }
            Phase::Opening { epoch, .. } => self.settle_open(state, writer, epoch, steps),
            Phase::Owner { .. } | Phase::Fenced => {}
        }
    }

    fn read(&self, state: &State, writer: usize, steps: &mut Steps<State>) {
        if usize::from(state.named) != writer || writer == 0 || state.tries[writer] >= TRIES_MAX {
            return;
        }
        let Some((end, replayed)) = self.replay(state) else { return };
        let phase = match end {
            Ok(at) if usize::from(at.1) < SLOTS - 1 => Phase::Listed { at, replayed },
            Err(at) if usize::from(at.0) + 1 < EPOCHS => Phase::Sealed { at, replayed },
            _ => return,
        };
        steps.change(format_args!("writer {writer} reads the log: {phase:?}"), state, |next| {
            next.tries[writer] += 1;
            next.writers[writer] = phase;
        });
    }

    fn send_seal(&self, state: &State, writer: usize, at: (u8, u8), replayed: u16, steps: &mut Steps<State>) {
        let seal = |number: u8| Content { kind: Kind::Seal, writer: writer as u8, number };
        steps.change(format_args!("writer {writer} sends a seal to {at:?}"), state, |next| {
            send(next, at, seal(SEAL));
            next.writers[writer] = Phase::Sealing { at, replayed };
        });
        let ahead = (at.0, at.1 + 1);
        if self.ahead && usize::from(ahead.1) < SLOTS {
            steps.change(format_args!("writer {writer} sends a seal ahead, to {ahead:?}"), state, |next| {
                send(next, ahead, seal(SEAL_AHEAD));
                next.writers[writer] = Phase::SealingAhead { ahead, at, replayed };
            });
        }
    }

    /// What took the slot first is replayed, and the next slot is tried; another's seal is as good as one's own.
    fn settle_seal(&self, state: &State, writer: usize, slot: (u8, u8), replayed: u16, steps: &mut Steps<State>) {
        let found = at(state, slot);
        let next_slot = (slot.0, slot.1 + 1);
        let phase = match found.kind {
            Kind::Empty => None,
            Kind::Seal if found.writer == writer as u8 || usize::from(slot.0) + 1 < EPOCHS => Some(Phase::Sealed { at: slot, replayed }),
            Kind::Seal => Some(Phase::Fenced),
            _ if usize::from(next_slot.1) < SLOTS => Some(Phase::Listed { at: next_slot, replayed: replayed | found.bit() }),
            _ => Some(Phase::Fenced),
        };
        if let Some(phase) = phase {
            steps.change(format_args!("writer {writer} finds {:?} in {slot:?}", found.kind), state, |next| next.writers[writer] = phase);
        }
        steps.change(format_args!("writer {writer} crashes, its seal on the way"), state, |next| next.writers[writer] = Phase::Idle);
    }

    fn settle_ahead(&self, state: &State, writer: usize, (ahead, slot): ((u8, u8), (u8, u8)), replayed: u16, steps: &mut Steps<State>) {
        let found = at(state, ahead);
        if found.kind == Kind::Seal {
            let kind = if self.holds(Guard::GapFilledWithSeals) { Kind::Seal } else { Kind::Fill };
            let fill = Content { kind, writer: writer as u8, number: SEAL_FILL };
            steps.change(format_args!("writer {writer} sealed ahead and fills {slot:?}"), state, |next| {
                send(next, slot, fill);
                next.writers[writer] = Phase::Filling { ahead, at: slot, replayed };
            });
        } else if found.kind != Kind::Empty {
            steps.change(format_args!("writer {writer} was too late for {ahead:?}"), state, |next| next.writers[writer] = Phase::Idle);
        }
        steps.change(format_args!("writer {writer} crashes after its seal ahead"), state, |next| next.writers[writer] = Phase::Idle);
    }

    /// The first seal in slot order ends the epoch.
    fn settle_fill(&self, state: &State, writer: usize, (ahead, slot): ((u8, u8), (u8, u8)), replayed: u16, steps: &mut Steps<State>) {
        let found = at(state, slot);
        let phase = match found.kind {
            Kind::Empty => return,
            Kind::Seal => Phase::Sealed { at: slot, replayed },
            _ => Phase::Sealed { at: ahead, replayed: replayed | found.bit() },
        };
        steps.change(format_args!("writer {writer} finds {:?} in the gap at {slot:?}", found.kind), state, |next| {
            next.writers[writer] = phase;
        });
    }

    /// A record, or a checkpoint, beyond the seal: the slot had been freed, the seal is void and stays where it is.
    fn list_again(&self, state: &State, writer: usize, seal: (u8, u8), replayed: u16, steps: &mut Steps<State>) {
        let beyond = self.holds(Guard::ListAfterSeal) && self.holds(Guard::ListIsConsistent) && self.beyond(state, seal);
        if beyond {
            steps.change(format_args!("writer {writer} lists beyond {seal:?}: its seal is void"), state, |next| {
                if !self.holds(Guard::VoidSealStays) {
                    put(next, seal, super::EMPTY);
                }
                next.writers[writer] = Phase::Idle;
                // Starting over is no failure.
                next.tries[writer] -= 1;
            });
        } else if usize::from(seal.0) + 1 < EPOCHS {
            steps.change(format_args!("writer {writer} lists beyond {seal:?}: nothing"), state, |next| {
                next.writers[writer] = Phase::Ready { epoch: seal.0 + 1, replayed };
            });
        }
    }

    fn settle_open(&self, state: &State, writer: usize, epoch: u8, steps: &mut Steps<State>) {
        let slot = (epoch, 0);
        let own = Content { kind: Kind::Open, writer: writer as u8, number: state.tries[writer] };
        let found = at(state, slot);
        if found == own {
            steps.change(format_args!("writer {writer} owns epoch {epoch}"), state, |next| {
                next.writers[writer] = Phase::Owner { epoch, next: 1, pending: false };
                if state.opened_by[usize::from(epoch)] != writer as u8 {
                    next.broken = Some("a paused opener became the owner of an epoch that another one opened");
                }
            });
        } else if found.kind != Kind::Empty {
            steps.change(format_args!("writer {writer} lost the race for epoch {epoch}"), state, |next| {
                next.writers[writer] = Phase::Idle;
            });
        } else if !state.network.contains(&(slot, own)) {
            steps.change(format_args!("writer {writer} sends Open ({epoch}, 0) again"), state, |next| send(next, slot, own));
        }
    }
}
