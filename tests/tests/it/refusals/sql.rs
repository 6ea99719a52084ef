//! Statements that are refused.

use tempfile::TempDir;

use crate::support::Server;

const CPU: &str = "CREATE TABLE cpu (host STRING, ts TIMESTAMP(3) TIME INDEX, v DOUBLE, n INT NOT NULL, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'h', host >= 'h' AND host <= 'z')";

fn server() -> (TempDir, Server) {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(CPU);
    server.run("INSERT INTO cpu VALUES ('a', 1, 1.0, 1)");
    (home, server)
}

#[test]
fn refused_statements_have_a_4xx_status_a_code_and_a_message_that_names_the_cause() {
    let (_home, server) = server();
    let cases: &[(&str, u16, u64, &[&str])] = &[
        ("SELEC 1", 400, 2000, &["SELEC"]),
        ("SELECT (1", 400, 2000, &[]),
        ("", 400, 1004, &["no SQL"]),
        ("SELECT * FROM nope", 404, 4001, &["'nope'", "public"]),
        ("SELECT * FROM nodb.cpu", 404, 4004, &["'nodb'"]),
        ("SELECT wat FROM cpu", 404, 4002, &["'wat'", "host, ts, v, n"]),
        ("SELECT nofunction(v) FROM cpu", 400, 3000, &["nofunction"]),
        ("SELECT v + host FROM cpu", 400, 3000, &["Float64 + Utf8"]),
        ("SELECT CAST('x' AS INT)", 400, 1004, &["x"]),
        ("INSERT INTO nope VALUES (1)", 404, 4001, &["'nope'"]),
        ("INSERT INTO cpu VALUES ('a', 1, 'abc', 1)", 400, 1004, &["abc"]),
        ("INSERT INTO cpu VALUES ('a', 1, 1.0, 'many')", 400, 1004, &["many"]),
        ("INSERT INTO cpu VALUES ('a', 1, 1.0, 3000000000)", 400, 1004, &["3000000000"]),
        ("INSERT INTO cpu VALUES ('a', 1, 1.0, NULL)", 400, 1004, &["'n'"]),
        ("INSERT INTO cpu VALUES ('a', 1)", 400, 3000, &["2 values", "4"]),
        ("INSERT INTO cpu (host, wat) VALUES ('a', 1)", 404, 4002, &["'wat'"]),
        ("DELETE FROM cpu WHERE wat = 1", 404, 4002, &["'wat'"]),
        ("DROP TABLE nope", 404, 4001, &["nope"]),
        ("DROP DATABASE nodb", 404, 4004, &["nodb"]),
        ("CREATE DATABASE public", 409, 4012, &["public"]),
        ("COPY cpu FROM '/nowhere/x.csv'", 400, 1004, &["/nowhere/x.csv"]),
        ("COPY nope FROM '/nowhere/x.csv'", 404, 4001, &["nope"]),
        ("COPY cpu FROM '/nowhere/x.xls'", 400, 1004, &[".csv"]),
        ("COPY cpu FROM '/nowhere/x.csv' WITH (colour = 'red')", 400, 1004, &["colour"]),
        ("UPDATE cpu SET v = 1", 400, 1001, &[]),
        ("DELETE FROM information_schema.tables", 400, 1001, &["information_schema"]),
    ];
    for (sql, status, code, parts) in cases {
        let refusal = server.refused(sql);
        eprintln!("{sql}\n    {}", refusal.error);
        refusal.expect(*status, *code, parts);
    }
    assert_eq!(server.line("SELECT count(*), sum(v), sum(n) FROM cpu"), "1|1.0|1");
}

#[test]
fn create_statements_that_cannot_be_are_refused() {
    let (_home, server) = server();
    let table = |columns: &str, rest: &str| format!("CREATE TABLE t ({columns}) {rest}");
    let usual = "host STRING, ts TIMESTAMP TIME INDEX, v DOUBLE, PRIMARY KEY (host)";
    server.refused(CPU).expect(409, 4000, &["cpu"]);
    let cases: &[(String, u16, u64, &[&str])] = &[
        (table("host STRING, v DOUBLE", ""), 400, 1004, &["TIME INDEX"]),
        (table("ts TIMESTAMP TIME INDEX, ts DOUBLE", ""), 400, 1004, &["ts"]),
        (table("ts TIMESTAMP TIME INDEX, v WHATEVER", ""), 400, 2000, &["WHATEVER"]),
        (table(usual, "WITH (colour = 'red')"), 400, 1004, &["colour"]),
        (table(usual, "WITH (ttl = 'soon')"), 400, 1004, &["ttl", "soon"]),
        (table(usual, "WITH (storage = 'S3')"), 400, 1001, &["storage"]),
        (table(usual, "PARTITION ON COLUMNS (v) (v < 1, v >= 1)"), 400, 1004, &["v"]),
        (table(usual, "PARTITION ON COLUMNS (wat) (wat < 1, wat >= 1)"), 404, 4002, &["wat"]),
        (table(usual, "PARTITION ON COLUMNS (host) (host < 1, host >= 1)"), 400, 1004, &["host"]),
    ];
    for (sql, status, code, parts) in cases {
        let refusal = server.refused(sql);
        eprintln!("{sql}\n    {}", refusal.error);
        refusal.expect(*status, *code, parts);
    }
    assert_eq!(server.lines("SHOW TABLES"), ["cpu"]);
}

#[test]
fn overlapping_rules_are_refused_with_a_row_that_two_of_them_cover() {
    let (_home, server) = server();
    let create = "CREATE TABLE t (host STRING, dc INT, ts TIMESTAMP TIME INDEX, PRIMARY KEY (host, dc)) PARTITION ON COLUMNS (host, dc) \
                  (host < 'h', host >= 'g' AND dc < 5, host >= 'h' AND dc >= 5)";
    let refusal = server.refused(create);
    eprintln!("{}", refusal.error);
    refusal.expect(400, 1004, &["host = ", "dc = ", "rule 0", "rule 1"]);
    assert_eq!(server.lines("SHOW TABLES"), ["cpu"]);
}

#[test]
fn a_row_that_no_rule_covers_is_refused_with_the_row_shown() {
    let (_home, server) = server();
    let refusal = server.refused("INSERT INTO cpu VALUES ('b', 2, 2.0, 2), ('zoo', 3, 3.0, 3)");
    refusal.expect(400, 1004, &["host = 'zoo'", "cpu", "nothing of the statement was applied"]);
    assert_eq!(server.line("SELECT count(*) FROM cpu"), "1");
}

#[test]
fn requests_that_are_not_sql_are_refused() {
    let (_home, server) = server();
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    for (path, status) in [("/v1/sql", 400), ("/v1/nope", 404), ("/v1/sql?sql=SELECT%201&format=xml", 400), ("/health", 200)] {
        let response = agent.get(format!("{}{path}", server.url())).call().unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

/// Shapes of statements that grow deeper with each repetition: start, what is repeated, end.
const DEEP: [(&str, &str, &str); 9] = [
    ("SELECT 1", " + 1", ""),
    ("SELECT count(*) FROM cpu WHERE v = 0", " OR v = 1", ""),
    ("SELECT count(*) FROM cpu WHERE n > 0", " AND n < 9", ""),
    ("SELECT 'a'", " || 'a'", ""),
    ("SELECT 1", " UNION ALL SELECT 1", ""),
    ("SELECT 1 ", "- ", "1"),
    ("SELECT true = ", "NOT ", "true"),
    ("SELECT 1", "::BIGINT", ""),
    ("SELECT ", "(", "1"),
];

#[test]
fn deep_statements_are_answered_or_refused_and_never_end_the_server() {
    let (_home, server) = server();
    for (start, part, end) in DEEP {
        for times in [450, 100_000] {
            let reply = server.send(&format!("{start}{}{end}", part.repeat(times)), "json");
            let reply = reply.unwrap_or_else(|error| panic!("{times} times '{part}': {error}: {}", server.log()));
            eprintln!("{times} times '{part}': {} {}", reply.status, &reply.body[..reply.body.len().min(200)]);
            assert!(reply.status < 500 && (times == 450 || reply.status == 400), "{times} times '{part}': {reply:?}");
        }
    }
    assert_eq!(server.line("SELECT count(*) FROM cpu"), "1");
}
