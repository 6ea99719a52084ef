//! Table options: what `WITH (...)` of a CREATE TABLE may say.

use std::collections::BTreeMap;

use crate::error::{Code, ServerError};

/// Options with the values that they may have: what every table does already.
const KNOWN: [(&str, &str); 2] = [("append_mode", "false"), ("merge_mode", "last_row")];

/// Options that are a promise we cannot keep yet; they are refused rather than forgotten.
const LATER: [&str; 5] = ["ttl", "storage", "compaction.", "memtable.", "index."];

/// The options of a table.
///
/// # Errors
/// An unknown option, or one that is not supported yet.
pub fn check(options: &[(String, String)]) -> Result<BTreeMap<String, String>, ServerError> {
    let mut checked = BTreeMap::new();
    for (key, value) in options {
        match KNOWN.iter().find(|(name, _)| name == key) {
            Some((_, only)) if value == only => {
                checked.insert(key.clone(), value.clone());
            }
            Some((_, only)) => {
                let message = format!("table option {key} = '{value}' is not supported yet; the only value is '{only}'");
                return Err(ServerError::new(Code::Unsupported, message));
            }
            None if LATER.iter().any(|name| key == name || (name.ends_with('.') && key.starts_with(name))) => {
                return Err(ServerError::new(Code::Unsupported, format!("table option '{key}' is not supported yet; leave it out")));
            }
            None => {
                let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
                let message = format!("there is no table option '{key}'; options are {}", known.join(", "));
                return Err(ServerError::new(Code::InvalidArguments, message));
            }
        }
    }
    Ok(checked)
}
