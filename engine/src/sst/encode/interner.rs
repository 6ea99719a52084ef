//! The distinct values of a column chunk, numbered as they first appear.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::merge::key::KeyHasher;

/// Values and their numbers.
#[derive(Debug, Default)]
pub(super) struct Interner {
    codes: HashMap<Box<[u8]>, u32, BuildHasherDefault<KeyHasher>>,
    /// The values as a PLAIN page has them: length, bytes.
    page: Vec<u8>,
    /// Where each value ends in the page.
    ends: Vec<usize>,
}

impl Interner {
    /// The number of a value, and whether it is new.
    pub(super) fn intern(&mut self, value: &[u8]) -> (u32, bool) {
        if let Some(code) = self.codes.get(value) {
            return (*code, false);
        }
        let code = self.ends.len() as u32;
        // An Arrow string array holds no longer ones than i32::MAX.
        self.page.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.page.extend_from_slice(value);
        self.ends.push(self.page.len());
        self.codes.insert(value.into(), code);
        (code, true)
    }

    /// The value as a PLAIN page has it.
    pub(super) fn plain(&self, code: u32) -> &[u8] {
        let code = code as usize;
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.page[start..self.ends[code]]
    }

    /// The value.
    pub(super) fn value(&self, code: u32) -> &[u8] {
        &self.plain(code)[size_of::<u32>()..]
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the page.
    pub(super) fn bytes(&self) -> usize {
        self.page.len()
    }

    /// All values, as a PLAIN page.
    pub(super) fn into_page(self) -> Vec<u8> {
        self.page
    }
}
