//! `ALTER TABLE`, `ALTER DATABASE`, `TRUNCATE` and `ADMIN`.

use datafusion::sql::sqlparser::ast as df;
use datafusion::sql::sqlparser::tokenizer::Token;
use tessera_manifest::schema::Place;

use super::ast::{AlterClause, OptionChange, Statement};
use super::create::{added_column, modified_type, no_index, skipping_index};
use super::parser::Cursor;
use super::{as_of, from_parser, partition, syntax};
use crate::error::ServerError;

pub(super) fn table(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    cursor.skip(2);
    let name = cursor.table_name()?;
    if partition::begins(cursor) {
        return partition::change(cursor, name);
    }
    let mut changes = vec![clause(cursor)?];
    while cursor.parser.consume_token(&Token::Comma) {
        changes.push(clause(cursor)?);
    }
    Ok(Statement::AlterTable { name, changes })
}

fn clause(cursor: &mut Cursor<'_>) -> Result<AlterClause, ServerError> {
    if cursor.eat(&["ADD"]) {
        return add(cursor);
    }
    if cursor.eat(&["DROP"]) {
        cursor.expect_words(&["COLUMN"])?;
        return Ok(AlterClause::Drop { column: cursor.identifier()? });
    }
    if cursor.eat(&["MODIFY"]) {
        return modify(cursor);
    }
    if cursor.eat(&["RENAME"]) {
        let _optional = cursor.eat(&["TO"]);
        let to = cursor.identifier()?;
        as_of::check_name(&to)?;
        return Ok(AlterClause::Rename { to });
    }
    options(cursor).map(AlterClause::Options)
}

fn add(cursor: &mut Cursor<'_>) -> Result<AlterClause, ServerError> {
    let _optional = cursor.eat(&["COLUMN"]);
    let if_not_exists = cursor.eat(&["IF", "NOT", "EXISTS"]);
    let (column, is_key) = added_column(cursor)?;
    let place = if cursor.eat(&["FIRST"]) {
        Place::First
    } else if cursor.eat(&["AFTER"]) {
        Place::After(cursor.identifier()?)
    } else {
        Place::Last
    };
    Ok(AlterClause::Add { column: Box::new(column), is_key, if_not_exists, place })
}

fn modify(cursor: &mut Cursor<'_>) -> Result<AlterClause, ServerError> {
    let _optional = cursor.eat(&["COLUMN"]);
    let column = cursor.identifier()?;
    let (set, unset) = (cursor.eat(&["SET"]), cursor.eat(&["UNSET"]));
    if !set && !unset {
        return Ok(AlterClause::Modify { data_type: modified_type(cursor)?, column });
    }
    if cursor.eat(&["SKIPPING", "INDEX"]) {
        let skipping = if set { Some(skipping_index(cursor)?) } else { None };
        return Ok(AlterClause::Index { column, skipping });
    }
    match cursor.word(0).as_deref() {
        Some(word @ ("INVERTED" | "FULLTEXT" | "VECTOR")) => Err(no_index(word, &column)),
        Some("DEFAULT") => Err(crate::error::ServerError::new(
            crate::error::Code::Unsupported,
            format!("the DEFAULT of column '{column}' is for life: rows that were written before the column was added have it"),
        )),
        _ => {
            let token = cursor.parser.peek_token();
            cursor.expected("SKIPPING INDEX", token)
        }
    }
}

/// `SET name = value, ...` or `UNSET name, ...`
fn options(cursor: &mut Cursor<'_>) -> Result<OptionChange, ServerError> {
    if cursor.eat(&["UNSET"]) {
        let mut names = vec![cursor.option_key()?];
        while cursor.parser.consume_token(&Token::Comma) {
            names.push(cursor.option_key()?);
        }
        return Ok(OptionChange::Unset(names));
    }
    if !cursor.eat(&["SET"]) {
        let token = cursor.parser.peek_token();
        return cursor.expected("ADD, DROP, MODIFY, RENAME, SET, UNSET, SPLIT, MERGE, REPARTITION or PARTITION", token);
    }
    let mut options: Vec<(String, String)> = Vec::new();
    loop {
        let key = cursor.option_key()?;
        cursor.expect(&Token::Eq)?;
        let value = cursor.option_value()?;
        if options.iter().any(|(other, _)| *other == key) {
            return Err(syntax(format!("option '{key}' is given twice")));
        }
        options.push((key, value));
        if !cursor.parser.consume_token(&Token::Comma) {
            return Ok(OptionChange::Set(options));
        }
    }
}

pub(super) fn database(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    cursor.skip(2);
    let name = cursor.identifier()?;
    Ok(Statement::AlterDatabase { name, options: options(cursor)? })
}

pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    cursor.skip(1);
    let _optional = cursor.eat(&["TABLE"]);
    let name = cursor.table_name()?;
    let mut ranges = Vec::new();
    if cursor.eat(&["FILE", "RANGE"]) {
        ranges.push(range(cursor)?);
        while cursor.parser.consume_token(&Token::Comma) {
            ranges.push(range(cursor)?);
        }
    }
    Ok(Statement::Truncate { name, ranges })
}

fn range(cursor: &mut Cursor<'_>) -> Result<(df::Expr, df::Expr), ServerError> {
    cursor.expect(&Token::LParen)?;
    let from = cursor.parser.parse_expr().map_err(|error| from_parser(&error))?;
    cursor.expect(&Token::Comma)?;
    let to = cursor.parser.parse_expr().map_err(|error| from_parser(&error))?;
    cursor.expect(&Token::RParen)?;
    Ok((from, to))
}

pub(super) fn admin(cursor: &mut Cursor<'_>) -> Result<Statement, ServerError> {
    cursor.skip(1);
    let function = cursor.identifier()?;
    cursor.expect(&Token::LParen)?;
    let mut arguments = Vec::new();
    while !cursor.parser.consume_token(&Token::RParen) {
        if !arguments.is_empty() {
            cursor.expect(&Token::Comma)?;
        }
        arguments.push(cursor.option_value()?);
    }
    Ok(Statement::Admin { function: function.to_lowercase(), arguments })
}
