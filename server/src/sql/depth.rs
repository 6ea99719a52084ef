//! How deeply a statement may nest, decided before anything walks it recursively.
//!
//! Invariants:
//! - Linear in the number of tokens, without recursion.
//! - Never less than the depth of the syntax tree that the tokens make: parentheses open a level, and within a level each
//!   operator or connecting word may put one more node on top of the last.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::syntax;
use crate::error::ServerError;

/// Operators and connecting words on one path through a statement. More: the statement is refused, since parser and
/// planner need stack for each, and a stack that overflows ends the process. What the server's threads have is in
/// `cli::standalone`.
pub const DEPTH_MAX: usize = 1_000;

/// Refuses a statement that nests too deeply.
///
/// # Errors
/// With the line at which it becomes too deep.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<(), ServerError> {
    let mut levels: Vec<usize> = vec![0];
    let mut depth = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                levels.push(1);
                depth += 1;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                depth -= levels.pop().unwrap_or(0);
            }
            Token::Comma => depth -= levels.last_mut().map_or(0, std::mem::take),
            other if connects(other) => {
                levels.last_mut().into_iter().for_each(|level| *level += 1);
                depth += usize::from(!levels.is_empty());
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            let line = token.span.start.line;
            return Err(syntax(format!(
                "bad SQL: at line {line} more than {DEPTH_MAX} operators hang on each other: use IN (...), more rows or more statements"
            )));
        }
    }
    Ok(())
}

/// Whether a token can put a node on top of another.
fn connects(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::DIV
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::CASE
                | Keyword::WHEN
                | Keyword::ELSE
                | Keyword::EXPLAIN
        ),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Period
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::DEPTH_MAX;
    use crate::sql::parse;

    #[test]
    fn statements_that_hang_together_too_long_are_refused_with_their_line() {
        for operator in [" + ", " AND ", " || ", " UNION ALL SELECT "] {
            let sql = |operands: usize| format!("SELECT\n{}", vec!["1"; operands].join(operator));
            let error = parse(&sql(DEPTH_MAX + 2)).unwrap_err();
            assert!(error.message.contains("line 2") && error.message.contains("1000"), "{error}");
        }
        assert!(parse(&format!("SELECT {}1{}", "(".repeat(2_000), ")".repeat(2_000))).is_err());
        assert!(parse(&format!("SELECT {}1", "- ".repeat(2_000))).is_err());
    }

    #[test]
    fn long_lists_are_not_deep() {
        let row = "(-1, 2 * 3, 'x' || 'y', NULL)";
        assert!(parse(&format!("INSERT INTO t VALUES {}", vec![row; 3_000].join(", "))).is_ok());
        assert!(parse(&format!("SELECT a FROM t WHERE a IN ({})", vec!["1"; 3_000].join(", "))).is_ok());
        assert!(parse("SELECT 1)))").is_err());
    }
}
