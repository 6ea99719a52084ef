//! Options of tables and databases: what `WITH (...)`, `SET` and `UNSET` may say.
//!
//! Invariants:
//! - What is kept parses in the engine: a region whose options it cannot read would not open.
//! - A skipping index is an option too, by column id; it is set by the column's clause and by nothing else.

use std::collections::BTreeMap;

use tessera_engine::options::{NAMES, OptionError, OptionFault, SkippingIndex, TableOptions, Ttl, parse_ttl};
use tessera_manifest::id::ColumnId;

use crate::error::{Code, ServerError};
use crate::sql::ast::OptionChange;

/// The name of the option that says how long rows are kept.
pub const TTL: &str = "ttl";

/// The options of a new table.
///
/// # Errors
/// An unknown option, one that is not supported, or a value that cannot be.
pub fn check(options: &[(String, String)]) -> Result<BTreeMap<String, String>, ServerError> {
    changed(&BTreeMap::new(), &OptionChange::Set(options.to_vec()))
}

/// The options of a table after a change. An option that is set to nothing is unset.
///
/// # Errors
/// Those of [`check`].
pub fn changed(present: &BTreeMap<String, String>, change: &OptionChange) -> Result<BTreeMap<String, String>, ServerError> {
    let mut options = present.clone();
    match change {
        OptionChange::Set(set) => {
            for (name, value) in set {
                user_may_set(name)?;
                if value.is_empty() {
                    known(name)?;
                    options.remove(name);
                } else {
                    options.insert(name.clone(), value.clone());
                }
            }
        }
        OptionChange::Unset(names) => {
            for name in names {
                user_may_set(name)?;
                known(name)?;
                options.remove(name);
            }
        }
    }
    TableOptions::parse(&options).map_err(|error| refused(&error))?;
    Ok(options)
}

/// Sets or unsets the skipping index of a column.
pub fn set_skipping(options: &mut BTreeMap<String, String>, column: ColumnId, index: Option<SkippingIndex>) {
    let name = SkippingIndex::option_name(column);
    match index {
        Some(index) => drop(options.insert(name, index.option_value())),
        None => drop(options.remove(&name)),
    }
}

/// The options of a database after a change: how long the rows of its tables are kept, where these do not say it.
///
/// # Errors
/// Another option, or a value that cannot be.
pub fn changed_of_database(present: &BTreeMap<String, String>, change: &OptionChange) -> Result<BTreeMap<String, String>, ServerError> {
    let names: Vec<&String> = match change {
        OptionChange::Set(set) => set.iter().map(|(name, _)| name).collect(),
        OptionChange::Unset(names) => names.iter().collect(),
    };
    if let Some(other) = names.iter().find(|name| *name.as_str() != *TTL) {
        return Err(ServerError::new(Code::InvalidArguments, format!("there is no database option '{other}'; the only one is {TTL}")));
    }
    changed(present, change)
}

/// How long rows of a table are kept: what the table says, else what its database says.
#[must_use]
pub fn ttl(table: &BTreeMap<String, String>, database: &BTreeMap<String, String>) -> Ttl {
    let said = |options: &BTreeMap<String, String>| options.get(TTL).and_then(|text| parse_ttl(text).ok());
    said(table).or_else(|| said(database)).unwrap_or(Ttl::Forever)
}

fn user_may_set(name: &str) -> Result<(), ServerError> {
    if name.starts_with(SkippingIndex::OPTION_PREFIX) {
        let text = format!("option '{name}' belongs to a column: write ALTER TABLE t MODIFY COLUMN c SET SKIPPING INDEX");
        return Err(ServerError::new(Code::InvalidArguments, text));
    }
    Ok(())
}

fn known(name: &str) -> Result<(), ServerError> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(ServerError::new(Code::InvalidArguments, format!("there is no table option '{name}'; options are {}", NAMES.join(", "))))
}

/// What a person is told of an option that cannot be.
#[must_use]
pub fn refused(error: &OptionError) -> ServerError {
    let code = if error.fault == OptionFault::Unsupported { Code::Unsupported } else { Code::InvalidArguments };
    ServerError::new(code, format!("table {error}"))
}
