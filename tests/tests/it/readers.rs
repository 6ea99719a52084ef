//! SSTs opened by other people's Parquet readers: pyarrow and DuckDB, where Python has them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Objects, Server, copy_weather, create_weather, skipped};

/// Counts, sums and values of the SSTs named on the command line, each reader in its own words.
const ANSWER: &str = "8703|8702|55.5465525166628|100.04|10.94|1357020000000|0";

const PYARROW: &str = r#"
import sys, pyarrow.parquet as pq, pyarrow.compute as pc
t = pq.read_table(sys.argv[1])
assert t.column_names[:3] == ["origin", "time_hour", "year"] and t.column_names[-2:] == ["__sequence", "__op_type"], t.column_names
assert set(t["origin"].to_pylist()) == {"EWR"} and set(t["__op_type"].to_pylist()) == {1}
ms = pc.min(t["time_hour"].cast("int64")).as_py()
sorted_ = t["time_hour"].cast("int64").to_pylist() == sorted(t["time_hour"].cast("int64").to_pylist())
print(t.num_rows, pc.count(t["temp"]).as_py(), "%.13f" % pc.mean(t["temp"]).as_py(), pc.max(t["temp"]).as_py(), pc.min(t["temp"]).as_py(), ms, int(not sorted_), sep="|")
"#;

const DUCKDB: &str = r#"
import sys, duckdb
q = "SELECT count(*), count(temp), avg(temp), max(temp), min(temp), epoch_ms(min(time_hour)), count(*) FILTER (origin <> 'EWR') FROM read_parquet('%s')"
n, temps, mean, most, least, ms, other = duckdb.sql(q % sys.argv[1]).fetchall()[0]
print(n, temps, "%.13f" % mean, most, least, ms, other, sep="|")
"#;

/// The Python to ask: `TESSERA_PYTHON`, or what the machine has.
fn python() -> String {
    std::env::var("TESSERA_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn has(package: &str) -> bool {
    Command::new(python()).args(["-c", &format!("import {package}")]).output().is_ok_and(|output| output.status.success())
}

/// The SST of region 0, all of EWR's weather.
fn weather_sst(home: &Path) -> PathBuf {
    let server = Server::start(home);
    server.run(create_weather());
    server.run(&copy_weather());
    assert_eq!(server.terminate().code, Some(0));
    Objects::of(home, 1024, 0).ssts().remove(0)
}

fn expect(package: &str, script: &str) {
    if !has(package) {
        return skipped(package, "Python or the package is not there; TESSERA_PYTHON names another Python");
    }
    let home = TempDir::new().unwrap();
    let sst = weather_sst(home.path());
    let output = Command::new(python()).args(["-c", script]).arg(&sst).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), ANSWER);
}

#[test]
fn pyarrow_opens_an_sst() {
    expect("pyarrow", PYARROW);
}

#[test]
fn duckdb_opens_an_sst() {
    expect("duckdb", DUCKDB);
}
