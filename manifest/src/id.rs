//! Identities, one newtype each, with a strict text form.
//!
//! Invariants:
//! - `Display` and `FromStr` are inverse to each other, and `FromStr` accepts nothing else: no signs, no
//!   missing or extra padding where the form is padded. Object names are made of these forms, so a name
//!   that parses is a name that we wrote.
//! - `region id = table id << 32 | region number`, shown as `1024/0`.
//! - A file id is (birth epoch, ulid) within its origin region; a [`FileKey`] adds the origin and is unique
//!   in a cluster.
//! - `sequence = generation (20 bits) | counter (44 bits)`: any row of a later generation is newer than any
//!   row of an earlier one, whichever region wrote it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A text that is not the exact text form of an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}: expected {expected}")]
pub struct ParseIdError {
    /// What was being parsed, for example `region id`.
    pub kind: &'static str,
    /// The text that was refused.
    pub text: String,
    /// The accepted form.
    pub expected: &'static str,
}

/// Parses digits only (no sign, no leading zero but for zero itself).
fn parse_plain<T: FromStr>(text: &str, kind: &'static str) -> Result<T, ParseIdError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && (text.len() == 1 || !text.starts_with('0'));
    let value = if canonical { text.parse().ok() } else { None };
    value.ok_or_else(|| ParseIdError { kind, text: text.to_owned(), expected: "a decimal number without padding" })
}

/// Parses exactly `width` digits.
fn parse_padded<T: FromStr>(text: &str, width: usize, kind: &'static str, expected: &'static str) -> Result<T, ParseIdError> {
    let fits = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    let value = if fits { text.parse().ok() } else { None };
    value.ok_or_else(|| ParseIdError { kind, text: text.to_owned(), expected })
}

/// The serialized form of a type is its text form.
macro_rules! text_form {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ParseIdError;
            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_plain(text, $kind).map(Self)
            }
        }
    };
}

number_id!(
    /// A table, for as long as the cluster lives; numbers are never reused. User tables start at 1024.
    TableId(u32), "table id"
);
number_id!(
    /// A region within its table; numbers are never reused within a table.
    RegionNumber(u32), "region number"
);
number_id!(
    /// A column within its table; numbers are never reused, so that a dropped column cannot come back by name.
    ColumnId(u32), "column id"
);
number_id!(
    /// The reign of one writer over one slot log. Starts at 1.
    Epoch(u32), "epoch"
);
number_id!(
    /// The datanode that a log or a region belongs to.
    NodeId(u64), "node id"
);

impl Epoch {
    /// The epoch after this one. Epochs are 32 bits wide: at one take-over a second they last 136 years.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A region: `table << 32 | number`, shown as `1024/0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegionId(u64);

impl RegionId {
    /// The region with this number in this table.
    #[must_use]
    pub const fn new(table: TableId, number: RegionNumber) -> Self {
        Self(((table.0 as u64) << 32) | number.0 as u64)
    }

    /// The region whose packed form is `raw`, as [`as_u64`](Self::as_u64) gives it.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The packed form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The table it belongs to.
    #[must_use]
    pub const fn table(self) -> TableId {
        TableId((self.0 >> 32) as u32)
    }

    /// Its number within the table.
    #[must_use]
    pub const fn number(self) -> RegionNumber {
        RegionNumber((self.0 & 0xffff_ffff) as u32)
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table(), self.number())
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionId({self})")
    }
}

impl FromStr for RegionId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parsed = text.split_once('/').and_then(|(table, number)| Some(Self::new(table.parse().ok()?, number.parse().ok()?)));
        parsed.ok_or_else(|| ParseIdError { kind: "region id", text: text.to_owned(), expected: "{table}/{region}, such as 1024/0" })
    }
}

text_form!(RegionId);

/// A slot of a slot log: (epoch, sequence number in the epoch), in commit order.
///
/// For a manifest this is also the *version* that the record in the slot makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot {
    /// The epoch whose writer may create the slot.
    pub epoch: Epoch,
    /// Position within the epoch; 0 holds the `Open`.
    pub seq: u64,
}

impl Slot {
    /// The slot at `seq` of `epoch`.
    #[must_use]
    pub const fn new(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq }
    }

    /// The next slot of the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq.saturating_add(1) }
    }

    /// The first slot of the next epoch, where its `Open` goes.
    #[must_use]
    pub fn next_epoch(self) -> Self {
        Self { epoch: self.epoch.next(), seq: 0 }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{:020}", self.epoch.0, self.seq)
    }
}

impl FromStr for Slot {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const EXPECTED: &str = "{epoch, 10 digits}-{sequence, 20 digits}";
        let fail = || ParseIdError { kind: "slot", text: text.to_owned(), expected: EXPECTED };
        let (epoch, seq) = text.split_once('-').ok_or_else(fail)?;
        let epoch = parse_padded(epoch, 10, "slot", EXPECTED).map_err(|_| fail())?;
        let seq = parse_padded(seq, 20, "slot", EXPECTED).map_err(|_| fail())?;
        Ok(Self { epoch: Epoch(epoch), seq })
    }
}

text_form!(Slot);

/// A file within its origin region: the manifest epoch it was born in, and a ulid.
///
/// The birth epoch is what lets an owner sweep its own folder: a file of a past epoch that the manifest
/// does not list can never be added any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileId {
    /// The manifest epoch of the writer that wrote the file.
    pub epoch: Epoch,
    /// The ulid's 32-bit words, most significant first: a `u128` would align a file reference to 16 bytes, and a
    /// region holds a million of them.
    ulid: [u32; 4],
}

impl FileId {
    /// The file called `ulid`, unique within its birth `epoch`.
    #[must_use]
    pub const fn new(epoch: Epoch, ulid: Ulid) -> Self {
        let Ulid(bits) = ulid;
        Self { epoch, ulid: [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32] }
    }

    /// Unique within the epoch.
    #[must_use]
    pub const fn ulid(self) -> Ulid {
        let [a, b, c, d] = self.ulid;
        Ulid((a as u128) << 96 | (b as u128) << 64 | (c as u128) << 32 | d as u128)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:010}-{}", self.epoch.0, self.ulid())
    }
}

impl FromStr for FileId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const EXPECTED: &str = "{epoch, 10 digits}-{ulid}";
        let fail = || ParseIdError { kind: "file id", text: text.to_owned(), expected: EXPECTED };
        let (epoch, ulid) = text.split_once('-').ok_or_else(fail)?;
        let epoch = parse_padded(epoch, 10, "file id", EXPECTED).map_err(|_| fail())?;
        let ulid = parse_ulid(ulid).ok_or_else(fail)?;
        Ok(Self::new(Epoch(epoch), ulid))
    }
}

text_form!(FileId);

/// A ulid in its canonical upper-case form only, so that one id has one name.
#[must_use]
pub fn parse_ulid(text: &str) -> Option<Ulid> {
    let ulid = Ulid::from_string(text).ok()?;
    (ulid.to_string() == text).then_some(ulid)
}

/// A file anywhere in the cluster: where it was born, and which file it is there. An SST never moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// The region that wrote it and in whose folder it lies.
    pub origin: RegionId,
    /// The file within that region.
    pub file: FileId,
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin, self.file)
    }
}

/// How often a region's rule has changed: drawn from the table's counter, never reused. 20 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Generation(u32);

impl Generation {
    /// The generation of a table that was never repartitioned.
    pub const FIRST: Self = Self(1);
    /// The last one that fits in a sequence.
    pub const MAX: Self = Self((1 << Sequence::GENERATION_BITS) - 1);

    /// The generation with this number, or `None` above [`MAX`](Self::MAX).
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Generation {
    type Error = ParseIdError;
    fn try_from(number: u32) -> Result<Self, ParseIdError> {
        Self::new(number).ok_or_else(|| ParseIdError { kind: "generation", text: number.to_string(), expected: "a number below 2^20" })
    }
}

impl From<Generation> for u32 {
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

/// The age of a row among all rows of its key: `generation << 44 | counter`, larger is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// Width of the generation.
    pub const GENERATION_BITS: u32 = 20;
    /// Width of the counter: 17.6 trillion rows per region and generation.
    pub const COUNTER_BITS: u32 = 44;
    /// The largest counter.
    pub const COUNTER_MAX: u64 = (1 << Self::COUNTER_BITS) - 1;
    /// Older than every row.
    pub const ZERO: Self = Self(0);

    /// The sequence of the row number `counter` in `generation`, or `None` when the counter is used up.
    #[must_use]
    pub const fn new(generation: Generation, counter: u64) -> Option<Self> {
        if counter > Self::COUNTER_MAX { None } else { Some(Self(((generation.0 as u64) << Self::COUNTER_BITS) | counter)) }
    }

    /// The sequence whose packed form is `raw`.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The packed form.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The generation part.
    #[must_use]
    pub const fn generation(self) -> Generation {
        Generation((self.0 >> Self::COUNTER_BITS) as u32)
    }

    /// The counter part.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & Self::COUNTER_MAX
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.generation(), self.counter())
    }
}

/// One run of a repartition over a group of regions; names its decision object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TxnId(pub Ulid);

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TxnId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let fail = || ParseIdError { kind: "txn id", text: text.to_owned(), expected: "a ulid in upper case" };
        parse_ulid(text).map(Self).ok_or_else(fail)
    }
}

text_form!(TxnId);

/// 128 bits that name a thing for ever: a writer's opening, or a commit. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(pub u128);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Nonce {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let lower_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let value = if lower_hex { u128::from_str_radix(text, 16).ok() } else { None };
        value.map(Self).ok_or_else(|| ParseIdError { kind: "nonce", text: text.to_owned(), expected: "32 lower-case hex digits" })
    }
}

text_form!(Nonce);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_round_trip() {
        let region = RegionId::new(TableId(1024), RegionNumber(3));
        assert_eq!(region.to_string(), "1024/3");
        assert_eq!("1024/3".parse::<RegionId>().unwrap(), region);
        let slot = Slot::new(Epoch(7), 42);
        assert_eq!(slot.to_string(), "0000000007-00000000000000000042");
        assert_eq!(slot.to_string().parse::<Slot>().unwrap(), slot);
        let file = FileId::new(Epoch(2), Ulid(12345));
        assert_eq!(file.to_string().parse::<FileId>().unwrap(), file);
        let nonce = Nonce(0xabc);
        assert_eq!(nonce.to_string().parse::<Nonce>().unwrap(), nonce);
    }

    #[test]
    fn anything_but_the_canonical_form_is_refused() {
        for text in ["", "1024", "1024/", "/0", "01024/0", "1024/00", "+1/0", "1024/0/0", "4294967296/0", " 1/0"] {
            assert!(text.parse::<RegionId>().is_err(), "{text}");
        }
        for text in ["1-1", "0000000007-0000000000000000042", "0000000007_00000000000000000042", "9999999999-00000000000000000042"] {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
        let lower = FileId::new(Epoch(2), Ulid(u128::MAX / 3)).to_string().to_lowercase();
        assert!(lower.parse::<FileId>().is_err());
        assert!("ABCDEF00000000000000000000000000".parse::<Nonce>().is_err());
    }

    #[test]
    fn any_row_of_a_later_generation_is_newer() {
        let early = Sequence::new(Generation::FIRST, Sequence::COUNTER_MAX).unwrap();
        let late = Sequence::new(Generation::new(2).unwrap(), 0).unwrap();
        assert!(late > early);
        assert_eq!(late.generation().as_u32(), 2);
        assert_eq!(early.counter(), Sequence::COUNTER_MAX);
        assert!(Sequence::new(Generation::FIRST, Sequence::COUNTER_MAX + 1).is_none());
        assert!(Generation::new(1 << 20).is_none());
    }
}
