//! Tests of the arguments and exit codes.

use clap::CommandFactory;

use super::*;
use crate::config::Layers;
use crate::shell::{ClientError, ShellError};

#[test]
fn the_command_line_is_consistent_and_documents_its_exit_codes() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Exit codes:") && help.contains("Examples:"), "{help}");
}

#[test]
fn flags_become_settings() {
    let line = [
        "tessera",
        "standalone",
        "--data-home",
        "/d",
        "--http-addr",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--set",
        "wal.sync_interval_ms=5",
    ];
    let Command::Standalone(args) = Cli::try_parse_from(line).unwrap().command else { panic!("standalone") };
    let config = Layers { flags: args.settings.flags(), ..Layers::default() }.resolve().unwrap();
    assert_eq!((config.data_home.to_str(), config.http.addr.port(), config.wal.sync_interval_ms), (Some("/d"), 0, 5));
    assert_eq!(config.log.format, crate::config::LogFormat::Json);
}

#[test]
fn bad_arguments_are_refused() {
    for line in [&["tessera"][..], &["tessera", "sql", "--format", "xml"], &["tessera", "standalone", "--set", "x"], &["tessera", "serve"]]
    {
        assert_ne!(Cli::try_parse_from(line).unwrap_err().exit_code(), 0, "{line:?}");
    }
    assert_eq!(Cli::try_parse_from(["tessera", "serve"]).unwrap_err().exit_code(), 2);
}

#[test]
fn exit_codes_tell_a_failed_statement_from_a_missing_server() {
    let refused = ClientError::Refused { code: 4001, message: "no such table".into() };
    assert_eq!(sql::ending(&ShellError::Script { line: 1, source: refused }) as u8, 1);
    let gone = ClientError::Unreachable { addr: "http://x".into(), reason: "connection refused".into() };
    assert_eq!(sql::ending(&gone.into()) as u8, 3);
    let address = ClientError::Address { addr: "ftp://x".into(), reason: "only http".into() };
    assert_eq!(sql::ending(&address.into()) as u8, 2);
    assert_eq!(sql::ending(&std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()) as u8, 0);
}
