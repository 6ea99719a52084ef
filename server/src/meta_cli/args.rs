//! What may stand on the command line after `tessera meta`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const EXAMPLES: &str = "\
TARGET is the data home of a stopped server (a running one has its metadata locked), or etcd://HOST:PORT[,HOST:PORT...]
for metadata in etcd, in a build with the feature etcd; etcds:// speaks TLS. User and files of TLS come from the
settings, as for a server: TESSERA_METADATA_USER, TESSERA_METADATA_PASSWORD_FILE, TESSERA_METADATA_CA_FILE, ...

VALUE is JSON where the key is one of ours, with the fields that `get` shows, and is checked; else it is text as it is. It
may be -, which reads it from standard input.

Examples:
  tessera meta status ./tessera-data
  tessera meta list ./tessera-data table/                     every table, one line each
  tessera meta get ./tessera-data table/name/public/cpu
  tessera meta list ./tessera-data --keys-only | cut -d/ -f1 | sort | uniq -c
  tessera meta del ./tessera-data switch/recovery --force      leave recovery mode without a server
  tessera meta txn ./tessera-data --if absent:a --then put:a=1 --else get:a
  tessera meta watch etcd://127.0.0.1:2379 table/ --json

Exit codes: 0 done; 1 the key is absent, the conditions of txn do not hold, or it was refused or failed; 2 the command line
is wrong";

/// Look into metadata and change it: databases, tables, routes, ids, procedures. No server is needed.
///
/// The object store is the truth about data; metadata is the index that finds it. What is changed here by hand can make
/// tables unreadable, so that put, del and txn want --force for keys of ours.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MetaArgs {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Status(StatusArgs),
    Get(GetArgs),
    List(ListArgs),
    Put(PutArgs),
    Del(DelArgs),
    Txn(TxnArgs),
    Watch(WatchArgs),
    KeysLayout(LayoutArgs),
    Bench(BenchArgs),
    Verify(VerifyArgs),
}

/// Say what the metadata holds: cluster, ids, switches, how many keys of each kind, and whether every value can be read.
///
/// Exit code 1 if a value cannot.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Show what a key holds.
///
/// With its revisions: that of the transaction that created it, that of the one that wrote it last, and how often it was
/// written since.
#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// The key
    pub(super) key: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write the stored bytes as they are, and nothing else
    #[arg(long, conflicts_with = "json")]
    pub(super) raw: bool,
}

/// List keys and what they hold, in order of the keys.
///
/// The keys are read in pages and printed as they come, so that there may be any number of them; a page is of one moment,
/// the whole list need not be.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// What the keys begin with; without it, all keys
    #[arg(default_value = "")]
    pub(super) prefix: String,
    /// Only the keys
    #[arg(long)]
    pub(super) keys_only: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// Print JSON: an object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Write a value under a key.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// The key
    pub(super) key: String,
    /// JSON for a key of ours, else text; - reads it from standard input
    pub(super) value: String,
    /// Also for a key of ours
    #[arg(long)]
    pub(super) force: bool,
    /// Only if the key has been written so often since it was created; 0: only if it is absent
    #[arg(long, value_name = "N")]
    pub(super) if_version: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Delete a key, or all keys that begin with it.
#[derive(Debug, Args)]
pub(super) struct DelArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// The key
    pub(super) key: String,
    /// All keys that begin with KEY
    #[arg(long)]
    pub(super) prefix: bool,
    /// Also keys of ours
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

const TXN: &str = "\
Conditions, all of which must hold (none: always):
  absent:KEY   exists:KEY   version:KEY=N   mod-revision:KEY=N   value:KEY=VALUE   prefix-empty:PREFIX
Operations, done in order, each seeing those before it:
  get:KEY   list:PREFIX   put:KEY=VALUE   del:KEY   del-prefix:PREFIX

The same as JSON, with FILE (- for standard input); a key with a = in it can only be given so:
  {\"if\": [{\"absent\": \"a\"}, {\"version\": {\"key\": \"b\", \"is\": 3}}],
   \"then\": [{\"put\": {\"key\": \"a\", \"value\": \"1\"}}, {\"del\": \"b\"}],
   \"else\": [{\"get\": \"a\"}, {\"list\": \"b\"}]}

Exit codes: 0 the conditions hold, 1 they do not (the other branch was done), or it was refused or failed";

/// Run a transaction: conditions, what to do when they hold, and what else.
///
/// All of it happens at once or not at all.
#[derive(Debug, Args)]
#[command(after_help = TXN)]
pub(super) struct TxnArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// The transaction as JSON; - reads it from standard input
    #[arg(conflicts_with_all = ["conditions", "then", "otherwise"])]
    pub(super) file: Option<PathBuf>,
    /// A condition
    #[arg(long = "if", value_name = "CONDITION")]
    pub(super) conditions: Vec<String>,
    /// What to do when all conditions hold
    #[arg(long, value_name = "OPERATION")]
    pub(super) then: Vec<String>,
    /// What to do when one does not
    #[arg(long = "else", value_name = "OPERATION")]
    pub(super) otherwise: Vec<String>,
    /// Also if it changes keys of ours
    #[arg(long)]
    pub(super) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Print changes as they happen, until interrupted.
///
/// Only with etcd: nobody can change the metadata of a stopped server, and a running one does not share its file. What a
/// server does can be followed in its log and with `GET /admin/procedures`.
#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// etcd://...
    pub(super) target: String,
    /// What the keys begin with; without it, all keys
    #[arg(default_value = "")]
    pub(super) prefix: String,
    /// Begin with this revision; without it, first what there is, then what changes
    #[arg(long, value_name = "REVISION")]
    pub(super) from: Option<u64>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Print JSON: an object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Explain the keys: which there are, and what is under each.
#[derive(Debug, Args)]
pub(super) struct LayoutArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Measure the store: puts, gets, transactions of a compare and two puts, lists, and watches.
///
/// Each operation is checked before it is timed. Keys begin with --prefix and are deleted at the end. With --raw the same
/// work is also done by the bare client of the store, in the same run: a redb file beside the metadata, or etcd itself.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// Clients at the same time; one measurement for each number
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16")]
    pub(super) clients: Vec<usize>,
    /// Calls of each measurement; lists and watches make a tenth
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(super) calls: usize,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(super) value_bytes: usize,
    /// What the keys begin with
    #[arg(long, default_value = "bench/")]
    pub(super) prefix: String,
    /// Measure the bare client of the store too
    #[arg(long)]
    pub(super) raw: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Check that the store keeps its word: concurrent writers with ledgers, a watcher, and a comparison of all of it.
///
/// Writers put, compare and swap, delete, write pairs and read, on few keys below --prefix, and note what they are told; a
/// watcher notes the history. At the end lost, repeated, torn, reordered and invented changes, wrong versions, stale reads
/// and gaps of the watch are looked for. Servers of etcd may be killed and restarted meanwhile. Exit code 1 if anything is
/// wrong.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A data home, or etcd://...
    pub(super) target: String,
    /// Writers at the same time
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub(super) writers: usize,
    /// Keys that they share; fewer make more conflicts
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(super) keys: usize,
    /// Calls of all writers together
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(super) calls: u64,
    /// End after so many seconds, even if calls are left
    #[arg(long, value_name = "SECONDS")]
    pub(super) seconds: Option<u64>,
    /// What the writers choose; the same number, the same choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// What the keys begin with; there must be none
    #[arg(long, default_value = "verify/")]
    pub(super) prefix: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
