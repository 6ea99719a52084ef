//! Submitting procedures for statements, and waiting for them.

use std::sync::Arc;

use tessera_manifest::env::Env;
use tessera_metaclient::catalog::Catalog;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::kv::KvBackend;
use tessera_metaclient::procedure::{self, Phase, Procedure, ProcedureError, ProcedureId, Record};

use super::decoded;
use crate::catalog::from_catalog;
use crate::error::{Code, ServerError, chain};

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
    /// Why it failed: what it had done is undone then. Or that it goes on without this statement, with its id.
    pub async fn carry_out(&self, procedure: &dyn Procedure) -> Result<String, ServerError> {
        self.check_running().await?;
        let id = ProcedureId::fresh(&self.env);
        self.client.submit(&id, procedure).await.map_err(|error| from_procedure(&error))?;
        let record = self.client.wait_until(&id, |record| record.phase.is_settled() || is_stuck(record)).await;
        outcome(&record.map_err(|error| from_procedure(&error))?)
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
            let text = format!("{message}; procedure {id} is blocked: remove the cause, then POST /admin/procedures/{id}/retry");
            Err(ServerError::new(code, text))
        }
    }
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
