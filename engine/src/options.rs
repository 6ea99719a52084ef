//! What a table's options mean to the engine.
//!
//! Invariants:
//! - Options are text in the region's metadata, checked when a table is created or altered and parsed again when a
//!   region is opened: a region whose options cannot be read does not open, since a wrong merge mode gives wrong
//!   answers.
//! - Names and values are those of GreptimeDB where it has them.

use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of several rows with one (primary key, time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MergeMode {
    /// The newest row wins, as a whole.
    #[default]
    LastRow,
    /// Each field takes its newest value that is not NULL.
    LastNonNull,
    /// Every row stays: `append_mode`.
    Append,
}

/// The options of a table that the engine acts upon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableOptions {
    /// What becomes of rows with the same key.
    pub merge_mode: MergeMode,
    /// How long rows are kept, counted from their time index; `None`: for ever.
    pub ttl: Option<Duration>,
    /// How files are compacted.
    pub compaction: CompactionOptions,
}

/// Options of the time-window compaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactionOptions {
    /// Length of a time window; `None`: inferred from the data.
    pub time_window: Option<Duration>,
    /// Files in a window from which on it is compacted; `None`: the default.
    pub trigger_file_num: Option<usize>,
    /// Largest size of an output file in bytes; `None`: the default.
    pub max_output_file_bytes: Option<u64>,
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option '{name}' = '{value}' {detail}")]
pub struct OptionError {
    /// Its name.
    pub name: String,
    /// The value given.
    pub value: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl TableOptions {
    /// Parses a table's options.
    ///
    /// # Errors
    /// [`OptionError`] for an unknown name, a value that does not parse, or options that exclude each other.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        for (name, value) in options {
            let wrong = |detail: &str| OptionError { name: name.clone(), value: value.clone(), detail: detail.to_owned() };
            match (name.as_str(), value.as_str()) {
                ("append_mode", "true") => parsed.merge_mode = MergeMode::Append,
                ("append_mode", "false") => {}
                ("append_mode", _) => return Err(wrong("is neither true nor false")),
                ("merge_mode", _) if options.get("append_mode").is_some_and(|append| append == "true") => {
                    return Err(wrong("cannot be together with append_mode, in which rows are never merged"));
                }
                ("merge_mode", "last_row") => parsed.merge_mode = MergeMode::LastRow,
                ("merge_mode", "last_non_null") => parsed.merge_mode = MergeMode::LastNonNull,
                ("merge_mode", _) => return Err(wrong("is neither last_row nor last_non_null")),
                _ => return Err(wrong("is not known")),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<TableOptions, OptionError> {
        TableOptions::parse(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn merge_modes_are_read_and_exclude_each_other() {
        assert_eq!(parse(&[]).unwrap().merge_mode, MergeMode::LastRow);
        assert_eq!(parse(&[("append_mode", "false"), ("merge_mode", "last_non_null")]).unwrap().merge_mode, MergeMode::LastNonNull);
        assert_eq!(parse(&[("append_mode", "true")]).unwrap().merge_mode, MergeMode::Append);
        let both = parse(&[("append_mode", "true"), ("merge_mode", "last_row")]).unwrap_err();
        assert_eq!(
            both.to_string(),
            "option 'merge_mode' = 'last_row' cannot be together with append_mode, in which rows are never merged"
        );
        assert!(parse(&[("append_mode", "yes")]).is_err() && parse(&[("nonsense", "1")]).is_err());
    }
}
