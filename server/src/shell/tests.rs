//! Tests of the input, and of the session against a server on a real socket.

use tessera_manifest::env;

use super::input::{Command, command, is_blank, split};
use super::session::{Session, Step};
use super::*;
use crate::http::tests::Server;

#[test]
fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
    let text = "SELECT ';''\n', \";\" -- x;\n;\n\n/* ; */ DROP TABLE `a;b`;;\n  ;SELECT\n 1";
    let pieces = split(text);
    assert_eq!(pieces.statements, [(1, "SELECT ';''\n', \";\" -- x;"), (5, "/* ; */ DROP TABLE `a;b`")]);
    assert_eq!((pieces.rest, pieces.rest_line), ("SELECT\n 1", 6));
    assert_eq!(split("SELECT 'a;").statements, []);
    assert_eq!(split("ü;/*").statements, [(1, "ü")]);
    assert!(is_blank(" \n-- x\n/* y */ "));
    assert!(!is_blank("-- x\n1"));
}

#[test]
fn commands_are_told_from_statements() {
    assert_eq!(command(" \\q "), Some(Command::Quit));
    assert_eq!(command("\\d"), Some(Command::Describe(None)));
    assert_eq!(command("\\d weather;"), Some(Command::Describe(Some("weather".into()))));
    assert_eq!(command("USE nyc;"), Some(Command::Use("nyc".into())));
    assert_eq!(command("\\foo 1"), Some(Command::Unknown("\\foo 1".into())));
    assert_eq!(command("SELECT 1;"), None);
    assert_eq!(command("help me"), None);
}

#[test]
fn addresses_are_checked() {
    assert_eq!(Client::new("localhost:4000/").unwrap().addr(), "http://localhost:4000");
    assert!(matches!(Client::new("https://x:1"), Err(ClientError::Address { .. })));
    assert!(matches!(Client::new("http://"), Err(ClientError::Address { .. })));
}

/// Runs blocking `work` with a client of a fresh server.
async fn with_server<T: Send + 'static>(work: impl FnOnce(Client) -> T + Send + 'static) -> T {
    let server = Server::start().await;
    let client = Client::new(&server.addr.to_string()).unwrap();
    env::spawn_blocking(move || work(client)).await.unwrap()
}

#[tokio::test]
async fn a_session_goes_on_after_an_error() {
    let text = with_server(|client| {
        let mut session = Session::new(client, "nyc");
        let mut out = Vec::new();
        for line in ["\\timing", "db;", "wri", "\\x", ";", "", "\\x", "rows; write; nons"] {
            assert_eq!(session.line(line, &mut out).unwrap(), Step::On);
        }
        assert_eq!(session.prompt(), "   > ");
        session.cancel();
        assert_eq!(session.line("USE other;", &mut out).unwrap(), Step::On);
        assert_eq!(session.prompt(), "other> ");
        assert_eq!(session.line("\\q", &mut out).unwrap(), Step::Quit);
        String::from_utf8(out).unwrap()
    })
    .await;
    assert!(text.starts_with("times are not shown\nerror: database 'nyc' does not exist (error 4004)\n"), "{text}");
    assert!(text.contains("'wri\n\\x' is not SQL (error 2000)"), "{text}");
    assert!(text.contains("a value per line\n-[ row 1 ]"), "{text}");
    assert!(text.ends_with("(4 rows)\naffected rows: 3\n"), "{text}");
}

#[tokio::test]
async fn a_script_stops_at_the_first_failure_and_names_its_line() {
    let (error, text) = with_server(|client| {
        let mut out = Vec::new();
        let error = run_script(&client, "write;\n-- next\nbad;\nwrite;", "public", Format::Csv, &mut out).unwrap_err();
        (error, String::from_utf8(out).unwrap())
    })
    .await;
    assert!(matches!(error, ShellError::Script { line: 3, source: ClientError::Refused { code: 2000, .. } }), "{error}");
    assert_eq!(text, "3\n");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let error = with_server(|client| run_text(&client, "fail later", "public", Format::Csv, &mut Vec::new()).unwrap_err()).await;
    assert!(matches!(error.client(), Some(ClientError::Broken { .. })), "{error}");
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&free.to_string()).unwrap();
    assert!(matches!(client.check(), Err(ClientError::Unreachable { .. })));
    let error = run_text(&client, "rows", "public", Format::Table, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}
