//! Tests of the statements that are parsed here.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Column, ColumnDefault, Place, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::ast::{AlterClause, ColumnDef, OptionChange, Statement, TableName};
use super::show::{Shown, create_table, value_text};
use super::split::split;
use super::types;
use super::{CreateTable, parse};
use crate::error::Code;
use tessera_engine::options::SkippingIndex;

fn one(sql: &str) -> Statement {
    let mut statements = parse(sql).unwrap();
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0)
}

fn create(sql: &str) -> CreateTable {
    match one(sql) {
        Statement::CreateTable(create) => *create,
        other => panic!("{other:?}"),
    }
}

fn refused(sql: &str) -> (Code, String) {
    match parse(sql) {
        Ok(statements) => panic!("{sql} was read as {statements:?}"),
        Err(error) => (error.code, error.message),
    }
}

fn named(database: Option<&str>, table: &str) -> TableName {
    TableName { database: database.map(str::to_owned), table: table.to_owned() }
}

#[test]
fn semicolons_in_quotes_and_comments_do_not_split() {
    let sql = "select ';' ; -- one; two\n select \"a;b\" /* ; */ from t;;\n;";
    assert_eq!(split(sql).unwrap().len(), 2);
    assert_eq!(parse(sql).unwrap().len(), 2);
}

#[test]
fn a_text_without_statements_is_refused() {
    for sql in ["", "  ", ";;", "-- nothing\n"] {
        assert_eq!(refused(sql).0, Code::InvalidSyntax, "{sql:?}");
    }
}

#[test]
fn bad_sql_names_its_place() {
    let (code, message) = refused("SELECT 1;\nSELECT (1 FROM t");
    assert_eq!(code, Code::InvalidSyntax);
    assert!(message.contains("Line: 2"), "{message}");
    assert!(refused("select 'abc").1.contains("nterminated"));
    assert!(refused("drop table t u").1.contains("the end of the statement"));
}

#[test]
fn a_table_is_read_with_all_its_clauses() {
    let table = create(
        "CREATE TABLE IF NOT EXISTS Weather.CPU (
            Host STRING, \"Dc\" VARCHAR(20) NOT NULL COMMENT 'it''s',
            ts TIMESTAMP(3) TIME INDEX,
            v DOUBLE NULL DEFAULT 1.5, n INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'x',
            PRIMARY KEY (host, \"Dc\"))
        PARTITION ON COLUMNS (host) (host < 'h, (', host >= 'h, (' AND (host < 'x' OR host > 'y'), host >= 'x')
        ENGINE = mito WITH (append_mode = 'false', 'merge_mode' = last_row)",
    );
    assert_eq!(table.name, named(Some("weather"), "cpu"));
    assert!(table.if_not_exists);
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["host", "Dc", "ts", "v", "n"]);
    assert_eq!(table.columns[1].comment.as_deref(), Some("it's"));
    assert_eq!(table.columns[1].nullable, Some(false));
    assert!(table.columns[2].time_index);
    assert_eq!(table.columns[3].default.as_ref().unwrap().to_string(), "1.5");
    assert_eq!(table.columns[4].data_type, DataType::UInt32);
    assert_eq!(table.primary_key, ["host", "Dc"]);
    assert_eq!(table.partition_columns, ["host"]);
    assert_eq!(table.rules, ["host < 'h, ('", "host >= 'h, (' AND (host < 'x' OR host > 'y')", "host >= 'x'"]);
    let options = [("append_mode", "false"), ("merge_mode", "last_row")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(table.options, options);
}

#[test]
fn a_time_index_may_be_a_constraint_and_a_column_may_be_called_time() {
    let table = create("create table t (time TIMESTAMP, index_ INT, TIME INDEX (time))");
    assert!(table.columns[0].time_index);
    assert_eq!(table.columns[0].data_type, DataType::Timestamp(TimeUnit::Millisecond));
    let nullable: Vec<Option<bool>> = table.columns.iter().map(|c| c.nullable).collect();
    assert_eq!(nullable, [None, None]);
}

#[test]
fn what_a_table_cannot_have_is_refused() {
    let cases = [
        ("create table t (a INT)", Code::InvalidArguments, "TIME INDEX"),
        ("create table t (ts TIMESTAMP TIME INDEX, u TIMESTAMP TIME INDEX)", Code::InvalidSyntax, "one TIME INDEX"),
        ("create table t (ts TIMESTAMP, TIME INDEX (x))", Code::ColumnNotFound, "'x'"),
        ("create table t (ts TIMESTAMP(4) TIME INDEX)", Code::InvalidSyntax, "0, 3, 6 or 9"),
        ("create table t (ts TIMESTAMP TIME INDEX, a JSONB)", Code::InvalidSyntax, "JSONB is not a type"),
        ("create table t (ts TIMESTAMP TIME INDEX, a DECIMAL(40, 2))", Code::InvalidSyntax, "precision of 1 to 38"),
        ("create table t (ts TIMESTAMP TIME INDEX, a INT NULL NOT NULL)", Code::InvalidSyntax, "both NULL and NOT NULL"),
        (
            "create table t (ts TIMESTAMP TIME INDEX, a STRING INVERTED INDEX)",
            Code::Unsupported,
            "INVERTED INDEX on column 'a' is not supported",
        ),
        ("create table t (ts TIMESTAMP TIME INDEX) ENGINE = metric", Code::Unsupported, "'metric'"),
        ("create table t (ts TIMESTAMP TIME INDEX) WITH (a = '1', a = '2')", Code::InvalidSyntax, "twice"),
        ("create table a.b.c.t (ts TIMESTAMP TIME INDEX)", Code::InvalidSyntax, "too many parts"),
        ("create table t (ts TIMESTAMP TIME INDEX) PARTITION ON COLUMNS (a) (a < 1", Code::InvalidSyntax, "a rule and ')'"),
    ];
    for (sql, code, part) in cases {
        let (found, message) = refused(sql);
        assert_eq!(found, code, "{sql}: {message}");
        assert!(message.contains(part), "{sql}: {message}");
    }
}

#[test]
fn short_statements_are_read() {
    assert_eq!(
        one("create database if not exists X"),
        Statement::CreateDatabase { name: "x".into(), if_not_exists: true, options: vec![] }
    );
    assert_eq!(one("drop database x"), Statement::DropDatabase { name: "x".into(), if_exists: false });
    let names = vec![named(None, "a"), named(Some("db"), "B")];
    assert_eq!(one("drop table if exists A, db.\"B\""), Statement::DropTable { names, if_exists: true });
    assert_eq!(one("show databases like 'a%'"), Statement::ShowDatabases { like: Some("a%".into()) });
    assert_eq!(one("SHOW TABLES FROM db"), Statement::ShowTables { database: Some("db".into()), like: None });
    assert_eq!(one("show create table tessera.db.t"), Statement::ShowCreateTable(named(Some("db"), "t")));
    assert_eq!(one("desc table t"), Statement::Describe(named(None, "t")));
    assert_eq!(one("describe t"), Statement::Describe(named(None, "t")));
    assert_eq!(one("use Db"), Statement::Use("db".into()));
}

#[test]
fn queries_and_writes_go_to_datafusion() {
    for sql in ["select 1", "(select 1)", "with a as (select 1) select * from a", "values (1)", "explain analyze select 1"] {
        assert!(matches!(one(sql), Statement::Query(_)), "{sql}");
    }
    for sql in ["insert into t values (1)", "insert into t (a) select 1", "delete from t where a = 1"] {
        assert!(matches!(one(sql), Statement::Write(_)), "{sql}");
    }
}

#[test]
fn what_is_known_and_not_done_is_named() {
    for (sql, name) in [
        ("alter user u", "ALTER USER"),
        ("update t set a = 1", "UPDATE"),
        ("create view v as select 1", "CREATE VIEW"),
        ("show processlist", "SHOW PROCESSLIST"),
    ] {
        assert_eq!(one(sql), Statement::Unsupported(name.into()), "{sql}");
    }
}

#[test]
fn copy_is_read_both_ways() {
    let options = vec![("null_values".to_owned(), "NA".to_owned()), ("header".to_owned(), "true".to_owned())];
    let from = Statement::CopyFrom { table: named(None, "t"), path: "a.csv".into(), options };
    assert_eq!(one("copy T from 'a.csv' with (null_values = 'NA', HEADER = true)"), from);
    let Statement::CopyTo { query, path, .. } = one("copy db.t to 'b.parquet'") else { panic!() };
    assert_eq!((query.to_string().as_str(), path.as_str()), ("SELECT * FROM \"db\".\"t\"", "b.parquet"));
    let Statement::CopyTo { query, options, .. } = one("copy (select a from t where b in (1, 2)) to 'b.csv' with (overwrite = true)")
    else {
        panic!()
    };
    assert_eq!(query.to_string(), "SELECT a FROM t WHERE b IN (1, 2)");
    assert_eq!(options, [("overwrite".to_owned(), "true".to_owned())]);
    assert!(refused("copy t from a.csv").1.contains("single quotes"));
}

#[test]
fn every_type_is_read_back_from_its_name() {
    let decimal = DataType::Decimal { precision: 10, scale: 2 };
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let plain = [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::String,
        DataType::Binary,
        DataType::Date,
        decimal,
    ];
    for data_type in plain.into_iter().chain(units.map(DataType::Timestamp)) {
        let table = create(&format!("create table t (a {}, ts TIMESTAMP TIME INDEX)", types::name(data_type)));
        assert_eq!(table.columns[0].data_type, data_type);
    }
}

#[test]
fn literals_are_shown_as_sql() {
    let ms = DataType::Timestamp(TimeUnit::Millisecond);
    assert_eq!(value_text(&Value::Timestamp(-1), ms), "'1969-12-31 23:59:59.999'");
    assert_eq!(value_text(&Value::Timestamp(i64::MAX), ms), i64::MAX.to_string());
    let decimal = DataType::Decimal { precision: 10, scale: 2 };
    assert_eq!(value_text(&Value::Decimal(-5), decimal), "'-0.05'");
    assert_eq!(value_text(&Value::Decimal(12_345), decimal), "'123.45'");
    assert_eq!(value_text(&Value::Binary(vec![0, 255]), DataType::Binary), "X'00FF'");
    assert_eq!(value_text(&Value::String("it's".into()), DataType::String), "'it''s'");
    assert_eq!(value_text(&Value::Date(365), DataType::Date), "'1971-01-01'");
}

#[test]
fn alterations_are_read_clause_by_clause() {
    let clauses = |sql: &str| match one(sql) {
        Statement::AlterTable { name, changes } => {
            assert_eq!(name, named(None, "t"));
            changes
        }
        other => panic!("{other:?}"),
    };
    let read = clauses(
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS a INT DEFAULT 1 + 1 COMMENT 'x' FIRST, ADD b STRING NOT NULL PRIMARY KEY AFTER \"A\", \
         DROP COLUMN c, MODIFY COLUMN d BIGINT UNSIGNED, MODIFY e SET SKIPPING INDEX WITH (false_positive_rate = 0.05), \
         MODIFY COLUMN e UNSET SKIPPING INDEX, RENAME TO u, SET 'ttl' = '7d', compaction.type = 'twcs'",
    );
    let AlterClause::Add { column, is_key: false, if_not_exists: true, place: Place::First } = &read[0] else { panic!("{:?}", read[0]) };
    assert_eq!((column.name.as_str(), column.data_type, column.comment.as_deref()), ("a", DataType::Int32, Some("x")));
    let AlterClause::Add { column, is_key: true, if_not_exists: false, place: Place::After(after) } = &read[1] else {
        panic!("{:?}", read[1])
    };
    assert_eq!((column.name.as_str(), column.nullable, after.as_str()), ("b", Some(false), "A"));
    let index = SkippingIndex { false_positive_ppm: 50_000 };
    let options = [("ttl", "7d"), ("compaction.type", "twcs")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(
        read[2..],
        [
            AlterClause::Drop { column: "c".into() },
            AlterClause::Modify { column: "d".into(), data_type: DataType::UInt64 },
            AlterClause::Index { column: "e".into(), skipping: Some(index) },
            AlterClause::Index { column: "e".into(), skipping: None },
            AlterClause::Rename { to: "u".into() },
            AlterClause::Options(OptionChange::Set(options.to_vec())),
        ]
    );
    assert_eq!(
        clauses("alter table t unset ttl, 'append_mode'"),
        [AlterClause::Options(OptionChange::Unset(vec!["ttl".into(), "append_mode".into()]))]
    );
}

#[test]
fn truncations_and_admin_functions_are_read() {
    let Statement::Truncate { name, ranges } = one("truncate m.t file range (0, '2020-01-01'), (5, 5 + 1)") else { panic!() };
    assert_eq!((name, ranges.len()), (named(Some("m"), "t"), 2));
    assert!(matches!(one("truncate table t"), Statement::Truncate { ranges, .. } if ranges.is_empty()));
    let admin = Statement::Admin { function: "compact_table".into(), arguments: vec!["m.t".into(), "strict_window".into(), "3600".into()] };
    assert_eq!(one("ADMIN Compact_Table('m.t', \"strict_window\", 3600)"), admin);
    let options = OptionChange::Set(vec![("ttl".into(), "1h 30m".into())]);
    assert_eq!(one("alter database m set 'ttl' = '1h 30m'"), Statement::AlterDatabase { name: "m".into(), options });
    for (sql, part) in [
        ("alter table t", "ADD, DROP, MODIFY"),
        ("alter table t add column", "name"),
        ("alter table t modify column a set inverted index", "INVERTED"),
        ("alter table t modify column a set default 1", "for life"),
        ("alter table t add column a int skipping index with (type = 'ngram')", "BLOOM"),
        ("truncate table t file range (1)", ","),
        ("admin flush_table('t'", ","),
    ] {
        let error = parse(sql).unwrap_err();
        assert!(error.message.contains(part), "{sql}: {}", error.message);
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z \"'`;]{1,6}[0-9]{1,3}"
}

proptest! {
    #[test]
    fn show_create_table_reads_back_as_the_same_table(
        names in prop::collection::btree_set(name(), 3..6),
        table in name(),
        comment in prop::option::of("[ -~]{0,12}"),
        not_null in any::<bool>(),
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let column = |at: usize, data_type, semantic| Column {
            id: ColumnId(u32::try_from(at).unwrap()), name: names[at].clone(), data_type, semantic,
            nullable: semantic != SemanticType::TimeIndex && !not_null, default: None, comment: comment.clone(),
        };
        let mut columns = vec![
            column(0, DataType::String, SemanticType::Tag),
            column(1, DataType::Timestamp(TimeUnit::Nanosecond), SemanticType::TimeIndex),
        ];
        columns.extend((2..names.len()).map(|at| column(at, DataType::Float64, SemanticType::Field)));
        columns[2].default = Some(ColumnDefault::Value(Value::Float(-0.5)));
        let schema = Schema::new(columns, vec![ColumnId(0)]).unwrap();
        let rules = vec!["x < 'a'".to_owned(), "x >= 'a'".to_owned()];
        let mut options = BTreeMap::from([("append_mode".to_owned(), "false".to_owned())]);
        let given = options.clone();
        options.insert("index.skipping.2".to_owned(), "0.05".to_owned());
        let shown = Shown { name: &table, schema: &schema, partition_columns: &[ColumnId(0)], rules: &rules, options: &options };
        let read = create(&create_table(shown));
        prop_assert_eq!(&read.name.table, &table);
        prop_assert_eq!(&read.rules, &rules);
        prop_assert_eq!(&read.partition_columns, &names[..1]);
        prop_assert_eq!(&read.primary_key, &names[..1]);
        prop_assert_eq!(read.options, given.into_iter().collect::<Vec<_>>());
        for (read, column) in read.columns.iter().zip(schema.columns()) {
            let ColumnDef { name, data_type, nullable, time_index, default, comment, skipping } = read;
            prop_assert_eq!(name, &column.name);
            prop_assert_eq!(*data_type, column.data_type);
            prop_assert_eq!(*nullable, Some(column.nullable));
            prop_assert_eq!(*time_index, column.semantic == SemanticType::TimeIndex);
            prop_assert_eq!(default.is_some(), column.default.is_some());
            prop_assert_eq!(comment, &column.comment);
            prop_assert_eq!(skipping.map(|index| index.false_positive_ppm), (column.id == ColumnId(2)).then_some(50_000));
        }
    }
}
