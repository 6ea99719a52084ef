//! Every version of every kind of value, and what it changed.
//!
//! Invariants:
//! - [`CHANGES`] only grows, at its end. The versions of a kind count up from 1.
//! - A change that old readers may ignore keeps the `min_reader_ver` of the version before; any other raises
//!   it to its own version.

use std::fmt;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A database.
    Database,
    /// The id of a table, under its name.
    TableName,
    /// A table.
    Table,
    /// A table that was dropped.
    Tombstone,
    /// The route of a region.
    Route,
    /// The next id of a sequence.
    Sequence,
    /// The id of the cluster, or of its incarnation.
    Identity,
    /// A switch that is on.
    Switch,
    /// Who runs procedures.
    ProcedureRunner,
    /// A procedure.
    Procedure,
    /// Who holds, or waits for, a lock or an election.
    Holder,
    /// A node that is there.
    Node,
}

impl Kind {
    /// All kinds, in order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Database,
        Self::TableName,
        Self::Table,
        Self::Tombstone,
        Self::Route,
        Self::Sequence,
        Self::Identity,
        Self::Switch,
        Self::ProcedureRunner,
        Self::Procedure,
        Self::Holder,
        Self::Node,
    ];

    /// Its number in the envelope, never given to another kind.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Database => 1,
            Self::TableName => 2,
            Self::Table => 3,
            Self::Tombstone => 4,
            Self::Route => 5,
            Self::Sequence => 6,
            Self::Identity => 7,
            Self::Switch => 8,
            Self::ProcedureRunner => 9,
            Self::Procedure => 10,
            Self::Holder => 11,
            Self::Node => 12,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The version that this program writes, and up to which it reads.
    #[must_use]
    pub fn current(self) -> &'static VersionChange {
        let newest = CHANGES.iter().rev().find(|change| change.kind == self);
        newest.expect("a test checks that every kind has a version in the log")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::TableName => "table name",
            Self::Table => "table",
            Self::Tombstone => "tombstone",
            Self::Route => "route",
            Self::Sequence => "sequence",
            Self::Identity => "identity",
            Self::Switch => "switch",
            Self::ProcedureRunner => "procedure runner",
            Self::Procedure => "procedure",
            Self::Holder => "holder",
            Self::Node => "node",
        })
    }
}

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionChange {
    /// The kind of value that changed.
    pub kind: Kind,
    /// The version that the change made.
    pub ver: u32,
    /// The oldest version whose readers understand values of this one.
    pub min_reader_ver: u32,
    /// What changed, for people.
    pub what: &'static str,
}

/// The log.
pub const CHANGES: &[VersionChange] = &[
    VersionChange { kind: Kind::Database, ver: 1, min_reader_ver: 1, what: "name, creation time" },
    VersionChange { kind: Kind::TableName, ver: 1, min_reader_ver: 1, what: "table id" },
    VersionChange {
        kind: Kind::Table,
        ver: 1,
        min_reader_ver: 1,
        what: "id, database, name, schema (JSON), partition columns, options, creation time, next region number, next generation",
    },
    VersionChange { kind: Kind::Tombstone, ver: 1, min_reader_ver: 1, what: "the table as it was, drop time" },
    VersionChange { kind: Kind::Route, ver: 1, min_reader_ver: 1, what: "region, node, generation, rule (JSON)" },
    VersionChange { kind: Kind::Sequence, ver: 1, min_reader_ver: 1, what: "next id" },
    VersionChange { kind: Kind::Identity, ver: 1, min_reader_ver: 1, what: "128-bit id as 32 hex digits" },
    VersionChange { kind: Kind::Switch, ver: 1, min_reader_ver: 1, what: "since when it is on" },
    VersionChange { kind: Kind::ProcedureRunner, ver: 1, min_reader_ver: 1, what: "epoch, nonce of the claim, claim time" },
    VersionChange {
        kind: Kind::Procedure,
        ver: 1,
        min_reader_ver: 1,
        what: "id, kind, input, state, locks, phase, flags, steps, attempts, error, progress, output, epoch, writes, queue place, times",
    },
    VersionChange { kind: Kind::Holder, ver: 1, min_reader_ver: 1, what: "name, permits, since when" },
    VersionChange { kind: Kind::Node, ver: 1, min_reader_ver: 1, what: "id, address, program version, incarnation, start time" },
    VersionChange { kind: Kind::Database, ver: 2, min_reader_ver: 1, what: "options" },
    VersionChange { kind: Kind::Procedure, ver: 2, min_reader_ver: 1, what: "the blocked procedure whose place it takes" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_every_kind_count_up_from_one() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index + 1);
            let changes: Vec<_> = CHANGES.iter().filter(|change| change.kind == kind).collect();
            assert!(!changes.is_empty(), "{kind} has no version");
            for (index, change) in changes.iter().enumerate() {
                assert_eq!(change.ver as usize, index + 1, "{kind}");
                assert!((1..=change.ver).contains(&change.min_reader_ver), "{kind}");
            }
        }
    }

    #[test]
    fn the_log_begins_with_what_it_said_before() {
        let lines: Vec<String> = CHANGES.iter().map(|c| format!("{} {} {} {}", c.kind, c.ver, c.min_reader_ver, c.what)).collect();
        let frozen: Vec<&str> = include_str!("../../tests/compat/changes.txt").lines().collect();
        assert_eq!(lines, frozen, "add new lines to tests/compat/changes.txt, and change none");
    }
}
