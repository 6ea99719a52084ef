//! The key space, for people: which keys there are and what is under them.

use crate::keys::MetaKey;
use crate::values::Kind;

/// One family of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its keys, with `{...}` for what differs.
    pub pattern: &'static str,
    /// What is stored under each.
    pub kind: Kind,
    /// What that says.
    pub what: &'static str,
}

/// All families, in the order of their keys.
pub const FAMILIES: &[Family] = &[
    Family { pattern: "cluster/id", kind: Kind::Identity, what: "the cluster's id, for ever" },
    Family { pattern: "cluster/incarnation", kind: Kind::Identity, what: "the id of this life of the metadata" },
    Family { pattern: "database/{database}", kind: Kind::Database, what: "a database" },
    Family { pattern: "election/{name}/{nonce}", kind: Kind::Holder, what: "who leads, or waits to" },
    Family { pattern: "lock/{name}/{nonce}", kind: Kind::Holder, what: "who holds, or waits for, a permit of a lock or semaphore" },
    Family { pattern: "node/{id}", kind: Kind::Node, what: "a node that is there" },
    Family { pattern: "procedure/row/{id}", kind: Kind::Procedure, what: "a procedure, also for a while after it is over" },
    Family { pattern: "procedure/runner", kind: Kind::ProcedureRunner, what: "who runs procedures" },
    Family { pattern: "route/read/{table}/{region}", kind: Kind::Route, what: "where a region is read" },
    Family { pattern: "route/write/{table}/{region}", kind: Kind::Route, what: "where a region is written" },
    Family { pattern: "sequence/table", kind: Kind::Sequence, what: "the next table id" },
    Family { pattern: "switch/{switch}", kind: Kind::Switch, what: "on while the key exists: recovery, maintenance, procedures-paused" },
    Family { pattern: "table/id/{table}", kind: Kind::Table, what: "a table" },
    Family { pattern: "table/name/{database}/{table name}", kind: Kind::TableName, what: "the id of the table of that name" },
    Family { pattern: "table/tombstone/{table}", kind: Kind::Tombstone, what: "a dropped table that is not cleared away yet" },
];

/// The family of a key.
#[must_use]
pub fn family(key: &MetaKey) -> &'static Family {
    let text = key.to_string();
    let fits = |family: &&Family| {
        let (pattern, parts) = (family.pattern.split('/'), text.split('/'));
        pattern.clone().count() == parts.clone().count() && pattern.zip(parts).all(|(known, part)| known.starts_with('{') || known == part)
    };
    FAMILIES.iter().find(fits).expect("a test checks that every kind of key is in the list")
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::{NodeId, Nonce, RegionId, RegionNumber, TableId};

    use super::*;
    use crate::keys::{RouteSet, Switch};

    #[test]
    fn every_kind_of_key_has_its_family() {
        let (id, region) = (TableId(7), RegionId::new(TableId(7), RegionNumber(1)));
        let name = || "a/b".to_owned();
        let keys = [
            MetaKey::ClusterId,
            MetaKey::IncarnationId,
            MetaKey::Database { database: name() },
            MetaKey::Candidate { election: name(), nonce: Nonce(1) },
            MetaKey::Lock { name: name(), nonce: Nonce(1) },
            MetaKey::Node { id: NodeId(1) },
            MetaKey::Procedure { id: "p-1".parse().unwrap() },
            MetaKey::ProcedureRunner,
            MetaKey::Route { set: RouteSet::Read, region },
            MetaKey::Route { set: RouteSet::Write, region },
            MetaKey::TableSequence,
            MetaKey::Switch { switch: Switch::Recovery },
            MetaKey::Table { id },
            MetaKey::TableName { database: name(), name: name() },
            MetaKey::Tombstone { id },
        ];
        for key in &keys {
            // A new kind of key has to come here, and into the list.
            match key {
                MetaKey::ClusterId | MetaKey::IncarnationId | MetaKey::TableSequence | MetaKey::Switch { .. } => {}
                MetaKey::Database { .. } | MetaKey::TableName { .. } | MetaKey::Table { .. } => {}
                MetaKey::Tombstone { .. } | MetaKey::Route { .. } => {}
                MetaKey::Procedure { .. } | MetaKey::ProcedureRunner => {}
                MetaKey::Candidate { .. } | MetaKey::Lock { .. } | MetaKey::Node { .. } => {}
            }
        }
        let found: Vec<&str> = keys.iter().map(|key| family(key).pattern).collect();
        let listed: Vec<&str> = FAMILIES.iter().map(|family| family.pattern).collect();
        assert_eq!(found, listed);
        assert!(listed.is_sorted());
    }
}
