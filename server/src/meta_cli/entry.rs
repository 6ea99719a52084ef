//! An entry and its value, for people and as JSON.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use tessera_metaclient::keys::MetaKey;
use tessera_metaclient::kv::{Entry, Key};
use tessera_metaclient::layout;
use tessera_metaclient::values::{Kind, json};

use crate::cli::verb::Failure;
use crate::error::chain;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    /// A value of a kind that is known.
    Value(Value),
    /// Text that is no such value.
    Text(String),
    /// Bytes that are no text, in hex.
    Hex(String),
}

/// An entry.
#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    pub(super) key: String,
    /// The kind of the value; of a value that cannot be read, the kind that it should be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(flatten)]
    pub(super) content: Content,
    /// Why the value cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
}

/// The kind of value that belongs under a key; `None` for a key that is none of ours.
pub(super) fn kind_of_key(key: &Key) -> Option<Kind> {
    MetaKey::from_key(key).ok().map(|key| layout::family(&key).kind)
}

/// A key as it can be read and typed.
pub(super) fn shown(key: &Key) -> String {
    std::str::from_utf8(key.as_bytes()).map_or_else(|_| format!("{}", key.as_bytes().escape_ascii()), str::to_owned)
}

impl EntryView {
    pub(super) fn new(entry: &Entry) -> Self {
        let kind = kind_of_key(&entry.key).or_else(|| json::kind_of(&entry.value));
        let (content, error) = match kind.map(|kind| json::to_json(&entry.key, kind, &entry.value)) {
            Some(Ok(value)) => (Content::Value(value), None),
            Some(Err(error)) => (raw(&entry.value), Some(chain(&error))),
            None => (raw(&entry.value), None),
        };
        Self {
            key: shown(&entry.key),
            kind: kind.map(|kind| kind.to_string()),
            content,
            error,
            create_revision: entry.create_revision.0,
            mod_revision: entry.mod_revision.0,
            version: entry.version,
        }
    }

    /// Key and value on a line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}  {}", self.key, self.content.short());
        if let Some(error) = &self.error {
            let _ = write!(line, "  ({error})");
        }
        line
    }

    /// All of it, on several lines.
    pub(super) fn text(&self) -> String {
        let Self { key, kind, content, error, create_revision, mod_revision, version } = self;
        let kind = kind.as_ref().map_or_else(String::new, |kind| format!(" ({kind})"));
        let mut text = format!("{key}{kind}\n  created at revision {create_revision}, written at {mod_revision}, version {version}\n");
        if let Some(error) = error {
            let _ = writeln!(text, "  error: {error}");
        }
        let _ = writeln!(text, "{}", content.long());
        text
    }
}

fn raw(bytes: &[u8]) -> Content {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') => Content::Text(text.to_owned()),
        _ => Content::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

impl Content {
    fn short(&self) -> String {
        match self {
            Self::Value(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Hex(hex) => format!("0x{hex}"),
        }
    }

    fn long(&self) -> String {
        match self {
            Self::Value(value) => serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string()),
            Self::Text(text) => text.clone(),
            Self::Hex(hex) => format!("0x{hex}"),
        }
    }
}

/// The bytes to store under a key for what was given: a text that is JSON if the key is one of ours.
pub(super) fn value_of_text(key: &Key, text: &str) -> Result<Vec<u8>, Failure> {
    let Some(kind) = kind_of_key(key) else { return Ok(text.as_bytes().to_vec()) };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("key '{key}' holds a {kind}, given as JSON such as `tessera meta get` shows: {error}")))?;
    value_of_json(key, value)
}

/// The same for JSON: under a key that is none of ours, a text is stored as it is, and anything else as JSON.
pub(super) fn value_of_json(key: &Key, value: Value) -> Result<Vec<u8>, Failure> {
    let Some(kind) = kind_of_key(key) else {
        return Ok(match value {
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        });
    };
    // What `get --json` prints as a whole entry is understood too.
    let value = match value {
        Value::Object(mut entry) if entry.contains_key("mod_revision") && entry.contains_key("value") => {
            entry.remove("value").unwrap_or_default()
        }
        other => other,
    };
    let bytes = json::from_json(kind, value).map_err(|error| Failure::usage(format!("key '{key}': {}", chain(&error))))?;
    Ok(bytes.to_vec())
}

/// That a change was meant, if it is of a key of ours.
pub(super) fn check_force(key: &Key, force: bool) -> Result<(), Failure> {
    match kind_of_key(key) {
        Some(kind) if !force => Err(Failure::failed(format!(
            "key '{key}' holds a {kind} of the cluster, which the server keeps by itself: a wrong value makes tables unreadable; --force if you mean it"
        ))),
        _ => Ok(()),
    }
}
