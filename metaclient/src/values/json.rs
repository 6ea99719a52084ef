//! Stored values as JSON, for people and their tools.
//!
//! Invariants:
//! - What [`to_json`] shows of a sound value, [`from_json`] makes that value of again; the versions in it are those
//!   that are stored, and are not needed to make one.
//! - Nothing is made that [`super::decode`] would refuse.

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tessera_manifest::id::Nonce;

use super::changes::Kind;
use super::convert::{Malformed, NextTableId, Stored, TableName};
use super::{HEADER_BYTES, ValueError, decode, encode};
use crate::catalog::{Database, Route, SwitchedOn, TableInfo, Tombstone};
use crate::kv::Key;
use crate::lock::Holder;
use crate::node::Node;
use crate::procedure::{Record, RunnerClaim};

/// Why JSON is not a value.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It has not the fields that a value of its kind has.
    #[error("that is no {kind}")]
    Shape {
        /// The kind that it should be of.
        kind: Kind,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Its content breaks a rule of the kind.
    #[error("that {kind} is not sound")]
    Malformed {
        /// The kind.
        kind: Kind,
        /// Which rule.
        source: Malformed,
    },
}

/// Runs `$run::<T>` for the type that values of `$kind` have.
macro_rules! by_kind {
    ($kind:expr, $run:ident($($argument:expr),*)) => {
        match $kind {
            Kind::Database => $run::<Database>($($argument),*),
            Kind::TableName => $run::<TableName>($($argument),*),
            Kind::Table => $run::<TableInfo>($($argument),*),
            Kind::Tombstone => $run::<Tombstone>($($argument),*),
            Kind::Route => $run::<Route>($($argument),*),
            Kind::Sequence => $run::<NextTableId>($($argument),*),
            Kind::Identity => $run::<Nonce>($($argument),*),
            Kind::Switch => $run::<SwitchedOn>($($argument),*),
            Kind::ProcedureRunner => $run::<RunnerClaim>($($argument),*),
            Kind::Procedure => $run::<Record>($($argument),*),
            Kind::Holder => $run::<Holder>($($argument),*),
            Kind::Node => $run::<Node>($($argument),*),
        }
    };
}

/// The kind that the envelope of a stored value names; `None` for bytes without an envelope, or of a kind that is not
/// known. Says nothing about whether the value is sound.
#[must_use]
pub fn kind_of(bytes: &[u8]) -> Option<Kind> {
    match bytes {
        [super::MAGIC, number, ..] if bytes.len() >= HEADER_BYTES => Kind::of_number(*number),
        _ => None,
    }
}

/// A value of this kind as JSON: the fields of its message by name, schemas and rules as JSON within.
///
/// # Errors
/// As [`super::decode`]; `key` is only named in it.
pub fn to_json(key: &Key, kind: Kind, bytes: &[u8]) -> Result<Value, ValueError> {
    by_kind!(kind, show(key, bytes))
}

fn show<T>(key: &Key, bytes: &[u8]) -> Result<Value, ValueError>
where
    T: Stored,
    T::Message: Serialize,
{
    // The value is checked whole; what is shown is the message as it is stored.
    decode::<T>(key, bytes)?;
    let damaged = |detail: String| ValueError::Damaged { key: key.clone(), detail };
    let message = T::Message::decode(bytes.get(HEADER_BYTES..).unwrap_or_default()).map_err(|error| damaged(error.to_string()))?;
    serde_json::to_value(&message).map_err(|error| damaged(error.to_string()))
}

/// The stored form, in the current version, of a value of this kind.
///
/// # Errors
/// What keeps it from being one.
pub fn from_json(kind: Kind, value: Value) -> Result<Bytes, JsonError> {
    by_kind!(kind, make(kind, value))
}

fn make<T>(kind: Kind, mut value: Value) -> Result<Bytes, JsonError>
where
    T: Stored,
    T::Message: DeserializeOwned,
{
    add_versions(kind, &mut value);
    let message: T::Message = serde_json::from_value(value).map_err(|source| JsonError::Shape { kind, source })?;
    let value = T::from_message(message).map_err(|source| JsonError::Malformed { kind, source })?;
    Ok(encode(&value))
}

/// Adds the versions where they are left out, in messages within too: it is encoded in the current one all the same.
fn add_versions(kind: Kind, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    let current = kind.current();
    fields.entry("ver").or_insert_with(|| current.ver.into());
    fields.entry("min_reader_ver").or_insert_with(|| current.min_reader_ver.into());
    if kind == Kind::Tombstone
        && let Some(table) = fields.get_mut("table")
    {
        add_versions(Kind::Table, table);
    }
}

/// Bytes that are JSON, as JSON within JSON.
pub(super) mod embedded {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(in crate::values) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_slice(bytes).map_err(S::Error::custom)?;
        value.serialize(serializer)
    }

    pub(in crate::values) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        serde_json::to_vec(&value).map_err(D::Error::custom)
    }
}

/// Bytes of a form that is not ours: as JSON within JSON where they are that, else a text of their hex digits.
pub(super) mod embedded_or_hex {
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(in crate::values) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<Value>(bytes) {
            // A text would be taken for hex digits, and other spaces would be lost.
            Ok(value) if !value.is_string() && serde_json::to_vec(&value).is_ok_and(|again| again == *bytes) => value.serialize(serializer),
            _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().serialize(serializer),
        }
    }

    pub(in crate::values) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let Value::String(hex) = value else {
            return serde_json::to_vec(&value).map(Bytes::from).map_err(D::Error::custom);
        };
        let digits: Option<Vec<u32>> = hex.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(|| D::Error::custom("expected pairs of hex digits"))?;
        Ok(digits.chunks(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use tessera_manifest::id::TableId;

    use super::*;

    fn key() -> Key {
        "k".into()
    }

    #[test]
    fn a_value_comes_back_from_its_json_with_or_without_versions() {
        let stored = encode(&Database { name: "public".into(), created_unix_ms: 7, options: BTreeMap::new() });
        let shown = to_json(&key(), kind_of(&stored).unwrap(), &stored).unwrap();
        assert_eq!(shown, json!({"ver": 2, "min_reader_ver": 1, "name": "public", "created_unix_ms": 7, "options": {}}));
        assert_eq!(from_json(Kind::Database, shown).unwrap(), stored);
        assert_eq!(from_json(Kind::Database, json!({"name": "public", "created_unix_ms": 7})).unwrap(), stored);
        let next = encode(&NextTableId(TableId(2048)));
        assert_eq!(from_json(Kind::Sequence, json!({"next": 2048})).unwrap(), next);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (kind, value) in [
            (Kind::Sequence, json!(2048)),
            (Kind::Sequence, json!({"next": 1_u64 << 32})),
            (Kind::Sequence, json!({"next": 1, "more": 2})),
            (Kind::Sequence, json!({})),
            (Kind::Database, json!({"name": "", "created_unix_ms": 7})),
            (Kind::Identity, json!({"id": "xyz"})),
            (Kind::Route, json!({"region": 1, "node": 1, "generation": 1, "rule": "nonsense"})),
        ] {
            assert!(from_json(kind, value.clone()).is_err(), "{kind}: {value}");
        }
    }

    #[test]
    fn bytes_without_an_envelope_have_no_kind_and_damage_is_named() {
        assert_eq!(kind_of(b"plain text"), None);
        assert_eq!(kind_of(b"T"), None);
        assert_eq!(kind_of(b"T\xffxxxxxx"), None);
        let mut stored = encode(&NextTableId(TableId(2048))).to_vec();
        *stored.last_mut().unwrap() ^= 1;
        assert!(matches!(to_json(&key(), Kind::Sequence, &stored), Err(ValueError::Damaged { .. })));
    }
}
