//! Stored procedures and the claim of their runner.

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::changes::Kind;
use super::convert::{Malformed, Stored};
use super::json::embedded_or_hex;
use crate::kv::Revision;
use crate::procedure::{Blocked, Direction, LockMode, Locks, Phase, Progress, Record, RunnerClaim, State};

/// Who runs procedures.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcedureRunnerMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// The epoch.
    #[prost(uint64, tag = "3")]
    pub epoch: u64,
    /// The claim's own name: 32 lower-case hex digits.
    #[prost(string, tag = "4")]
    pub nonce: String,
    /// When it was claimed, in milliseconds since 1970.
    #[prost(uint64, tag = "5")]
    pub claimed_unix_ms: u64,
}

/// The state of a procedure.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateMessage {
    /// The version of its form, counted by the procedure's kind.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The state in that form.
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "embedded_or_hex")]
    pub bytes: bytes::Bytes,
}

/// A procedure.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcedureMessage {
    /// The version it was written in.
    #[prost(uint32, tag = "1")]
    pub ver: u32,
    /// The oldest version whose readers understand it.
    #[prost(uint32, tag = "2")]
    pub min_reader_ver: u32,
    /// Its id.
    #[prost(string, tag = "3")]
    pub id: String,
    /// Its kind.
    #[prost(string, tag = "4")]
    pub kind: String,
    /// The state that it was submitted with.
    #[prost(message, optional, tag = "5")]
    pub input: Option<StateMessage>,
    /// The state that the next step starts from.
    #[prost(message, optional, tag = "6")]
    pub state: Option<StateMessage>,
    /// Its locks: 1 shared, 2 exclusive.
    #[prost(btree_map = "string, uint32", tag = "7")]
    pub locks: BTreeMap<String, u32>,
    /// Where it stands: 1 queued, 2 running, 3 rolling back, 4 blocked forward, 5 blocked back, 6 blocked forward
    /// until it can be read, 7 blocked back until it can be read, 8 done, 9 failed, 10 cancelled.
    #[prost(uint32, tag = "8")]
    pub phase: u32,
    /// Whether it can only go forward.
    #[prost(bool, tag = "9")]
    pub past_no_return: bool,
    /// Whether it is to be undone.
    #[prost(bool, tag = "10")]
    pub cancel_requested: bool,
    /// Steps whose result is stored.
    #[prost(uint64, tag = "11")]
    pub steps: u64,
    /// Failed attempts of the step that is under way.
    #[prost(uint32, tag = "12")]
    pub attempts: u32,
    /// Why the last attempt failed.
    #[prost(string, optional, tag = "13")]
    pub error: Option<String>,
    /// What it does now.
    #[prost(string, tag = "14")]
    pub progress_text: String,
    /// Thousandths that are done.
    #[prost(uint32, tag = "15")]
    pub progress_permille: u32,
    /// What it answered.
    #[prost(string, optional, tag = "16")]
    pub output: Option<String>,
    /// The runner that wrote it last, or 0.
    #[prost(uint64, tag = "17")]
    pub epoch: u64,
    /// How often it was written.
    #[prost(uint64, tag = "18")]
    pub writes: u64,
    /// Its place in the queue is not before this revision.
    #[prost(uint64, tag = "19")]
    pub queued_after: u64,
    /// When it was submitted, in milliseconds since 1970.
    #[prost(uint64, tag = "20")]
    pub submitted_unix_ms: u64,
    /// When it was written, in milliseconds since 1970.
    #[prost(uint64, tag = "21")]
    pub written_unix_ms: u64,
    /// The blocked procedure that it is to end, and whose locks it takes over.
    #[prost(string, optional, tag = "22")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<String>,
}

impl Stored for RunnerClaim {
    const KIND: Kind = Kind::ProcedureRunner;
    type Message = ProcedureRunnerMessage;

    fn to_message(&self) -> ProcedureRunnerMessage {
        let Self { epoch, nonce, claimed_unix_ms } = *self;
        let version = Self::KIND.current();
        let (ver, min_reader_ver) = (version.ver, version.min_reader_ver);
        ProcedureRunnerMessage { ver, min_reader_ver, epoch, nonce: nonce.to_string(), claimed_unix_ms }
    }

    fn from_message(message: ProcedureRunnerMessage) -> Result<Self, Malformed> {
        let ProcedureRunnerMessage { ver: _, min_reader_ver: _, epoch, nonce, claimed_unix_ms } = message;
        Ok(Self { epoch, nonce: nonce.parse()?, claimed_unix_ms })
    }
}

const PHASES: [(u32, Phase); 10] = [
    (1, Phase::Queued),
    (2, Phase::Running),
    (3, Phase::RollingBack),
    (4, Phase::Blocked { direction: Direction::Forward, on: Blocked::Failed }),
    (5, Phase::Blocked { direction: Direction::Back, on: Blocked::Failed }),
    (6, Phase::Blocked { direction: Direction::Forward, on: Blocked::Unreadable }),
    (7, Phase::Blocked { direction: Direction::Back, on: Blocked::Unreadable }),
    (8, Phase::Done),
    (9, Phase::Failed),
    (10, Phase::Cancelled),
];

const fn mode_number(mode: LockMode) -> u32 {
    match mode {
        LockMode::Shared => 1,
        LockMode::Exclusive => 2,
    }
}

fn state_message(state: &State) -> StateMessage {
    let State { version, bytes } = state;
    StateMessage { version: *version, bytes: bytes.clone() }
}

fn state(message: Option<StateMessage>, part: &'static str) -> Result<State, Malformed> {
    let StateMessage { version, bytes } = message.ok_or(Malformed::Missing { part })?;
    Ok(State { version, bytes })
}

fn locks(message: BTreeMap<String, u32>) -> Result<Locks, Malformed> {
    message.into_iter().try_fold(Locks::none(), |locks, (resource, mode)| match mode {
        1 => Ok(locks.shared(resource)),
        2 => Ok(locks.exclusive(resource)),
        other => Err(Malformed::Number { part: "mode of a lock", number: other.into() }),
    })
}

impl Stored for Record {
    const KIND: Kind = Kind::Procedure;
    type Message = ProcedureMessage;

    fn to_message(&self) -> ProcedureMessage {
        let Self {
            id,
            kind,
            input,
            state,
            locks,
            phase,
            past_no_return,
            cancel_requested,
            steps,
            attempts,
            error,
            progress: Progress { text, permille },
            output,
            epoch,
            writes,
            queued_after,
            in_place_of,
            submitted_unix_ms,
            written_unix_ms,
        } = self;
        let version = Self::KIND.current();
        let number = PHASES.iter().find(|(_, known)| known == phase).map(|(number, _)| *number);
        ProcedureMessage {
            ver: version.ver,
            min_reader_ver: version.min_reader_ver,
            id: id.to_string(),
            kind: kind.clone(),
            input: Some(state_message(input)),
            state: Some(state_message(state)),
            locks: locks.iter().map(|(resource, mode)| (resource.to_owned(), mode_number(mode))).collect(),
            phase: number.expect("a test checks that every phase has a number"),
            past_no_return: *past_no_return,
            cancel_requested: *cancel_requested,
            steps: *steps,
            attempts: *attempts,
            error: error.clone(),
            progress_text: text.clone(),
            progress_permille: u32::from(*permille),
            output: output.clone(),
            epoch: *epoch,
            writes: *writes,
            queued_after: queued_after.0,
            submitted_unix_ms: *submitted_unix_ms,
            written_unix_ms: *written_unix_ms,
            in_place_of: in_place_of.as_ref().map(ToString::to_string),
        }
    }

    fn from_message(message: ProcedureMessage) -> Result<Self, Malformed> {
        let phase = PHASES.iter().find(|(number, _)| *number == message.phase).map(|(_, phase)| *phase);
        let permille = u16::try_from(message.progress_permille).ok().filter(|permille| *permille <= 1000);
        let in_place_of = message.in_place_of.as_deref().map(str::parse);
        let strange = |part, number: u32| Malformed::Number { part, number: number.into() };
        Ok(Self {
            id: message.id.parse().map_err(|_| Malformed::Missing { part: "id" })?,
            kind: message.kind,
            input: state(message.input, "input")?,
            state: state(message.state, "state")?,
            locks: locks(message.locks)?,
            phase: phase.ok_or_else(|| strange("phase", message.phase))?,
            past_no_return: message.past_no_return,
            cancel_requested: message.cancel_requested,
            steps: message.steps,
            attempts: message.attempts,
            error: message.error,
            progress: Progress {
                text: message.progress_text,
                permille: permille.ok_or_else(|| strange("progress", message.progress_permille))?,
            },
            output: message.output,
            epoch: message.epoch,
            writes: message.writes,
            queued_after: Revision(message.queued_after),
            in_place_of: in_place_of.transpose().map_err(|_| Malformed::Missing { part: "id" })?,
            submitted_unix_ms: message.submitted_unix_ms,
            written_unix_ms: message.written_unix_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_its_own_number() {
        let both = [Direction::Forward, Direction::Back];
        let blocked =
            both.into_iter().flat_map(|direction| [Blocked::Failed, Blocked::Unreadable].map(|on| Phase::Blocked { direction, on }));
        let others = [Phase::Queued, Phase::Running, Phase::RollingBack, Phase::Done, Phase::Failed, Phase::Cancelled];
        let all: Vec<Phase> = blocked.chain(others).collect();
        assert_eq!(all.len(), PHASES.len());
        for (number, phase) in PHASES {
            assert!(all.contains(&phase));
            assert_eq!(PHASES.iter().filter(|(other, same)| *other == number || *same == phase).count(), 1);
        }
    }
}
