//! Decides what a log holds, from its identity file and its segment files.
//!
//! The rule. A frame is *confirmed* when something that was written after it was durable says so: a later frame
//! of the segment (`durable`), the header of a later segment (`first_frame`), or the identity file
//! (`settled_frame`).
//! - A bad frame that is confirmed is damage. Its payloads are checked when they are read, and their damage
//!   concerns one entry of one region; if both blocks are bad, nobody knows whose entries are lost, and the
//!   stretch is [`Lost`] for every region that needs it.
//! - A bad frame that is not confirmed was in flight when the writer died: a torn tail. It was never
//!   acknowledged, and it is cut together with everything after it.
//!
//! Invariants:
//! - Read-only: recovering twice gives the same answer.
//! - Damage never makes the whole log unreadable; it is recorded and answered for where it is needed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tessera_manifest::id::Epoch;
use tessera_manifest::wal::WalPosition;

use super::catalog::{Catalog, Located};
use super::error::WalError;
use super::frame::Block;
use super::header::{BadHeader, COPIES_AT, COPY_BYTES, FORMAT, HEADER_BYTES, SegmentHeader};
use super::meta::{Lost, Meta};
use super::walk::{Item, Window, walk};

/// The name of segment `number`.
pub(super) fn segment_file(number: u64) -> String {
    format!("{number:020}.wal")
}

/// The files of a log folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Segment files by number.
    pub(super) segments: BTreeMap<u64, PathBuf>,
    /// Files that are free for reuse.
    pub(super) spares: Vec<PathBuf>,
    /// Left over from a crash.
    pub(super) temps: Vec<PathBuf>,
}

impl Listing {
    pub(super) fn read(dir: &Path) -> Result<Self, WalError> {
        let mut listing = Self::default();
        for entry in fs::read_dir(dir).map_err(|e| WalError::io("list", dir, e))? {
            let path = entry.map_err(|e| WalError::io("list", dir, e))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            match name.rsplit_once('.') {
                Some((stem, "wal")) => {
                    // Half the range, so that counting on from a stray file cannot overflow.
                    if let Some(number) = stem.parse().ok().filter(|n| segment_file(*n) == name && *n < u64::MAX / 2) {
                        listing.segments.insert(number, path);
                    }
                }
                Some((_, "spare")) => listing.spares.push(path),
                Some((_, "tmp")) => listing.temps.push(path),
                _ => {}
            }
        }
        Ok(listing)
    }
}

/// The last frame, when only its own bytes say that it is complete.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) block: Block,
}

/// What a log holds.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Segments and the entries in them.
    pub(super) catalog: Catalog,
    /// Complete frames that are not confirmed; they must be made durable before anybody relies on them.
    pub(super) unsettled: Vec<Unsettled>,
    /// The newest epoch that wrote anything or was opened.
    pub(super) epoch: Epoch,
    /// The newest segment number that was ever used.
    pub(super) last_segment: u64,
    /// The number of the next frame.
    pub(super) next_frame: u64,
    /// The number of the next entry.
    pub(super) next_entry: u64,
}

/// More entries than any segment can hold.
const ENTRIES_SKIPPED: u64 = 1 << 32;

struct Segment {
    number: u64,
    path: PathBuf,
    header: SegmentHeader,
}

/// The first of a row of missing files stands for all of them.
const MISSING: &str = "the segment file is missing";

/// Reads the log that `meta` and `listing` describe.
pub(super) fn recover(meta: &Meta, listing: &Listing) -> Result<Recovered, WalError> {
    let mut scan = Scan::new(meta);
    let newest = listing.segments.keys().next_back().copied().unwrap_or(0).max(meta.last_segment);
    let mut readable = Vec::new();
    let mut expected = meta.kept_from.max(1);
    for (number, path) in listing.segments.range(expected..) {
        if *number > expected {
            scan.unreadable.push((expected, MISSING));
        }
        match read_header(meta, *number, path)? {
            Ok(header) => readable.push(Segment { number: *number, path: path.clone(), header }),
            Err(what) => scan.unreadable.push((*number, what)),
        }
        expected = number + 1;
    }
    if expected <= meta.last_segment {
        scan.unreadable.push((expected, MISSING));
    }
    let mut next: Option<&Segment> = None;
    let mut spans = Vec::new();
    for segment in readable.iter().rev() {
        spans.push((segment, next.map(|n| n.header)));
        next = Some(segment);
    }
    for (segment, next) in spans.into_iter().rev() {
        scan.lose_unreadable_before(segment.number, Some(&segment.header));
        scan.segment(segment, next.as_ref()).map_err(|e| WalError::io("read", &segment.path, e))?;
    }
    scan.lose_unreadable_before(u64::MAX, None);
    scan.out.last_segment = newest;
    Ok(scan.finish())
}

/// Reads the header of a segment; the inner error says why it is unreadable.
fn read_header(meta: &Meta, number: u64, path: &Path) -> Result<Result<SegmentHeader, &'static str>, WalError> {
    let file = File::open(path).map_err(|e| WalError::io("open", path, e))?;
    let mut window = Window::new(&file);
    let bytes = window.get(0, HEADER_BYTES).map_err(|e| WalError::io("read", path, e))?;
    if bytes.len() >= COPY_BYTES && COPIES_AT.iter().any(|at| bytes.get(*at..*at + COPY_BYTES) != bytes.get(..COPY_BYTES)) {
        tracing::warn!(file = %path.display(), "one copy of the segment header is damaged, the other one is used");
    }
    Ok(match SegmentHeader::decode(bytes) {
        Ok(header) if header.log != meta.log => Err("the segment file belongs to another log"),
        Ok(header) if header.number != number => Err("the segment file has another segment's name"),
        Ok(header) => Ok(header),
        Err(BadHeader::Damaged) => Err("both copies of the segment header are damaged"),
        Err(BadHeader::Newer { min_reader }) => {
            return Err(WalError::Newer { file: path.to_owned(), min_reader, reader: FORMAT });
        }
    })
}

struct Scan<'a> {
    meta: &'a Meta,
    out: Recovered,
    unreadable: Vec<(u64, &'static str)>,
}

impl<'a> Scan<'a> {
    fn new(meta: &'a Meta) -> Self {
        let lost = meta.lost.iter().filter(|l| l.segment < meta.kept_from).cloned().collect();
        let out = Recovered {
            catalog: Catalog::new(lost),
            unsettled: Vec::new(),
            epoch: meta.epoch,
            last_segment: 0,
            next_frame: meta.settled_frame.saturating_add(1),
            next_entry: meta.next_entry,
        };
        Self { meta, out, unreadable: Vec::new() }
    }

    /// The first position that was not seen yet.
    fn unseen(&self, epoch: Epoch) -> WalPosition {
        WalPosition { epoch: self.out.catalog.last_position().map_or(epoch, |p| p.epoch), entry: self.seen_entry() + 1 }
    }

    fn seen_entry(&self) -> u64 {
        self.out.catalog.last_position().map_or(0, |p| p.entry)
    }

    /// Records the unreadable segments below `number`; what they held ends where `next` begins.
    fn lose_unreadable_before(&mut self, number: u64, next: Option<&SegmentHeader>) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unreadable).into_iter().partition(|(n, _)| *n < number);
        self.unreadable = later;
        if now.is_empty() {
            return;
        }
        let from = self.unseen(Epoch(0));
        let to = match next {
            Some(next) => WalPosition { epoch: next.epoch, entry: next.first_entry },
            None => {
                // Nobody knows how many entries were there; new ones must not get the numbers of lost ones.
                self.out.next_entry = self.out.next_entry.max(from.entry).saturating_add(ENTRIES_SKIPPED);
                WalPosition { epoch: self.meta.epoch, entry: self.out.next_entry }
            }
        };
        for (segment, what) in now {
            self.out.catalog.add_unreadable(segment, Lost { segment, offset: 0, from, to, what: what.to_owned() });
        }
    }

    fn segment(&mut self, segment: &Segment, next: Option<&SegmentHeader>) -> io::Result<()> {
        let Segment { number, path, header } = segment;
        let file = &File::open(path)?;
        self.out.epoch = self.out.epoch.max(header.epoch);
        self.out.next_frame = self.out.next_frame.max(header.first_frame);
        self.out.next_entry = self.out.next_entry.max(header.first_entry);
        self.out.catalog.add_segment(*number);
        let items = walk(file, header, next.map(|n| n.first_frame))?;
        let confirmed = items
            .iter()
            .filter_map(|item| item.block().map(|block| block.durable))
            .chain(next.map(|n| n.first_frame.saturating_sub(1)))
            .fold(self.meta.settled_frame, u64::max);
        for (index, item) in items.iter().enumerate() {
            match item {
                Item::Frame { offset, block, healed } => {
                    if *healed {
                        tracing::warn!(file = %segment.path.display(), offset, "the head of a wal frame is damaged, its tail is used");
                    }
                    if block.number > confirmed {
                        if !payloads_are_whole(file, *offset, block)? {
                            tracing::debug!(file = %segment.path.display(), offset, "torn tail of the wal is cut");
                            break;
                        }
                        let (path, block) = (segment.path.clone(), block.clone());
                        self.out.unsettled.push(Unsettled { path, offset: *offset, block });
                    }
                    self.accept(segment, *offset, block);
                }
                Item::Gap { offset, expected } | Item::End { offset, expected } if *expected <= confirmed => {
                    let after = items[index + 1..].iter().find_map(Item::block);
                    // What is missing at the end may as well have been in an unreadable segment behind this one;
                    // that one is answered for as a whole.
                    let behind = self.unreadable.iter().any(|(n, _)| *n == number + 1);
                    if after.is_some() || !behind {
                        self.lose(segment, *offset, after, next);
                    }
                }
                Item::Gap { offset, .. } => {
                    tracing::debug!(file = %segment.path.display(), offset, "torn tail of the wal is cut");
                    break;
                }
                Item::End { .. } => {}
            }
        }
        Ok(())
    }

    fn accept(&mut self, segment: &Segment, offset: u64, block: &Block) {
        for (entry, at, directory) in block.entries() {
            let position = WalPosition { epoch: segment.header.epoch, entry };
            let located = Located {
                position,
                segment: segment.number,
                offset: u32::try_from(offset + at).unwrap_or(u32::MAX),
                len: directory.len,
                crc: directory.crc,
            };
            self.out.catalog.add_entry(directory.region, located);
        }
        self.out.next_frame = self.out.next_frame.max(block.number.saturating_add(1));
        self.out.next_entry = self.out.next_entry.max(block.next_entry());
    }

    /// Records that from `offset` to the frame `after`, or the segment `next`, or the end there is damage.
    fn lose(&mut self, segment: &Segment, offset: u64, after: Option<&Block>, next: Option<&SegmentHeader>) {
        let epoch = segment.header.epoch;
        let to = match (after, next) {
            (Some(block), _) => WalPosition { epoch, entry: block.first_entry },
            (None, Some(next)) => WalPosition { epoch: next.epoch, entry: next.first_entry },
            (None, None) => WalPosition { epoch, entry: self.meta.next_entry },
        };
        let from = self.unseen(epoch);
        let what = "both directories of a frame are damaged".to_owned();
        self.out.catalog.add_lost(Lost { segment: segment.number, offset, from, to, what });
    }

    fn finish(self) -> Recovered {
        for lost in self.out.catalog.lost() {
            tracing::error!(segment = lost.segment, offset = lost.offset, from = %lost.from, to = %lost.to, "wal entries are lost: {}", lost.what);
        }
        self.out
    }
}

/// Whether every payload of the frame has its checksum.
fn payloads_are_whole(file: &File, frame_offset: u64, block: &Block) -> io::Result<bool> {
    let file_bytes = file.metadata()?.len();
    for (_, at, entry) in block.entries() {
        if frame_offset.saturating_add(at).saturating_add(u64::from(entry.len)) > file_bytes {
            return Ok(false);
        }
        let mut payload = vec![0; entry.len as usize];
        file.read_exact_at(&mut payload, frame_offset + at)?;
        if crc32fast::hash(&payload) != entry.crc {
            return Ok(false);
        }
    }
    Ok(true)
}
