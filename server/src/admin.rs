//! What operators ask of a running server: table ids, switches, procedures, whether catalog and store fit together.

use async_trait::async_trait;
use tessera_manifest::id::TableId;
use tessera_metaclient::keys::Switch;
use tessera_metaclient::procedure::{ProcedureId, Procedures, Record};

use crate::catalog::from_catalog;
use crate::ddl::procedure::from_procedure;
use crate::doctor::{self, Report};
use crate::error::ServerError;
use crate::service::{AdminService, ProcedureVerb, Turn};
use crate::standalone::Standalone;

#[async_trait]
impl AdminService for Standalone {
    async fn next_table_id(&self) -> Result<TableId, ServerError> {
        self.catalogs().catalog.next_table_id().await.map_err(|error| from_catalog(&error))
    }

    async fn set_next_table_id(&self, asked: TableId) -> Result<(), ServerError> {
        // Looked at now, not at the start: what came since counts as well.
        let in_use = doctor::folders(self.store()).await?.last().copied();
        self.catalogs().catalog.set_next_table_id(asked, in_use).await.map_err(|error| from_catalog(&error))?;
        tracing::warn!(next_table_id = %asked, "the next table id was set");
        Ok(())
    }

    async fn is_on(&self, switch: Switch) -> Result<bool, ServerError> {
        let on = self.catalogs().catalog.switch(switch).await.map_err(|error| from_catalog(&error))?;
        Ok(on.is_some())
    }

    async fn turn(&self, switch: Switch, to: Turn) -> Result<(), ServerError> {
        let catalog = &self.catalogs().catalog;
        let turned = match to {
            Turn::On => catalog.turn_on(switch, self.catalogs().env.unix_ms()).await,
            Turn::Off => catalog.turn_off(switch).await,
        };
        if turned.map_err(|error| from_catalog(&error))? {
            tracing::warn!(switch = switch.as_str(), ?to, "a switch was turned");
        }
        Ok(())
    }

    async fn procedures(&self, after: Option<ProcedureId>, limit: usize) -> Result<Vec<Record>, ServerError> {
        self.client().list(after.as_ref(), limit).await.map_err(|error| from_procedure(&error))
    }

    async fn procedure(&self, id: &ProcedureId) -> Result<Record, ServerError> {
        self.client().procedure(id).await.map_err(|error| from_procedure(&error))
    }

    async fn act(&self, id: &ProcedureId, verb: ProcedureVerb) -> Result<Record, ServerError> {
        let client = self.client();
        let done = match verb {
            ProcedureVerb::Cancel => client.cancel(id).await,
            ProcedureVerb::Retry => client.retry(id).await,
        };
        let record = done.map_err(|error| from_procedure(&error))?;
        tracing::warn!(%id, ?verb, phase = %record.phase, "an operator acted on a procedure");
        Ok(record)
    }

    async fn examine(&self) -> Result<Report, ServerError> {
        Ok(doctor::check(&doctor::survey(&self.catalogs().catalog, self.store()).await?))
    }
}

impl Standalone {
    fn client(&self) -> &Procedures {
        self.procedures().client()
    }
}
