//! The flights: 336,776 rows in sixteen-odd carriers, cut into four regions.

use tempfile::TempDir;

use super::expect;
use crate::support::{Server, flights_csv, skipped};

const CREATE: &str = "CREATE TABLE flights (carrier STRING, flight INT, origin STRING, time_hour TIMESTAMP(3) TIME INDEX, year INT, \
     month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT, \
     tailnum STRING, dest STRING, air_time INT, distance INT, hour INT, minute INT, PRIMARY KEY (carrier, flight, origin)) \
     PARTITION ON COLUMNS (carrier) (carrier < 'B', carrier >= 'B' AND carrier < 'F', carrier >= 'F' AND carrier < 'U', carrier >= 'U')";

const ANSWERS: &[(&str, &[&str])] = &[
    ("SELECT origin, count(*) FROM flights GROUP BY origin ORDER BY origin", &["EWR|120835", "JFK|111279", "LGA|104662"]),
    ("SELECT carrier, count(*) FROM flights WHERE carrier IN ('UA', 'OO') GROUP BY carrier ORDER BY carrier", &["OO|32", "UA|58665"]),
    ("SELECT count(*) FROM flights WHERE dep_delay IS NULL", &["8255"]),
    ("SELECT count(*) FROM flights WHERE tailnum IS NULL", &["2512"]),
    ("SELECT count(*), count(dep_delay) FROM flights", &["336776|328521"]),
];

#[test]
fn flights_give_the_known_answers_also_after_loading_twice_and_a_restart() {
    let Some(file) = flights_csv() else {
        return skipped("flights", "there is no flights.csv.gz; name it with TESSERA_FLIGHTS");
    };
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(CREATE);
    let copy = format!("COPY flights FROM '{}' WITH (null_values = 'NA')", file.display());
    assert_eq!(server.run(&copy), 336_776);
    expect(&server, ANSWERS);
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    expect(&server, ANSWERS);
    assert_eq!(server.run(&copy), 336_776);
    expect(&server, ANSWERS);
    let plan = server.lines("EXPLAIN SELECT count(*) FROM flights WHERE carrier = 'UA'").join("\n");
    assert!(plan.contains("regions=[1024/3], pruned=3"), "{plan}");
}
