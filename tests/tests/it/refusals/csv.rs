//! Files that COPY refuses: file, line and column are named, and nothing is half-applied without saying so.

use std::fs;

use tempfile::TempDir;

use crate::support::{Server, create_weather, weather_csv};

const COPY: &str = "WITH (null_values = 'NA')";

/// What is done to a line.
type Change = fn(&str) -> String;

/// The weather file with one line changed; lines count from 1, the header is line 1.
fn changed(home: &TempDir, line: usize, change: impl Fn(&str) -> String) -> String {
    let text = fs::read_to_string(weather_csv()).unwrap();
    let lines: Vec<String> = text.lines().enumerate().map(|(n, old)| if n + 1 == line { change(old) } else { old.to_owned() }).collect();
    let file = home.path().join("changed.csv");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    file.display().to_string()
}

fn server() -> (TempDir, Server) {
    let home = TempDir::new().unwrap();
    let server = Server::start(&home.path().join("data"));
    server.run(create_weather());
    (home, server)
}

#[test]
fn a_bad_line_late_in_a_file_is_named_with_its_column_and_nothing_is_applied() {
    let (home, server) = server();
    let cases: [(&str, Change, &[&str]); 5] = [
        ("a field too many", |line| format!("{line},1"), &["16", "15"]),
        ("a field too few", |line| line.rsplit_once(',').unwrap().0.to_owned(), &["14", "15"]),
        ("text for a number", |line| line.replacen(",2013,", ",twenty,", 1), &["'year'", "twenty"]),
        ("no such time", |line| line.replace("2013-", "2013-13-"), &["'time_hour'"]),
        ("no time", |line| line.rsplit_once(',').unwrap().0.to_owned() + ",NA", &["'time_hour'"]),
    ];
    for (name, change, parts) in cases {
        let file = changed(&home, 20_000, change);
        let refusal = server.refused(&format!("COPY weather FROM '{file}' {COPY}"));
        eprintln!("{name}: {}", refusal.error);
        refusal.expect(400, 1004, &[&file, "line 20000", "nothing of the statement was applied"]);
        refusal.expect(400, 1004, parts);
        assert_eq!(server.line("SELECT count(*) FROM weather"), "0", "{name}");
    }
}

#[test]
fn a_header_that_does_not_fit_is_refused() {
    let (home, server) = server();
    let file = changed(&home, 1, |line| line.replace("temp", "warmth"));
    server.refused(&format!("COPY weather FROM '{file}' {COPY}")).expect(404, 4002, &[&file, "'warmth'", "ignore_unknown"]);
    let file = changed(&home, 1, |line| line.replace("temp", "dewp"));
    server.refused(&format!("COPY weather FROM '{file}' {COPY}")).expect(400, 1004, &[&file, "'dewp'"]);
    let file = changed(&home, 1, |line| line.replace("time_hour", "time"));
    server.refused(&format!("COPY weather FROM '{file}' WITH (null_values = 'NA', ignore_unknown = true)")).expect(
        400,
        1004,
        &[&file, "'time_hour'"],
    );
    assert_eq!(server.line("SELECT count(*) FROM weather"), "0");
}

#[test]
fn a_row_of_a_file_that_no_rule_covers_is_shown_with_its_line() {
    let (home, server) = server();
    server.run(&create_weather().replace("TABLE weather", "TABLE part").replace(", origin >= 'L')", ")"));
    let refusal = server.refused(&format!("COPY part FROM '{}' {COPY}", weather_csv().display()));
    refusal.expect(400, 1004, &["origin = 'LGA'", "weather.csv", "line 17411"]);
    drop(home);
}

#[test]
fn files_that_are_not_what_they_say_are_refused() {
    let (home, server) = server();
    for (name, content) in
        [("x.csv.gz", &b"origin,time_hour\nEWR,1\n"[..]), ("x.parquet", b"PAR1 not really"), ("x.csv", b"\xff\xfe\x00\n\n")]
    {
        let file = home.path().join(name);
        fs::write(&file, content).unwrap();
        let refusal = server.refused(&format!("COPY weather FROM '{}'", file.display()));
        eprintln!("{name}: {}", refusal.error);
        assert!((400..500).contains(&refusal.status) && refusal.error.contains(name), "{name}: {refusal:?}");
    }
    let empty = home.path().join("empty.csv");
    fs::write(&empty, "").unwrap();
    let refusal = server.refused(&format!("COPY weather FROM '{}'", empty.display()));
    assert!((400..500).contains(&refusal.status), "{refusal:?}");
    assert_eq!(server.line("SELECT count(*) FROM weather"), "0");
}
