//! The protobuf messages. Field numbers are for ever; a field that is no longer used keeps its number.

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::json::embedded;

/// A database.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// When it was created, in milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub created_unix_ms: u64,
    /// Options.
    #[prost(btree_map = "string, string", tag = "5")]
    #[serde(default)]
    pub options: std::collections::BTreeMap<String, String>,
}

/// The id of a table, under its name.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableNameMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// The table's id.
    #[prost(uint32, tag = "3")]
    pub table_id: u32,
}

/// A table.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// Its id.
    #[prost(uint32, tag = "3")]
    pub id: u32,
    /// The database that it is in.
    #[prost(string, tag = "4")]
    pub database: String,
    /// Its name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Its schema, as JSON.
    #[prost(bytes = "vec", tag = "6")]
    #[serde(rename = "schema", with = "embedded")]
    pub schema_json: Vec<u8>,
    /// The ids of the columns that rules may name, in order.
    #[prost(uint32, repeated, tag = "7")]
    pub partition_columns: Vec<u32>,
    /// What was given in WITH.
    #[prost(btree_map = "string, string", tag = "8")]
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// When it was created, in milliseconds since 1970.
    #[prost(uint64, tag = "9")]
    pub created_unix_ms: u64,
    /// The number that the next region gets.
    #[prost(uint32, tag = "10")]
    pub next_region_number: u32,
    /// The generation that the next change of rules gets.
    #[prost(uint32, tag = "11")]
    pub next_generation: u32,
}

/// A table that was dropped.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TombstoneMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it; never below that of the table in it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// The table as it was.
    #[prost(message, optional, tag = "3")]
    pub table: Option<TableMessage>,
    /// When it was dropped, in milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub dropped_unix_ms: u64,
}

/// The route of a region.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// The region: table id in the upper 32 bits, region number in the lower.
    #[prost(uint64, tag = "3")]
    pub region: u64,
    /// The node that serves it.
    #[prost(uint64, tag = "4")]
    pub node: u64,
    /// The generation of its rule.
    #[prost(uint32, tag = "5")]
    pub generation: u32,
    /// Its rule, as JSON.
    #[prost(bytes = "vec", tag = "6")]
    #[serde(rename = "rule", with = "embedded")]
    pub rule_json: Vec<u8>,
}

/// The next id of a sequence.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// The next id to be given.
    #[prost(uint64, tag = "3")]
    pub next: u64,
}

/// The id of the cluster, or of its incarnation.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// 32 lower-case hex digits.
    #[prost(string, tag = "3")]
    pub id: String,
}

/// A switch that is on.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// When it was turned on, in milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub since_unix_ms: u64,
}
