//! What a table's options mean to the engine.
//!
//! Invariants:
//! - Options are text in the region's metadata, checked when a table is created or altered and parsed again when a
//!   region is opened: a region whose options cannot be read does not open, since a wrong merge mode gives wrong
//!   answers.
//! - Names and values are those of GreptimeDB where it has them.

use std::collections::BTreeMap;
use std::time::Duration;

use tessera_manifest::id::ColumnId;

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
    /// How long rows are kept, counted from their time index.
    pub ttl: Ttl,
    /// How files are compacted.
    pub compaction: CompactionOptions,
    /// The columns that have a bloom filter in each row group.
    pub skipping: BTreeMap<ColumnId, SkippingIndex>,
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ttl {
    /// The table does not say: as its database does.
    #[default]
    Unset,
    /// For ever, whatever the database says.
    Forever,
    /// For so long.
    For(Duration),
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

/// A bloom filter of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippingIndex {
    /// How often, in a million, it says that a value may be there that is not.
    pub false_positive_ppm: u32,
}

impl SkippingIndex {
    /// What a column gets that asks for nothing else: one in a hundred.
    pub const DEFAULT: Self = Self { false_positive_ppm: 10_000 };
    /// The option that declares the index of a column is this and the column's id: columns keep their ids for life.
    pub const OPTION_PREFIX: &'static str = "index.skipping.";

    /// The name of the option that declares the index of `column`.
    #[must_use]
    pub fn option_name(column: ColumnId) -> String {
        format!("{}{column}", Self::OPTION_PREFIX)
    }

    /// The value of that option: the probability of a false positive.
    #[must_use]
    pub fn option_value(self) -> String {
        format!("{}", f64::from(self.false_positive_ppm) / 1e6)
    }

    /// The index with this probability of a false positive.
    #[must_use]
    pub fn parse(probability: &str) -> Option<Self> {
        let ppm = (probability.parse::<f64>().ok()? * 1e6).round();
        (1.0..=500_000.0).contains(&ppm).then_some(Self { false_positive_ppm: ppm as u32 })
    }
}

/// What is wrong with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionFault {
    /// There is no option of this name.
    Unknown,
    /// There is one in GreptimeDB, and it has no meaning here.
    Unsupported,
    /// The value does not fit.
    Value,
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option '{name}' = '{value}' {detail}")]
pub struct OptionError {
    /// Its name.
    pub name: String,
    /// The value given.
    pub value: String,
    /// The kind of the fault.
    pub fault: OptionFault,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// Options of GreptimeDB that nothing here answers to, with the reason.
const UNSUPPORTED: [(&str, &str); 7] = [
    ("storage", "is not supported: all tables are on the store of the data home"),
    ("memtable.", "is not supported: there is one kind of memtable"),
    ("sst_format", "is not supported: there is one format of files"),
    ("skip_wal", "is not supported: every write is logged"),
    ("index.", "is not supported: declare SKIPPING INDEX on the column"),
    ("compaction.twcs.", "is not supported: files are kept in one level per window"),
    ("comment", "is not supported on tables"),
];

/// The names that a user may set, for messages.
pub const NAMES: [&str; 7] = [
    "append_mode",
    "merge_mode",
    "ttl",
    "compaction.type",
    "compaction.twcs.time_window",
    "compaction.twcs.trigger_file_num",
    "compaction.twcs.max_output_file_size",
];

impl TableOptions {
    /// Parses a table's options.
    ///
    /// # Errors
    /// [`OptionError`] for an unknown name, a value that does not parse, or options that exclude each other.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut parsed = Self::default();
        let append = options.get("append_mode").is_some_and(|append| append == "true");
        for (name, value) in options {
            let fault = |fault, detail: String| OptionError { name: name.clone(), value: value.clone(), fault, detail };
            let wrong = |detail: &str| fault(OptionFault::Value, detail.to_owned());
            match name.as_str() {
                "append_mode" => match value.as_str() {
                    "true" => parsed.merge_mode = MergeMode::Append,
                    "false" => {}
                    _ => return Err(wrong("is neither true nor false")),
                },
                "merge_mode" if append => return Err(wrong("cannot be together with append_mode, in which rows are never merged")),
                "merge_mode" => match value.as_str() {
                    "last_row" => parsed.merge_mode = MergeMode::LastRow,
                    "last_non_null" => parsed.merge_mode = MergeMode::LastNonNull,
                    _ => return Err(wrong("is neither last_row nor last_non_null")),
                },
                "ttl" => parsed.ttl = parse_ttl(value).map_err(|detail| wrong(&detail))?,
                "compaction.type" if value == "twcs" => {}
                "compaction.type" => return Err(wrong("is not known: the only compaction is twcs")),
                "compaction.twcs.time_window" => parsed.compaction.time_window = Some(window(value).map_err(|detail| wrong(&detail))?),
                "compaction.twcs.trigger_file_num" => {
                    let files = value.parse().ok().filter(|files| *files >= 2);
                    parsed.compaction.trigger_file_num = Some(files.ok_or_else(|| wrong("is not a number of files from 2 on"))?);
                }
                "compaction.twcs.max_output_file_size" => {
                    let bytes = size(value).filter(|bytes| *bytes >= 1 << 20);
                    let bytes = bytes.ok_or_else(|| wrong("is not a size of at least 1MB, such as '512MB' or '2GB'"))?;
                    parsed.compaction.max_output_file_bytes = Some(bytes);
                }
                _ => match skipping(name, value) {
                    Some(Ok((column, index))) => drop(parsed.skipping.insert(column, index)),
                    Some(Err(detail)) => return Err(wrong(detail)),
                    None => return Err(unknown(name, fault)),
                },
            }
        }
        Ok(parsed)
    }
}

/// Reads how long rows are kept: a duration such as `7d` or `1h 30m`, or `forever`.
///
/// # Errors
/// What would be right, for people.
pub fn parse_ttl(text: &str) -> Result<Ttl, String> {
    match text.trim() {
        "forever" => Ok(Ttl::Forever),
        "instant" => Err("is not supported: rows that go at once could never be read; use a short duration".to_owned()),
        text => match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("is no time to keep rows for: for ever is 'forever'".to_owned()),
            Ok(duration) => Ok(Ttl::For(duration)),
            Err(error) => Err(format!("is not a duration such as '7d' or '1h 30m', nor 'forever': {error}")),
        },
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(text).map_err(|error| format!("is not a duration such as '1d' or '2h': {error}"))?;
    if window < Duration::from_secs(1) { Err("is less than a second".to_owned()) } else { Ok(window) }
}

/// Bytes, with or without a unit of 1024: `512MB`, `512 MiB`, `512m`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn skipping(name: &str, value: &str) -> Option<Result<(ColumnId, SkippingIndex), &'static str>> {
    let column = ColumnId(name.strip_prefix(SkippingIndex::OPTION_PREFIX)?.parse().ok()?);
    let index = SkippingIndex::parse(value).ok_or("is not a probability of false positives from 0.000001 to 0.5");
    Some(index.map(|index| (column, index)))
}

fn unknown(name: &str, fault: impl Fn(OptionFault, String) -> OptionError) -> OptionError {
    let known = |(prefix, _): &&(&str, &str)| name == *prefix || (prefix.ends_with('.') && name.starts_with(prefix));
    match UNSUPPORTED.iter().find(known) {
        Some((_, detail)) => fault(OptionFault::Unsupported, (*detail).to_owned()),
        None => fault(OptionFault::Unknown, format!("is not known; options are {}", NAMES.join(", "))),
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

    #[test]
    fn ttls_are_durations_or_forever() {
        let ttl = |text| parse(&[("ttl", text)]).map(|options| options.ttl);
        assert_eq!(ttl("7d"), Ok(Ttl::For(Duration::from_secs(7 * 86_400))));
        assert_eq!(ttl("1h 30m"), Ok(Ttl::For(Duration::from_secs(5_400))));
        assert_eq!((ttl("forever"), parse(&[]).unwrap().ttl), (Ok(Ttl::Forever), Ttl::Unset));
        for bad in ["instant", "0s", "7", "", "soon"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compaction_is_set_in_times_numbers_and_sizes() {
        let options = [
            ("compaction.type", "twcs"),
            ("compaction.twcs.time_window", "2h"),
            ("compaction.twcs.trigger_file_num", "4"),
            ("compaction.twcs.max_output_file_size", "512MB"),
        ];
        let CompactionOptions { time_window, trigger_file_num, max_output_file_bytes } = parse(&options).unwrap().compaction;
        assert_eq!((time_window, trigger_file_num, max_output_file_bytes), (Some(Duration::from_secs(7200)), Some(4), Some(512 << 20)));
        for (name, value) in
            [("compaction.type", "lcs"), ("compaction.twcs.trigger_file_num", "1"), ("compaction.twcs.max_output_file_size", "9x")]
        {
            assert_eq!(parse(&[(name, value)]).unwrap_err().fault, OptionFault::Value, "{name}");
        }
        assert_eq!(size("3 GiB"), Some(3 << 30));
        assert_eq!(size("99999999999T"), None);
    }

    #[test]
    fn what_has_no_meaning_here_is_told_from_what_nobody_knows() {
        assert_eq!(parse(&[("storage", "S3")]).unwrap_err().fault, OptionFault::Unsupported);
        assert_eq!(parse(&[("memtable.type", "time_series")]).unwrap_err().fault, OptionFault::Unsupported);
        let unknown = parse(&[("colour", "red")]).unwrap_err();
        assert_eq!(unknown.fault, OptionFault::Unknown);
        assert!(unknown.to_string().contains("append_mode"), "{unknown}");
    }

    #[test]
    fn a_skipping_index_is_read_as_it_is_written() {
        for ppm in [1, 10_000, 500_000] {
            let index = SkippingIndex { false_positive_ppm: ppm };
            let name = SkippingIndex::option_name(ColumnId(3));
            let parsed = parse(&[(&name, &index.option_value())]).unwrap();
            assert_eq!(parsed.skipping, BTreeMap::from([(ColumnId(3), index)]));
        }
        assert_eq!(parse(&[("index.skipping.3", "0")]).unwrap_err().fault, OptionFault::Value);
        assert_eq!(parse(&[("index.skipping.x", "0.1")]).unwrap_err().fault, OptionFault::Unsupported);
    }
}
