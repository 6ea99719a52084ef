//! Many processes take one region over at the same time, on a real file system.
//!
//! The test starts its own binary once per process. Each child opens the region and commits until it is fenced, and
//! writes down what was acknowledged to it. In the end exactly one owns the newest epoch, and nothing that was
//! acknowledged is missing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report, and stdout its log")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use tessera_manifest::action::{Action, Edit};
use tessera_manifest::env::Env;
use tessera_manifest::error::Error;
use tessera_manifest::file::{FileMeta, FileRef, Scope};
use tessera_manifest::id::{ColumnId, FileKey, Generation, NodeId, RegionId, RegionNumber, Sequence, Slot, TableId};
use tessera_manifest::log::{Context, Manifest, Opener, Outcome, Settings, load, record_bodies};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::paths::Root;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit};

const PROCESSES: u32 = 16;
/// Commits of a child after everybody has opened the region: who does not own the newest epoch is fenced by the first.
const COMMITS_AFTER_ALL: u32 = 4;
/// Where a child finds the store; set for children only.
const FOLDER: &str = "TESSERA_RACE_FOLDER";
const NODE: &str = "TESSERA_RACE_NODE";

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

fn meta() -> Arc<RegionMeta> {
    let ts = Column {
        id: ColumnId(0),
        name: "ts".into(),
        data_type: DataType::Timestamp(TimeUnit::Millisecond),
        semantic: SemanticType::TimeIndex,
        nullable: false,
        default: None,
        comment: None,
    };
    Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![ts], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

fn context(folder: &Path) -> Context {
    let store = LocalFileSystem::new_with_prefix(folder).unwrap().with_fsync(true);
    let settings = Settings { checkpoint_records: 8, history: std::time::Duration::ZERO, ..Settings::default() };
    Context { settings, ..Context::new(Arc::new(store), Root::default(), Env::system()) }
}

fn opener(node: u32) -> Opener {
    Opener { node: NodeId(node.into()), wal: None }
}

fn add_a_file(manifest: &Manifest, env: &Env) -> (FileKey, Vec<Action>) {
    let sequence = Sequence::new(Generation::FIRST, manifest.state().flushed_sequence().counter() + 1).unwrap();
    let key = FileKey { origin: REGION, file: env.file_id(manifest.epoch()) };
    let meta = FileMeta {
        time_range: (0, 1),
        rows: 1,
        deletes: 0,
        bytes: 1,
        sequences: (sequence, sequence),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 0,
    };
    let edit =
        Edit { add: vec![Arc::new(FileRef { key, scope: Scope::all(), meta })], sequence: Some(sequence), ..Edit::new(Generation::FIRST) };
    (key, vec![Action::Edit(edit)])
}

/// What a child does; its report is lines of `open SLOT`, `ack SLOT FILE` and `end WHY`.
async fn contend(folder: PathBuf, node: u32) {
    // All begin at once: when the parent has started the last of them.
    while !folder.join("go").exists() {
        std::thread::yield_now();
    }
    let context = context(&folder.join("store"));
    let mut report = String::new();
    let mut manifest = loop {
        match Manifest::open(&context, REGION, opener(node)).await {
            Ok(manifest) => break manifest,
            Err(Error::Fenced { .. } | Error::Contended { .. } | Error::MissingRecord { .. }) => {}
            Err(error) => panic!("node {node} cannot open: {error}"),
        }
    };
    report += &format!("open {}\n", manifest.state().version().unwrap());
    std::fs::write(folder.join(format!("opened-{node}")), "").unwrap();
    let all_opened = || (1..=PROCESSES).all(|node| folder.join(format!("opened-{node}")).exists());
    let (mut end, mut after) = ("owns the region", 0);
    while after < COMMITS_AFTER_ALL {
        after += u32::from(all_opened());
        let (key, actions) = add_a_file(&manifest, &context.env);
        match manifest.commit(actions).await {
            Ok(Outcome::Committed(state)) => report += &format!("ack {} {}\n", state.version().unwrap(), key.file),
            Ok(Outcome::Conflict { .. }) => {
                assert!(matches!(manifest.commit(add_a_file(&manifest, &context.env).1).await, Err(Error::Fenced { .. })));
                end = "is fenced";
                break;
            }
            other => panic!("node {node}: {other:?}"),
        }
    }
    manifest.settle().await;
    report += &format!("end {end}\n");
    std::fs::write(folder.join(format!("report-{node}")), report).unwrap();
}

fn wait_for_all(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().unwrap().success(), "a child failed");
    }
}

#[test]
fn of_sixteen_processes_one_owns_the_region_and_nothing_acknowledged_is_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let (Some(folder), Ok(node)) = (std::env::var_os(FOLDER), std::env::var(NODE)) {
        return runtime.block_on(contend(folder.into(), node.parse().unwrap()));
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("store")).unwrap();
    let context = context(&home.path().join("store"));
    runtime.block_on(async { Manifest::create(&context, meta(), opener(0)).await.unwrap().settle().await });
    let start = |node: u32| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "of_sixteen_processes_one_owns_the_region_and_nothing_acknowledged_is_lost"]);
        child.env(FOLDER, home.path()).env(NODE, node.to_string()).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<Child> = (1..=PROCESSES).map(start).collect();
    std::fs::write(home.path().join("go"), "").unwrap();
    wait_for_all(children);
    let reports = (1..=PROCESSES).map(|node| std::fs::read_to_string(home.path().join(format!("report-{node}"))).unwrap()).collect();
    runtime.block_on(check(&context, reports));
}

async fn check(context: &Context, reports: Vec<String>) {
    let state = load(context, REGION).await.unwrap();
    let files: BTreeSet<String> = state.files().keys().map(|key| key.file.to_string()).collect();
    let (mut opened, mut acked, mut fenced) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (index, report) in reports.iter().enumerate() {
        for line in report.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["open", slot] => {
                    let slot: Slot = slot.parse().unwrap();
                    assert_eq!(opened.insert(slot.epoch, index), None, "two processes own {:?}", slot.epoch);
                }
                ["ack", slot, file] => {
                    assert_eq!(acked.insert(slot.parse::<Slot>().unwrap(), index), None, "two commits were acknowledged in {slot}");
                    assert!(files.contains(file), "the acknowledged file {file} of {slot} is lost");
                }
                _ => fenced += usize::from(line == "end is fenced"),
            }
        }
    }
    assert_eq!(opened.len(), PROCESSES as usize, "everybody got an epoch in the end");
    let newest = *opened.last_key_value().unwrap().0;
    assert_eq!(state.version().unwrap().epoch, newest);
    assert_eq!(fenced, PROCESSES as usize - 1, "one owns the newest epoch, and all others are fenced");
    assert!(reports[opened[&newest]].ends_with("end owns the region\n"));
    for (slot, index) in &acked {
        assert_eq!(opened[&slot.epoch], *index, "{slot} was committed by another than its owner");
    }
    let bodies = record_bodies(context, REGION, None).await.unwrap();
    assert!(bodies.windows(2).all(|pair| pair[0].0.slot < pair[1].0.slot));
    println!("{} take-overs, {fenced} fenced, {} commits acknowledged", opened.len(), acked.len());
}
