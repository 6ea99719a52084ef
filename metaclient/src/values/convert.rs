//! Between domain types and messages.
//!
//! Invariants:
//! - Encoders take the domain type apart completely: a new field breaks the build until it is stored.
//! - Decoders check every rule of the domain type, so that nothing unsound comes out of the store.

use prost::Message;
use serde::de::DeserializeOwned;
use tessera_manifest::id::{ColumnId, Generation, Nonce, ParseIdError, RegionId, RegionNumber, TableId};
use tessera_manifest::schema::Schema;

use super::changes::Kind;
use super::messages::{
    DatabaseMessage, IdentityMessage, RouteMessage, SequenceMessage, SwitchMessage, TableMessage, TableNameMessage, TombstoneMessage,
};
use crate::catalog::{Database, Route, SwitchedOn, TableError, TableInfo, Tombstone};

/// Which rule the content of a stored value breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A part is missing.
    #[error("it has no {part}")]
    Missing {
        /// The part.
        part: &'static str,
    },
    /// A part in JSON cannot be read.
    #[error("its {part} is not sound JSON: {detail}")]
    Json {
        /// The part.
        part: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A number or text is not an id of its kind.
    #[error("it has an impossible id")]
    Id {
        /// Which.
        #[from]
        source: ParseIdError,
    },
    /// A number stands for nothing that is known.
    #[error("its {part} cannot be {number}")]
    Number {
        /// The part.
        part: &'static str,
        /// The number.
        number: u64,
    },
    /// The table breaks a rule of tables.
    #[error("its table is not sound")]
    Table {
        /// Which rule.
        #[from]
        source: TableError,
    },
}

/// A domain type that can be stored.
pub trait Stored: Sized {
    /// What it is in the store.
    const KIND: Kind;
    /// Its message.
    type Message: Message + Default;

    /// The message, in the current version.
    fn to_message(&self) -> Self::Message;

    /// The value of a message of any version that this program reads.
    ///
    /// # Errors
    /// Which rule of the type the message breaks.
    fn from_message(message: Self::Message) -> Result<Self, Malformed>;
}

/// What is stored under a table's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableName(pub TableId);

/// What is stored as the sequence of table ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTableId(pub TableId);

fn parse_json<T: DeserializeOwned>(part: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| Malformed::Json { part, detail: error.to_string() })
}

impl Stored for Database {
    const KIND: Kind = Kind::Database;
    type Message = DatabaseMessage;

    fn to_message(&self) -> DatabaseMessage {
        let Self { name, created_unix_ms, options } = self;
        let version = Self::KIND.current();
        DatabaseMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            name: name.clone(),
            created_unix_ms: *created_unix_ms,
            options: options.clone(),
        }
    }

    fn from_message(message: DatabaseMessage) -> Result<Self, Malformed> {
        let DatabaseMessage { ver: _, min_reader_ver: _, name, created_unix_ms, options } = message;
        if name.is_empty() { Err(Malformed::Missing { part: "name" }) } else { Ok(Self { name, created_unix_ms, options }) }
    }
}

impl Stored for TableName {
    const KIND: Kind = Kind::TableName;
    type Message = TableNameMessage;

    fn to_message(&self) -> TableNameMessage {
        let Self(table_id) = self;
        let version = Self::KIND.current();
        TableNameMessage { ver: version.ver, min_reader_ver: version.min_reader_ver, table_id: table_id.0 }
    }

    fn from_message(message: TableNameMessage) -> Result<Self, Malformed> {
        let TableNameMessage { ver: _, min_reader_ver: _, table_id } = message;
        Ok(Self(TableId(table_id)))
    }
}

impl Stored for TableInfo {
    const KIND: Kind = Kind::Table;
    type Message = TableMessage;

    fn to_message(&self) -> TableMessage {
        let Self { id, database, name, schema, partition_columns, options, created_unix_ms, next_region_number, next_generation } = self;
        let version = Self::KIND.current();
        TableMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            id: id.0,
            database: database.clone(),
            name: name.clone(),
            schema_json: serde_json::to_vec(schema).expect("a schema is structs, lists and texts, which JSON can always hold"),
            partition_columns: partition_columns.iter().map(|id| id.0).collect(),
            options: options.clone(),
            created_unix_ms: *created_unix_ms,
            next_region_number: next_region_number.0,
            next_generation: next_generation.as_u32(),
        }
    }

    fn from_message(message: TableMessage) -> Result<Self, Malformed> {
        let schema: Schema = parse_json("schema", &message.schema_json)?;
        let info = Self {
            id: TableId(message.id),
            database: message.database,
            name: message.name,
            schema,
            partition_columns: message.partition_columns.into_iter().map(ColumnId).collect(),
            options: message.options,
            created_unix_ms: message.created_unix_ms,
            next_region_number: RegionNumber(message.next_region_number),
            next_generation: Generation::try_from(message.next_generation)?,
        };
        info.check()?;
        Ok(info)
    }
}

impl Stored for Tombstone {
    const KIND: Kind = Kind::Tombstone;
    type Message = TombstoneMessage;

    fn to_message(&self) -> TombstoneMessage {
        let Self { table, dropped_unix_ms } = self;
        let version = Self::KIND.current();
        TombstoneMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            table: Some(table.to_message()),
            dropped_unix_ms: *dropped_unix_ms,
        }
    }

    fn from_message(message: TombstoneMessage) -> Result<Self, Malformed> {
        let TombstoneMessage { ver: _, min_reader_ver: _, table, dropped_unix_ms } = message;
        let table = table.ok_or(Malformed::Missing { part: "table" })?;
        Ok(Self { table: TableInfo::from_message(table)?, dropped_unix_ms })
    }
}

impl Stored for Route {
    const KIND: Kind = Kind::Route;
    type Message = RouteMessage;

    fn to_message(&self) -> RouteMessage {
        let Self { region, node, generation, rule } = self;
        let version = Self::KIND.current();
        RouteMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            region: region.as_u64(),
            node: node.0,
            generation: generation.as_u32(),
            rule_json: serde_json::to_vec(rule).expect("a rule is enums, lists and texts, which JSON can always hold"),
        }
    }

    fn from_message(message: RouteMessage) -> Result<Self, Malformed> {
        let RouteMessage { ver: _, min_reader_ver: _, region, node, generation, rule_json } = message;
        Ok(Self {
            region: RegionId::from_u64(region),
            node: tessera_manifest::id::NodeId(node),
            generation: Generation::try_from(generation)?,
            rule: parse_json("rule", &rule_json)?,
        })
    }
}

impl Stored for NextTableId {
    const KIND: Kind = Kind::Sequence;
    type Message = SequenceMessage;

    fn to_message(&self) -> SequenceMessage {
        let Self(next) = self;
        let version = Self::KIND.current();
        SequenceMessage { ver: version.ver, min_reader_ver: version.min_reader_ver, next: u64::from(next.0) }
    }

    fn from_message(message: SequenceMessage) -> Result<Self, Malformed> {
        let SequenceMessage { ver: _, min_reader_ver: _, next } = message;
        let refused = || ParseIdError { kind: "table id", text: next.to_string(), expected: "a number below 2^32" };
        Ok(Self(TableId(u32::try_from(next).map_err(|_| refused())?)))
    }
}

impl Stored for Nonce {
    const KIND: Kind = Kind::Identity;
    type Message = IdentityMessage;

    fn to_message(&self) -> IdentityMessage {
        let version = Self::KIND.current();
        IdentityMessage { ver: version.ver, min_reader_ver: version.min_reader_ver, id: self.to_string() }
    }

    fn from_message(message: IdentityMessage) -> Result<Self, Malformed> {
        Ok(message.id.parse()?)
    }
}

impl Stored for SwitchedOn {
    const KIND: Kind = Kind::Switch;
    type Message = SwitchMessage;

    fn to_message(&self) -> SwitchMessage {
        let Self { since_unix_ms } = *self;
        let version = Self::KIND.current();
        SwitchMessage { ver: version.ver, min_reader_ver: version.min_reader_ver, since_unix_ms }
    }

    fn from_message(message: SwitchMessage) -> Result<Self, Malformed> {
        let SwitchMessage { ver: _, min_reader_ver: _, since_unix_ms } = message;
        Ok(Self { since_unix_ms })
    }
}
