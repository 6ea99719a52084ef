//! Drives one procedure from step to step.
//!
//! Invariants:
//! - A step starts from the stored state, and its result is stored before the next one starts.
//! - A result is stored only if nobody changed the record meanwhile; else it is thrown away, as after a crash.
//! - A step that panics has failed for good; it takes nothing else with it.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tessera_manifest::env;
use tessera_manifest::error::ErrorClass;
use tokio::sync::Notify;

use super::super::error::{ProcedureError, StepError, chain, panic_message, sure};
use super::super::life::{Event, Next, Retry};
use super::super::record::{Direction, Phase};
use super::super::steps::{Commit, Procedure, Status, StepContext};
use super::super::writer::{Row, RowWriter, Written};
use super::{Halt, Shared};

/// How the store's own failures are waited for.
const STORE_RETRY: Retry = Retry { attempts_max: u32::MAX, first: Duration::from_millis(50), longest: Duration::from_secs(5) };

/// What to do after a turn.
enum Turn {
    /// The next turn at once.
    Again,
    /// The next turn later, or when somebody changes the record.
    After(Duration),
    /// There is nothing to do for this procedure.
    End,
}

/// Does the steps of one procedure until it is over, blocked, or the runner ends. Answers the record as it was
/// last known.
pub(super) async fn drive(shared: Arc<Shared>, writer: Arc<RowWriter>, wake: Arc<Notify>) -> Option<Row> {
    let mut failures = 0_u32;
    while shared.may_go_on().await {
        let wait = match turn(&shared, &writer).await {
            Ok(Turn::Again) => {
                failures = 0;
                continue;
            }
            Ok(Turn::End) => break,
            Ok(Turn::After(wait)) => {
                failures = 0;
                wait
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(id = %writer.id(), error = %chain(&error), "cannot store how a procedure goes on: trying again");
                STORE_RETRY.wait(failures, random(&shared))
            }
        };
        pause(&shared, &writer, &wake, wait).await;
    }
    writer.known().await
}

fn random(shared: &Shared) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "any 64 of the random bits will do")]
    let bits = shared.env.nonce().0 as u64;
    bits
}

/// Waits for `wait`, or until somebody else has changed the record, or the runner ends.
async fn pause(shared: &Shared, writer: &RowWriter, wake: &Notify, wait: Duration) {
    let mut timer = pin!(env::sleep(wait));
    loop {
        tokio::select! {
            biased;
            () = shared.halted() => return,
            () = &mut timer => return,
            () = wake.notified() => {
                // Our own writes wake us too.
                if writer.refresh().await {
                    return;
                }
            }
        }
    }
}

async fn turn(shared: &Arc<Shared>, writer: &Arc<RowWriter>) -> Result<Turn, ProcedureError> {
    let row = match writer.row().await {
        Ok(Some(row)) => row,
        Ok(None) => return Ok(Turn::End),
        Err(ProcedureError::Value { source }) => {
            tracing::error!(id = %writer.id(), error = %chain(&source), "the record of a procedure cannot be read: it stays as it is");
            return Ok(Turn::End);
        }
        Err(error) => return Err(error),
    };
    match row.record.next() {
        Next::Grant | Next::Wait | Next::Over => Ok(Turn::End),
        Next::TurnBack => store(shared, writer, &row, Event::TurnedBack, &Retry::DEFAULT).await,
        Next::Step(direction) => match shared.registry.load(&row.record) {
            Ok(procedure) => step(shared, writer, &row, procedure, direction).await,
            Err(error) => store(shared, writer, &row, Event::Unreadable { error }, &Retry::DEFAULT).await,
        },
    }
}

async fn step(
    shared: &Arc<Shared>,
    writer: &Arc<RowWriter>,
    row: &Row,
    mut procedure: Box<dyn Procedure>,
    direction: Direction,
) -> Result<Turn, ProcedureError> {
    let retry = sure(|| procedure.retry()).unwrap_or(Retry::DEFAULT);
    let failed = |error: String, retryable| Event::StepFailed { error, retryable, attempts_max: retry.attempts_max };
    let outcome = act(shared, writer, &mut *procedure, direction).await;
    let (event, commit) = match outcome {
        Ok(Status::Later(wait)) => return Ok(Turn::After(wait)),
        Ok(Status::Next(commit)) => match sure(|| (procedure.state(), procedure.past_no_return())) {
            Ok((state, past_no_return)) => (Event::Stepped { state, past_no_return, progress: commit.progress.clone() }, commit),
            Err(panic) => (failed(panic, false), Commit::default()),
        },
        Ok(Status::Done { output, commit }) => (Event::Finished { output }, commit),
        Err(StepError::Fenced) if !shared.fence.is_current(&*shared.kv).await? => {
            shared.halt_for(Halt::Fenced);
            return Ok(Turn::End);
        }
        Err(error @ StepError::Fenced) => (failed(chain(&error), true), Commit::default()),
        Err(StepError::Retryable { source }) => (failed(chain(&*source), true), Commit::default()),
        Err(StepError::Fatal { source }) => (failed(chain(&*source), false), Commit::default()),
    };
    // The step may have told how far it is, which moved the record on.
    let row = writer.known().await.unwrap_or_else(|| row.clone());
    match writer.write(&row, event, commit).await {
        Ok(Written::ConditionsFailed) => {
            let error = "the conditions of the step's transaction do not hold".to_owned();
            store(shared, writer, &row, failed(error, true), &retry).await
        }
        Err(error) if error.class() == ErrorClass::Invalid => {
            // The store will never take it: it is too large, or writes one key twice.
            writer.learn(row.clone()).await;
            store(shared, writer, &row, failed(chain(&error), false), &retry).await
        }
        written => Ok(settle(shared, writer, written?, &retry).await),
    }
}

/// Runs the step itself.
async fn act(
    shared: &Arc<Shared>,
    writer: &Arc<RowWriter>,
    procedure: &mut dyn Procedure,
    direction: Direction,
) -> Result<Status, StepError> {
    let Ok(_slot) = shared.slots.acquire().await else { return Ok(Status::Later(Duration::ZERO)) };
    if shared.halt() != Halt::No || shared.paused.get() {
        return Ok(Status::Later(Duration::ZERO));
    }
    let (kv, env, fence) = (Arc::clone(&shared.kv), shared.env.clone(), Arc::clone(&shared.fence));
    let context = StepContext { kv, env, fence, row: Arc::clone(writer) };
    let work = match direction {
        Direction::Forward => procedure.step(&context),
        Direction::Back => procedure.rollback(&context),
    };
    caught(work).await.unwrap_or_else(|panic| Err(StepError::fatal(panic)))
}

/// Runs `work`; a panic in it becomes an error with the panic's message.
async fn caught<F: Future>(work: F) -> Result<F::Output, String> {
    let mut work = pin!(work);
    // What the work borrows is thrown away after a panic, so that nobody sees it half changed.
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
    })
    .await
}

async fn store(shared: &Shared, writer: &RowWriter, row: &Row, event: Event, retry: &Retry) -> Result<Turn, ProcedureError> {
    let written = writer.write(row, event, Commit::default()).await?;
    Ok(settle(shared, writer, written, retry).await)
}

/// What to do after a write.
async fn settle(shared: &Shared, writer: &RowWriter, written: Written, retry: &Retry) -> Turn {
    match written {
        Written::Fenced => {
            shared.halt_for(Halt::Fenced);
            Turn::End
        }
        Written::RowMoved | Written::ConditionsFailed => Turn::Again,
        Written::Stored => match writer.known().await {
            Some(row) => after(shared, &row, retry),
            None => Turn::Again,
        },
    }
}

fn after(shared: &Shared, row: &Row, retry: &Retry) -> Turn {
    let record = &row.record;
    let (id, kind, attempts) = (&record.id, &record.kind, record.attempts);
    let error = record.error.as_deref().unwrap_or_default();
    match (record.next(), record.phase) {
        (Next::Step(_), _) if attempts > 0 => {
            tracing::warn!(%id, kind, attempts, error, "a step of a procedure failed: trying again");
            Turn::After(retry.wait(attempts, random(shared)))
        }
        (_, Phase::Blocked { .. }) => {
            tracing::error!(%id, kind, error, "a procedure is blocked");
            Turn::End
        }
        (Next::Over, phase) => {
            tracing::info!(%id, kind, %phase, error, "a procedure is over");
            Turn::End
        }
        _ => Turn::Again,
    }
}
