//! The queries of TSBS's "cpu-only" use case, in the dialects of the engines that answer them.
//!
//! Each has several variants, drawn with a seed: other hosts, other hours. All engines answer the same ones. The
//! sources of the queries are TSBS's generators (`cmd/tsbs_generate_queries`); data shorter than a query's stretch of
//! time is read whole.

use serde_json::{Value, json};

use crate::cpu::{Cpu, FIELDS};

/// One query: its name, and its variants in each dialect.
#[derive(Debug, Clone)]
pub struct Query {
    /// As TSBS names it.
    pub name: &'static str,
    /// For Tessera.
    pub tessera: Vec<String>,
    /// For DuckDB.
    pub duckdb: Vec<String>,
    /// For ClickHouse.
    pub clickhouse: Vec<String>,
}

impl Query {
    /// What the script of the peers reads.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "duckdb": self.duckdb, "clickhouse": self.clickhouse })
    }
}

/// An engine's way of saying what differs.
struct Dialect {
    minute: &'static str,
    hour: &'static str,
    last: &'static str,
    time: fn(i64) -> String,
}

const TESSERA: Dialect = Dialect {
    minute: "date_trunc('minute', ts)",
    hour: "date_trunc('hour', ts)",
    last: "SELECT hostname, last_value(usage_user ORDER BY ts) AS usage_user, last_value(usage_system ORDER BY ts) AS usage_system, max(ts) AS ts \
           FROM cpu GROUP BY hostname",
    time: |ms| format!("to_timestamp_millis({ms})"),
};
const DUCKDB: Dialect = Dialect {
    minute: "date_trunc('minute', ts)",
    hour: "date_trunc('hour', ts)",
    last: "SELECT hostname, arg_max(usage_user, ts) AS usage_user, arg_max(usage_system, ts) AS usage_system, max(ts) AS ts FROM cpu GROUP BY hostname",
    time: |ms| format!("make_timestamp({ms}000)"),
};
const CLICKHOUSE: Dialect = Dialect {
    minute: "toStartOfMinute(ts)",
    hour: "toStartOfHour(ts)",
    last: "SELECT hostname, argMax(usage_user, ts) AS last_user, argMax(usage_system, ts) AS last_system, max(ts) AS last_ts FROM bench.cpu GROUP BY hostname",
    time: |ms| format!("fromUnixTimestamp64Milli({ms}, 'UTC')"),
};

/// What a variant asks for.
struct Ask<'a> {
    hosts: Vec<&'a str>,
    from: i64,
    to: i64,
}

const HOUR_MS: i64 = 3_600_000;

/// All queries over the generated table, `variants` of each.
#[must_use]
pub fn queries(cpu: &Cpu, variants: usize) -> Vec<Query> {
    let one = |name, hosts: usize, hours: i64, text: fn(&Dialect, &Ask<'_>, &str) -> String| {
        let asks: Vec<Ask<'_>> = (0..variants).map(|variant| ask(cpu, variant, hosts, hours)).collect();
        let of = |dialect: &Dialect, table: &str| asks.iter().map(|ask| text(dialect, ask, table)).collect();
        Query { name, tessera: of(&TESSERA, "cpu"), duckdb: of(&DUCKDB, "cpu"), clickhouse: of(&CLICKHOUSE, "bench.cpu") }
    };
    vec![
        one("single-groupby-1-1-1", 1, 1, |d, a, t| single(d, a, t, 1)),
        one("single-groupby-5-1-1", 1, 1, |d, a, t| single(d, a, t, 5)),
        one("single-groupby-5-8-1", 8, 1, |d, a, t| single(d, a, t, 5)),
        one("double-groupby-1", 0, 12, |d, a, t| double(d, a, t, 1)),
        one("double-groupby-all", 0, 12, |d, a, t| double(d, a, t, FIELDS.len())),
        one("high-cpu-all", 0, 12, |d, a, t| format!("SELECT * FROM {t} WHERE usage_user > 90.0 AND {}", span(d, a))),
        one("lastpoint", 0, 0, |d, _, _| d.last.to_owned()),
        one("groupby-orderby-limit", 0, 12, |d, a, t| {
            let (minute, to) = (d.minute, (d.time)(a.to));
            format!(
                "SELECT {minute} AS minute, max(usage_user) AS top FROM {t} WHERE ts < {to} GROUP BY minute ORDER BY minute DESC LIMIT 5"
            )
        }),
        one("sum-of-all-fields", 0, 0, |_, _, t| format!("SELECT {} FROM {t}", aggregates("sum", FIELDS.len()))),
    ]
}

/// The hosts and the time of a variant; a stretch that the data does not fill begins with the data.
fn ask(cpu: &Cpu, variant: usize, hosts: usize, hours: i64) -> Ask<'_> {
    // Steps of a large odd number spread over all hosts and hours.
    let pick = |n: usize, below: usize| n.wrapping_mul(2_654_435_761).wrapping_add(97) % below.max(1);
    let names = (0..hosts).map(|n| cpu.host_name(pick(variant * 8 + n, cpu.hosts()))).collect();
    let (first, end) = (cpu.time_ms(0), cpu.time_ms(cpu.steps()));
    let room = usize::try_from((end - first - hours * HOUR_MS).max(0) / 1000).unwrap_or(0);
    let from = first + (pick(variant, room + 1) as i64) * 1000;
    Ask { hosts: names, from, to: (from + hours * HOUR_MS).min(end) }
}

fn span(dialect: &Dialect, ask: &Ask<'_>) -> String {
    format!("ts >= {} AND ts < {}", (dialect.time)(ask.from), (dialect.time)(ask.to))
}

fn aggregates(function: &str, fields: usize) -> String {
    let one = |field: &&str| format!("{function}({field}) AS {function}_{field}");
    FIELDS[..fields].iter().map(one).collect::<Vec<_>>().join(", ")
}

fn single(dialect: &Dialect, ask: &Ask<'_>, table: &str, fields: usize) -> String {
    let hosts = ask.hosts.iter().map(|host| format!("'{host}'")).collect::<Vec<_>>().join(", ");
    let (minute, max, span) = (dialect.minute, aggregates("max", fields), span(dialect, ask));
    format!("SELECT {minute} AS minute, {max} FROM {table} WHERE hostname IN ({hosts}) AND {span} GROUP BY minute ORDER BY minute")
}

fn double(dialect: &Dialect, ask: &Ask<'_>, table: &str, fields: usize) -> String {
    let (hour, avg, span) = (dialect.hour, aggregates("avg", fields), span(dialect, ask));
    format!("SELECT {hour} AS hour, hostname, {avg} FROM {table} WHERE {span} GROUP BY hour, hostname ORDER BY hour, hostname")
}
