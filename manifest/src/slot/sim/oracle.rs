//! What must hold at every moment of a run.
//!
//! - An `Open` is created once per epoch, and only in a newer epoch than all before it.
//! - Its history begins with the history of the `Open` before it, and holds everything acknowledged so far.
//! - A commit is not acknowledged after a newer `Open` exists, unless it is in that one's history.
//! - Who believes to own an epoch is the one whose `Open` stands in it, and one opening owns it.
//! - Nobody ever meets a damaged log.

use std::collections::BTreeMap;

use super::Stats;
use crate::id::{Epoch, Nonce, Slot};

/// The data records of a log, in order.
pub(super) type Entries = Vec<(Slot, Nonce)>;

#[derive(Debug, Default)]
pub(super) struct Oracle {
    opens: BTreeMap<Epoch, (Nonce, Entries)>,
    owners: BTreeMap<Epoch, Nonce>,
    acked: BTreeMap<Slot, Nonce>,
    pub(super) bad: Option<String>,
    pub(super) stats: Stats,
}

impl Oracle {
    pub(super) fn broken(&mut self, what: String) {
        self.bad.get_or_insert(what);
    }

    /// An `Open` appears on the store.
    pub(super) fn opened(&mut self, epoch: Epoch, writer: Nonce, history: Entries) {
        if let Some((newest, (_, before))) = self.opens.last_key_value() {
            let begins = history.len() >= before.len() && history[..before.len()] == before[..];
            if *newest >= epoch {
                let what = format!("the Open of epoch {epoch:?} is created although epoch {newest:?} was opened");
                return self.broken(what);
            }
            if !begins {
                let what = format!("the Open of epoch {epoch:?} forgets records that the one of epoch {newest:?} knew");
                return self.broken(what);
            }
        }
        if !history.is_sorted() {
            return self.broken(format!("the history of epoch {epoch:?} is out of order"));
        }
        let lost = self.acked.iter().find(|(slot, id)| history.binary_search(&(**slot, **id)).is_err());
        if let Some((slot, _)) = lost {
            let what = format!("the acknowledged record {slot} is not in the history of epoch {epoch:?}");
            return self.broken(what);
        }
        self.opens.insert(epoch, (writer, history));
    }

    /// A writer takes a commit for committed.
    pub(super) fn acked(&mut self, slot: Slot, id: Nonce) {
        self.stats.acked += 1;
        let newer = self.opens.range(slot.epoch.next()..).find(|(_, (_, history))| history.binary_search(&(slot, id)).is_err());
        if let Some((epoch, _)) = newer {
            let what = format!("record {slot} is acknowledged although epoch {epoch:?} was opened without it");
            return self.broken(what);
        }
        if self.acked.insert(slot, id).is_some_and(|before| before != id) {
            self.broken(format!("two records are acknowledged in slot {slot}"));
        }
    }

    /// An opener takes itself for the owner of `epoch`.
    pub(super) fn owns(&mut self, epoch: Epoch, writer: Nonce) {
        self.stats.opened += 1;
        if self.opens.get(&epoch).is_none_or(|(by, _)| *by != writer) {
            self.broken(format!("{writer} believes to own epoch {epoch:?}, which another opened"));
        }
        if self.owners.insert(epoch, writer).is_some() {
            self.broken(format!("epoch {epoch:?} has two owners"));
        }
    }

    /// The last reader has this.
    pub(super) fn read_in_the_end(&mut self, entries: &Entries) {
        if let Some((slot, _)) = self.acked.iter().find(|(slot, id)| entries.binary_search(&(**slot, **id)).is_err()) {
            let what = format!("the acknowledged record {slot} is not read in the end");
            self.broken(what);
        }
    }

    /// A follower that was never passed holds these; each of them must be what the newest opener found.
    pub(super) fn followed(&mut self, entries: &Entries) {
        let Some((epoch, (_, history))) = self.opens.last_key_value() else { return };
        let shared = entries.len().min(history.len());
        let unknown = entries[shared..].iter().any(|(slot, _)| slot.epoch < *epoch);
        if unknown || entries[..shared] != history[..shared] {
            self.broken("a follower read other records than the newest opener".to_owned());
        }
    }
}
