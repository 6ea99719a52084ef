//! What may stand on the command line after `tessera region`.

use clap::{Args, Subcommand};
use tessera_manifest::id::{Nonce, RegionId};

const EXAMPLES: &str = "\
STORE is a data home, the folder `store` in one, or a URL (s3://bucket/folder, az://container/folder), whose settings
come from the environment. REGION is {table id}/{region number}, as in 1024/0.

Examples:
  tessera region ls ./tessera-data                 every region, its rule, and whether it is being repartitioned
  tessera region ls ./tessera-data --table 1024
  tessera region show ./tessera-data 1024/0 --json
  tessera region abandon-wal ./tessera-data 1024/0 --wal 5e0c...        what would be lost

Exit codes: 0 done, 1 a region cannot be read or there is none, or nothing was done, 2 the command line is wrong";

/// See which regions there are and which are being repartitioned, and give up a log that is gone; no server is needed.
///
/// What is said of a region is in its manifest on the store; where its rows are read and written is in the metadata, which
/// can be read while no server has it open. On a running server, SHOW PARTITIONS says the same.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RegionArgs {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Ls(ListArgs),
    Show(ShowArgs),
    AbandonWal(AbandonWalArgs),
}

/// List regions, one line each.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// Only those of the table with this id
    #[arg(long, value_name = "ID")]
    pub(super) table: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Show one region: rule, generation, routes, and the repartition that it is in.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// The region, as in 1024/0
    pub(super) region: RegionId,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Open a region by force whose log was on a node that is gone for good.
///
/// A region does not open where a log that may hold rows of it cannot be read. This names that log as abandoned in the
/// manifest, with the position behind which rows may be lost, for ever. Only this log of this region is given up. Without
/// --yes it says what may be lost, and changes nothing. The log of the data home itself is not gone: it is given up with --force
/// only, for one that is too damaged to be replayed.
#[derive(Debug, Args)]
pub(super) struct AbandonWalArgs {
    /// A data home, the folder `store` in one, or the URL of a store
    pub(super) store: String,
    /// The region, as in 1024/0
    pub(super) region: RegionId,
    /// The id of the log, 32 hex digits, as the refusal to open names it
    #[arg(long, value_name = "ID")]
    pub(super) wal: Nonce,
    /// Do it: rows that are only in that log are lost
    #[arg(long)]
    pub(super) yes: bool,
    /// Also where the log is that of the data home, which its server would replay
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
