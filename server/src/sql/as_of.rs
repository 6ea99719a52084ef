//! `t TIMESTAMP AS OF expression`, `t FOR SYSTEM_TIME AS OF expression` and `t VERSION AS OF 'version'`.
//!
//! The parser of this dialect does not know them, and DataFusion's planner passes over what other dialects' parsers make
//! of them. So a clause is cut out of the tokens and becomes part of the table's name, which [`split_name`] takes apart
//! again where tables are looked up; the table keeps its own name as alias.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast as df;
use datafusion::sql::sqlparser::ast::VisitMut;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::split::{DIALECT, Source};
use super::{from_parser, syntax};
use crate::error::ServerError;

/// How a past version is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The last version until a moment.
    Timestamp,
    /// A version of the manifest.
    Version,
}

/// The words of the clauses, and what stands for them in a table's name.
const CLAUSES: [(&[&str], Kind); 3] = [
    (&["TIMESTAMP", "AS", "OF"], Kind::Timestamp),
    (&["FOR", "SYSTEM_TIME", "AS", "OF"], Kind::Timestamp),
    (&["VERSION", "AS", "OF"], Kind::Version),
];

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Timestamp => " TIMESTAMP AS OF ",
            Self::Version => " VERSION AS OF ",
        }
    }
}

/// The name of a table, how a past version of it is named, and the expression that names it.
#[must_use]
pub fn split_name(name: &str) -> Option<(&str, Kind, &str)> {
    [Kind::Timestamp, Kind::Version].into_iter().find_map(|kind| {
        let (table, text) = name.split_once(kind.words())?;
        Some((table, kind, text))
    })
}

/// The statement with its clauses moved into the names of tables.
///
/// # Errors
/// A clause without an expression.
pub fn fold(source: &Source) -> Result<Source, ServerError> {
    let mut folded = source.clone();
    let mut at = 0;
    while at < folded.tokens.len() {
        if let Some((kind, begin)) = clause(&folded.tokens, at)
            && let Some(name) = name_before(&folded.tokens, at)
        {
            let rest = folded.tokens.get(begin..).unwrap_or_default().to_vec();
            let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(rest);
            let expr = parser.parse_expr().map_err(|error| from_parser(&error))?;
            let end = begin + parser.index();
            let token = &mut folded.tokens[name].token;
            *token = named(token, kind, &expr);
            folded.tokens.drain(at..end.min(folded.tokens.len()));
        } else {
            at += 1;
        }
    }
    Ok(folded)
}

/// The clause that begins with this token, and the token behind its words.
fn clause(tokens: &[TokenWithSpan], at: usize) -> Option<(Kind, usize)> {
    let begins = |words: &&[&str]| {
        let mut next = at;
        for word in *words {
            while next > at && matches!(tokens.get(next)?.token, Token::Whitespace(_)) {
                next += 1;
            }
            let Token::Word(found) = &tokens.get(next)?.token else { return None };
            if found.quote_style.is_some() || !found.value.eq_ignore_ascii_case(word) {
                return None;
            }
            next += 1;
        }
        Some(next)
    };
    CLAUSES.into_iter().find_map(|(words, kind)| Some((kind, begins(&words)?)))
}

/// The name right before this token, if there is one.
fn name_before(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let before = (0..at).rev().find(|before| !matches!(tokens[*before].token, Token::Whitespace(_)))?;
    matches!(tokens[before].token, Token::Word(_) | Token::DoubleQuotedString(_)).then_some(before)
}

fn named(token: &Token, kind: Kind, expr: &df::Expr) -> Token {
    let name = match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        Token::Word(word) => word.value.clone(),
        Token::DoubleQuotedString(text) => text.clone(),
        other => other.to_string(),
    };
    let word = Token::make_word(&format!("{name}{}{expr}", kind.words()), Some('"'));
    debug_assert!(matches!(&word, Token::Word(Word { quote_style: Some('"'), .. })), "a quoted name is a word");
    word
}

/// Gives each table with a clause its own name as alias.
///
/// # Errors
/// A clause that does not stand behind the name of a table that is read.
pub fn settle(statement: &mut df::Statement) -> Result<(), ServerError> {
    let mut aliases = Aliases { elsewhere: deletes(statement), refused: false, named: 0, read: 0 };
    let _all: ControlFlow<()> = statement.visit(&mut aliases);
    // A table that INSERT writes is named and is no table factor.
    match aliases.refused || aliases.named > aliases.read {
        true => Err(misplaced()),
        false => Ok(()),
    }
}

/// That a name has no clause.
///
/// # Errors
/// A name with one: it is not that of a table that is read.
pub fn check_name(name: &str) -> Result<(), ServerError> {
    if split_name(name).is_some() { Err(misplaced()) } else { Ok(()) }
}

fn misplaced() -> ServerError {
    syntax("AS OF stands behind the name of a table that is read")
}

fn deletes(statement: &df::Statement) -> bool {
    match statement {
        df::Statement::Delete(_) => true,
        df::Statement::Explain { statement, .. } => deletes(statement),
        _ => false,
    }
}

struct Aliases {
    /// Whether the statement changes the tables that it names.
    elsewhere: bool,
    refused: bool,
    /// Clauses behind names of tables.
    named: usize,
    /// Those of them that are behind the name of a table that is read.
    read: usize,
}

impl df::VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &mut df::ObjectName) -> ControlFlow<()> {
        let last = name.0.last().and_then(df::ObjectNamePart::as_ident);
        self.named += usize::from(last.is_some_and(|last| split_name(&last.value).is_some()));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut df::TableFactor) -> ControlFlow<()> {
        if let df::TableFactor::Table { name, alias, .. } = factor
            && let Some(df::ObjectNamePart::Identifier(last)) = name.0.last()
            && let Some((table, ..)) = split_name(&last.value)
        {
            self.refused |= self.elsewhere;
            self.read += 1;
            let name = df::Ident::with_quote('"', table);
            alias.get_or_insert_with(|| df::TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut df::Expr) -> ControlFlow<()> {
        let marked = |ident: &df::Ident| split_name(&ident.value).is_some() && ident.quote_style == Some('"');
        self.refused |= match expr {
            df::Expr::Identifier(ident) => marked(ident),
            df::Expr::CompoundIdentifier(parts) => parts.iter().any(marked),
            _ => false,
        };
        ControlFlow::Continue(())
    }
}
