//! What the tests of procedures share: a sample procedure, and a look at what it leaves.

mod life;
mod matrix;
mod places;
mod sim;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::*;
use crate::kv::{Compare, Entry, Key, KvBackend, MemoryBackend, Op, Txn, range_all};
use crate::testing::counting_env;

/// A stage of [`Sample`]; the state names the one that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Stage {
    Reserve,
    Prepare,
    Decide,
    Count,
    Clean,
}

/// Books a name: reserves it, writes two parts, decides, counts the decision once, and cleans up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sample {
    name: String,
    stage: Stage,
    /// Drawn by the first step, used by the later ones.
    token: Option<String>,
    /// Where the forward way fails for good.
    fails_at: Option<Stage>,
}

const KIND: &str = "sample";

impl Sample {
    fn new(name: &str) -> Self {
        Self { name: name.into(), stage: Stage::Reserve, token: None, fails_at: None }
    }

    fn failing_at(self, stage: Stage) -> Self {
        Self { fails_at: Some(stage), ..self }
    }

    fn key(&self, what: &str) -> Key {
        format!("sample/{}/{what}", self.name).into()
    }

    fn token(&self) -> Result<String, StepError> {
        self.token.clone().ok_or_else(|| StepError::fatal("there is no token"))
    }

    /// Puts a key that is absent, or as an earlier attempt left it.
    async fn put(&self, context: &StepContext, what: &str, value: String) -> Result<(), StepError> {
        let key = self.key(what);
        let txn =
            Txn::new().when(Compare::Absent { key: key.clone() }).then([Op::put(key.clone(), value.clone())]).otherwise([Op::get(key)]);
        let answer = context.txn(txn).await?;
        let ours = answer.succeeded || answer.entry(0).is_some_and(|entry| entry.value == value);
        if ours { Ok(()) } else { Err(StepError::fatal(format!("{what} of '{}' is taken", self.name))) }
    }

    async fn delete(&self, context: &StepContext, what: &str) -> Result<(), StepError> {
        context.txn(Txn::new().then([Op::delete(self.key(what))])).await.map(|_| ())
    }
}

#[async_trait]
impl Procedure for Sample {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn state(&self) -> State {
        State { version: 1, bytes: serde_json::to_vec(self).unwrap().into() }
    }

    fn locks(&self) -> Locks {
        Locks::none().shared("samples").exclusive(format!("sample/{}", self.name))
    }

    fn past_no_return(&self) -> bool {
        self.stage >= Stage::Decide
    }

    async fn step(&mut self, context: &StepContext) -> Result<Status, StepError> {
        if self.fails_at == Some(self.stage) {
            return Err(StepError::fatal(format!("it was to fail at {:?}", self.stage)));
        }
        match self.stage {
            Stage::Reserve => {
                self.put(context, "reserved", context.id().to_string()).await?;
                self.token = Some(context.env().nonce().to_string());
                self.stage = Stage::Prepare;
                Ok(Status::Next(Commit::progress("preparing", 1, 5)))
            }
            Stage::Prepare => {
                self.put(context, "part/a", self.token()?).await?;
                self.put(context, "part/b", self.token()?).await?;
                self.stage = Stage::Decide;
                Ok(Status::Next(Commit::progress("deciding", 2, 5)))
            }
            Stage::Decide => {
                self.put(context, "decided", self.token()?).await?;
                self.stage = Stage::Count;
                Ok(Status::Next(Commit::progress("counting", 3, 5)))
            }
            Stage::Count => {
                let key = Key::from("sample-count");
                let entry = context.kv().get(&key).await?.entry;
                let before = entry.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap());
                let same = entry.as_ref().map_or_else(|| Compare::Absent { key: key.clone() }, Compare::unchanged);
                self.stage = Stage::Clean;
                Ok(Status::Next(Commit::progress("cleaning up", 4, 5).when(same).then([Op::put(key, (before + 1).to_string())])))
            }
            Stage::Clean => {
                self.delete(context, "part/a").await?;
                self.delete(context, "part/b").await?;
                self.delete(context, "reserved").await?;
                Ok(Status::Done { output: self.token.clone(), commit: Commit::default() })
            }
        }
    }

    async fn rollback(&mut self, context: &StepContext) -> Result<Status, StepError> {
        if self.stage >= Stage::Prepare {
            self.delete(context, "part/b").await?;
            self.delete(context, "part/a").await?;
            self.stage = Stage::Reserve;
            return Ok(Status::next());
        }
        // Only what is ours.
        let key = self.key("reserved");
        let ours = Compare::Value { key: key.clone(), value: Bytes::copy_from_slice(context.id().as_str().as_bytes()) };
        context.txn(Txn::new().when(ours).then([Op::delete(key)])).await?;
        Ok(Status::done())
    }

    fn retry(&self) -> Retry {
        Retry { attempts_max: 4, first: Duration::from_millis(10), longest: Duration::from_secs(1) }
    }
}

fn load(state: &State) -> Result<Box<dyn Procedure>, String> {
    if state.version > 1 {
        return Err(format!("it is of version {}, and this program reads version 1", state.version));
    }
    let sample: Sample = serde_json::from_slice(&state.bytes).map_err(|error| error.to_string())?;
    Ok(Box::new(sample))
}

fn registry() -> Registry {
    Registry::new().with(KIND, load)
}

fn id(text: &str) -> ProcedureId {
    text.parse().unwrap()
}

/// A process: its own ids, and a runner.
async fn start(kv: Arc<dyn KvBackend>, process: u64) -> Runner {
    Runner::start(kv, counting_env(process), registry(), RunnerOptions::DEFAULT).await.unwrap()
}

fn memory() -> Arc<dyn KvBackend> {
    Arc::new(MemoryBackend::new())
}

fn procedures(kv: &Arc<dyn KvBackend>) -> Procedures {
    Procedures::new(Arc::clone(kv), counting_env(99))
}

/// All keys with their values, and the revision: two equal ones mean that nothing was written in between.
async fn everything(kv: &Arc<dyn KvBackend>) -> (Vec<Entry>, crate::kv::Revision) {
    let revision = kv.get(&"any".into()).await.unwrap().revision;
    (range_all(&**kv, crate::kv::KeyRange::all()).await.unwrap(), revision)
}

/// What the samples left, with tokens as `T`.
async fn left(kv: &Arc<dyn KvBackend>) -> Vec<(String, String)> {
    let entries = range_all(&**kv, crate::kv::KeyRange::prefix("sample")).await.unwrap();
    let text = |entry: &Entry| String::from_utf8(entry.value.to_vec()).unwrap();
    entries.iter().map(|entry| (entry.key.to_string(), if text(entry).len() == 32 { "T".into() } else { text(entry) })).collect()
}
