//! Two processes that want the same thing, and settings that make no sense.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::support::Server;

#[test]
fn a_second_process_on_a_data_home_is_refused_and_the_first_goes_on() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run("CREATE TABLE t (ts TIMESTAMP TIME INDEX, v INT); INSERT INTO t VALUES (1, 1)");
    let ended = Server::try_start(home.path(), "127.0.0.1:0", &[]).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("is in use by another process"), "{}", ended.log);
    assert!(ended.log.contains("--data-home") && ended.log.contains(&home.path().display().to_string()), "{}", ended.log);
    assert_eq!(server.line("SELECT count(*) FROM t"), "1");
    server.kill();
    assert_eq!(Server::start(home.path()).line("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_port_in_use_is_refused_before_the_data_is_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let home = TempDir::new().unwrap();
    let ended = Server::try_start(&home.path().join("data"), &addr, &[]).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains(&format!("cannot listen on {addr}")) && ended.log.contains("--http-addr"), "{}", ended.log);
    assert!(!home.path().join("data").exists());
}

#[test]
fn a_data_home_that_cannot_be_one_is_refused() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ended = Server::try_start(&file, "127.0.0.1:0", &[]).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains(&file.display().to_string()), "{}", ended.log);
}

#[test]
fn settings_that_make_no_sense_end_with_code_2_and_name_the_setting() {
    let home = TempDir::new().unwrap();
    for (setting, part) in [
        ("wal.segment_bytes=12345", "wal.segment_bytes"),
        ("engine.zstd_level=99", "engine.zstd_level"),
        ("engine.zstd_level=much", "'much'"),
        ("no.such=1", "'no.such'"),
        ("http.addr=nowhere", "nowhere"),
    ] {
        let ended = Server::try_start(home.path(), "127.0.0.1:0", &[setting]).err().unwrap();
        assert_eq!(ended.code, Some(2), "{setting}: {}", ended.log);
        assert!(ended.log.contains(part), "{setting}: {}", ended.log);
    }
}
