//! What a user typed: statements up to `;`, and commands that begin with `\`. Pure.
//!
//! A `;` inside `'...'`, `"..."`, `` `...` `` or a comment ends nothing.

/// A text cut into statements.
#[derive(Debug, PartialEq, Eq)]
pub struct Pieces<'a> {
    /// Complete statements without their `;`, each with the line at which it begins (1-based).
    pub statements: Vec<(usize, &'a str)>,
    /// What follows the last `;`.
    pub rest: &'a str,
    /// The line at which that begins.
    pub rest_line: usize,
}

/// Cuts `text` at each `;` that ends a statement; statements without content are left out.
#[must_use]
pub fn split(text: &str) -> Pieces<'_> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let skipped = skip_token(&text[at..]);
        if text[at..].starts_with(';') {
            let piece = &text[start..at];
            if !is_blank(piece) {
                statements.push((first_line(text, start), piece.trim()));
            }
            start = at + 1;
        }
        at += skipped;
    }
    Pieces { statements, rest: &text[start..], rest_line: first_line(text, start) }
}

/// Whether a text has nothing but spaces and comments.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    content_start(text) == text.len()
}

/// A command of the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `\q`, `exit`, `quit`: ends the session.
    Quit,
    /// `\?`, `help`: shows the commands.
    Help,
    /// `\d`: lists tables; `\d t`: describes a table.
    Describe(Option<String>),
    /// `\l`: lists databases.
    Databases,
    /// `\c db`, `USE db`: changes the database.
    Use(String),
    /// `\timing`: shows times or stops that.
    Timing,
    /// `\x`: a value per line or a row per line.
    Expanded,
    /// Anything else with a `\`.
    Unknown(String),
}

/// The command that a line is, if it is one.
#[must_use]
pub fn command(line: &str) -> Option<Command> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (word, argument) = line.split_once(char::is_whitespace).map_or((line, ""), |(word, argument)| (word, argument.trim()));
    let argument = (!argument.is_empty()).then(|| argument.to_owned());
    Some(match (word.to_ascii_lowercase().as_str(), argument) {
        ("\\q" | "exit" | "quit", None) => Command::Quit,
        ("\\?" | "\\h" | "help", None) => Command::Help,
        ("\\d" | "\\dt", table) => Command::Describe(table),
        ("\\l", None) => Command::Databases,
        ("\\c" | "use", Some(database)) => Command::Use(database.trim_matches('"').to_owned()),
        ("\\timing", None) => Command::Timing,
        ("\\x", None) => Command::Expanded,
        (word, _) if word.starts_with('\\') => Command::Unknown(line.to_owned()),
        _ => return None,
    })
}

/// Bytes of the first token: a whole quoted text or comment, or one character.
fn skip_token(text: &str) -> usize {
    let closed_by = |open: usize, close: &str| text[open..].find(close).map_or(text.len(), |end| open + end + close.len());
    let comment = skip_comment(text);
    if comment > 0 {
        return comment;
    }
    match text.chars().next() {
        // A doubled quote is two quoted texts in a row, which ends at the same place.
        Some('\'') => closed_by(1, "'"),
        Some('"') => closed_by(1, "\""),
        Some('`') => closed_by(1, "`"),
        Some(other) => other.len_utf8(),
        None => 0,
    }
}

/// Bytes of the comment at the start of the text; 0 if there is none.
fn skip_comment(text: &str) -> usize {
    if text.starts_with("--") {
        text.find('\n').map_or(text.len(), |end| end + 1)
    } else if let Some(inside) = text.strip_prefix("/*") {
        inside.find("*/").map_or(text.len(), |end| end + 4)
    } else {
        0
    }
}

/// Where the first character is that is neither space nor comment.
fn content_start(text: &str) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = match rest.chars().next() {
            Some(c) if c.is_whitespace() => c.len_utf8(),
            _ => skip_comment(rest),
        };
        if skipped == 0 {
            break;
        }
        at += skipped;
    }
    at
}

/// The line of the first content at or after byte `start`.
fn first_line(text: &str, start: usize) -> usize {
    let at = start + content_start(&text[start..]);
    1 + text[..at].bytes().filter(|byte| *byte == b'\n').count()
}
