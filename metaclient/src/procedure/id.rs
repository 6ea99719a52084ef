//! Names of procedures.

use std::fmt;
use std::str::FromStr;

use tessera_manifest::env::Env;

use crate::limits::PROCEDURE_ID_BYTES_MAX;

/// The name of a procedure, given by who submits it and never used for another: 1 to 64 ASCII letters, digits,
/// `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcedureId(String);

impl ProcedureId {
    /// A fresh one; those of one process sort roughly by birth.
    #[must_use]
    pub fn fresh(env: &Env) -> Self {
        Self(env.ulid().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProcedureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the name of a procedure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a procedure id: it has 1 to {} ASCII letters, digits, '-', '_' and '.'", PROCEDURE_ID_BYTES_MAX)]
pub struct ParseProcedureIdError {
    /// The text.
    pub text: String,
}

impl FromStr for ProcedureId {
    type Err = ParseProcedureIdError;

    fn from_str(text: &str) -> Result<Self, ParseProcedureIdError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = (1..=PROCEDURE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(ParseProcedureIdError { text: text.to_owned() }) }
    }
}
