//! What a scan costs after a split, beside one of a table that had the new rules from the start.

use super::*;

/// In whose name compactions are held while a table is filled.
const FILLING: TxnId = TxnId(Ulid(1));
/// Batches of 10,000 rows after which all regions are flushed: about what a memtable takes, and a whole number of instants of
/// all hosts, as memtables that fill up are frozen between two. Else two regions, of which each has a memtable, would leave
/// fewer files with more of each series; and files of one table would share instants where those of the other do not.
const FLUSHED: usize = 24;
const HOSTS: u32 = 4_000;
/// Half of them are below.
const MIDDLE: &str = "host_28";

/// A table with rows, of one region or of the two halves, in files of flushes.
async fn filled(options: &Options, cpu: &Cpu, split: bool) -> Result<World> {
    let folder = folder(options)?;
    let store = node::store(folder.path())?;
    let mut world = World::open(folder, store, cpu, MIDDLE).await?;
    if split {
        let rules = halves(MIDDLE, &world.schema)?;
        world.regions = rules.into_iter().enumerate().map(|(n, rule)| (region(n as u32), Generation::FIRST, rule)).collect();
        world.next_region = 2;
    }
    for (id, _, rule) in &world.regions {
        world.engine.create_region(meta(&world.schema, id.number().0, Arc::clone(rule))).await?;
    }
    // Else the files would be those that compactions happened to have got to.
    world.hold_compactions(FILLING).await?;
    for (n, batch) in cpu.in_time_order(10_000).enumerate() {
        let batch = batch?;
        if n % FLUSHED == 0 {
            world.flush().await?;
        }
        for (id, generation, rule) in &world.regions {
            let inside = rule.filter(&batch, &world.schema)?;
            let batch = arrow::compute::filter_record_batch(&batch, &inside)?;
            let request = WriteRequest { generation: *generation, rule_version: rule.version(), batch, op: OpType::Put };
            world.engine.region(*id)?.write(request).await?;
        }
    }
    world.flush().await?;
    Ok(world)
}

/// Milliseconds of a scan of each table: medians of rounds in which each is read once, so that what else the machine does
/// befalls both.
async fn scan_in_turns(options: &Options, tables: [&World; 2], rows: usize) -> Result<[f64; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=options.scans {
        for (world, times) in tables.iter().zip(&mut times) {
            let watch = Stopwatch::start();
            let found = world.count().await?;
            if found != rows {
                return Err(format!("{found} rows came out, expected {rows}").into());
            }
            // The first reads what the others find in caches.
            times.extend((round > 0).then(|| watch.elapsed()));
        }
    }
    Ok(times.map(|times| percentile(&times, 0.5)))
}

/// Times the scans of tables with so many rows.
pub(super) async fn scans(options: &Options, rows: u64, lines: &mut Vec<Line>) -> Result<()> {
    let cpu = cpu(options, HOSTS, rows)?;
    let rows = cpu.rows();
    let mut line = |name, value, unit| lines.push(Line { of: Size::Rows(rows as u64), name, value, unit });
    let mut compare = |names: [&'static str; 2], [new, split]: [f64; 2]| {
        line(names[0], new, "ms");
        line(names[1], split, "ms");
        line("  of that with new rules", split / new, "x");
    };
    for compacted in [false, true] {
        let new = filled(options, &cpu, true).await?;
        let mut split = filled(options, &cpu, false).await?;
        if compacted {
            new.compact(FILLING).await?;
            split.compact(FILLING).await?;
        }
        // A repartition writes one row more, which is in a file of its own: in both tables.
        let targets: Vec<_> = new.regions.iter().map(|(id, _, rule)| (*id, Arc::clone(rule))).collect();
        new.write(&targets, Generation::FIRST).await?;
        let before = data_bytes(&split.folder.path().join("store"))?;
        split.turn().await?;
        let rewritten = data_bytes(&split.folder.path().join("store"))?.saturating_sub(before);
        if rewritten > 0 {
            return Err(format!("check failed: a split rewrote {rewritten} bytes").into());
        }
        // Else the first scans would share the machine with the compactions that localize, and the last find them done.
        let holder = txn(split.next_generation);
        new.hold_compactions(holder).await?;
        split.hold_compactions(holder).await?;
        split.check_foreign().await?;
        let names = match compacted {
            false => ["scan of flushes, new rules", "scan of flushes, after the split"],
            true => ["scan of compacted, new rules", "scan of compacted, after the split"],
        };
        compare(names, scan_in_turns(options, [&new, &split], rows).await?);
        if compacted {
            new.compact(holder).await?;
            split.compact(holder).await?;
            compare(["scan, new rules, compacted again", "scan after localizing"], scan_in_turns(options, [&new, &split], rows).await?);
        }
        new.close().await?;
        split.close().await?;
    }
    Ok(())
}
