//! The names under which metadata is kept.
//!
//! Invariants:
//! - [`MetaKey`]'s `Display` and `FromStr` are inverse to each other, and `FromStr` accepts nothing else: a
//!   key that parses is a key that we wrote.
//! - Ids are padded to ten digits, so that byte order is number order and no id is a prefix of another.
//! - Names of databases and tables are case-sensitive UTF-8, never empty. `/`, `%` and ASCII control
//!   characters are written as `%` and two upper-case hex digits; everything else stands for itself.
//!
//! | key                             | value                                                    |
//! |---------------------------------|----------------------------------------------------------|
//! | `cluster/id`                    | the cluster's id, for ever                               |
//! | `cluster/incarnation`           | the id of this life of the metadata                      |
//! | `sequence/table`                | the next table id                                        |
//! | `database/{db}`                 | a database                                               |
//! | `table/name/{db}/{name}`        | the id of the table of that name                         |
//! | `table/id/{id}`                 | the table                                                |
//! | `table/tombstone/{id}`          | a table that was dropped, as it was                      |
//! | `route/read/{table}/{region}`   | where a region is read: node, generation, rule           |
//! | `route/write/{table}/{region}`  | where a region is written: node, generation, rule        |
//! | `procedure/runner`              | who runs procedures: the epoch                           |
//! | `procedure/row/{id}`            | a procedure                                              |
//! | `lock/{name}/{nonce}`           | who holds, or waits for, a permit of a lock or semaphore |
//! | `election/{name}/{nonce}`       | who leads, or waits to                                   |
//! | `node/{id}`                     | a node that is there                                     |
//! | `switch/{switch}`               | since when the switch is on; no key: it is off           |

use std::fmt;
use std::str::FromStr;

use tessera_manifest::id::{NodeId, Nonce, RegionId, RegionNumber, TableId};

use crate::kv::{Key, KeyRange};
use crate::procedure::ProcedureId;

/// Which of a table's two route sets: they differ only while the table is repartitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteSet {
    /// The regions that queries read.
    Read,
    /// The regions that writes go to.
    Write,
}

impl RouteSet {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What an operator turns on and off for the whole cluster. A switch is on while its key exists, so that a transaction
/// that depends on it compares one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// Recovery mode: nothing is created, so that the next table id can be set.
    Recovery,
    /// Maintenance mode: nothing is moved between nodes on the cluster's own initiative.
    Maintenance,
    /// Procedures are paused: none takes a further step.
    ProceduresPaused,
}

impl Switch {
    /// All switches.
    pub const ALL: [Self; 3] = [Self::Recovery, Self::Maintenance, Self::ProceduresPaused];

    /// Its name in keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Maintenance => "maintenance",
            Self::ProceduresPaused => "procedures-paused",
        }
    }
}

/// The name of a piece of metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetaKey {
    /// The cluster's id.
    ClusterId,
    /// The incarnation's id.
    IncarnationId,
    /// The next table id.
    TableSequence,
    /// A database.
    Database {
        /// Its name.
        database: String,
    },
    /// The id of a table by name.
    TableName {
        /// The database.
        database: String,
        /// The table.
        name: String,
    },
    /// A table.
    Table {
        /// Its id.
        id: TableId,
    },
    /// A dropped table.
    Tombstone {
        /// Its id.
        id: TableId,
    },
    /// The route of a region.
    Route {
        /// Which set.
        set: RouteSet,
        /// The region.
        region: RegionId,
    },
    /// Who runs procedures.
    ProcedureRunner,
    /// A procedure.
    Procedure {
        /// Its id.
        id: ProcedureId,
    },
    /// Who holds, or waits for, a permit of a lock or semaphore.
    Lock {
        /// The lock's name.
        name: String,
        /// The holder's.
        nonce: Nonce,
    },
    /// Who leads, or waits to.
    Candidate {
        /// The election's name.
        election: String,
        /// The candidate's.
        nonce: Nonce,
    },
    /// A node that is there.
    Node {
        /// Its id.
        id: NodeId,
    },
    /// A switch that is on.
    Switch {
        /// Which.
        switch: Switch,
    },
}

impl MetaKey {
    /// The key in the store.
    #[must_use]
    pub fn to_key(&self) -> Key {
        self.to_string().into()
    }

    /// The name of a stored key.
    ///
    /// # Errors
    /// When it is not the exact text of one.
    pub fn from_key(key: &Key) -> Result<Self, ParseKeyError> {
        let text = std::str::from_utf8(key.as_bytes()).map_err(|_| ParseKeyError { key: key.clone() })?;
        text.parse()
    }
}

/// All databases.
#[must_use]
pub fn databases() -> KeyRange {
    KeyRange::prefix("database/")
}

/// The names of all tables of a database.
#[must_use]
pub fn table_names(database: &str) -> KeyRange {
    KeyRange::prefix(table_names_prefix(database))
}

/// What the names of all tables of a database start with.
#[must_use]
pub fn table_names_prefix(database: &str) -> Key {
    format!("table/name/{}/", Escaped(database)).into()
}

/// All tables, in order of their ids.
#[must_use]
pub fn tables() -> KeyRange {
    KeyRange::prefix("table/id/")
}

/// All tombstones, in order of table ids.
#[must_use]
pub fn tombstones() -> KeyRange {
    KeyRange::prefix("table/tombstone/")
}

/// One route set of a table, in order of region numbers.
#[must_use]
pub fn routes(set: RouteSet, table: TableId) -> KeyRange {
    KeyRange::prefix(format!("route/{}/{:010}/", set.as_str(), table.0))
}

/// The holders of a lock or semaphore, and those who wait.
#[must_use]
pub fn locks(name: &str) -> KeyRange {
    KeyRange::prefix(format!("lock/{}/", Escaped(name)))
}

/// The candidates of an election.
#[must_use]
pub fn candidates(election: &str) -> KeyRange {
    KeyRange::prefix(format!("election/{}/", Escaped(election)))
}

/// All nodes, in order of their ids.
#[must_use]
pub fn nodes() -> KeyRange {
    KeyRange::prefix("node/")
}

/// All procedures, in byte order of their ids.
#[must_use]
pub fn procedures() -> KeyRange {
    KeyRange::prefix("procedure/row/")
}

/// All procedures, and who runs them.
#[must_use]
pub fn procedures_and_runner() -> KeyRange {
    KeyRange::prefix("procedure/")
}

impl fmt::Display for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterId => f.write_str("cluster/id"),
            Self::IncarnationId => f.write_str("cluster/incarnation"),
            Self::TableSequence => f.write_str("sequence/table"),
            Self::Database { database } => write!(f, "database/{}", Escaped(database)),
            Self::TableName { database, name } => write!(f, "table/name/{}/{}", Escaped(database), Escaped(name)),
            Self::Table { id } => write!(f, "table/id/{:010}", id.0),
            Self::Tombstone { id } => write!(f, "table/tombstone/{:010}", id.0),
            Self::Route { set, region } => {
                write!(f, "route/{}/{:010}/{:010}", set.as_str(), region.table().0, region.number().0)
            }
            Self::ProcedureRunner => f.write_str("procedure/runner"),
            Self::Procedure { id } => write!(f, "procedure/row/{id}"),
            Self::Lock { name, nonce } => write!(f, "lock/{}/{nonce}", Escaped(name)),
            Self::Candidate { election, nonce } => write!(f, "election/{}/{nonce}", Escaped(election)),
            Self::Node { id } => write!(f, "node/{:020}", id.0),
            Self::Switch { switch } => write!(f, "switch/{}", switch.as_str()),
        }
    }
}

/// A stored key that is not the exact text of a [`MetaKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{key}' is not a metadata key")]
pub struct ParseKeyError {
    /// The key.
    pub key: Key,
}

impl FromStr for MetaKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let parts: Vec<&str> = text.split('/').collect();
        parse(&parts).ok_or_else(|| ParseKeyError { key: text.into() })
    }
}

fn parse(parts: &[&str]) -> Option<MetaKey> {
    Some(match *parts {
        ["cluster", "id"] => MetaKey::ClusterId,
        ["cluster", "incarnation"] => MetaKey::IncarnationId,
        ["sequence", "table"] => MetaKey::TableSequence,
        ["database", database] => MetaKey::Database { database: unescape(database)? },
        ["table", "name", database, name] => MetaKey::TableName { database: unescape(database)?, name: unescape(name)? },
        ["table", "id", id] => MetaKey::Table { id: TableId(parse_number(id)?) },
        ["table", "tombstone", id] => MetaKey::Tombstone { id: TableId(parse_number(id)?) },
        ["route", set, table, region] => {
            let set = [RouteSet::Read, RouteSet::Write].into_iter().find(|known| known.as_str() == set)?;
            let region = RegionId::new(TableId(parse_number(table)?), RegionNumber(parse_number(region)?));
            MetaKey::Route { set, region }
        }
        ["procedure", "runner"] => MetaKey::ProcedureRunner,
        ["procedure", "row", id] => MetaKey::Procedure { id: id.parse().ok()? },
        ["lock", name, nonce] => MetaKey::Lock { name: unescape(name)?, nonce: nonce.parse().ok()? },
        ["election", election, nonce] => MetaKey::Candidate { election: unescape(election)?, nonce: nonce.parse().ok()? },
        ["node", id] if id.len() == 20 && id.bytes().all(|b| b.is_ascii_digit()) => MetaKey::Node { id: NodeId(id.parse().ok()?) },
        ["switch", name] => MetaKey::Switch { switch: Switch::ALL.into_iter().find(|known| known.as_str() == name)? },
        _ => return None,
    })
}

fn parse_number(text: &str) -> Option<u32> {
    let padded = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit());
    if padded { text.parse().ok() } else { None }
}

/// A name as it stands in a key.
struct Escaped<'a>(&'a str);

const fn is_plain(c: char) -> bool {
    c != '/' && c != '%' && !c.is_ascii_control()
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // What is escaped is ASCII, so its code is its one byte.
            if is_plain(c) { write!(f, "{c}")? } else { write!(f, "%{:02X}", u32::from(c))? }
        }
        Ok(())
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            let code = chars.next()?.to_digit(16)? * 16 + chars.next()?.to_digit(16)?;
            name.push(char::from_u32(code)?);
        } else {
            name.push(c);
        }
    }
    // Only the canonical form: nothing escaped that need not be, no lower-case digits.
    (!name.is_empty() && Escaped(&name).to_string() == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_text(key: &MetaKey, text: &str) {
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse::<MetaKey>().as_ref(), Ok(key));
    }

    #[test]
    fn every_kind_of_key_has_its_documented_text() {
        let region = RegionId::new(TableId(1024), RegionNumber(3));
        assert_text(&MetaKey::ClusterId, "cluster/id");
        assert_text(&MetaKey::IncarnationId, "cluster/incarnation");
        assert_text(&MetaKey::TableSequence, "sequence/table");
        assert_text(&MetaKey::Database { database: "public".into() }, "database/public");
        assert_text(&MetaKey::TableName { database: "a/b".into(), name: "100%\n".into() }, "table/name/a%2Fb/100%25%0A");
        assert_text(&MetaKey::TableName { database: "Öl".into(), name: "CPU".into() }, "table/name/Öl/CPU");
        assert_text(&MetaKey::Table { id: TableId(1024) }, "table/id/0000001024");
        assert_text(&MetaKey::Tombstone { id: TableId(u32::MAX) }, "table/tombstone/4294967295");
        assert_text(&MetaKey::Route { set: RouteSet::Read, region }, "route/read/0000001024/0000000003");
        assert_text(&MetaKey::Route { set: RouteSet::Write, region }, "route/write/0000001024/0000000003");
        assert_text(&MetaKey::ProcedureRunner, "procedure/runner");
        assert_text(&MetaKey::Procedure { id: "drop-1024.a_B".parse().unwrap() }, "procedure/row/drop-1024.a_B");
        let hex = "0000000000000000000000000000000a";
        assert_text(&MetaKey::Lock { name: "a/b".into(), nonce: Nonce(10) }, &format!("lock/a%2Fb/{hex}"));
        assert_text(&MetaKey::Candidate { election: "e".into(), nonce: Nonce(10) }, &format!("election/e/{hex}"));
        assert_text(&MetaKey::Node { id: NodeId(7) }, "node/00000000000000000007");
        assert_text(&MetaKey::Switch { switch: Switch::Recovery }, "switch/recovery");
        assert_text(&MetaKey::Switch { switch: Switch::Maintenance }, "switch/maintenance");
        assert_text(&MetaKey::Switch { switch: Switch::ProceduresPaused }, "switch/procedures-paused");
    }

    #[test]
    fn anything_but_the_canonical_text_is_refused() {
        for text in [
            "",
            "cluster",
            "cluster/id/",
            "database/",
            "database/a/b",
            "table/name/a/",
            "table/name/a%2fb/c",
            "table/name/%41/c",
            "table/name/%/c",
            "table/name/%C3/c",
            "table/id/1024",
            "table/id/+000001024",
            "table/id/9999999999",
            "route/both/0000001024/0000000003",
            "route/read/0000001024",
            "lock/a/A",
            "node/7",
            "procedure/row/",
            "procedure/row/a%20b",
            "procedure/row/ä",
            "switch/other",
            "switch/recovery/on",
            "table/name/a\n/c",
        ] {
            assert!(text.parse::<MetaKey>().is_err(), "{text}");
        }
        assert!(MetaKey::from_key(&Key::from(vec![b'd', 0xff])).is_err());
    }

    #[test]
    fn a_database_whose_name_begins_with_another_is_not_in_its_range() {
        let key = MetaKey::TableName { database: "ab".into(), name: "t".into() }.to_key();
        assert!(!table_names("a").contains(&key));
        assert!(table_names("ab").contains(&key));
        let route = MetaKey::Route { set: RouteSet::Read, region: RegionId::new(TableId(10240), RegionNumber(0)) }.to_key();
        assert!(!routes(RouteSet::Read, TableId(1024)).contains(&route));
    }

    proptest! {
        #[test]
        fn any_names_survive_and_only_themselves_parse(database in "\\PC{1,8}|[/%\\x00-\\x1f]{1,4}", name in ".{1,8}") {
            let range = table_names(&database);
            let key = MetaKey::TableName { database, name };
            prop_assert_eq!(key.to_string().parse::<MetaKey>().unwrap(), key.clone());
            prop_assert!(range.contains(&key.to_key()));
        }
    }
}
