//! The tokens of a rule's text.
//!
//! Invariants:
//! - Any text yields tokens or an error with a byte offset; nothing panics, and time is linear.
//! - Keywords are plain words here: what a word means is the parser's to say.

use super::parse::{ParseError, ParseErrorKind};

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word: a keyword or a column.
    Word(String),
    /// A column in double quotes or backquotes, without them.
    Quoted(String),
    /// A number without sign, as written.
    Number(String),
    /// A text in single quotes, without them.
    Text(String),
    /// The digits of `X'...'`, decoded.
    Bytes(Vec<u8>),
    /// One of `= != < <= > >= ( ) , -`; `==` and `<>` are folded into `=` and `!=`.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) | Self::Number(word) => write!(f, "'{}'", shorten(word)),
            Self::Quoted(name) => write!(f, "column \"{}\"", shorten(name)),
            Self::Text(text) => write!(f, "text '{}'", shorten(text)),
            Self::Bytes(_) => f.write_str("a binary literal"),
            Self::Symbol(symbol) => write!(f, "'{symbol}'"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// At most 40 characters of `text`, so that an error message stays readable.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A token and the byte offset at which it starts.
pub(super) type Spanned = (usize, Token);

/// The tokens of `text`, the last of which is [`Token::End`].
pub(super) fn tokenize(text: &str) -> Result<Vec<Spanned>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, len) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c == '\'' {
            let (content, len) = quoted(rest, '\'', at)?;
            (Token::Text(content), len)
        } else if c == '"' || c == '`' {
            let (content, len) = quoted(rest, c, at)?;
            (Token::Quoted(content), len)
        } else if (c == 'x' || c == 'X') && rest[1..].starts_with('\'') {
            let (digits, len) = quoted(&rest[1..], '\'', at + 1)?;
            let bytes = decode_hex(&digits)
                .ok_or_else(|| ParseError::expected(at, "pairs of hex digits in X'...'", format!("'{}'", shorten(&digits))))?;
            (Token::Bytes(bytes), len + 1)
        } else if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
            let len = number_len(rest.as_bytes());
            (Token::Number(rest[..len].to_owned()), len)
        } else if is_word_start(c) {
            let len = rest.find(|d: char| !is_word_part(d)).unwrap_or(rest.len());
            (Token::Word(rest[..len].to_owned()), len)
        } else {
            symbol(rest).ok_or_else(|| ParseError::expected(at, "a column, a literal or an operator", format!("'{c}'")))?
        };
        tokens.push((at, token));
        at += len;
    }
    tokens.push((at, Token::End));
    Ok(tokens)
}

pub(super) fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn symbol(rest: &str) -> Option<(Token, usize)> {
    const SYMBOLS: [(&str, &str); 13] = [
        ("==", "="),
        ("!=", "!="),
        ("<>", "!="),
        ("<=", "<="),
        (">=", ">="),
        ("=", "="),
        ("<", "<"),
        (">", ">"),
        ("(", "("),
        (")", ")"),
        (",", ","),
        ("-", "-"),
        ("+", "+"),
    ];
    let (text, symbol) = SYMBOLS.iter().find(|(text, _)| rest.starts_with(text))?;
    Some((Token::Symbol(symbol), text.len()))
}

/// The content of a quoted text at the start of `rest`, with doubled quotes undone, and its length with them.
fn quoted(rest: &str, quote: char, at: usize) -> Result<(String, usize), ParseError> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            content.push(quote);
            chars.next();
        } else {
            return Ok((content, i + 1));
        }
    }
    Err(ParseError { offset: at, kind: ParseErrorKind::UnclosedQuote { quote } })
}

/// How many bytes of digits, point and exponent stand at the start.
fn number_len(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut len = digits(0);
    if bytes.get(len) == Some(&b'.') {
        len += 1;
        len += digits(len);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits((len + 1 + sign).min(bytes.len()));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |b: u8| char::from(b).to_digit(16);
    let pair = |pair: &[u8]| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8);
    digits.as_bytes().chunks_exact(2).map(pair).collect()
}
