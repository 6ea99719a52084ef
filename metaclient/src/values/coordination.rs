//! Stored holders of locks and elections, and stored nodes.

use prost::Message;
use serde::{Deserialize, Serialize};
use tessera_manifest::id::NodeId;

use super::changes::Kind;
use super::convert::{Malformed, Stored};
use crate::lock::Holder;
use crate::node::Node;

/// Who holds, or waits for, a lock or an election.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HolderMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// Who that is.
    #[prost(string, tag = "3")]
    pub name: String,
    /// How many permits there are.
    #[prost(uint32, tag = "4")]
    pub permits: u32,
    /// Since when it stands there, in milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub since_unix_ms: u64,
}

/// A node.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// Its id.
    #[prost(uint64, tag = "3")]
    pub id: u64,
    /// Where it is reached.
    #[prost(string, tag = "4")]
    pub address: String,
    /// The version of its program.
    #[prost(string, tag = "5")]
    pub version: String,
    /// This start of it: 32 lower-case hex digits.
    #[prost(string, tag = "6")]
    pub incarnation: String,
    /// When it was started, in milliseconds since 1970.
    #[prost(uint64, tag = "7")]
    pub started_unix_ms: u64,
}

impl Stored for Holder {
    const KIND: Kind = Kind::Holder;
    type Message = HolderMessage;

    fn to_message(&self) -> HolderMessage {
        let Self { name, permits, since_unix_ms } = self;
        let version = Self::KIND.current();
        let (ver, min_reader_ver) = (version.ver, version.min_reader_ver);
        HolderMessage { ver, min_reader_ver, name: name.clone(), permits: *permits, since_unix_ms: *since_unix_ms }
    }

    fn from_message(message: HolderMessage) -> Result<Self, Malformed> {
        let HolderMessage { ver: _, min_reader_ver: _, name, permits, since_unix_ms } = message;
        if permits == 0 {
            return Err(Malformed::Number { part: "permits", number: 0 });
        }
        Ok(Self { name, permits, since_unix_ms })
    }
}

impl Stored for Node {
    const KIND: Kind = Kind::Node;
    type Message = NodeMessage;

    fn to_message(&self) -> NodeMessage {
        let Self { id, address, version: program, incarnation, started_unix_ms } = self;
        let version = Self::KIND.current();
        NodeMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            id: id.0,
            address: address.clone(),
            version: program.clone(),
            incarnation: incarnation.to_string(),
            started_unix_ms: *started_unix_ms,
        }
    }

    fn from_message(message: NodeMessage) -> Result<Self, Malformed> {
        let NodeMessage { ver: _, min_reader_ver: _, id, address, version, incarnation, started_unix_ms } = message;
        Ok(Self { id: NodeId(id), address, version, incarnation: incarnation.parse()?, started_unix_ms })
    }
}
