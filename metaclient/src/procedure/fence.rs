//! The runner's epoch: who may write for procedures.
//!
//! Invariants:
//! - At most one epoch is current: that in the key `procedure/runner`. Claiming writes the next one; it asks
//!   nobody, and the claimant before learns of it by its next write.
//! - A fence compares the whole value of that key (epoch and a nonce of the claim) and the incarnation of the
//!   metadata: after a restore from a backup, in which the key may be as it once was, no old runner passes.
//! - No clock and no lease decides who may write.

use tessera_manifest::env::Env;
use tessera_manifest::id::Nonce;

use super::error::ProcedureError;
use crate::keys::MetaKey;
use crate::kv::{Compare, Entry, Key, KvBackend, KvError, Op, Txn, TxnAnswer};
use crate::limits::ATTEMPTS_MAX;
use crate::values;

/// Who runs procedures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerClaim {
    /// The epoch; each claim takes the next one.
    pub epoch: u64,
    /// The claim's own name.
    pub nonce: Nonce,
    /// When it was claimed, in milliseconds since 1970; for people only.
    pub claimed_unix_ms: u64,
}

/// Proof of an epoch: conditions that hold for as long as nobody else has claimed the procedures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    epoch: u64,
    compares: [Compare; 2],
}

/// How a fenced transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fenced {
    /// The fence held: the answer to the transaction itself.
    Answer(TxnAnswer),
    /// Another epoch is current; nothing was written.
    Lost,
}

impl Fence {
    /// Claims the next epoch for the caller.
    ///
    /// # Errors
    /// When the store fails; [`ProcedureError::Contended`] when many claim at once.
    pub async fn claim(kv: &dyn KvBackend, env: &Env) -> Result<Self, ProcedureError> {
        let nonce = env.nonce();
        for _ in 0..ATTEMPTS_MAX {
            let found = kv.multi_get(&keys()).await?.entries;
            let (runner, incarnation) = (found.first().and_then(Option::as_ref), found.get(1).and_then(Option::as_ref));
            let before: Option<RunnerClaim> = runner.map(values::decode_entry).transpose()?;
            if let Some(claim) = before.filter(|claim| claim.nonce == nonce) {
                // An attempt of ours whose answer was lost.
                return Ok(Self::of(&claim, incarnation));
            }
            let epoch = before.map_or(0, |claim| claim.epoch).saturating_add(1);
            let claim = RunnerClaim { epoch, nonce, claimed_unix_ms: env.unix_ms() };
            let fence = Self::of(&claim, incarnation);
            let [key, _] = keys();
            let unchanged = runner.map_or_else(|| Compare::Absent { key: key.clone() }, Compare::unchanged);
            let same_life = fence.compares[1].clone();
            let txn = Txn::new().when(unchanged).when(same_life).then([Op::put(key, values::encode(&claim))]);
            match kv.txn(txn).await {
                Ok(answer) if answer.succeeded => return Ok(fence),
                // Another claim came between, or perhaps ours: read again.
                Ok(_) | Err(KvError::CommitUnknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ProcedureError::Contended { what: MetaKey::ProcedureRunner.to_string() })
    }

    fn of(claim: &RunnerClaim, incarnation: Option<&Entry>) -> Self {
        let [runner_key, incarnation_key] = keys();
        let same_life = match incarnation {
            Some(entry) => Compare::Value { key: incarnation_key, value: entry.value.clone() },
            None => Compare::Absent { key: incarnation_key },
        };
        Self { epoch: claim.epoch, compares: [Compare::Value { key: runner_key, value: values::encode(claim) }, same_life] }
    }

    /// The epoch; it grows with each claim, so that others can refuse an older one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The conditions that hold for as long as the epoch is current.
    #[must_use]
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// Runs `txn` with the fence among its conditions, and tells a lost fence from other conditions that fail.
    pub(super) async fn run(&self, kv: &dyn KvBackend, mut txn: Txn) -> Result<Fenced, KvError> {
        let else_ops = txn.else_ops.len();
        txn.compares.extend(self.compares.iter().cloned());
        // Last, so that the answers of the caller's own branch keep their places. The branch may write neither key.
        txn.else_ops.extend(keys().map(Op::get));
        let mut answer = kv.txn(txn).await?;
        if !answer.succeeded {
            let (runner, incarnation) = (answer.entry(else_ops), answer.entry(else_ops + 1));
            if !self.holds([runner, incarnation]) {
                return Ok(Fenced::Lost);
            }
            answer.answers.truncate(else_ops);
        }
        Ok(Fenced::Answer(answer))
    }

    /// Whether the epoch is current.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn is_current(&self, kv: &dyn KvBackend) -> Result<bool, KvError> {
        let found = kv.multi_get(&keys()).await?.entries;
        Ok(self.holds([found.first().and_then(Option::as_ref), found.get(1).and_then(Option::as_ref)]))
    }

    fn holds(&self, found: [Option<&Entry>; 2]) -> bool {
        self.compares.iter().zip(found).all(|(compare, entry)| match compare {
            Compare::Value { value, .. } => entry.is_some_and(|entry| entry.value == *value),
            Compare::Absent { .. } => entry.is_none(),
            _ => false,
        })
    }
}

/// The two keys that a fence compares.
fn keys() -> [Key; 2] {
    [MetaKey::ProcedureRunner.to_key(), MetaKey::IncarnationId.to_key()]
}
