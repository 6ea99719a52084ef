//! Submitting procedures for statements, and waiting for them.

use std::sync::Arc;

use tessera_manifest::env::Env;
use tessera_metaclient::catalog::Catalog;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::kv::KvBackend;
use tessera_metaclient::procedure::{self, Locks, Phase, Procedure, ProcedureError, ProcedureId, Record, Waited};
use tessera_metaclient::repartition;

use super::decoded;
use crate::catalog::from_catalog;
use crate::error::{Code, ServerError, chain};

/// Blocked procedures in whose place a statement tries to go, one after the other. More: it gives up.
const TAKE_OVERS_MAX: usize = 4;

/// Failed attempts of a step that can only be tried again, after which a statement no longer waits.
const PATIENCE: u32 = 3;

/// The procedures of the cluster, for statements and operators; a cheap handle.
#[derive(Clone)]
pub struct Procedures {
    client: procedure::Procedures,
    catalog: Catalog,
    env: Env,
}

impl Procedures {
    /// The procedures in the catalog's store.
    #[must_use]
    pub fn new(catalog: Catalog, env: Env) -> Self {
        let kv: Arc<dyn KvBackend> = Arc::clone(catalog.kv());
        Self { client: procedure::Procedures::new(kv, env.clone()), catalog, env }
    }

    /// The verbs on procedures.
    #[must_use]
    pub fn client(&self) -> &procedure::Procedures {
        &self.client
    }

    /// Does a procedure to its end; what it answered.
    ///
    /// # Errors
    /// Why it failed: what it had done is undone then. Or that it goes on without this statement, with its id. Or that a
    /// blocked procedure is in its way: nothing is done then.
    pub async fn carry_out(&self, procedure: &dyn Procedure) -> Result<String, ServerError> {
        self.check_running().await?;
        if let Some(by) = self.obstacle(&procedure.locks()).await? {
            return Err(obstructed(&by));
        }
        let id = ProcedureId::fresh(&self.env);
        self.client.submit(&id, procedure).await.map_err(|error| from_procedure(&error))?;
        outcome(&self.settled(&id).await?)
    }

    /// Does a procedure to its end, if need be in the place of a blocked one that it may end. `plan` makes the procedure,
    /// and answers none where it may not end that one.
    ///
    /// # Errors
    /// As [`carry_out`](Self::carry_out).
    pub async fn carry_out_over<P: Procedure>(
        &self,
        locks: &Locks,
        plan: impl Fn(Option<&Record>) -> Option<P>,
    ) -> Result<String, ServerError> {
        self.check_running().await?;
        let mut over = self.obstacle(locks).await?;
        for _ in 0..TAKE_OVERS_MAX {
            let id = ProcedureId::fresh(&self.env);
            let submitted = match (plan(over.as_ref()), &over) {
                (Some(procedure), Some(by)) => self.client.submit_in_place_of(&by.id, &id, &procedure).await,
                (Some(procedure), None) => self.client.submit(&id, &procedure).await,
                (None, Some(by)) => return Err(obstructed(by)),
                (None, None) => return Err(ServerError::new(Code::Internal, "a statement has no procedure")),
            };
            submitted.map_err(|error| from_procedure(&error))?;
            match self.wait(&id).await? {
                Waited::Reached(record) => return outcome(&record),
                // Blocked since: again, in its place.
                Waited::Obstructed { by } => over = Some(by),
            }
        }
        Err(over
            .map_or_else(|| ServerError::new(Code::RegionBusy, "the table is changed by many at once: try again"), |by| obstructed(&by)))
    }

    /// Waits until a procedure is over, or needs somebody.
    ///
    /// # Errors
    /// That a blocked procedure is in its way; it is withdrawn then.
    pub(crate) async fn settled(&self, id: &ProcedureId) -> Result<Record, ServerError> {
        match self.wait(id).await? {
            Waited::Reached(record) => Ok(record),
            Waited::Obstructed { by } => Err(obstructed(&by)),
        }
    }

    async fn wait(&self, id: &ProcedureId) -> Result<Waited, ServerError> {
        let waited = self.client.wait_unless_obstructed(id, |record| record.phase.is_settled() || is_stuck(record)).await;
        waited.map_err(|error| from_procedure(&error))
    }

    /// The blocked procedure that keeps these locks from being granted, if there is one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn obstacle(&self, locks: &Locks) -> Result<Option<Record>, ServerError> {
        self.client.obstacle(locks).await.map_err(|error| from_procedure(&error))
    }

    /// That procedures run.
    ///
    /// # Errors
    /// When an operator has paused them.
    pub async fn check_running(&self) -> Result<(), ServerError> {
        if self.catalog.switch(Switch::ProceduresPaused).await.map_err(|error| from_catalog(&error))?.is_some() {
            let text = "procedures are paused, and nothing is created, altered or dropped meanwhile (POST /admin/procedure-manager/resume)";
            return Err(ServerError::new(Code::IllegalState, text));
        }
        Ok(())
    }
}

/// Whether a statement should no longer wait, because only the store's recovery or an operator can help.
pub(crate) fn is_stuck(record: &Record) -> bool {
    record.attempts >= PATIENCE && (record.past_no_return || record.phase == Phase::RollingBack)
}

/// What a procedure that is settled or stuck answers to its statement.
pub(crate) fn outcome(record: &Record) -> Result<String, ServerError> {
    let error = || decoded(record.error.as_deref().unwrap_or("the procedure failed without saying why"));
    let id = &record.id;
    match record.phase {
        Phase::Done => Ok(record.output.clone().unwrap_or_default()),
        Phase::Failed => Err(error()),
        Phase::Cancelled => {
            let text = format!("the statement was cancelled, and what it had done is undone (procedure {id})");
            Err(ServerError::new(Code::IllegalState, text))
        }
        Phase::RollingBack => {
            let ServerError { code, message } = error();
            let text = format!("{message}; what was done is being undone by procedure {id}, which is not through yet");
            Err(ServerError::new(code, text))
        }
        Phase::Queued | Phase::Running => {
            let ServerError { code, message } = error();
            let text = format!("{message}; procedure {id} goes on with it: see ADMIN procedure_state('{id}')");
            Err(ServerError::new(code, text))
        }
        Phase::Blocked { .. } => {
            let ServerError { code, message } = error();
            let text = format!("{message}; procedure {id} is blocked: remove the cause, then ADMIN retry_procedure('{id}')");
            Err(ServerError::new(code, text))
        }
    }
}

/// That a blocked procedure keeps others from the table: which, why, and what can be done.
#[must_use]
pub fn obstructed(by: &Record) -> ServerError {
    let Record { id, kind, .. } = by;
    let (done, give_up) = match kind.as_str() {
        repartition::KIND => ("a repartition", "; DROP TABLE gives it up with the table"),
        super::alter::KIND => ("an alteration", "; DROP TABLE gives it up with the table"),
        _ => ("another statement", ""),
    };
    let why = decoded(by.error.as_deref().unwrap_or("it does not say why")).message;
    let text = format!(
        "{done} of the table, procedure {id}, is blocked and keeps its locks: {why}; see ADMIN procedure_state('{id}'), \
         remove the cause, then ADMIN retry_procedure('{id}'){give_up}"
    );
    ServerError::new(Code::IllegalState, text)
}

/// An error of the engine of procedures.
#[must_use]
pub fn from_procedure(error: &ProcedureError) -> ServerError {
    let code = match error {
        ProcedureError::NotFound { .. } => Code::ProcedureNotFound,
        ProcedureError::Refused { .. } => Code::IllegalState,
        other => return ServerError::from_class(other.class(), other),
    };
    ServerError::new(code, chain(error))
}
