//! What may stand on the command line.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Layers, LogFormat};
use crate::manifest_cli::ManifestArgs;
use crate::meta_cli::MetaArgs;
use crate::output::Format;
use crate::region_cli::RegionArgs;

const EXAMPLES: &str = "\
Examples:
  tessera standalone                             a server, data in ./tessera-data
  tessera standalone --http-addr 0.0.0.0:4000    reachable from other machines
  tessera sql                                    a shell on that server
  tessera sql \"SELECT count(*) FROM weather\"
  tessera sql --format csv \"SELECT * FROM weather\" > weather.csv
  tessera sql < setup.sql
  tessera region ls ./tessera-data               which regions there are, and which are repartitioned
  tessera manifest show ./tessera-data           what is on the object store, without a server
  tessera meta list ./tessera-data table/        what is in the metadata, without a server
  tessera doctor ./tessera-data                  do catalog and object store fit together?

Exit codes:
  0  done
  1  the statement or the server failed, or a check found a problem
  2  the command line or the settings are wrong
  3  no server answers";

/// Tessera: a region storage engine for time-series tables on object storage.
#[derive(Debug, Parser)]
#[command(name = "tessera", version, about, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Standalone(StandaloneArgs),
    Sql(SqlArgs),
    Region(RegionArgs),
    Manifest(ManifestArgs),
    Meta(MetaArgs),
    Doctor(DoctorArgs),
    /// Print the effective settings as a TOML file with explanations
    Config(Settings),
}

/// Run a server: everything in one process.
///
/// Ctrl-C and SIGTERM let running requests finish, flush and close; a second one stops at once (what was acknowledged is
/// in the WAL and comes back with the next start).
#[derive(Debug, Args)]
#[command(after_help = STANDALONE_EXAMPLES)]
pub(super) struct StandaloneArgs {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Print the effective settings as TOML and end
    #[arg(long)]
    pub(super) print_config: bool,
}

const STANDALONE_EXAMPLES: &str = "\
Settings come from, later wins: defaults, the file of --config, environment variables, flags.
`tessera config` lists them all with their variables (TESSERA_HTTP_ADDR, TESSERA_ENGINE_ZSTD_LEVEL, ...).

Examples:
  tessera standalone --data-home /var/lib/tessera
  tessera standalone --config tessera.toml --log-format json
  tessera standalone --set engine.region_memtable_bytes=128MiB

Exit codes: 0 closed cleanly, 1 failed, 2 the command line or the settings are wrong";

/// Check that catalog and object store fit together, and say what to do if they do not.
///
/// Compares the next table id with every table id in the catalog and with every table folder on the object store, drop
/// markers included; and the tables of the catalog with the folders. A next id that is not above all of them comes from
/// metadata that was restored from an older copy: a server then creates no table, because it would get the folder of
/// another. --fix raises the next id above all of them, which is safe at any time; nothing else is changed.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(super) struct DoctorArgs {
    /// The data home of a stopped server, or the URL of a running one
    #[arg(value_name = "DATA_HOME|URL")]
    pub(super) target: String,
    /// Mend what can be mended: raise the next table id
    #[arg(long)]
    pub(super) fix: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

const DOCTOR_EXAMPLES: &str = "\
A running server has its data home locked and is asked over HTTP; it makes the same check when it starts, and logs what it
finds.

Examples:
  tessera doctor ./tessera-data
  tessera doctor ./tessera-data --fix
  tessera doctor http://127.0.0.1:4000 --json

Exit codes: 0 healthy, or healthy after --fix (notes may be listed); 1 a problem is left, or it could not be examined; 2 the
command line is wrong; 3 no server answers";

/// Flags for settings.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "TESSERA_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of everything that the server stores [default: ./tessera-data]
    #[arg(long, value_name = "FOLDER")]
    data_home: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDR:PORT")]
    http_addr: Option<String>,
    /// error, warn, info, debug, trace, or directives like info,tessera_engine=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How log lines look [default: human]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Any setting, as in --set wal.sync_interval_ms=10; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
}

fn environment() -> Vec<(String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

pub(super) fn settings_of_environment() -> Result<Config, ConfigError> {
    Layers { env: environment(), ..Layers::default() }.resolve()
}

impl Settings {
    /// The settings that file, environment and flags give.
    pub(super) fn resolve(&self) -> Result<Config, ConfigError> {
        let file = match &self.config {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Some((path.clone(), text))
            }
        };
        Layers { file, env: environment(), flags: self.flags() }.resolve()
    }

    pub(super) fn flags(&self) -> Vec<(&str, &str, String)> {
        let mut flags: Vec<(&str, &str, String)> = Vec::new();
        let mut add = |flag, path, value: Option<String>| flags.extend(value.map(|value| (flag, path, value)));
        add("--data-home", "data_home", self.data_home.clone());
        add("--http-addr", "http.addr", self.http_addr.clone());
        add("--log-level", "log.level", self.log_level.clone());
        add("--log-format", "log.format", self.log_format.map(|format| format.to_string()));
        flags.extend(self.set.iter().map(|(path, value)| ("--set", path.as_str(), value.clone())));
        flags
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE, as in wal.sync_interval_ms=10".to_owned())?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// Execute SQL on a running server, or open a shell on it.
///
/// Without SQL: a shell, when called from a terminal; else the statements on standard input, one after the other, up to
/// the first that fails.
#[derive(Debug, Args)]
#[command(after_help = SQL_EXAMPLES)]
pub(super) struct SqlArgs {
    /// Statements, separated by `;`; `-` reads them from standard input
    pub(super) sql: Option<String>,
    /// The server
    #[arg(long, value_name = "URL", env = "TESSERA_ADDR", default_value = "http://127.0.0.1:4000")]
    pub(super) addr: String,
    /// The database of names without one
    #[arg(long, value_name = "NAME", default_value = "public")]
    pub(super) db: String,
    /// How results are written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
}

const SQL_EXAMPLES: &str = "\
Examples:
  tessera sql \"SHOW TABLES\"
  tessera sql --db nyc --format json \"SELECT origin, avg(temp) FROM weather GROUP BY origin\"
  echo \"SELECT 1; SELECT 2\" | tessera sql

Exit codes: 0 done, 1 a statement failed, 2 the command line is wrong, 3 no server answers";
