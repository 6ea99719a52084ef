//! Partition rules in statements: the `PARTITION` clause, and the forms of `ALTER TABLE` that change the rules.
//!
//! ```text
//! ALTER TABLE t SPLIT PARTITION (rule) INTO (rule, rule, ...)
//! ALTER TABLE t MERGE PARTITION (rule, rule, ...)
//! ALTER TABLE t REPARTITION (rule, ...) [ON COLUMNS (column, ...)] INTO (rule, ...)
//! ALTER TABLE t PARTITION ON COLUMNS (column, ...) (rule, ...)
//!   ... [WITH (timeout = '5m', wait = false, localize = false)]
//! ```
//!
//! Rules are kept as texts here, for they mean something only to a table's columns.

use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::ast::{PartitionChange, Repartition, RepartitionOptions, Statement, TableName};
use super::parser::Cursor;
use super::syntax;
use crate::error::{Code, ServerError};

/// Rules that one statement may name. More: an error that says so.
const RULES_MAX: usize = 8192;

/// Whether an `ALTER TABLE t` goes on with a change of the partition rules.
pub(super) fn begins(cursor: &Cursor<'_>) -> bool {
    cursor.at(&["SPLIT"]) || cursor.at(&["MERGE"]) || cursor.at(&["REPARTITION"]) || cursor.at(&["PARTITION"])
}

/// What follows `ALTER TABLE t`, where [`begins`] says so.
pub(super) fn change(cursor: &mut Cursor<'_>, name: TableName) -> Result<Statement, ServerError> {
    let change = if cursor.eat(&["SPLIT"]) {
        split(cursor)?
    } else if cursor.eat(&["MERGE"]) {
        merge(cursor)?
    } else if cursor.eat(&["REPARTITION"]) {
        replace(cursor)?
    } else {
        let (columns, rules) = clause(cursor)?;
        PartitionChange::On { columns, rules }
    };
    if cursor.parser.peek_token().token == Token::Comma {
        return Err(syntax("a change of partitions is a statement of its own: an ALTER TABLE has it alone"));
    }
    let options = options(cursor)?;
    Ok(Statement::Repartition(Box::new(Repartition { name, change, options })))
}

fn split(cursor: &mut Cursor<'_>) -> Result<PartitionChange, ServerError> {
    cursor.expect_words(&["PARTITION"])?;
    let mut rules = rules(cursor, "SPLIT PARTITION")?;
    if rules.len() != 1 {
        let text =
            format!("SPLIT PARTITION names the one rule that is split, not {}; REPARTITION (...) INTO (...) takes several", rules.len());
        return Err(syntax(text));
    }
    cursor.expect_words(&["INTO"])?;
    let into = self::rules(cursor, "INTO")?;
    if into.len() < 2 {
        return Err(syntax("SPLIT PARTITION (rule) INTO (...) needs two rules or more"));
    }
    Ok(PartitionChange::Split { rule: rules.remove(0), into })
}

fn merge(cursor: &mut Cursor<'_>) -> Result<PartitionChange, ServerError> {
    cursor.expect_words(&["PARTITION"])?;
    let rules = rules(cursor, "MERGE PARTITION")?;
    if rules.len() < 2 {
        return Err(syntax("MERGE PARTITION (...) needs two rules or more"));
    }
    Ok(PartitionChange::Merge { rules })
}

fn replace(cursor: &mut Cursor<'_>) -> Result<PartitionChange, ServerError> {
    let _optional = cursor.eat(&["PARTITION"]);
    let from = rules(cursor, "REPARTITION")?;
    let columns = if cursor.eat(&["ON", "COLUMNS"]) { Some(names_or_none(cursor)?) } else { None };
    cursor.expect_words(&["INTO"])?;
    let into = rules(cursor, "INTO")?;
    if from.is_empty() || into.is_empty() {
        return Err(syntax("REPARTITION (...) INTO (...) needs a rule in each list"));
    }
    Ok(PartitionChange::Replace { from, columns, into })
}

/// `PARTITION ON COLUMNS (column, ...) (rule, ...)`
pub(super) fn clause(cursor: &mut Cursor<'_>) -> Result<(Vec<String>, Vec<String>), ServerError> {
    cursor.expect_words(&["PARTITION", "ON", "COLUMNS"])?;
    let columns = names_or_none(cursor)?;
    Ok((columns, rules(cursor, "PARTITION ON COLUMNS")?))
}

/// Names in parentheses, perhaps none.
fn names_or_none(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ServerError> {
    if cursor.parser.peek_token().token == Token::LParen && cursor.parser.peek_nth_token(1).token == Token::RParen {
        cursor.skip(2);
        return Ok(Vec::new());
    }
    names(cursor)
}

/// One name or more, in parentheses.
pub(super) fn names(cursor: &mut Cursor<'_>) -> Result<Vec<String>, ServerError> {
    cursor.expect(&Token::LParen)?;
    let mut names = vec![cursor.identifier()?];
    while cursor.parser.consume_token(&Token::Comma) {
        names.push(cursor.identifier()?);
    }
    cursor.expect(&Token::RParen)?;
    Ok(names)
}

/// The texts of rules in parentheses, perhaps none; `clause` names the list in messages.
fn rules(cursor: &mut Cursor<'_>, clause: &str) -> Result<Vec<String>, ServerError> {
    cursor.expect(&Token::LParen)?;
    let mut rules = Vec::new();
    while cursor.parser.peek_token().token != Token::RParen {
        rules.push(rule(cursor, clause)?);
        if rules.len() > RULES_MAX {
            return Err(syntax(format!("{clause} lists more than {RULES_MAX} rules")));
        }
        if !cursor.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect(&Token::RParen)?;
    Ok(rules)
}

/// The text of one rule: up to a comma or the parenthesis that closes the list.
fn rule(cursor: &mut Cursor<'_>, clause: &str) -> Result<String, ServerError> {
    let start = cursor.parser.peek_token().span.start;
    let mut end = start;
    let mut depth = 0_usize;
    loop {
        let token = cursor.parser.peek_token();
        match token.token {
            Token::EOF => return cursor.expected("a rule and ')'", token),
            Token::Comma | Token::RParen if depth == 0 => break,
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        end = token.span.end;
        cursor.skip(1);
    }
    let text = cursor.source.slice(start, end).trim().to_owned();
    if text.is_empty() { Err(syntax(format!("{clause} has an empty rule"))) } else { Ok(text) }
}

fn options(cursor: &mut Cursor<'_>) -> Result<RepartitionOptions, ServerError> {
    let mut options = RepartitionOptions::default();
    for (name, value) in cursor.with_options()? {
        let bad = |what: &str| ServerError::new(Code::InvalidArguments, format!("repartition: {name} = '{value}' {what}"));
        let flag = || match value.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(bad("is neither true nor false")),
        };
        match name.as_str() {
            "timeout" => options.timeout = Some(duration(&value).ok_or_else(|| bad("is no length of time, as in '5m' or '1h 30m'"))?),
            "wait" => options.wait = flag()?,
            "localize" => options.localize = flag()?,
            _ => return Err(bad("is not known: options are timeout, wait, localize")),
        }
    }
    Ok(options)
}

/// `5m`, `1h 30m`, `500ms`; more than nothing.
fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero())
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
