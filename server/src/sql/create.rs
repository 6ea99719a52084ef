//! `CREATE TABLE`.

use datafusion::sql::sqlparser::ast::ColumnOption;
use datafusion::sql::sqlparser::tokenizer::Token;
use tessera_engine::options::SkippingIndex;
use tessera_manifest::value::DataType;

use super::ast::{ColumnDef, CreateTable, Statement};
use super::parser::Cursor;
use super::partition::{self, names};
use super::types::{self, TypeText};
use super::{from_parser, syntax};
use crate::error::{Code, ServerError};

/// What the parentheses of a `CREATE TABLE` collect.
#[derive(Default)]
struct Body {
    columns: Vec<ColumnDef>,
    primary_key: Vec<String>,
    time_index: Option<String>,
}

pub(super) fn create_table(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    cursor.skip(2);
    let if_not_exists = cursor.eat(&["IF", "NOT", "EXISTS"]);
    let name = cursor.table_name()?;
    cursor.expect(&Token::LParen)?;
    let mut body = Body::default();
    loop {
        element(cursor, &mut body)?;
        if !cursor.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    let (partition_columns, rules) = partition(cursor)?;
    engine(cursor)?;
    let options = cursor.with_options()?;
    let (columns, primary_key) = (settle_time_index(body.columns, body.time_index)?, body.primary_key);
    let create = CreateTable { name, if_not_exists, columns, primary_key, partition_columns, rules, options };
    Ok(Statement::CreateTable(Box::new(create)))
}

fn element(cursor: &mut Cursor<'_>, body: &mut Body) -> Result<(), ServerError> {
    let call = |cursor: &Cursor<'_>, words: &[&str]| cursor.at(words) && cursor.parser.peek_nth_token(words.len()).token == Token::LParen;
    if call(cursor, &["TIME", "INDEX"]) {
        cursor.skip(2);
        let names = names(cursor)?;
        let [name] = names.as_slice() else { return Err(syntax("TIME INDEX names exactly one column")) };
        return set_time_index(body, name.clone());
    }
    if call(cursor, &["PRIMARY", "KEY"]) {
        cursor.skip(2);
        let names = names(cursor)?;
        return set_primary_key(body, names);
    }
    column(cursor, body)
}

fn set_time_index(body: &mut Body, name: String) -> Result<(), ServerError> {
    match body.time_index.replace(name) {
        None => Ok(()),
        Some(other) => Err(syntax(format!("a table has one TIME INDEX; '{other}' is one already"))),
    }
}

fn set_primary_key(body: &mut Body, names: Vec<String>) -> Result<(), ServerError> {
    if !body.primary_key.is_empty() {
        return Err(syntax("PRIMARY KEY is given twice"));
    }
    body.primary_key = names;
    Ok(())
}

/// One column of an `ADD COLUMN`, and whether it says `PRIMARY KEY`.
pub(super) fn added_column(cursor: &mut Cursor<'_>) -> Result<(ColumnDef, bool), ServerError> {
    let mut body = Body::default();
    column(cursor, &mut body)?;
    let mut added = body.columns.pop().ok_or_else(|| syntax("ADD COLUMN needs a column"))?;
    added.time_index = body.time_index.is_some();
    Ok((added, !body.primary_key.is_empty()))
}

/// A type of an `MODIFY COLUMN`.
pub(super) fn modified_type(cursor: &mut Cursor<'_>) -> Result<DataType, ServerError> {
    types::resolve(&type_text(cursor)?)
}

fn column(cursor: &mut Cursor<'_>, body: &mut Body) -> Result<(), ServerError> {
    let name = cursor.identifier()?;
    let data_type = types::resolve(&type_text(cursor)?)?;
    let mut column = ColumnDef { name, data_type, nullable: None, time_index: false, default: None, comment: None, skipping: None };
    loop {
        if cursor.eat(&["NOT", "NULL"]) {
            set_nullable(&mut column, false)?;
        } else if cursor.eat(&["NULL"]) {
            set_nullable(&mut column, true)?;
        } else if cursor.at(&["DEFAULT"]) {
            set_default(cursor, &mut column)?;
        } else if cursor.eat(&["COMMENT"]) {
            column.comment = Some(cursor.string("a comment in single quotes")?);
        } else if cursor.eat(&["TIME", "INDEX"]) {
            set_time_index(body, column.name.clone())?;
        } else if cursor.eat(&["PRIMARY", "KEY"]) {
            set_primary_key(body, vec![column.name.clone()])?;
        } else if cursor.eat(&["SKIPPING", "INDEX"]) {
            column.skipping = Some(skipping_index(cursor)?);
        } else if let Some(word @ ("INVERTED" | "FULLTEXT" | "VECTOR")) = cursor.word(0).as_deref() {
            return Err(no_index(word, &column.name));
        } else {
            break;
        }
    }
    body.columns.push(column);
    Ok(())
}

/// What follows `SKIPPING INDEX`. A filter covers a row group, whatever `granularity` says.
pub(super) fn skipping_index(cursor: &mut Cursor<'_>) -> Result<SkippingIndex, ServerError> {
    let mut index = SkippingIndex::DEFAULT;
    for (name, value) in cursor.with_options()? {
        let bad = |what: &str| ServerError::new(Code::InvalidArguments, format!("SKIPPING INDEX: {name} = '{value}' {what}"));
        match name.as_str() {
            "type" if value.eq_ignore_ascii_case("bloom") => {}
            "type" => return Err(bad("is not known: the only type is 'BLOOM'")),
            "granularity" if value.parse::<u32>().is_ok_and(|rows| rows > 0) => {}
            "granularity" => return Err(bad("is no number of rows")),
            "false_positive_rate" => {
                index = SkippingIndex::parse(&value).ok_or_else(|| bad("is not a probability from 0.000001 to 0.5"))?;
            }
            _ => return Err(bad("is not known: options are type, granularity, false_positive_rate")),
        }
    }
    Ok(index)
}

/// Why there is no index of this kind.
pub(super) fn no_index(word: &str, column: &str) -> ServerError {
    let why = match word {
        "INVERTED" => "tags are sorted and have statistics; for other columns use SKIPPING INDEX",
        "FULLTEXT" => "texts are searched by reading them",
        _ => "there is no such index here",
    };
    ServerError::new(Code::Unsupported, format!("{word} INDEX on column '{column}' is not supported: {why}"))
}

fn set_nullable(column: &mut ColumnDef, nullable: bool) -> Result<(), ServerError> {
    match column.nullable.replace(nullable) {
        Some(before) if before != nullable => Err(syntax(format!("column '{}' is both NULL and NOT NULL", column.name))),
        _ => Ok(()),
    }
}

fn set_default(cursor: &mut Cursor<'_>, column: &mut ColumnDef) -> Result<(), ServerError> {
    match cursor.parser.parse_optional_column_option().map_err(|error| from_parser(&error))? {
        Some(ColumnOption::Default(value)) if column.default.is_none() => {
            column.default = Some(value);
            Ok(())
        }
        _ => Err(syntax(format!("column '{}' has no readable DEFAULT, or more than one", column.name))),
    }
}

fn type_text(cursor: &mut Cursor<'_>) -> Result<TypeText, ServerError> {
    let Some(name) = cursor.word(0) else {
        let token = cursor.parser.peek_token();
        return cursor.expected("a type", token);
    };
    cursor.skip(1);
    if name == "DOUBLE" {
        let _optional = cursor.eat(&["PRECISION"]);
    }
    let mut arguments = Vec::new();
    if cursor.parser.consume_token(&Token::LParen) {
        loop {
            arguments.push(cursor.parser.parse_literal_uint().map_err(|error| from_parser(&error))?);
            if !cursor.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        cursor.expect(&Token::RParen)?;
    }
    let unsigned = cursor.eat(&["UNSIGNED"]);
    Ok(TypeText { name, arguments, unsigned })
}

/// The `PARTITION` clause, or nothing.
fn partition(cursor: &mut Cursor<'_>) -> Result<(Vec<String>, Vec<String>), ServerError> {
    if cursor.at(&["PARTITION"]) { partition::clause(cursor) } else { Ok((Vec::new(), Vec::new())) }
}

fn engine(cursor: &mut Cursor<'_>) -> Result<(), ServerError> {
    if !cursor.eat(&["ENGINE"]) {
        return Ok(());
    }
    let _optional = cursor.parser.consume_token(&Token::Eq);
    let engine = cursor.identifier()?;
    if engine.eq_ignore_ascii_case("mito") {
        return Ok(());
    }
    Err(ServerError::new(Code::Unsupported, format!("there is no engine '{engine}'; leave the clause out, or write ENGINE = mito")))
}

fn settle_time_index(mut columns: Vec<ColumnDef>, name: Option<String>) -> Result<Vec<ColumnDef>, ServerError> {
    let Some(name) = name else {
        return Err(ServerError::new(Code::InvalidArguments, "a table needs a TIME INDEX: write, for example, ts TIMESTAMP(3) TIME INDEX"));
    };
    match columns.iter_mut().find(|column| column.name == name) {
        Some(column) => column.time_index = true,
        None => return Err(ServerError::new(Code::ColumnNotFound, format!("TIME INDEX names column '{name}', which is not defined"))),
    }
    Ok(columns)
}
