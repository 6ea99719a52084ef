//! A Rust text with everything blanked that is not code, and what can be told from it without a parser.

/// The text with comments, strings and characters replaced by spaces; lines and offsets stay.
pub(super) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        for byte in code.get_mut(at..end).into_iter().flatten().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// Where the comment, string or character that begins at `at` ends; `at` itself if none begins there.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'"', ..] => at + quoted(rest),
        [b'b', b'"', ..] if !in_word => at + 1 + quoted(&rest[1..]),
        [b'r', b'"' | b'#', ..] if !in_word => at + raw(rest, 1),
        [b'b', b'r', b'"' | b'#', ..] if !in_word => at + raw(rest, 2),
        [b'\'', ..] => at + character(rest),
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a text in quotes with escapes.
fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != rest[0] {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of a raw string whose hashes begin at `from`; 0 for a raw identifier.
fn raw(rest: &[u8], from: usize) -> usize {
    let hashes = rest[from..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(from + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = from + hashes + 1;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    found.map_or(rest.len(), |found| body + found + end.len())
}

/// The length of a character literal; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return quoted(rest);
    }
    let text = String::from_utf8_lossy(&rest[..rest.len().min(6)]);
    let mut characters = text.char_indices().skip(2);
    match characters.next() {
        Some((at, '\'')) => at + 1,
        _ => 0,
    }
}

/// Each function with a body: name, first line (1-based), lines.
pub(super) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = &code[at + 2..];
        let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = body_start(rest) else { continue };
        if name.is_empty() {
            continue;
        }
        let end = at + 2 + open + block_length(&rest[open..]);
        let first = line_of(code, at);
        found.push((name, first, line_of(code, end) - first + 1));
    }
    found
}

/// Where the body of a function begins; none for a declaration.
fn body_start(rest: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, c) in rest.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Bytes from an opening brace to the one that closes it.
fn block_length(rest: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len() - 1
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `word` stands as a word of its own.
pub(super) fn words(code: &str, word: &str) -> Vec<usize> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let own = |at: &usize| {
        let before = code[..*at].chars().next_back().is_some_and(part_of_word);
        let after = code[at + word.len()..].chars().next().is_some_and(part_of_word);
        !before && !after
    };
    code.match_indices(word).map(|(at, _)| at).filter(own).collect()
}

/// The code without its inline `#[cfg(test)] mod tests`.
pub(super) fn without_tests(code: &str) -> &str {
    let inline = code.find("#[cfg(test)]\nmod tests {");
    &code[..inline.unwrap_or(code.len())]
}

#[test]
fn what_is_not_code_is_blanked() {
    let text = "let a = \"x // \\\" y\"; // tokio\nlet b = r#\"tokio \" \"#; /* tokio /* a */ b */ let c = 'x'; let d: &'a str = b\"tokio\"; '\\''; '{'";
    let code = code_of(text);
    assert_eq!((code.len(), code.lines().count()), (text.len(), 2));
    assert!(!code.contains("tokio") && !code.contains('{') && !code.contains('"'), "{code}");
    for kept in ["let a =", "let b =", "let c =", "let d: &'a str ="] {
        assert!(code.contains(kept), "{code}");
    }
}

#[test]
fn functions_are_measured() {
    let code = "trait T {\n    fn declared(&self) -> [u8; 2];\n}\nfn one() {}\npub(crate) fn three<F: Fn(u8)>(f: F) where F: Send {\n    if x { y }\n}\n";
    let expected = [("one", 4, 1), ("three", 5, 3)].map(|(name, line, lines)| (name.to_owned(), line, lines));
    assert_eq!(functions(code), expected);
}

#[test]
fn words_are_whole() {
    assert_eq!(words("env::x my_env environment (env)", "env"), [0, 27]);
}
