//! What may stand on the command line after `tessera manifest`.

use clap::{Args, Subcommand, ValueEnum};
use tessera_manifest::id::RegionId;

use super::version::{Expiry, Version};

const EXAMPLES: &str = "\
STORE is a data home, the folder `store` in one, or a URL (s3://bucket/folder, az://container/folder), whose settings
come from the environment. REGION is {table id}/{region number}, as in 1024/0.
VERSION is the slot of a record: 2-17 or 2/17 for record 17 of epoch 2, or the name of its object without the ending.

Examples:
  tessera manifest show ./tessera-data                        every region, one line each
  tessera manifest show ./tessera-data 1024/0 --version 2-17
  tessera manifest log ./tessera-data 1024/0 --limit 20
  tessera manifest diff ./tessera-data 1024/0 2-17 3-4
  tessera manifest files ./tessera-data 1024/0 --all
  tessera manifest verify ./tessera-data --files=crc
  tessera manifest snapshot create ./tessera-data 1024/0 before-import --expires 7d
  tessera manifest rollback ./tessera-data 1024/0 2-17 --dry-run

Exit codes: 0 done, 1 a problem was found or the request was refused, 2 the command line is wrong";

/// Look at the manifests on an object store, check and mend them; no server is needed.
///
/// A manifest is the log of everything that happened to a region. show, log, diff, files, verify and `snapshot ls` only
/// read, and may run while a server does. `snapshot create`, `snapshot drop` and rollback write a record, for which the
/// server must be stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManifestArgs {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Show(ShowArgs),
    Log(LogArgs),
    Diff(DiffArgs),
    Files(FilesArgs),
    Verify(VerifyArgs),
    /// Keep versions by name: list, create and drop snapshots
    Snapshot {
        #[command(subcommand)]
        verb: SnapshotVerb,
    },
    Rollback(RollbackArgs),
}

/// Where to look.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// The region, as in 1024/0
    pub(super) region: RegionId,
}

/// Show everything that a manifest says of a region, or list all regions.
///
/// Names, schema, rule, options, epoch and writer, logs and how far they are flushed, sequence, repartition in progress,
/// floor, snapshots, checkpoints, totals, and how much an opener would replay.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// The region, as in 1024/0; without one, all regions of the store, one line each
    pub(super) region: Option<RegionId>,
    /// The state at this version, not the newest
    #[arg(long, value_name = "VERSION", requires = "region")]
    pub(super) version: Option<Version>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// List the records that are on the store, oldest first.
///
/// A record that is damaged is a line that says so; the others are shown.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Begin with this version
    #[arg(long, value_name = "VERSION")]
    pub(super) from: Option<Version>,
    /// At most so many records: the newest ones, or, with --from, the first ones from there
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Print JSON, with the full content of each record
    #[arg(long)]
    pub(super) json: bool,
}

/// Say what changed between two versions, in words.
///
/// Files that came, went and came back; columns, options, rule, generation, repartition, floor, snapshots, logs.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// The version before
    #[arg(value_name = "V1")]
    pub(super) before: Version,
    /// The version after
    #[arg(value_name = "V2")]
    pub(super) after: Version,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// List the files that a region refers to.
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// The files at this version, not the newest
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<Version>,
    /// Also those that no reader of the version sees: removed, staged, doomed; with a column that says so
    #[arg(long)]
    pub(super) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Check every record and every checkpoint, and on request every file.
///
/// Of each record the checksum, the link to the one before it, its content, and the state and set hash after it; of
/// each checkpoint its checksums, those of its segments, and that it is what the records give. Every problem is reported
/// with the object's name, and one bad region does not stop the others. Exit code 1 if there is any problem.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// The region, as in 1024/0; without one, all regions of the store
    pub(super) region: Option<RegionId>,
    /// Check also that files are there: `size` asks for the size of each, `crc` reads them whole
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, default_missing_value = "size", require_equals = true)]
    pub(super) files: Option<FilesCheck>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FilesCheck {
    /// Each is there, with its size
    Size,
    /// Each has the content whose CRC-32 is recorded
    Crc,
}

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotVerb {
    Ls(SnapshotLsArgs),
    Create(SnapshotCreateArgs),
    Drop(SnapshotDropArgs),
}

/// List a region's snapshots.
#[derive(Debug, Args)]
pub(super) struct SnapshotLsArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

const WRITES: &str = "\
This writes a record, and for that takes the region over from its last writer. It is refused unless that one has ended
cleanly, as a server does when it is stopped: then the region is sealed cleanly again afterwards. With --take-over it is
done in any case. Whoever still writes is fenced, rows that are only in a write-ahead log stay there, and the epoch is
left open for the next server, which replays them.";

/// Keep a version under a name, readable whatever retention does.
#[derive(Debug, Args)]
#[command(after_help = WRITES)]
pub(super) struct SnapshotCreateArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Its name: letters, digits and - _ . :
    pub(super) name: String,
    /// After which time it ends by itself: a number and s, m, h, d or w, as in 7d; never, if not given
    #[arg(long, value_name = "AGE")]
    pub(super) expires: Option<Expiry>,
    /// Keep this version, not the newest
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<Version>,
    #[command(flatten)]
    pub(super) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Drop a snapshot: its version is kept no longer than others.
#[derive(Debug, Args)]
#[command(after_help = WRITES)]
pub(super) struct SnapshotDropArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Its name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// How a region is written to.
#[derive(Debug, Args)]
pub(super) struct Writing {
    /// Take the region over although its last writer has not ended cleanly
    #[arg(long)]
    pub(super) take_over: bool,
}

/// Go back to the files of an earlier version, by a new record.
///
/// Files that went since come back, files that came since go; nothing is deleted, so that this can be undone the same
/// way. Schema and options stay. Refused, with every reason, if a file of that version is gone.
#[derive(Debug, Args)]
#[command(after_help = WRITES)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// The version to go back to
    #[arg(value_name = "VERSION")]
    pub(super) to: Version,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
