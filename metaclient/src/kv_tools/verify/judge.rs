//! Ledgers against the history that a watch delivered. Pure.
//!
//! The history is replayed change by change. Rules:
//! - Each transaction of the history is one that a writer sent, comes once, and is exactly what the writer sent:
//!   its keys, values, versions and revisions follow from the state before it.
//! - What was acknowledged is in the history, at the revision that was told, unless there was nothing to
//!   change. What was refused or failed is not. What is unknown may be there or not.
//! - A guard that held, held; one that did not, did not, at the revision that was told.
//! - A read is the state at its revision, and not older than what anybody had been told before it began.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Report;
use super::ledger::{Ledger, Outcome, Read, Write};
use crate::kv::{Change, Entry, Key, KeyRange, Revision, WatchBatch};

/// Violations that are told in words; the others are counted.
const TOLD_MAX: usize = 20;

#[derive(Debug, Default)]
struct State(BTreeMap<Key, Entry>);

impl State {
    fn within(&self, range: &KeyRange) -> impl Iterator<Item = &Entry> {
        let from_start = if range.is_empty() { None } else { Some(self.0.range(&range.start..)) };
        let end = range.clone();
        from_start.into_iter().flatten().map(|(_, entry)| entry).take_while(move |entry| end.contains(&entry.key))
    }

    fn last_written(&self, key: &Key) -> Revision {
        self.0.get(key).map_or(Revision(0), |entry| entry.mod_revision)
    }

    /// What a write changes when it runs as `revision`.
    fn changes_of(&self, write: &Write, revision: Revision) -> Vec<Change> {
        let mut changes = BTreeMap::new();
        for entry in write.deletes.iter().flat_map(|range| self.within(range)) {
            changes.insert(entry.key.clone(), Change::Delete { key: entry.key.clone() });
        }
        for key in &write.puts {
            let before = self.0.get(key);
            let entry = Entry {
                key: key.clone(),
                value: write.value(),
                create_revision: before.map_or(revision, |entry| entry.create_revision),
                mod_revision: revision,
                version: before.map_or(1, |entry| entry.version.saturating_add(1)),
                lease: None,
            };
            changes.insert(key.clone(), Change::Put(entry));
        }
        changes.into_values().collect()
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(entry) => self.0.insert(entry.key.clone(), entry.clone()),
                Change::Delete { key } => self.0.remove(key),
            };
        }
    }
}

/// Something that was told about the state at a revision.
enum Statement<'a> {
    Read(&'a Read),
    /// A write whose guard did not hold.
    Refused(&'a Write),
    /// A write that found nothing to change.
    Idle(&'a Write),
}

struct Judge<'a> {
    state: State,
    writes: HashMap<&'a str, &'a Write>,
    seen: HashSet<&'a str>,
    report: &'a mut Report,
}

/// Compares ledgers and history, and adds what does not fit to the report. The history must reach at least to
/// the last revision that anybody was told.
pub(super) fn judge(ledgers: &[Ledger], history: &[WatchBatch], report: &mut Report) {
    let writes = ledgers.iter().flat_map(|ledger| &ledger.writes).map(|write| (write.id.as_str(), write)).collect();
    let mut judge = Judge { state: State::default(), writes, seen: HashSet::new(), report };
    let mut statements = statements(ledgers);
    statements.sort_by_key(|(revision, _)| *revision);
    let mut statements = statements.into_iter().peekable();
    let mut last = Revision(0);
    for batch in history {
        while let Some((revision, statement)) = statements.next_if(|(revision, _)| *revision < batch.revision) {
            judge.check(revision, &statement);
        }
        if batch.revision <= last {
            judge.violation(format!("the watch delivered revision {} after {last}", batch.revision));
        }
        last = batch.revision;
        judge.replay(batch);
    }
    for (revision, statement) in statements {
        judge.check(revision, &statement);
    }
    judge.check_acknowledged(ledgers);
    judge.check_floors(ledgers);
}

/// What was told of states, with the revision of each.
fn statements(ledgers: &[Ledger]) -> Vec<(Revision, Statement<'_>)> {
    let mut statements = Vec::new();
    for ledger in ledgers {
        statements.extend(ledger.reads.iter().map(|read| (read.revision, Statement::Read(read))));
        statements.extend(ledger.writes.iter().filter_map(|write| match write.outcome {
            Outcome::Refused(revision) => Some((revision, Statement::Refused(write))),
            Outcome::Idle(revision) => Some((revision, Statement::Idle(write))),
            Outcome::Ran(_) | Outcome::Failed | Outcome::Unknown => None,
        }));
    }
    statements
}

impl<'a> Judge<'a> {
    fn violation(&mut self, text: String) {
        self.report.violations += 1;
        if self.report.told.len() < TOLD_MAX {
            self.report.told.push(text);
        }
    }

    /// The write that made a transaction of the history.
    fn author(&self, batch: &WatchBatch) -> Option<&'a Write> {
        let signature = batch.changes.iter().find_map(|change| match change {
            Change::Put(entry) => Some(String::from_utf8_lossy(&entry.value).into_owned()),
            Change::Delete { .. } => None,
        });
        if let Some(id) = signature {
            return self.writes.get(id.as_str()).copied();
        }
        // Deletes alone bear no signature: who was told this revision, else who was told nothing.
        let mut deleting = self.writes.values().copied().filter(|write| write.puts.is_empty());
        let told = deleting.clone().find(|write| write.outcome == Outcome::Ran(batch.revision));
        told.or_else(|| {
            deleting.find(|write| {
                let open = write.outcome == Outcome::Unknown && !self.seen.contains(write.id.as_str());
                open && self.state.changes_of(write, batch.revision) == batch.changes
            })
        })
    }

    fn replay(&mut self, batch: &WatchBatch) {
        let revision = batch.revision;
        match self.author(batch) {
            None => self.violation(format!("revision {revision} changes keys, and nobody asked for it: {:?}", batch.changes)),
            Some(write) => self.check_author(write, batch),
        }
        self.state.apply(&batch.changes);
    }

    fn check_author(&mut self, write: &'a Write, batch: &WatchBatch) {
        let (id, revision) = (&write.id, batch.revision);
        if !self.seen.insert(id) {
            self.violation(format!("{id} was applied again as revision {revision}"));
        }
        match write.outcome {
            Outcome::Ran(told) if told != revision => self.violation(format!("{id} was told revision {told} and is {revision}")),
            Outcome::Ran(_) => {}
            Outcome::Unknown => self.report.unknown_applied += 1,
            told @ (Outcome::Idle(_) | Outcome::Refused(_) | Outcome::Failed) => {
                self.violation(format!("{id} was told {told:?} and was applied as revision {revision}"));
            }
        }
        if let Some((key, expected)) = &write.guard {
            let found = self.state.last_written(key);
            if found != *expected {
                self.violation(format!("{id} ran as revision {revision} though '{key}' was written at {found}, not {expected}"));
            }
        }
        let expected = self.state.changes_of(write, revision);
        if expected != batch.changes {
            self.violation(format!("revision {revision} should be {expected:?} and is {:?}", batch.changes));
        }
    }

    fn check(&mut self, revision: Revision, statement: &Statement<'_>) {
        match statement {
            Statement::Read(read) => {
                if !self.state.within(&read.range).eq(&read.entries) {
                    let expected: Vec<&Entry> = self.state.within(&read.range).collect();
                    self.violation(format!("a read of {} at revision {revision} saw {:?}, not {expected:?}", read.range, read.entries));
                }
            }
            Statement::Refused(write) => {
                if let Some((key, expected)) = &write.guard
                    && self.state.last_written(key) == *expected
                {
                    self.violation(format!("{} was refused at revision {revision} though '{key}' was written at {expected}", write.id));
                }
            }
            Statement::Idle(write) => {
                let changes = self.state.changes_of(write, revision.next());
                if !changes.is_empty() {
                    self.violation(format!("{} found nothing to do at revision {revision}, where it had {changes:?}", write.id));
                }
            }
        }
    }

    fn check_acknowledged(&mut self, ledgers: &[Ledger]) {
        for write in ledgers.iter().flat_map(|ledger| &ledger.writes) {
            if let Outcome::Ran(revision) = write.outcome
                && !self.seen.contains(write.id.as_str())
            {
                self.violation(format!("{} was acknowledged as revision {revision} and is not in the history", write.id));
            }
        }
    }

    fn check_floors(&mut self, ledgers: &[Ledger]) {
        for ledger in ledgers {
            for read in ledger.reads.iter().filter(|read| read.revision < read.floor) {
                let (revision, floor) = (read.revision, read.floor);
                self.violation(format!("a read of {} is stale: it is of revision {revision}, and {floor} was known", read.range));
            }
            for write in &ledger.writes {
                if let Outcome::Ran(revision) | Outcome::Idle(revision) | Outcome::Refused(revision) = write.outcome
                    && revision < write.floor
                {
                    self.violation(format!("{} ran as revision {revision} when {} was known", write.id, write.floor));
                }
            }
        }
    }
}
