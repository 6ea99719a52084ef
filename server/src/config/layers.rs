//! Laying file, environment and flags over the defaults. Pure: the texts come in as arguments.

use std::path::PathBuf;

use serde_json::Value;

use super::Config;
use super::keys::{KEYS, Key};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("in the configuration file '{}': {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where and what, naming the key.
        reason: String,
    },
    /// An environment variable or a flag has a value that does not fit.
    #[error("{origin}: '{value}' is not a value for {key}: {reason}")]
    Value {
        /// The variable or flag.
        origin: String,
        /// Its text.
        value: String,
        /// The setting.
        key: String,
        /// What was expected.
        reason: String,
    },
    /// A flag names a setting that does not exist.
    #[error("there is no setting '{key}'; `tessera config` lists them all")]
    UnknownKey {
        /// The name given.
        key: String,
    },
    /// A value is out of its bounds.
    #[error("{key} = {value} is out of bounds: {expected}")]
    Bounds {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

/// The layers over the defaults, lowest first.
#[derive(Debug, Default)]
pub struct Layers<'a> {
    /// Name and text of the configuration file.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those that name no setting are ignored.
    pub env: Vec<(String, String)>,
    /// Flags: the flag as shown in messages, the setting's path, the text.
    pub flags: Vec<(&'a str, &'a str, String)>,
}

impl Layers<'_> {
    /// The effective settings.
    ///
    /// # Errors
    /// What is wrong, naming the file, variable or flag, and the key.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.file {
            None => Config::default(),
            Some((path, text)) => toml::from_str(text)
                .map_err(|error| ConfigError::File { path: path.clone(), reason: error.to_string().trim_end().to_owned() })?,
        };
        for key in KEYS {
            let name = key.env();
            if let Some((_, text)) = self.env.iter().find(|(variable, _)| *variable == name) {
                config = overlay(&config, key, &format!("environment variable {name}"), text)?;
            }
        }
        for (flag, path, text) in &self.flags {
            let key = KEYS.iter().find(|key| key.path == *path).ok_or_else(|| ConfigError::UnknownKey { key: (*path).to_owned() })?;
            config = overlay(&config, key, flag, text)?;
        }
        check(&config)?;
        Ok(config)
    }
}

/// `config` with one setting replaced by what `text` says.
fn overlay(config: &Config, key: &Key, origin: &str, text: &str) -> Result<Config, ConfigError> {
    let fail = |reason: String| ConfigError::Value { origin: origin.to_owned(), value: text.to_owned(), key: key.path.to_owned(), reason };
    let mut tree = to_tree(config);
    let (section, name) = key.split();
    let table = if section.is_empty() { Some(&mut tree) } else { tree.get_mut(section) };
    let leaf = table.and_then(|table| table.get_mut(name)).ok_or_else(|| ConfigError::UnknownKey { key: key.path.to_owned() })?;
    *leaf = match leaf {
        Value::Bool(_) => Value::Bool(text.trim().parse().map_err(|_| fail("expected true or false".to_owned()))?),
        Value::Number(_) => Value::from(parse_number(text).ok_or_else(|| fail("expected a number, such as 1048576 or 64MiB".to_owned()))?),
        _ => Value::String(text.to_owned()),
    };
    serde_json::from_value(tree).map_err(|error| fail(error.to_string()))
}

/// An integer, with an optional binary unit after it.
fn parse_number(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: i64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return None,
    };
    digits.trim().replace('_', "").parse::<i64>().ok()?.checked_mul(factor)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let bounds = |key: &'static str, value: i64, ok: bool, expected: &'static str| {
        if ok { Ok(()) } else { Err(ConfigError::Bounds { key, value: value.to_string(), expected }) }
    };
    let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let engine = &config.engine;
    bounds("http.body_bytes_max", size(config.http.body_bytes_max), config.http.body_bytes_max >= 1024, "at least 1024")?;
    bounds("http.json_bytes_max", size(config.http.json_bytes_max), config.http.json_bytes_max >= 1024, "at least 1024")?;
    bounds(
        "engine.region_memtable_bytes",
        size(engine.region_memtable_bytes),
        engine.region_memtable_bytes >= 64 << 10,
        "at least 64 KiB",
    )?;
    let fits = engine.memtable_bytes_max >= engine.region_memtable_bytes;
    bounds("engine.memtable_bytes_max", size(engine.memtable_bytes_max), fits, "at least engine.region_memtable_bytes")?;
    bounds("engine.row_group_rows", size(engine.row_group_rows), (1..=16 << 20).contains(&engine.row_group_rows), "1 to 16777216")?;
    bounds("engine.zstd_level", engine.zstd_level.into(), (1..=22).contains(&engine.zstd_level), "1 to 22")?;
    for (key, parallelism) in [
        ("engine.open_parallelism", engine.open_parallelism),
        ("engine.flush_parallelism", engine.flush_parallelism),
        ("engine.compaction_parallelism", engine.compaction_parallelism),
    ] {
        bounds(key, size(parallelism), (1..=1024).contains(&parallelism), "1 to 1024")?;
    }
    let segment = config.wal.segment_bytes;
    let fits = (64 << 10..=1 << 30).contains(&segment) && segment.is_multiple_of(4096);
    let long = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    bounds("wal.segment_bytes", long(segment), fits, "64 KiB to 1 GiB, a multiple of 4096")?;
    bounds("engine.wal_bytes_max", long(engine.wal_bytes_max), engine.wal_bytes_max >= segment, "at least wal.segment_bytes")
}

/// The settings as a tree of tables.
pub(super) fn to_tree(config: &Config) -> Value {
    serde_json::to_value(config).expect("settings are tables of texts, numbers and booleans, with text keys")
}

/// The value at `section.name`.
pub(super) fn leaf<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |node, name| node.get(name))
}
