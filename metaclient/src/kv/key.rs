//! Keys, key ranges, revisions and entries.

use std::fmt;

use bytes::Bytes;

use super::lease::LeaseId;

/// A byte string that names a value. Byte order is key order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The smallest key above this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut bytes = self.0.to_vec();
        bytes.push(0);
        Self(bytes.into())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.0.escape_ascii())
    }
}

/// How many transactions have changed the store. Where a store starts to count is its own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The next one. 64 bits outlast any store.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The transaction that created the key.
    pub create_revision: Revision,
    /// The transaction that wrote the value.
    pub mod_revision: Revision,
    /// How many puts the key has had since it was created, that one included.
    pub version: u64,
    /// The lease that the last put attached it to: the key is deleted when that lease ends.
    pub lease: Option<LeaseId>,
}

/// Keys from a start (included) to an end (excluded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key; an empty key lies before all.
    pub start: Key,
    /// The first key after the range; `None` when it has no end.
    pub end: Option<Key>,
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Key(Bytes::new()), end: None }
    }

    /// The keys from `start` (included) to `end` (excluded).
    #[must_use]
    pub fn between(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// The keys that start with `prefix`; all keys for the empty prefix.
    #[must_use]
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into();
        let mut end = start.0.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = end.split_last().map(|(last, head)| [head, &[last.wrapping_add(1)]].concat().into());
        Self { start, end }
    }

    /// Whether it can hold no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| self.start >= *end)
    }

    /// Whether `key` lies in it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        *key >= self.start && self.end.as_ref().is_none_or(|end| key < end)
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            Some(end) => write!(f, "'{}'..'{end}'", self.start),
            None => write!(f, "'{}'..", self.start),
        }
    }
}
