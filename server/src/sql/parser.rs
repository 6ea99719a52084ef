//! Tokens to statements.
//!
//! What DataFusion plans itself is parsed by its own parser; the rest is parsed here, word by word, because
//! that parser does not know `TIME INDEX`, `PARTITION ON COLUMNS` and the `COPY` of this dialect. Clauses that
//! are read and change nothing: `ENGINE = mito`, the length of a VARCHAR or VARBINARY.

use datafusion::sql::sqlparser::ast as df;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::ast::{Statement, TableName};
use super::split::{DIALECT, Source, split};
use super::{alter, as_of, create, depth, from_parser, syntax};
use crate::error::{Code, ServerError};

/// The name of the only catalog.
pub const CATALOG: &str = "tessera";

/// The names that the catalog has in statements: its own, and the one that clients of GreptimeDB know.
pub const CATALOGS: [&str; 2] = [CATALOG, "greptime"];

/// That this is a name of the catalog.
///
/// # Errors
/// For any other name.
pub fn check_catalog(name: &str) -> Result<(), ServerError> {
    if CATALOGS.contains(&name) {
        return Ok(());
    }
    let text =
        format!("there is no catalog '{name}': a name of three parts is {CATALOG}.database.table (or {}.database.table)", CATALOGS[1]);
    Err(ServerError::new(Code::DatabaseNotFound, text))
}

/// The statements of a text, in order.
///
/// # Errors
/// The first thing that is not understood, with its line and column.
pub fn parse(sql: &str) -> Result<Vec<Statement>, ServerError> {
    let sources = split(sql)?;
    if sources.is_empty() {
        return Err(syntax("there is no statement in the text"));
    }
    sources.iter().map(parse_one).collect()
}

fn parse_one(source: &Source) -> Result<Statement, ServerError> {
    depth::check(&source.tokens)?;
    let source = &as_of::fold(source)?;
    let mut cursor = Cursor::new(source);
    let statement = cursor.statement()?;
    cursor.end()?;
    Ok(statement)
}

/// A parser over the tokens of one statement, with the small words that the dialect needs.
pub(crate) struct Cursor<'a> {
    pub(crate) source: &'a Source,
    pub(crate) parser: Parser<'a>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, parser: Parser::new(&DIALECT).with_tokens_with_locations(source.tokens.clone()) }
    }

    fn statement(&mut self) -> Result<Statement, ServerError> {
        let Some(first) = self.word(0) else { return self.foreign_or_error() };
        let second = self.word(1).unwrap_or_default();
        match (first.as_str(), second.as_str()) {
            ("CREATE", "DATABASE" | "SCHEMA") => self.create_database(),
            ("CREATE", "TABLE") => create::create_table(self),
            ("ALTER", "TABLE") => alter::table(self),
            ("ALTER", "DATABASE" | "SCHEMA") => alter::database(self),
            ("TRUNCATE", _) => alter::truncate(self),
            ("ADMIN", _) => alter::admin(self),
            ("DROP", "DATABASE" | "SCHEMA") => self.drop_database(),
            ("DROP", "TABLE") => self.drop_table(),
            ("COPY", _) => self.copy(),
            ("SHOW", "DATABASES" | "SCHEMAS") => self.show_databases(),
            ("SHOW", "TABLES") => self.show_tables(),
            ("SHOW", "CREATE") => self.show_create(),
            ("SHOW", "PARTITIONS") => self.show_partitions(),
            ("DESC" | "DESCRIBE", _) => self.describe(),
            ("USE", _) => {
                self.skip(1);
                Ok(Statement::Use(self.identifier()?))
            }
            ("EXPLAIN", "ALTER") => self.explain_alter(),
            ("SELECT" | "WITH" | "VALUES" | "EXPLAIN", _) => Ok(Statement::Query(self.foreign()?)),
            ("INSERT" | "DELETE", _) => Ok(Statement::Write(self.foreign()?)),
            ("ALTER" | "CREATE" | "DROP" | "SHOW", other) => Ok(self.unsupported(&format!("{first} {other}"))),
            ("UPDATE" | "MERGE" | "SET" | "GRANT" | "REVOKE" | "BEGIN" | "COMMIT" | "ROLLBACK" | "TQL", _) => Ok(self.unsupported(&first)),
            _ => self.foreign_or_error(),
        }
    }

    pub(crate) fn unsupported(&mut self, what: &str) -> Statement {
        while self.parser.next_token().token != Token::EOF {}
        Statement::Unsupported(what.trim().to_owned())
    }

    fn foreign_or_error(&mut self) -> Result<Statement, ServerError> {
        let statement = self.foreign()?;
        match *statement {
            df::Statement::Query(_) => Ok(Statement::Query(statement)),
            other => {
                let text = other.to_string();
                let words: Vec<&str> = text.split_whitespace().take(2).collect();
                Ok(Statement::Unsupported(words.join(" ")))
            }
        }
    }

    fn foreign(&mut self) -> Result<Box<df::Statement>, ServerError> {
        let mut statement = self.parser.parse_statement().map(Box::new).map_err(|error| from_parser(&error))?;
        as_of::settle(&mut statement)?;
        Ok(statement)
    }

    fn create_database(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        let if_not_exists = self.eat(&["IF", "NOT", "EXISTS"]);
        Ok(Statement::CreateDatabase { name: self.identifier()?, if_not_exists, options: self.with_options()? })
    }

    fn drop_database(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        let if_exists = self.eat(&["IF", "EXISTS"]);
        Ok(Statement::DropDatabase { name: self.identifier()?, if_exists })
    }

    fn drop_table(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        let if_exists = self.eat(&["IF", "EXISTS"]);
        let mut names = vec![self.table_name()?];
        while self.parser.consume_token(&Token::Comma) {
            names.push(self.table_name()?);
        }
        Ok(Statement::DropTable { names, if_exists })
    }

    fn copy(&mut self) -> Result<Statement, ServerError> {
        self.skip(1);
        if self.word(0).as_deref() == Some("DATABASE") {
            return Ok(self.unsupported("COPY DATABASE"));
        }
        if self.parser.consume_token(&Token::LParen) {
            let query = self.parser.parse_query().map_err(|error| from_parser(&error))?;
            self.expect(&Token::RParen)?;
            self.expect_words(&["TO"])?;
            let mut query = Box::new(df::Statement::Query(query));
            as_of::settle(&mut query)?;
            return self.copy_to(query);
        }
        let table = self.table_version()?;
        if self.eat(&["TO"]) {
            let text = format!("SELECT * FROM {}", shown(&table));
            let parts = split(&text)?;
            let part = parts.first().ok_or_else(|| syntax("COPY needs a table"))?;
            let query = Cursor::new(part).foreign()?;
            return self.copy_to(query);
        }
        self.expect_words(&["FROM"])?;
        as_of::check_name(&table.table)?;
        let path = self.string("the name of a file in single quotes")?;
        let options = self.with_options()?;
        Ok(Statement::CopyFrom { table, path, options })
    }

    fn copy_to(&mut self, query: Box<df::Statement>) -> Result<Statement, ServerError> {
        let path = self.string("the name of a file in single quotes")?;
        let options = self.with_options()?;
        Ok(Statement::CopyTo { query, path, options })
    }

    fn show_databases(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        Ok(Statement::ShowDatabases { like: self.like()? })
    }

    fn show_tables(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        let database = if self.eat(&["FROM"]) || self.eat(&["IN"]) { Some(self.identifier()?) } else { None };
        Ok(Statement::ShowTables { database, like: self.like()? })
    }

    fn show_create(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        if !self.eat(&["TABLE"]) {
            let what = self.word(0).unwrap_or_default();
            return Ok(self.unsupported(&format!("SHOW CREATE {what}")));
        }
        Ok(Statement::ShowCreateTable(self.table_name()?))
    }

    /// `SHOW PARTITIONS [FROM] t`
    fn show_partitions(&mut self) -> Result<Statement, ServerError> {
        self.skip(2);
        let _optional = self.eat(&["FROM"]) || self.eat(&["IN"]);
        Ok(Statement::ShowPartitions(self.table_name()?))
    }

    /// `EXPLAIN ALTER TABLE`, of a change of partitions.
    fn explain_alter(&mut self) -> Result<Statement, ServerError> {
        self.skip(1);
        if !self.at(&["ALTER", "TABLE"]) {
            return Ok(self.unsupported("EXPLAIN ALTER"));
        }
        match alter::table(self)? {
            Statement::Repartition(repartition) => Ok(Statement::ExplainRepartition(repartition)),
            _ => Err(ServerError::new(Code::Unsupported, "EXPLAIN ALTER TABLE explains changes of partitions only")),
        }
    }

    fn describe(&mut self) -> Result<Statement, ServerError> {
        self.skip(1);
        let _optional = self.eat(&["TABLE"]);
        Ok(Statement::Describe(self.table_name()?))
    }

    fn like(&mut self) -> Result<Option<String>, ServerError> {
        if self.eat(&["LIKE"]) { self.string("a pattern in single quotes").map(Some) } else { Ok(None) }
    }

    /// `WITH (key = value, ...)`, or nothing. Keys are lower-cased.
    pub(crate) fn with_options(&mut self) -> Result<Vec<(String, String)>, ServerError> {
        let mut options: Vec<(String, String)> = Vec::new();
        if !self.eat(&["WITH"]) {
            return Ok(options);
        }
        self.expect(&Token::LParen)?;
        while !self.parser.consume_token(&Token::RParen) {
            if !options.is_empty() {
                self.expect(&Token::Comma)?;
            }
            let key = self.option_key()?;
            self.expect(&Token::Eq)?;
            let value = self.option_value()?;
            if options.iter().any(|(other, _)| *other == key) {
                return Err(syntax(format!("option '{key}' is given twice")));
            }
            options.push((key, value));
        }
        Ok(options)
    }

    pub(crate) fn option_key(&mut self) -> Result<String, ServerError> {
        let mut key = self.text_token("the name of an option")?;
        while self.parser.consume_token(&Token::Period) {
            key.push('.');
            key.push_str(&self.text_token("the name of an option")?);
        }
        Ok(key.to_lowercase())
    }

    pub(crate) fn option_value(&mut self) -> Result<String, ServerError> {
        let minus = self.parser.consume_token(&Token::Minus);
        let text = self.text_token("the value of an option")?;
        Ok(if minus { format!("-{text}") } else { text })
    }

    fn text_token(&mut self, expected: &str) -> Result<String, ServerError> {
        let token = self.parser.next_token();
        match token.token {
            Token::Word(word) => Ok(word.value),
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) | Token::Number(text, _) => Ok(text),
            _ => self.expected(expected, token),
        }
    }

    /// `[catalog.][database.]table`
    pub(crate) fn table_name(&mut self) -> Result<TableName, ServerError> {
        let name = self.table_version()?;
        as_of::check_name(&name.table)?;
        Ok(name)
    }

    /// The same, perhaps with a clause that names a past version.
    fn table_version(&mut self) -> Result<TableName, ServerError> {
        let mut parts = vec![self.identifier()?];
        while self.parser.consume_token(&Token::Period) {
            parts.push(self.identifier()?);
        }
        let table = parts.pop().unwrap_or_default();
        let database = parts.pop();
        match (parts.pop(), parts.is_empty()) {
            (None, _) => Ok(TableName { database, table }),
            (Some(catalog), true) => check_catalog(&catalog).map(|()| TableName { database, table }),
            _ => Err(syntax(format!("the name of '{table}' has too many parts: write table, database.table or {CATALOG}.database.table"))),
        }
    }

    /// A name: lower-cased unless it is quoted.
    pub(crate) fn identifier(&mut self) -> Result<String, ServerError> {
        let token = self.parser.next_token();
        match token.token {
            Token::Word(word) if word.quote_style.is_some() => Ok(word.value),
            Token::Word(word) => Ok(word.value.to_lowercase()),
            Token::DoubleQuotedString(text) => Ok(text),
            _ => self.expected("a name", token),
        }
    }

    pub(crate) fn string(&mut self, expected: &str) -> Result<String, ServerError> {
        let token = self.parser.next_token();
        match token.token {
            Token::SingleQuotedString(text) => Ok(text),
            _ => self.expected(expected, token),
        }
    }

    /// The unquoted word `ahead` tokens further on, in upper case.
    pub(crate) fn word(&self, ahead: usize) -> Option<String> {
        match self.parser.peek_nth_token(ahead).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Whether these words come next.
    pub(crate) fn at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.word(ahead).as_deref() == Some(*word))
    }

    /// Reads these words if they come next.
    pub(crate) fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.at(words);
        if found {
            self.skip(words.len());
        }
        found
    }

    pub(crate) fn skip(&mut self, tokens: usize) {
        for _ in 0..tokens {
            self.parser.next_token();
        }
    }

    pub(crate) fn expect_words(&mut self, words: &[&str]) -> Result<(), ServerError> {
        if self.eat(words) {
            return Ok(());
        }
        let token = self.parser.peek_token();
        self.expected(&words.join(" "), token)
    }

    pub(crate) fn expect(&mut self, token: &Token) -> Result<(), ServerError> {
        self.parser.expect_token(token).map(|_| ()).map_err(|error| from_parser(&error))
    }

    pub(crate) fn expected<T>(&self, expected: &str, found: TokenWithSpan) -> Result<T, ServerError> {
        self.parser.expected(expected, found).map_err(|error| from_parser(&error))
    }

    fn end(&mut self) -> Result<(), ServerError> {
        let token = self.parser.peek_token();
        if token.token == Token::EOF { Ok(()) } else { self.expected("the end of the statement", token) }
    }
}

/// A quoted name that reads back as itself.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name as it is read back.
pub(crate) fn shown(name: &TableName) -> String {
    let table = quoted(&name.table);
    name.database.as_ref().map_or_else(|| table.clone(), |database| format!("{}.{table}", quoted(database)))
}
