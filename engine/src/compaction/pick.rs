//! Which files to compact next. Pure.
//!
//! In order of urgency:
//! 1. *Localize*: references with a scope, of another region or under another rule, and files over several windows.
//! 2. *Reclaim*: a window of which a quarter of the rows are deletes that can go.
//! 3. *Tier*: a window with more runs than allowed, fewer if they share time. Runs of similar size are merged, so that a row is written again
//!    about log₂(window / flush) times; see [`tier`].
//!
//! Termination: each pick takes away foreign references, over-wide files, deletes, overlaps in time or files, and
//! brings none of what stands before it in this list.

use std::collections::BTreeMap;

use tessera_manifest::id::FileKey;

use super::window::Windows;
use super::{Split, Strategy};
use crate::options::MergeMode;

/// Runs of a window up to which it is left alone, unless the table says otherwise.
pub(super) const RUNS_MAX: usize = 4;
/// Largest size of an output, about, unless the table says otherwise.
pub(super) const FILE_BYTES_MAX: u64 = 512 << 20;
/// Files read at the same time by one compaction.
const INPUTS_MAX: usize = 32;
/// Bytes of the row groups that the inputs of one compaction keep in memory at the same time, encoded; decoded and on
/// their way they take about three times as much.
const RESIDENT_BYTES_MAX: u64 = 48 << 20;
/// Bytes of a row group at most, about.
const ROW_GROUP_BYTES: u64 = 8 << 20;
/// Files that one compaction is cut into by size, in each window.
const CUTS_MAX: u64 = 32;
/// A file over so many windows is cut up only if each would get [`SPARSE_BYTES`].
const SPARSE_WINDOWS: u64 = 1024;
/// See [`SPARSE_WINDOWS`].
const SPARSE_BYTES: u64 = 4096;
/// A run joins a tier if it is not larger than what is in it, give or take an eighth.
const RATIO_EIGHTHS: u64 = 9;

/// What the picker knows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which file.
    pub key: FileKey,
    /// Least and greatest time, both inclusive, in ticks.
    pub time: (i64, i64),
    /// Least and greatest sequence, both inclusive.
    pub sequences: (u64, u64),
    /// Size of the object.
    pub bytes: u64,
    /// Rows, deletes included.
    pub rows: u64,
    /// How many of the rows are deletes.
    pub deletes: u64,
    /// 0 for a flush.
    pub level: u8,
    /// Whether some of its rows may not belong to the region, or it lies in another region's folder.
    pub foreign: bool,
}

/// What a table wants of its compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Width of a time window in ticks; `None`: inferred from the files.
    pub window: Option<i64>,
    /// Ticks in a second.
    pub ticks_per_second: i64,
    /// Runs of a window that share time up to which it is left alone.
    pub runs_max: usize,
    /// Runs of a window up to which it is left alone if they do not share time: readers need not merge them, and data
    /// that comes in order of time is written again only once the window is past, where it holds few flushes.
    pub disjoint_max: usize,
    /// Runs of a window up to which it is left alone once there are rows of a later window.
    pub settled_max: usize,
    /// Largest size of an output, about.
    pub file_bytes_max: u64,
    /// What becomes of rows with one key.
    pub merge_mode: MergeMode,
}

/// Why files were picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Foreign, or over several windows.
    Localize,
    /// Many deletes.
    Reclaim,
    /// Too many runs.
    Tier,
    /// Small runs of a window that few rows will come to.
    Settle,
    /// Asked for.
    Window,
}

impl Reason {
    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Localize => "localize",
            Self::Reclaim => "reclaim",
            Self::Tier => "tier",
            Self::Settle => "settle",
            Self::Window => "window",
        }
    }
}

/// Files to be replaced by others with the same visible rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Why.
    pub reason: Reason,
    /// The files, oldest first.
    pub inputs: Vec<FileKey>,
    /// How their rows are cut into files.
    pub split: Split,
    /// Time range and least sequence of each file that is not picked and that may hold rows older than a picked
    /// delete: a delete stays if one of them has an older sequence and its time.
    pub older: Vec<((i64, i64), u64)>,
}

/// What to compact next, if anything. `files` are all visible files of the region.
#[must_use]
pub fn plan(files: &[Candidate], settings: &Settings, strategy: Strategy) -> Option<Pick> {
    plan_up_to(files, u64::MAX, settings, strategy)
}

/// The same among the files with rows up to a sequence. The others count all the same: a compaction may have merged a
/// file of before that sequence with one of after it, and what lies between them is older than its deletes.
#[must_use]
pub fn plan_up_to(files: &[Candidate], upto: u64, settings: &Settings, strategy: Strategy) -> Option<Pick> {
    Planner { upto, ..Planner::new(files, settings) }.plan(strategy)
}

/// The bytes of all files, and those of the largest run of each window: at most so much would be left if everything
/// were compacted, but for what is overwritten within that run.
#[must_use]
pub fn space(files: &[Candidate], settings: &Settings) -> (u64, u64) {
    let planner = Planner::new(files, settings);
    let run = |run: Aged<'_>| run.iter().map(|file| file.bytes).sum::<u64>();
    let largest = |group: &Aged<'_>| planner.runs(group).into_iter().map(run).max().unwrap_or(0);
    (files.iter().map(|file| file.bytes).sum(), planner.by_window().values().map(largest).sum())
}

struct Planner<'a> {
    /// All visible files.
    files: &'a [Candidate],
    /// Files with newer rows only are not picked.
    upto: u64,
    settings: &'a Settings,
    windows: Windows,
}

/// Files in order of age, oldest first.
type Aged<'a> = Vec<&'a Candidate>;

impl<'a> Planner<'a> {
    fn new(files: &'a [Candidate], settings: &'a Settings) -> Self {
        let windows = settings.window.map_or_else(|| Windows::infer(files, settings.ticks_per_second), Windows::new);
        Self { files, upto: u64::MAX, settings, windows }
    }

    /// The files that may be picked.
    fn eligible(&self) -> impl Iterator<Item = &'a Candidate> {
        self.files.iter().filter(|file| file.sequences.0 <= self.upto)
    }

    fn plan(&self, strategy: Strategy) -> Option<Pick> {
        if let Some(pick) = self.localize() {
            return Some(pick);
        }
        let groups = self.by_window();
        let reclaimed = groups.values().find_map(|group| self.reclaim(group));
        let asked = || match strategy {
            Strategy::Regular => {
                let past = groups.iter().rev().skip(1).filter(|(window, _)| window.is_some());
                let tiered = groups.values().rev().find_map(|group| self.tier(group));
                tiered.or_else(|| past.into_iter().find_map(|(_, group)| self.settle(group)))
            }
            Strategy::StrictWindow => groups.values().find_map(|group| self.whole(group)),
        };
        reclaimed.or_else(asked)
    }

    /// A file over several windows, unless it would fall into crumbs.
    fn is_over_wide(&self, file: &Candidate) -> bool {
        let touched = self.windows.touched(file.time);
        touched > 1 && (touched <= SPARSE_WINDOWS || file.bytes / touched >= SPARSE_BYTES)
    }

    /// The files by window; those too sparse to be cut up are together under `None`.
    fn by_window(&self) -> BTreeMap<Option<i64>, Aged<'a>> {
        let mut groups: BTreeMap<Option<i64>, Aged<'a>> = BTreeMap::new();
        for file in self.eligible() {
            groups.entry(self.windows.holding(file.time)).or_default().push(file);
        }
        groups.values_mut().for_each(|group| group.sort_by_key(|file| (file.sequences.1, file.key)));
        groups
    }

    /// The oldest file that is foreign or over-wide, with as many more, in order of age, as make one full file.
    fn localize(&self) -> Option<Pick> {
        let mut strays: Aged<'a> = self.eligible().filter(|file| file.foreign || self.is_over_wide(file)).collect();
        strays.sort_by_key(|file| (file.sequences.1, file.key));
        let mut bytes = 0;
        let full = |file: &&&Candidate| {
            let first = bytes == 0;
            bytes += file.bytes.max(1);
            first || bytes <= self.settings.file_bytes_max
        };
        let together: Aged<'a> = affordable(strays.iter().take_while(full).copied());
        let alone = strays.first().map(|first| vec![*first])?;
        Some(self.pick(Reason::Localize, if self.is_sound(&together) { together } else { alone }))
    }

    fn reclaim(&self, group: &Aged<'a>) -> Option<Pick> {
        let (rows, deletes) = group.iter().fold((0, 0), |(rows, deletes), file| (rows + file.rows, deletes + file.deletes));
        if deletes == 0 || deletes * 4 < rows || affordable(group.iter().copied()).len() < group.len() || !self.is_sound(group) {
            return None;
        }
        let pick = self.pick(Reason::Reclaim, group.clone());
        pick.older.is_empty().then_some(pick)
    }

    /// All of a window that is not yet one run without deletes, at most so many files at a time, oldest first.
    fn whole(&self, group: &Aged<'a>) -> Option<Pick> {
        let some: Aged<'a> = affordable(group.iter().copied());
        let deletes = some.iter().any(|file| file.deletes > 0);
        if self.is_sound(&some) {
            if some.len() > 1 && self.pays(&some) {
                return Some(self.pick(Reason::Window, some));
            }
            let pick = self.pick(Reason::Window, some);
            if deletes && pick.older.is_empty() {
                return Some(pick);
            }
        }
        self.tier_above(group, 1)
    }

    fn tier(&self, group: &Aged<'a>) -> Option<Pick> {
        let Settings { runs_max, disjoint_max, .. } = *self.settings;
        let few = depth(group) <= runs_max && self.runs(group).len() <= disjoint_max;
        if few { None } else { self.tier_above(group, runs_max.max(1)) }
    }

    /// Size-tiered: among the runs of a window, from the newest on, those of which each is no larger than all newer
    /// ones together; if there are none, the neighbours that cost least, so many that few enough runs are left.
    fn tier_above(&self, group: &Aged<'a>, runs_max: usize) -> Option<Pick> {
        let mut runs = self.runs(group);
        runs.reverse();
        if runs.len() <= runs_max {
            return None;
        }
        let sizes = sizes(&runs);
        let surplus = runs.len() - runs_max + 1;
        let mut cheapest: Vec<(usize, usize)> = (0..=runs.len() - surplus).map(|start| (start, start + surplus)).collect();
        cheapest.sort_by_key(|(start, end)| sizes[*start..*end].iter().sum::<u64>());
        similar(&sizes).into_iter().chain(cheapest).find_map(|(start, end)| self.some_runs(Reason::Tier, &runs[start..end]))
    }

    /// Of a window that is past, the runs of which each is no larger than all newer ones together: a file of its own for each of
    /// its flushes costs readers and space. What comes late is left alone until there is about as much of it.
    fn settle(&self, group: &Aged<'a>) -> Option<Pick> {
        let mut runs = self.runs(group);
        runs.reverse();
        if runs.len() <= self.settings.settled_max {
            return None;
        }
        similar(&sizes(&runs)).into_iter().find_map(|(start, end)| self.some_runs(Reason::Settle, &runs[start..end]))
    }

    /// Some runs as one, if that is sound and makes readers' work less.
    fn some_runs(&self, reason: Reason, runs: &[Aged<'a>]) -> Option<Pick> {
        let picked = self.trimmed(runs.iter().flatten().copied().collect());
        (picked.len() > 1 && self.pays(&picked) && self.is_sound(&picked)).then(|| self.pick(reason, picked))
    }

    /// The runs of a window, oldest first. Neighbours in age that share no time and are about full are one run:
    /// merging them would give the same files again.
    fn runs(&self, group: &Aged<'a>) -> Vec<Aged<'a>> {
        let mut runs: Vec<Aged<'a>> = Vec::new();
        for file in group {
            let joins = runs.last().is_some_and(|run| {
                let bytes: u64 = run.iter().map(|file| file.bytes).sum::<u64>().saturating_add(file.bytes);
                let full = bytes / (run.len() as u64 + 1) > self.settings.file_bytes_max / 2;
                full && run.iter().all(|other| !overlap(other.time, file.time))
            });
            match runs.last_mut() {
                Some(run) if joins => run.push(file),
                _ => runs.push(vec![file]),
            }
        }
        runs
    }

    /// Without files that are about full and share no time with the others: they would be copied as they are.
    fn trimmed(&self, picked: Aged<'a>) -> Aged<'a> {
        let lonely = |file: &&Candidate| !picked.iter().any(|other| other.key != file.key && overlap(other.time, file.time));
        let full = |file: &&Candidate| file.bytes > self.settings.file_bytes_max / 2;
        // The newest are the smallest, mostly.
        let mut kept: Aged<'a> = affordable(picked.iter().filter(|file| !(full(file) && lonely(file))).copied());
        kept.sort_by_key(|file| (file.sequences.1, file.key));
        kept
    }

    /// Whether merging makes readers' work less: files that share time, or fewer files.
    fn pays(&self, picked: &Aged<'a>) -> bool {
        let bytes: u64 = picked.iter().map(|file| file.bytes).sum();
        let outputs = usize::try_from(bytes.div_ceil(self.settings.file_bytes_max.max(1))).unwrap_or(usize::MAX).max(1);
        let shares = |(at, file): (usize, &&Candidate)| picked[at + 1..].iter().any(|other| overlap(other.time, file.time));
        outputs < picked.len() || picked.iter().enumerate().any(shares)
    }

    /// Whether these files may be merged. With `last_non_null`, no other file that shares their time may lie between
    /// them in age: its values would be newer than some of what they merge to, and older than the rest.
    fn is_sound(&self, picked: &Aged<'a>) -> bool {
        if !self.settings.neighbours_only() || picked.len() <= 1 {
            return true;
        }
        let (time, sequences) = hull(picked);
        let between = |file: &&Candidate| overlap(file.time, time) && file.sequences.0 <= sequences.1 && sequences.0 <= file.sequences.1;
        self.files.iter().filter(between).all(|file| picked.iter().any(|other| other.key == file.key))
    }

    fn pick(&self, reason: Reason, picked: Aged<'a>) -> Pick {
        let (time, sequences) = hull(&picked);
        let deletes = picked.iter().any(|file| file.deletes > 0);
        let may_be_older = |file: &&Candidate| {
            let other = !picked.iter().any(|own| own.key == file.key);
            other && deletes && overlap(file.time, time) && file.sequences.0 < sequences.1
        };
        let older = self.files.iter().filter(may_be_older).map(|file| (file.time, file.sequences.0)).collect();
        let crumbs = self.windows.touched(time) > 1 && !picked.iter().any(|file| file.foreign || self.is_over_wide(file));
        let cuts = cuts(&picked, self.settings.file_bytes_max);
        let split = Split { windows: (!crumbs).then_some(self.windows), cuts };
        Pick { reason, inputs: picked.iter().map(|file| file.key).collect(), split, older }
    }
}

/// The first of the files, so many that they can be read at the same time in bounded memory; two at least.
fn affordable<'a>(files: impl Iterator<Item = &'a Candidate>) -> Aged<'a> {
    let mut resident = 0;
    let fits = |(at, file): &(usize, &Candidate)| {
        resident += file.bytes.min(ROW_GROUP_BYTES);
        *at < 2 || resident <= RESIDENT_BYTES_MAX
    };
    files.take(INPUTS_MAX).enumerate().take_while(fits).map(|(_, file)| file).collect()
}

/// The most files that share one time.
fn depth(files: &Aged<'_>) -> usize {
    let mut ends: Vec<(i64, bool)> = files.iter().flat_map(|file| [(file.time.0, false), (file.time.1, true)]).collect();
    // Where one ends another may begin: both have that time.
    ends.sort_unstable();
    let (mut open, mut most) = (0_usize, 0);
    for (_, is_end) in ends {
        open = if is_end { open - 1 } else { open + 1 };
        most = most.max(open);
    }
    most
}

fn sizes(runs: &[Aged<'_>]) -> Vec<u64> {
    runs.iter().map(|run| run.iter().map(|file| file.bytes).sum()).collect()
}

/// Of the sizes of runs, the newest first, the stretches of at least two (start, end) in which each is no larger than all before
/// it together, and an eighth.
fn similar(sizes: &[u64]) -> Vec<(usize, usize)> {
    let stretch = |start: usize| {
        let (mut sum, mut end) = (sizes[start], start + 1);
        while end < sizes.len() && sizes[end] <= sum.saturating_mul(RATIO_EIGHTHS) / 8 {
            sum = sum.saturating_add(sizes[end]);
            end += 1;
        }
        (start, end)
    };
    (0..sizes.len()).map(stretch).filter(|(start, end)| end - start > 1).collect()
}

fn overlap(a: (i64, i64), b: (i64, i64)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

/// The times and sequences of all of them.
fn hull(files: &[&Candidate]) -> ((i64, i64), (u64, u64)) {
    let start = ((i64::MAX, i64::MIN), (u64::MAX, u64::MIN));
    files.iter().fold(start, |(time, sequences), file| {
        let time = (time.0.min(file.time.0), time.1.max(file.time.1));
        (time, (sequences.0.min(file.sequences.0), sequences.1.max(file.sequences.1)))
    })
}

/// The times before which outputs are cut so that none is much larger than `bytes_max`, if rows are spread evenly
/// over the time range of each file.
fn cuts(files: &[&Candidate], bytes_max: u64) -> Vec<i64> {
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let pieces = bytes.div_ceil(bytes_max.max(1)).min(CUTS_MAX);
    let (low, high) = hull(files).0;
    let before = |time: i64| -> f64 {
        let share = |file: &&Candidate| {
            let span = file.time.1.abs_diff(file.time.0) as f64 + 1.0;
            let part = if time <= file.time.0 { 0.0 } else { (time.abs_diff(file.time.0) as f64 / span).min(1.0) };
            part * file.bytes as f64
        };
        files.iter().map(share).sum()
    };
    let cut = |piece: u64| {
        let wanted = bytes as f64 * piece as f64 / pieces as f64;
        let (mut below, mut above) = (i128::from(low), i128::from(high));
        while below < above {
            let middle = below + (above - below) / 2;
            let enough = before(i64::try_from(middle).unwrap_or(i64::MAX)) >= wanted;
            (below, above) = if enough { (below, middle) } else { (middle + 1, above) };
        }
        i64::try_from(below).unwrap_or(i64::MAX)
    };
    let mut cuts: Vec<i64> = (1..pieces).map(cut).filter(|cut| *cut > low).collect();
    cuts.dedup();
    cuts
}
