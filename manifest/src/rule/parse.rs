//! The parser: from SQL text to a rule over a table's columns.
//!
//! Invariants:
//! - Any text gives a rule or an error with the byte offset of what is wrong; nothing panics, and the stack
//!   that it takes is bounded by [`NESTING_MAX`].
//! - A rule that it gives passes [`Expr::check`] against the same schema.
//!
//! ```text
//! or        = and ("OR" and)*
//! and       = not ("AND" not)*
//! not       = "NOT" not | "(" or ")" | predicate
//! predicate = "TRUE" | "FALSE" | literal compare column | column compare literal
//!           | column "IS" ["NOT"] "NULL" | column ["NOT"] "IN" "(" literal ("," literal)* ")"
//!           | column ["NOT"] "BETWEEN" literal "AND" literal
//! compare   = "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">="
//! literal   = ["-" | "+"] number | 'text' | X'hex' | "TRUE" | "FALSE" | "NULL" | ("DATE" | "TIMESTAMP") 'text'
//! column    = word | "name" | `name`
//! ```

use super::literal::{Literal, coerce};
use super::token::{Spanned, Token, shorten, tokenize};
use super::{CompareOp, Expr};
use crate::limits;
use crate::schema::{Column, Schema};
use crate::value::{DataType, Value};

/// Parentheses and NOTs within one another.
const NESTING_MAX: usize = 64;

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the rule: {kind}")]
pub struct ParseError {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// What is wrong with a text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Something else should stand there.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What could stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A quote is not closed.
    #[error("the quote {quote} is not closed")]
    UnclosedQuote {
        /// The quote.
        quote: char,
    },
    /// The table has no such column.
    #[error("the table has no column '{name}'")]
    UnknownColumn {
        /// The name.
        name: String,
    },
    /// Several columns differ only in case from a name that is none of them.
    #[error("'{name}' could be several columns; write it exactly, in double quotes")]
    AmbiguousColumn {
        /// The name.
        name: String,
    },
    /// A literal that the column cannot hold.
    #[error("column '{column}' is of type {data_type}, which {literal} does not fit: {reason}")]
    Literal {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
        /// The literal as written, shortened.
        literal: String,
        /// Why not.
        reason: &'static str,
    },
    /// The text is too long.
    #[error("the rule is longer than {max} bytes", max = limits::RULE_TEXT_BYTES_MAX)]
    TooLong,
    /// It nests too deeply.
    #[error("the rule nests too deeply; write it flatter")]
    TooDeep,
    /// It has too many parts.
    #[error("the rule has more than {max} operators and literals; use ranges in place of long lists", max = limits::RULE_NODES_MAX)]
    TooLarge,
}

impl ParseError {
    pub(super) fn expected(offset: usize, expected: &'static str, found: String) -> Self {
        Self { offset, kind: ParseErrorKind::Expected { expected, found } }
    }
}

/// The rule that `text` denotes, in the order and grouping in which it is written.
///
/// A bare column is looked up exactly, then without regard to case if only one column fits. Literals are
/// taken as values of their column's type.
///
/// # Errors
/// Where the text is wrong and what was expected there.
pub fn parse(text: &str, schema: &Schema) -> Result<Expr, ParseError> {
    if text.len() > limits::RULE_TEXT_BYTES_MAX {
        return Err(ParseError { offset: limits::RULE_TEXT_BYTES_MAX, kind: ParseErrorKind::TooLong });
    }
    let tokens = tokenize(text)?;
    let mut parser = Parser { tokens, at: 0, nesting: 0, nodes: 0, schema };
    let expr = parser.or()?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("AND, OR or the end"));
    }
    if expr.depth() > limits::RULE_DEPTH_MAX {
        return Err(ParseError { offset: 0, kind: ParseErrorKind::TooDeep });
    }
    if expr.nodes() > limits::RULE_NODES_MAX {
        return Err(ParseError { offset: 0, kind: ParseErrorKind::TooLarge });
    }
    Ok(expr)
}

struct Parser<'s> {
    tokens: Vec<Spanned>,
    at: usize,
    nesting: usize,
    nodes: usize,
    schema: &'s Schema,
}

impl<'s> Parser<'s> {
    fn peek_at(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + ahead).min(last)].1
    }

    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn offset(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn unexpected(&self, expected: &'static str) -> ParseError {
        ParseError::expected(self.offset(), expected, self.peek().to_string())
    }

    fn fail(&self, kind: ParseErrorKind) -> ParseError {
        ParseError { offset: self.offset(), kind }
    }

    fn is_keyword(&self, ahead: usize, keyword: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(0, keyword);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbol: &'static str) -> bool {
        let found = *self.peek() == Token::Symbol(symbol);
        self.at += usize::from(found);
        found
    }

    /// Counts one operator or literal, so that a long text is refused before it takes much memory.
    fn count(&mut self) -> Result<(), ParseError> {
        self.nodes += 1;
        if self.nodes > limits::RULE_NODES_MAX { Err(self.fail(ParseErrorKind::TooLarge)) } else { Ok(()) }
    }

    fn or(&mut self) -> Result<Expr, ParseError> {
        let first = self.and()?;
        if !self.is_keyword(0, "or") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_keyword("or") {
            parts.push(self.and()?);
        }
        Ok(Expr::Or(parts))
    }

    fn and(&mut self) -> Result<Expr, ParseError> {
        let first = self.not()?;
        if !self.is_keyword(0, "and") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.take_keyword("and") {
            parts.push(self.not()?);
        }
        Ok(Expr::And(parts))
    }

    fn not(&mut self) -> Result<Expr, ParseError> {
        self.count()?;
        self.nesting += 1;
        if self.nesting > NESTING_MAX {
            return Err(self.fail(ParseErrorKind::TooDeep));
        }
        let expr = if self.take_keyword("not") {
            self.not()?.negated()
        } else if self.take_symbol("(") {
            let inner = self.or()?;
            if !self.take_symbol(")") {
                return Err(self.unexpected("AND, OR or ')'"));
            }
            inner
        } else {
            self.predicate()?
        };
        self.nesting -= 1;
        Ok(expr)
    }

    fn predicate(&mut self) -> Result<Expr, ParseError> {
        let offset = self.offset();
        let Some(literal) = self.literal()? else {
            let column = self.column("a comparison, NOT or '('")?;
            return self.column_predicate(column);
        };
        let Some(op) = self.compare_op() else {
            return match literal {
                Literal::Boolean(true) => Ok(Expr::always()),
                Literal::Boolean(false) => Ok(Expr::never()),
                _ => Err(self.unexpected("a comparison such as = or <")),
            };
        };
        let column = self.column("a column")?;
        let value = typed(&literal, column, offset)?;
        Ok(Expr::Compare { column: column.id, op: op.mirrored(), value })
    }

    fn column_predicate(&mut self, column: &Column) -> Result<Expr, ParseError> {
        let id = column.id;
        if let Some(op) = self.compare_op() {
            let value = self.value(column)?;
            return Ok(Expr::Compare { column: id, op, value });
        }
        if self.take_keyword("is") {
            let op = if self.take_keyword("not") { CompareOp::NotEq } else { CompareOp::Eq };
            if !self.take_keyword("null") {
                return Err(self.unexpected("NULL or NOT NULL"));
            }
            return Ok(Expr::Compare { column: id, op, value: Value::Null });
        }
        let negate = self.take_keyword("not");
        let expr = if self.take_keyword("in") {
            Expr::In { column: id, values: self.list(column)? }
        } else if self.take_keyword("between") {
            let low = self.value(column)?;
            if !self.take_keyword("and") {
                return Err(self.unexpected("AND of BETWEEN"));
            }
            let high = self.value(column)?;
            let at_least = Expr::Compare { column: id, op: CompareOp::GtEq, value: low };
            at_least.and(Expr::Compare { column: id, op: CompareOp::LtEq, value: high })
        } else if negate {
            return Err(self.unexpected("IN or BETWEEN"));
        } else {
            return Err(self.unexpected("a comparison such as =, <, IN, BETWEEN or IS NULL"));
        };
        Ok(if negate { expr.negated() } else { expr })
    }

    fn list(&mut self, column: &Column) -> Result<Vec<Value>, ParseError> {
        if !self.take_symbol("(") {
            return Err(self.unexpected("'(' and a list of literals"));
        }
        let mut values = vec![self.value(column)?];
        while self.take_symbol(",") {
            self.count()?;
            values.push(self.value(column)?);
        }
        if !self.take_symbol(")") {
            return Err(self.unexpected("',' or ')'"));
        }
        Ok(values)
    }

    fn compare_op(&mut self) -> Option<CompareOp> {
        let op = match self.peek() {
            Token::Symbol("=") => CompareOp::Eq,
            Token::Symbol("!=") => CompareOp::NotEq,
            Token::Symbol("<") => CompareOp::Lt,
            Token::Symbol("<=") => CompareOp::LtEq,
            Token::Symbol(">") => CompareOp::Gt,
            Token::Symbol(">=") => CompareOp::GtEq,
            _ => return None,
        };
        self.at += 1;
        Some(op)
    }

    fn value(&mut self, column: &Column) -> Result<Value, ParseError> {
        let offset = self.offset();
        let literal = self.literal()?.ok_or_else(|| self.unexpected("a literal"))?;
        typed(&literal, column, offset)
    }

    /// The literal that starts here, if one does.
    fn literal(&mut self) -> Result<Option<Literal>, ParseError> {
        let literal = match self.peek() {
            Token::Number(text) => Literal::Number(text.clone()),
            Token::Text(text) => Literal::Text(text.clone()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.clone()),
            Token::Symbol(sign @ ("-" | "+")) => {
                let sign = if *sign == "-" { "-" } else { "" };
                self.at += 1;
                match self.peek() {
                    Token::Number(text) => Literal::Number(format!("{sign}{text}")),
                    _ => return Err(self.unexpected("a number")),
                }
            }
            Token::Word(_) if self.is_keyword(0, "null") => Literal::Null,
            Token::Word(_) if self.is_keyword(0, "true") => Literal::Boolean(true),
            Token::Word(_) if self.is_keyword(0, "false") => Literal::Boolean(false),
            Token::Word(_) if self.is_keyword(0, "date") || self.is_keyword(0, "timestamp") => match self.peek_at(1) {
                Token::Text(text) => {
                    let literal = Literal::Moment(text.clone());
                    self.at += 1;
                    literal
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(literal))
    }

    fn column(&mut self, expected: &'static str) -> Result<&'s Column, ParseError> {
        let column = match self.peek() {
            Token::Quoted(name) => {
                let unknown = || self.fail(ParseErrorKind::UnknownColumn { name: shorten(name) });
                self.schema.column_by_name(name).ok_or_else(unknown)?
            }
            Token::Word(word) if is_reserved(word) => return Err(self.unexpected(expected)),
            Token::Word(word) => self.bare_column(word)?,
            _ => return Err(self.unexpected(expected)),
        };
        self.at += 1;
        Ok(column)
    }

    fn bare_column(&self, word: &str) -> Result<&'s Column, ParseError> {
        if let Some(column) = self.schema.column_by_name(word) {
            return Ok(column);
        }
        let folded = word.to_lowercase();
        let mut fitting = self.schema.columns().iter().filter(|c| c.name.to_lowercase() == folded);
        match (fitting.next(), fitting.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => Err(self.fail(ParseErrorKind::AmbiguousColumn { name: shorten(word) })),
            (None, _) => Err(self.fail(ParseErrorKind::UnknownColumn { name: shorten(word) })),
        }
    }
}

/// Whether a bare word cannot be a column.
pub(super) fn is_reserved(word: &str) -> bool {
    const RESERVED: [&str; 9] = ["and", "or", "not", "in", "between", "is", "null", "true", "false"];
    RESERVED.iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}

fn typed(literal: &Literal, column: &Column, offset: usize) -> Result<Value, ParseError> {
    coerce(literal, column.data_type).map_err(|reason| {
        let kind =
            ParseErrorKind::Literal { column: column.name.clone(), data_type: column.data_type, literal: literal.to_string(), reason };
        ParseError { offset, kind }
    })
}
