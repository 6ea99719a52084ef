//! Line numbers of a file that is read through: each row's line, as an editor counts.
//!
//! The CSV parser knows at which byte a record begins, but its own line count is wrong after blank lines and with
//! `\r\n`. So the bytes are watched on their way in, and the newlines behind the last asked byte are forgotten.

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::config::limits;

/// A newline on its way in.
#[derive(Debug, Clone, Copy)]
struct Newline {
    offset: u64,
    /// Whether the line that it ends is empty.
    blank: bool,
}

/// Passes bytes on and remembers where lines end.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    inner: R,
    newlines: VecDeque<Newline>,
    /// Bytes passed on.
    offset: u64,
    /// Where the last line began, and the last byte.
    line_start: u64,
    last: u8,
    /// The line at the byte last asked for, and that byte.
    line: u64,
    asked: u64,
}

impl<R> LineReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, newlines: VecDeque::new(), offset: 0, line_start: 0, last: 0, line: 1, asked: 0 }
    }

    /// The line of the record whose parsing began at byte `start`: blank lines before it are skipped. `start` never
    /// goes back.
    pub(super) fn line_at(&mut self, start: u64) -> u64 {
        self.asked = start;
        while let Some(newline) = self.newlines.front() {
            let is_before = newline.offset <= start || newline.blank;
            if !is_before {
                break;
            }
            self.line += 1;
            self.newlines.pop_front();
        }
        self.line
    }

    fn watch(&mut self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' {
                let offset = self.offset + index as u64;
                let previous = if index == 0 { self.last } else { bytes[index - 1] };
                let length = offset - self.line_start;
                let blank = length == 0 || length == 1 && previous == b'\r';
                self.newlines.push_back(Newline { offset, blank });
                self.line_start = offset + 1;
            }
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.offset += bytes.len() as u64;
    }
}

impl<R: Read> Read for LineReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pending = self.offset - self.asked;
        if pending > limits::CSV_RECORD_BYTES_MAX + buffer.len() as u64 {
            let text = format!("a record is longer than {} bytes; a quote is probably not closed", limits::CSV_RECORD_BYTES_MAX);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let count = self.inner.read(buffer)?;
        self.watch(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<u64> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(LineReader::new(text.as_bytes()));
        let mut record = csv::ByteRecord::new();
        let mut lines = Vec::new();
        while reader.read_byte_record(&mut record).unwrap() {
            let start = record.position().unwrap().byte();
            lines.push(reader.get_mut().line_at(start));
        }
        lines
    }

    #[test]
    fn lines_are_those_that_an_editor_shows() {
        assert_eq!(lines("a\nb\nc"), [1, 2, 3]);
        assert_eq!(lines("a\r\nb\r\nc\r\n"), [1, 2, 3]);
        assert_eq!(lines("\n\na\n\n\nb\n"), [3, 6]);
        assert_eq!(lines("a,1\r\n\r\nb\r\n\r\n\r\nc"), [1, 3, 6]);
        assert_eq!(lines("\"x\n\ny\",1\nb\n"), [1, 4]);
        assert_eq!(lines("\"\r\n\r\ny\",1\r\nb\r\n"), [1, 4]);
        assert_eq!(lines("1\r\n2\n\n3"), [1, 2, 4]);
    }
}
