//! Tests of the picker against a naive merge of rows, and of what it costs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tessera_manifest::id::{Epoch, FileId, FileKey, RegionId, RegionNumber, TableId};
use ulid::Ulid;

use super::{Strategy, *};
use crate::options::MergeMode;

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const HOUR: i64 = 3_600_000;

fn key(number: u64) -> FileKey {
    FileKey { origin: REGION, file: FileId::new(Epoch(1), Ulid::from_parts(number, 0)) }
}

fn settings(window: Option<i64>, merge_mode: MergeMode) -> Settings {
    Settings { window, ticks_per_second: 1_000, runs_max: 4, disjoint_max: 8, settled_max: 1, file_bytes_max: 1 << 20, merge_mode }
}

fn file(number: u64, time: (i64, i64), bytes: u64) -> Candidate {
    Candidate { key: key(number), time, sequences: (number * 10, number * 10 + 9), bytes, rows: 10, deletes: 0, level: 0, foreign: false }
}

/// Carries a pick out on facts alone: the rows of each input lie evenly over its time.
fn replace(files: &mut Vec<Candidate>, pick: &Pick, next: &mut u64) -> u64 {
    let inputs: Vec<Candidate> = files.iter().filter(|file| pick.inputs.contains(&file.key)).cloned().collect();
    assert_eq!(inputs.len(), pick.inputs.len(), "a pick names files that are there, each once");
    files.retain(|file| !pick.inputs.contains(&file.key));
    let mut parts: BTreeMap<_, Candidate> = BTreeMap::new();
    for input in &inputs {
        const POINTS: i64 = 64;
        let span = input.time.1 - input.time.0;
        for point in 0..POINTS {
            let time = input.time.0 + span * point / (POINTS - 1);
            let part = parts.entry(pick.split.slot(time)).or_insert_with(|| {
                *next += 1;
                Candidate { time: (time, time), bytes: 0, foreign: false, level: input.level + 1, key: key(*next), ..input.clone() }
            });
            part.time = (part.time.0.min(time), part.time.1.max(time));
            part.sequences = (part.sequences.0.min(input.sequences.0), part.sequences.1.max(input.sequences.1));
            part.bytes += input.bytes / POINTS as u64;
            part.level = part.level.max(input.level + 1);
        }
    }
    files.extend(parts.into_values());
    inputs.iter().map(|file| file.bytes).sum()
}

fn settle(files: &mut Vec<Candidate>, settings: &Settings, next: &mut u64) -> u64 {
    let mut written = 0;
    for _ in 0..1_000 {
        match plan(files, settings, Strategy::Regular) {
            None => return written,
            Some(pick) => written += replace(files, &pick, next),
        }
    }
    panic!("compaction does not come to rest: {files:?}");
}

#[test]
fn rows_are_written_again_a_logarithmic_number_of_times() {
    for merge_mode in [MergeMode::LastRow, MergeMode::LastNonNull, MergeMode::Append] {
        let settings = Settings { file_bytes_max: u64::MAX, ..settings(Some(HOUR * 1_000), merge_mode) };
        let (mut files, mut next, mut written) = (Vec::new(), 1_000_000, 0);
        for flush in 0..512 {
            files.push(file(flush, (flush as i64 * 1_000, flush as i64 * 1_000 + 60_000), 1_000));
            written += settle(&mut files, &settings, &mut next);
            assert!(files.len() <= 8);
        }
        let amplification = (written + 512_000) as f64 / 512_000.0;
        assert!(amplification < 11.0, "each byte was written {amplification} times");
    }
}

#[test]
fn full_files_that_share_no_time_are_left_alone() {
    let settings = settings(Some(HOUR), MergeMode::LastRow);
    let mut files: Vec<Candidate> = (0..20).map(|n| file(n, (n as i64 * 1_000, n as i64 * 1_000 + 999), 900 << 10)).collect();
    assert_eq!(plan(&files, &settings, Strategy::Regular), None);
    // A small one over two of them: it alone is not worth writing those two again.
    files.push(file(30, (1_500, 2_500), 10));
    assert_eq!(plan(&files, &settings, Strategy::Regular), None);
    files.extend((31..36).map(|n| file(n, (1_500, 2_500), 10)));
    let pick = plan(&files, &settings, Strategy::Regular).unwrap();
    assert!(pick.inputs.len() >= 4 && pick.inputs.iter().all(|input| *input >= key(30)), "{pick:?}");
}

#[test]
fn files_in_order_of_time_are_left_alone_longer_than_those_that_share_time() {
    let settings = settings(Some(HOUR), MergeMode::LastRow);
    let in_order = |files: u64| (0..files).map(|n| file(n, (n as i64 * 10, n as i64 * 10 + 9), 10)).collect::<Vec<_>>();
    assert_eq!(plan(&in_order(8), &settings, Strategy::Regular), None);
    assert_eq!(plan(&in_order(9), &settings, Strategy::Regular).unwrap().inputs.len(), 9);
    let sharing = |files: u64| (0..files).map(|n| file(n, (n as i64, 100), 10)).collect::<Vec<_>>();
    assert_eq!(plan(&sharing(4), &settings, Strategy::Regular), None);
    assert_eq!(plan(&sharing(5), &settings, Strategy::Regular).unwrap().inputs.len(), 5);
}

#[test]
fn small_files_of_a_window_become_one_when_it_is_past_and_late_ones_wait_for_more() {
    let settings = settings(Some(100), MergeMode::LastRow);
    let mut files: Vec<Candidate> = (0..5).map(|n| file(n, (n as i64 * 20, n as i64 * 20 + 19), 640)).collect();
    assert_eq!(plan(&files, &settings, Strategy::Regular), None, "the newest window is left alone");
    files.push(file(5, (100, 110), 640));
    let pick = plan(&files, &settings, Strategy::Regular).unwrap();
    assert_eq!((pick.reason, pick.inputs.len()), (Reason::Settle, 5));
    assert_eq!(replace(&mut files, &pick, &mut 10), 3_200);
    assert_eq!(plan(&files, &settings, Strategy::Regular), None);
    // Late rows do not have the window written again, until there is as much of them.
    for late in 20..24 {
        files.push(file(late, (5, 6), 192));
        settle(&mut files, &settings, &mut (100 * late));
        assert!(files.iter().any(|file| file.bytes == 3_200), "{late}: {files:?}");
    }
    files.push(file(30, (5, 6), 2_560));
    settle(&mut files, &settings, &mut 10_000);
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn windows_are_not_mixed_and_foreign_files_come_first() {
    let settings = settings(Some(HOUR), MergeMode::LastRow);
    let mut files: Vec<Candidate> = (0..12).map(|n| file(n, (HOUR - 10, HOUR - 1), 10)).collect();
    files.push(file(20, (HOUR - 5, HOUR + 5), 10));
    files.push(Candidate { foreign: true, ..file(3_000, (7 * HOUR, 7 * HOUR), 10) });
    let pick = plan(&files, &settings, Strategy::Regular).unwrap();
    assert_eq!((pick.reason, pick.inputs.as_slice()), (Reason::Localize, &[key(20), key(3_000)][..]));
    let mut next = 10_000;
    settle(&mut files, &settings, &mut next);
    assert!(files.iter().all(|file| Windows::new(HOUR).holding(file.time).is_some() && !file.foreign));
}

#[test]
fn a_file_over_more_windows_than_it_has_rows_is_not_cut_into_crumbs() {
    let settings = settings(Some(HOUR), MergeMode::LastRow);
    let mut files: Vec<Candidate> = (0..3).map(|n| file(n, (i64::MIN / 4, i64::MAX / 4), 500)).collect();
    assert_eq!(plan(&files, &settings, Strategy::Regular), None);
    files.extend((3..6).map(|n| file(n, (i64::MIN / 4, i64::MAX / 4), 500)));
    let pick = plan(&files, &settings, Strategy::Regular).unwrap();
    assert_eq!((pick.inputs.len(), pick.split), (6, Split::none()));
    let whole = [file(1, (i64::MIN, i64::MAX), u64::MAX)];
    assert!(plan(&whole, &settings, Strategy::Regular).is_some(), "extreme times are times");
}

#[test]
fn the_window_follows_the_files_and_then_stays() {
    let flushed = |n: u64| file(n, (n as i64 * 1_200_000, n as i64 * 1_200_000 + 1_200_000), 1_000);
    let mut files: Vec<Candidate> = (0..10).map(flushed).collect();
    assert_eq!(Windows::infer(&files, 1_000).width(), 2 * HOUR);
    let settings = settings(None, MergeMode::LastRow);
    let mut next = 10_000;
    for n in 10..200 {
        files.push(flushed(n));
        settle(&mut files, &settings, &mut next);
        assert_eq!(Windows::infer(&files, 1_000).width(), 2 * HOUR);
    }
    // One file of ancient rows among many does not make windows of years.
    files.push(file(300, (-1_000_000 * HOUR, 0), 1_000));
    assert_eq!(Windows::infer(&files, 1_000).width(), 2 * HOUR);
    assert_eq!(Windows::infer(&[], 1_000_000_000).width(), HOUR * 1_000_000);
}

#[test]
fn cuts_make_files_of_about_the_largest_size() {
    let settings = Settings { file_bytes_max: 1_000, ..settings(Some(HOUR), MergeMode::LastRow) };
    let mut files: Vec<Candidate> = (0..10).map(|n| file(n, (0, HOUR - 1), 400)).collect();
    let mut next = 100;
    settle(&mut files, &settings, &mut next);
    assert!(files.iter().all(|file| file.bytes <= 1_300), "{files:?}");
    assert!(files.len() <= 6, "{files:?}");
}

/// A row: what it does is a put of one or two fields, or a delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    series: u8,
    time: i64,
    sequence: u64,
    /// `None`: a delete.
    fields: Option<[Option<u8>; 2]>,
}

type Table = BTreeMap<FileKey, Vec<Row>>;

/// What storage keeps of the rows of one key, newest first.
fn merged(mut rows: Vec<Row>, mode: MergeMode) -> Vec<Row> {
    rows.sort_by_key(|row| std::cmp::Reverse(row.sequence));
    if mode == MergeMode::Append {
        return rows;
    }
    let newest_delete = rows.iter().position(|row| row.fields.is_none());
    let puts = &rows[..newest_delete.unwrap_or(rows.len())];
    let mut kept = Vec::new();
    if let Some(first) = puts.first() {
        let mut row = first.clone();
        if mode == MergeMode::LastNonNull {
            let fields = [0, 1].map(|at| puts.iter().find_map(|put| put.fields.unwrap()[at]));
            row.fields = Some(fields);
        }
        kept.push(row);
    }
    if mode == MergeMode::LastNonNull || kept.is_empty() {
        kept.extend(newest_delete.map(|at| rows[at].clone()));
    }
    kept
}

fn by_key(rows: impl IntoIterator<Item = Row>) -> BTreeMap<(u8, i64), Vec<Row>> {
    let mut keys: BTreeMap<(u8, i64), Vec<Row>> = BTreeMap::new();
    for row in rows {
        keys.entry((row.series, row.time)).or_default().push(row);
    }
    keys
}

/// What a reader sees.
fn visible(table: &Table, mode: MergeMode) -> Vec<Row> {
    let rows = by_key(table.values().flatten().cloned()).into_values().flat_map(|rows| merged(rows, mode));
    let puts = rows.filter(|row| row.fields.is_some());
    // Which write a merged row is named after does not show.
    puts.map(|row| if mode == MergeMode::LastNonNull { Row { sequence: 0, ..row } } else { row }).collect()
}

fn facts(key: FileKey, rows: &[Row], level: u8) -> Candidate {
    let sequences = rows.iter().map(|row| row.sequence);
    let times = rows.iter().map(|row| row.time);
    Candidate {
        key,
        time: (times.clone().min().unwrap(), times.max().unwrap()),
        sequences: (sequences.clone().min().unwrap(), sequences.max().unwrap()),
        bytes: rows.len() as u64 * 10,
        rows: rows.len() as u64,
        deletes: rows.iter().filter(|row| row.fields.is_none()).count() as u64,
        level,
        foreign: false,
    }
}

fn carry_out(table: &mut Table, pick: &Pick, mode: MergeMode, next: &mut u64) {
    let rows: Vec<Row> = pick.inputs.iter().flat_map(|key| table.remove(key).unwrap()).collect();
    let hides = |row: &Row| pick.older.iter().any(|(time, least)| time.0 <= row.time && row.time <= time.1 && *least < row.sequence);
    let mut outputs: BTreeMap<_, Vec<Row>> = BTreeMap::new();
    for row in by_key(rows).into_values().flat_map(|rows| merged(rows, mode)) {
        if row.fields.is_some() || hides(&row) {
            outputs.entry(pick.split.slot(row.time)).or_default().push(row);
        }
    }
    for rows in outputs.into_values() {
        *next += 1;
        table.insert(key(*next), rows);
    }
}

fn any_row() -> impl Strategy_<Value = (u8, i64, Option<[Option<u8>; 2]>)> {
    let time = prop_oneof![4 => 0_i64..6, 1 => 0_i64..30];
    (0_u8..3, time, proptest::option::weighted(0.75, [any::<Option<u8>>(), any::<Option<u8>>()]))
}

use proptest::strategy::Strategy as Strategy_;

proptest! {
    /// Whatever is flushed and compacted in whatever order: readers see what they would see of all flushed rows.
    #[test]
    fn compaction_changes_nothing_that_a_reader_sees(
        flushes in proptest::collection::vec(proptest::collection::vec(any_row(), 1..12), 1..24),
        window in prop_oneof![Just(Some(4)), Just(Some(10)), Just(Some(1_000)), Just(None)],
        mode in prop_oneof![Just(MergeMode::LastRow), Just(MergeMode::LastNonNull), Just(MergeMode::Append)],
        (runs_max, file_bytes_max, rounds, strict) in (1_usize..4, 20_u64..200, 0_usize..4, any::<bool>()),
    ) {
        let settings = Settings { runs_max, disjoint_max: 2 * runs_max, file_bytes_max, ..settings(window, mode) };
        let (mut table, mut all, mut sequence, mut next) = (Table::new(), Table::new(), 0, 0);
        let mut levels: BTreeMap<FileKey, u8> = BTreeMap::new();
        let total = flushes.len();
        for (at, flush) in flushes.into_iter().enumerate() {
            let mut rows = Vec::new();
            for (series, time, fields) in flush {
                sequence += 1;
                // Append tables take no deletes.
                let fields = if mode == MergeMode::Append { Some(fields.unwrap_or_default()) } else { fields };
                rows.push(Row { series, time, sequence, fields });
            }
            next += 1;
            all.insert(key(next), rows.clone());
            let flushed = by_key(rows).into_values().flat_map(|rows| merged(rows, mode)).collect();
            table.insert(key(next), flushed);
            let strategy = if strict && at + 1 == total { Strategy::StrictWindow } else { Strategy::Regular };
            let rounds = if at + 1 == total { 200 } else { rounds };
            for round in 0..rounds {
                let files: Vec<Candidate> = table.iter().map(|(key, rows)| facts(*key, rows, levels.get(key).copied().unwrap_or(0))).collect();
                let Some(pick) = plan(&files, &settings, strategy) else { break };
                let unique: BTreeSet<&FileKey> = pick.inputs.iter().collect();
                prop_assert_eq!(unique.len(), pick.inputs.len());
                let before: BTreeSet<FileKey> = table.keys().copied().collect();
                carry_out(&mut table, &pick, mode, &mut next);
                let windows = settings.window.map(Windows::new);
                for (key, rows) in table.iter().filter(|(key, _)| !before.contains(key)) {
                    levels.insert(*key, 1);
                    let time = facts(*key, rows, 1).time;
                    prop_assert!(windows.is_none_or(|windows| windows.holding(time).is_some()), "{:?} is over two windows", time);
                }
                prop_assert_eq!(visible(&table, mode), visible(&all, mode), "after {:?}", pick);
                prop_assert!(round < 199, "compaction does not come to rest");
            }
        }
        let deletes = table.values().flatten().filter(|row| row.fields.is_none()).count();
        if strict && window.is_some() {
            prop_assert_eq!(deletes, 0, "a strict compaction leaves nothing that a delete could hide: {:?}", table);
        }
    }
}
