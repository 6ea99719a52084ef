//! SIGTERM and Ctrl-C: what runs is finished, what is in memory is flushed, and the next start replays nothing.

use std::thread;

use tempfile::TempDir;

use crate::support::{Server, copy_weather, create_weather};

#[test]
fn a_server_that_is_asked_to_end_flushes_and_the_next_start_replays_nothing() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(create_weather());
    server.run(&copy_weather());
    let ended = server.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("SIGTERM") && ended.log.trim_end().ends_with("closed"), "{}", ended.log);
    assert!(!ended.log.contains("WARN") && !ended.log.contains("ERROR"), "{}", ended.log);
    let server = Server::start_with(home.path(), &["log.level=info,tessera_engine=debug"]);
    assert!(!server.log().contains("replayed"), "{}", server.log());
    let memory = "SELECT sum(memtable_rows), sum(file_rows) FROM information_schema.regions";
    assert_eq!(server.line(memory), "0|26115");
    server.run("DELETE FROM weather WHERE origin = 'EWR'");
    let ended = server.interrupt();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let server = Server::start(home.path());
    assert!(!server.log().contains("replayed"), "{}", server.log());
    assert_eq!(server.line("SELECT count(*) FROM weather"), "17412");
}

#[test]
fn a_server_that_is_killed_replays_and_one_that_is_closed_again_does_not() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run("CREATE TABLE t (ts TIMESTAMP TIME INDEX, v INT); INSERT INTO t VALUES (1, 1), (2, 2)");
    server.kill();
    let server = Server::start(home.path());
    assert!(server.log().contains("replayed the write-ahead log") && server.log().contains("rows=2"), "{}", server.log());
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    assert!(!server.log().contains("replayed"), "{}", server.log());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM t"), "2|3");
}

#[test]
fn a_statement_that_runs_is_finished_before_the_server_ends() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(create_weather());
    thread::scope(|scope| {
        let copy = scope.spawn(|| server.send(&copy_weather(), "json"));
        while !server.metrics().contains("tessera_rows_written_total") {}
        server.ask_to_end();
        let reply = copy.join().unwrap().unwrap_or_else(|error| panic!("{error}: {}", server.log()));
        assert_eq!(reply.outputs().unwrap()[0]["affectedrows"].as_u64(), Some(26_115));
    });
    let ended = server.join();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*) FROM weather"), "26115");
}

#[test]
fn tables_without_rows_and_servers_without_tables_end_cleanly() {
    let home = TempDir::new().unwrap();
    assert_eq!(Server::start(home.path()).terminate().code, Some(0));
    let server = Server::start(home.path());
    server.run(create_weather());
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*) FROM weather"), "0");
    assert_eq!(server.line("SELECT sum(files) FROM information_schema.regions"), "0");
}

#[test]
fn rows_without_a_log_are_kept_by_a_flush_and_by_a_clean_end_only() {
    let noop = ["wal.provider=noop"];
    let all = "SELECT CAST(ts AS BIGINT), v FROM t ORDER BY 1";
    let home = TempDir::new().unwrap();
    let server = Server::start_with(home.path(), &noop);
    assert!(server.log().contains("wal.provider is noop"), "{}", server.log());
    server.run("CREATE TABLE t (ts TIMESTAMP TIME INDEX, v INT); INSERT INTO t VALUES (1, 1), (2, 2)");
    server.lines("ADMIN flush_table('t')");
    server.run("INSERT INTO t VALUES (3, 3)");
    server.kill();
    let server = Server::start_with(home.path(), &noop);
    assert_eq!(server.lines(all), ["1|1", "2|2"], "what was in memory only is lost, what was flushed is not");
    server.run("INSERT INTO t VALUES (4, 4)");
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    assert_eq!(server.lines(all), ["1|1", "2|2", "4|4"], "a clean end flushes, and the other provider goes on");
    server.run("INSERT INTO t VALUES (5, 5)");
    server.kill();
    // Rows of the local log are not left behind: they are in files before the first statement.
    for _ in 0..2 {
        let server = Server::start_with(home.path(), &noop);
        assert_eq!(server.lines(all), ["1|1", "2|2", "4|4", "5|5"]);
        server.kill();
    }
}

#[test]
fn regions_are_taken_over_from_a_log_that_was_moved() {
    let all = "SELECT CAST(ts AS BIGINT), v FROM t ORDER BY 1";
    let (home, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(home.path());
    server.run("CREATE TABLE t (ts TIMESTAMP TIME INDEX, v INT); INSERT INTO t VALUES (1, 1), (2, 2)");
    server.lines("ADMIN flush_table('t')");
    server.run("INSERT INTO t VALUES (2, 20), (3, 3)");
    server.kill();
    std::fs::rename(home.path().join("wal"), elsewhere.path().join("wal")).unwrap();
    let server = Server::start(home.path());
    server.refused(all).expect(503, 5000, &["may have rows in the local wal", "wal.take_over", "abandon-wal"]);
    assert_eq!(server.terminate().code, Some(0));
    // The data home that it is in will do, and another that is not there is no matter.
    let setting = format!("wal.take_over=/not/there, {}", elsewhere.path().display());
    let server = Server::start_with(home.path(), &[&setting]);
    assert_eq!(server.lines(all), ["1|1", "2|20", "3|3"]);
    assert!(server.log().contains("took the region over from the log of another node"), "{}", server.log());
    assert_eq!(server.line("SELECT count(*) FROM information_schema.regions WHERE error IS NOT NULL"), "0");
    server.run("INSERT INTO t VALUES (4, 4)");
    server.kill();
    std::fs::remove_dir_all(elsewhere.path().join("wal")).unwrap();
    let server = Server::start(home.path());
    assert_eq!(server.lines(all), ["1|1", "2|20", "3|3", "4|4"]);
}
