//! Versions and ages as people type them.

use std::fmt;
use std::str::FromStr;

use tessera_manifest::id::{Epoch, Slot};

/// A version, typed as `2-17`, `2/17`, or with all its zeros; shown as `2-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(pub(super) Slot);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.epoch, self.0.seq)
    }
}

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version: write the epoch and the record's number in it, as in 2-17")]
pub(super) struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let parsed = text.split_once(['-', '/']).and_then(|(epoch, seq)| {
            let epoch = u32::try_from(number(epoch)?).ok()?;
            Some(Self(Slot::new(Epoch(epoch), number(seq)?)))
        });
        parsed.ok_or_else(|| NotAVersion(text.to_owned()))
    }
}

/// A version as people see it.
pub(crate) fn short(slot: Slot) -> String {
    Version(slot).to_string()
}

/// How long something is kept, typed as `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry {
    /// In milliseconds.
    pub(super) after_ms: u64,
}

/// A text that is no age.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an age: write a number and s, m, h, d or w, as in 7d")]
pub(super) struct NotAnAge(String);

impl FromStr for Expiry {
    type Err = NotAnAge;
    fn from_str(text: &str) -> Result<Self, NotAnAge> {
        let unit_ms = match text.bytes().last() {
            Some(b's') => 1_000,
            Some(b'm') => 60_000,
            Some(b'h') => 3_600_000,
            Some(b'd') => 86_400_000,
            Some(b'w') => 604_800_000,
            _ => return Err(NotAnAge(text.to_owned())),
        };
        let number = &text[..text.len() - 1];
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let after_ms = number.parse::<u64>().ok().filter(|_| digits).and_then(|number| number.checked_mul(unit_ms));
        after_ms.map(|after_ms| Self { after_ms }).ok_or_else(|| NotAnAge(text.to_owned()))
    }
}
