//! `keys-layout`.

use serde::Serialize;
use tessera_metaclient::layout::{FAMILIES, Family};

use crate::cli::verb::View;
use crate::manifest_cli::text::table;

/// A family of keys.
#[derive(Debug, Serialize)]
struct Line {
    keys: &'static str,
    kind: String,
    /// The version of the kind that this program writes.
    ver: u32,
    /// The oldest version whose readers understand it.
    min_reader_ver: u32,
    what: &'static str,
}

/// The key space.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Layout {
    lines: Vec<Line>,
}

impl Layout {
    pub(super) fn new() -> Self {
        let line = |family: &Family| {
            let current = family.kind.current();
            let (ver, min_reader_ver) = (current.ver, current.min_reader_ver);
            Line { keys: family.pattern, kind: family.kind.to_string(), ver, min_reader_ver, what: family.what }
        };
        Self { lines: FAMILIES.iter().map(line).collect() }
    }
}

const NOTES: &str = "
Ids of tables and regions are ten digits, so that keys are in order of ids. In names, /, % and control characters are written
as % and two hex digits. A value begins with 'T', its kind and a CRC-32; the rest is protobuf, and `get` shows it as JSON.
";

impl View for Layout {
    fn text(&self) -> String {
        let rows = self.lines.iter().map(|line| {
            let version = format!("{} (readers from {})", line.ver, line.min_reader_ver);
            vec![line.keys.to_owned(), line.kind.clone(), version, line.what.to_owned()]
        });
        table(&["keys", "kind of value", "version", "what"], rows) + NOTES
    }
}
