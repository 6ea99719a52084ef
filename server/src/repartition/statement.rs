//! Running statements as procedures, and waiting for them.

use std::time::Duration;

use tessera_manifest::env;
use tessera_metaclient::procedure::{Locks, ParseProcedureIdError, Phase, ProcedureId, Record};
use tessera_metaclient::repartition::{Data, Options, REFUSED, Repartition, Request, inverse};

use super::answer;
use super::request::{check, request};
use crate::catalog::{Table, from_catalog};
use crate::ddl::Ddl;
use crate::ddl::create::writable;
use crate::ddl::procedure::{from_procedure, is_stuck, obstructed, outcome};
use crate::error::{Code, ServerError, chain};
use crate::service::Output;
use crate::sql::ast::RepartitionOptions;
use crate::sql::{self, TableName};

/// How much longer than its time limit a statement waits: groups that were decided go forward, which takes moments.
const GRACE: Duration = Duration::from_secs(10);

/// `ALTER TABLE` of a table's partitions.
///
/// # Errors
/// What cannot be planned; groups that failed, with what became of the others.
pub async fn run(statement: &sql::Repartition, session: &str, ddl: &Ddl) -> Result<Output, ServerError> {
    let TableName { database, table } = &statement.name;
    let database = database.as_deref().unwrap_or(session);
    writable(database)?;
    let table = ddl.tools.catalogs.table(database, table).await?;
    let request = request(&statement.change, &table)?;
    if let Err(refused) = check(&request, &table) {
        // Who waits is checked against the rules that it finds: they may be those that it names by then.
        let rivals = ddl.procedures.client().rivals(&locks_of(&table)).await.map_err(|error| from_procedure(&error))?;
        if rivals.is_empty() {
            return Err(refused);
        }
    }
    submit(&table, request, statement.options, ddl).await
}

/// `ADMIN rollback_repartition('id')`: the inverse of a repartition that is over, as a new one.
///
/// # Errors
/// What cannot be taken back; else as [`run`].
pub async fn rollback(id: &str, ddl: &Ddl) -> Result<Output, ServerError> {
    let record = record(&parse(id)?, ddl).await?;
    let unreadable =
        |detail: String| ServerError::new(Code::IllegalState, format!("procedure {id} is no repartition that can be read: {detail}"));
    let data = Data::from_state(&record.state).map_err(unreadable)?;
    let catalogs = &ddl.tools.catalogs;
    let info = catalogs.catalog.table_by_id(data.table).await.map_err(|error| from_catalog(&error))?;
    let table = catalogs.table(&info.database, &info.name).await?;
    let back = inverse(&record, &table.info, table.write_routes());
    let back = back.map_err(|error| ServerError::new(Code::IllegalState, chain(&error)))?;
    submit(&table, back, RepartitionOptions::default(), ddl).await
}

/// `ADMIN cancel_procedure('id')`: asks that a procedure be undone, and waits until it is. What became of it.
///
/// # Errors
/// A procedure that is past the point of no return, or over.
pub async fn cancel(id: &str, ddl: &Ddl) -> Result<Record, ServerError> {
    let id = parse(id)?;
    let client = ddl.procedures.client();
    client.cancel(&id).await.map_err(|error| from_procedure(&error))?;
    let settled = |record: &Record| record.phase.is_settled() || is_stuck(record);
    client.wait_until(&id, settled).await.map_err(|error| from_procedure(&error))
}

/// `ADMIN retry_procedure('id')`: lets a procedure that is blocked go on where it was, or one that waits after a failure
/// try again at once. How it stands then.
///
/// # Errors
/// A procedure that has not failed, or is over.
pub async fn retry(id: &str, ddl: &Ddl) -> Result<Record, ServerError> {
    ddl.procedures.client().retry(&parse(id)?).await.map_err(|error| from_procedure(&error))
}

/// The lock of a table, which a repartition needs alone.
fn locks_of(table: &Table) -> Locks {
    Locks::none().exclusive(format!("table/{}", table.info.id))
}

/// The id of a procedure.
///
/// # Errors
/// Text that is none.
pub fn parse(id: &str) -> Result<ProcedureId, ServerError> {
    id.parse().map_err(|error: ParseProcedureIdError| ServerError::new(Code::InvalidArguments, error.to_string()))
}

async fn record(id: &ProcedureId, ddl: &Ddl) -> Result<Record, ServerError> {
    ddl.procedures.client().procedure(id).await.map_err(|error| from_procedure(&error))
}

async fn submit(table: &Table, request: Request, options: RepartitionOptions, ddl: &Ddl) -> Result<Output, ServerError> {
    let catalogs = &ddl.tools.catalogs;
    ddl.procedures.check_running().await?;
    let RepartitionOptions { timeout, wait, localize } = options;
    let (options, env) = (Options { timeout, localize }, &catalogs.env);
    if let Some(by) = ddl.procedures.obstacle(&locks_of(table)).await? {
        return Err(obstructed(&by));
    }
    let procedure = Repartition::new(&table.info, request, options, env, ddl.tools.repartition.clone());
    let id = ProcedureId::fresh(env);
    ddl.procedures.client().submit(&id, &procedure).await.map_err(|error| from_procedure(&error))?;
    if !wait {
        return answer::submitted(&id);
    }
    let record = wait_for(&id, timeout, ddl).await?;
    if let Some(refused) = unplanned(&record) {
        return Err(refused);
    }
    let text = outcome(&record)?;
    answer::done(&id, &text)
}

/// Why a repartition was refused when its turn came, if it was: by the rules that the table has by then.
fn unplanned(record: &Record) -> Option<ServerError> {
    let error = record.error.as_deref().filter(|_| record.phase == Phase::Failed)?;
    let why = error.strip_prefix(REFUSED)?;
    Some(ServerError::new(Code::InvalidArguments, why))
}

/// Waits until the procedure is over, or needs somebody, or the statement has waited long enough.
async fn wait_for(id: &ProcedureId, timeout: Option<Duration>, ddl: &Ddl) -> Result<Record, ServerError> {
    let ended = ddl.procedures.settled(id);
    let patience = async {
        match timeout {
            Some(timeout) => env::sleep(timeout.saturating_add(GRACE)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        record = ended => record,
        () = patience => {
            let text = format!("the repartition goes on as procedure {id}, beyond the time that the statement waits: see ADMIN procedure_state('{id}')");
            Err(ServerError::new(Code::RegionBusy, text))
        }
    }
}
