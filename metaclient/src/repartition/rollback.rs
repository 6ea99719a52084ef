//! Going back: the inverse of a finished repartition, as a new one.

use tessera_manifest::rule::Expr;

use super::KIND;
use super::error::PlanError;
use super::group::Group;
use super::request::{Request, check_types};
use super::state::Data;
use crate::catalog::{Route, TableInfo};
use crate::procedure::{Phase, ProcedureId, Record};

/// Why a repartition cannot be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// It is another procedure.
    #[error("procedure '{id}' is of kind '{kind}', which is no repartition")]
    OtherKind {
        /// The procedure.
        id: ProcedureId,
        /// Its kind.
        kind: String,
    },
    /// It cannot be read.
    #[error("the state of repartition '{id}' cannot be read: {detail}")]
    Unreadable {
        /// The procedure.
        id: ProcedureId,
        /// Why.
        detail: String,
    },
    /// It is not over.
    #[error("repartition '{id}' is {phase}: cancel it, or wait until it is over")]
    NotOver {
        /// The procedure.
        id: ProcedureId,
        /// What it does.
        phase: Phase,
    },
    /// It changed nothing.
    #[error("repartition '{id}' changed nothing")]
    NothingChanged {
        /// The procedure.
        id: ProcedureId,
    },
    /// The table is not the one that was repartitioned.
    #[error("repartition '{id}' was of another table")]
    OtherTable {
        /// The procedure.
        id: ProcedureId,
    },
    /// The table was repartitioned since.
    #[error("region {region} was repartitioned since '{id}': repartition the table by rules instead")]
    RepartitionedSince {
        /// The procedure.
        id: ProcedureId,
        /// A region.
        region: tessera_manifest::id::RegionId,
    },
    /// A rule names a column that has got another type.
    #[error("column '{column}', which an old rule names, got another type since '{id}': repartition the table by rules instead")]
    TypeChanged {
        /// The procedure.
        id: ProcedureId,
        /// The column.
        column: String,
    },
    /// An old rule names a column that was dropped.
    #[error("an old rule names column id {column}, which was dropped since '{id}'")]
    ColumnDropped {
        /// The procedure.
        id: ProcedureId,
        /// The column.
        column: tessera_manifest::id::ColumnId,
    },
}

/// What takes a finished repartition back: the rules of its committed groups as they were before. It is run as a new
/// repartition. `routes` are those of the table now.
///
/// # Errors
/// [`RollbackError`]: when it is not over, or the table was repartitioned since.
pub fn inverse(record: &Record, info: &TableInfo, routes: &[Route]) -> Result<Request, RollbackError> {
    let id = || record.id.clone();
    if record.kind != KIND {
        return Err(RollbackError::OtherKind { id: id(), kind: record.kind.clone() });
    }
    if !record.phase.is_over() {
        return Err(RollbackError::NotOver { id: id(), phase: record.phase });
    }
    let data = Data::from_state(&record.state).map_err(|detail| RollbackError::Unreadable { id: id(), detail })?;
    if data.table != info.id {
        return Err(RollbackError::OtherTable { id: id() });
    }
    let committed: Vec<&Group> = data.groups.iter().filter(|group| group.is_committed()).collect();
    if committed.is_empty() {
        return Err(RollbackError::NothingChanged { id: id() });
    }
    for group in &committed {
        for target in &group.plan.targets {
            let now = routes.iter().find(|route| route.region == target.region);
            if now.is_none_or(|route| route.generation != group.commit) {
                return Err(RollbackError::RepartitionedSince { id: id(), region: target.region });
            }
        }
    }
    let from: Vec<Expr> = committed.iter().flat_map(|group| group.plan.targets.iter().map(|target| target.rule.clone())).collect();
    let into: Vec<Expr> = committed.iter().flat_map(|group| group.plan.sources.iter().map(|source| source.rule.clone())).collect();
    let named = into.iter().flat_map(Expr::columns).chain(data.columns_before.iter().copied());
    for column in named {
        if info.schema.column(column).is_none() {
            return Err(RollbackError::ColumnDropped { id: id(), column });
        }
    }
    if let Err(PlanError::TypeChanged { column, .. }) = check_types(&data.types, &info.schema) {
        return Err(RollbackError::TypeChanged { id: id(), column });
    }
    // Regions that stay, those of groups that failed among them, may name columns of either set.
    let mut columns = data.columns_before.clone();
    for route in
        routes.iter().filter(|route| !committed.iter().any(|group| group.plan.targets.iter().any(|target| target.region == route.region)))
    {
        columns.extend(route.rule.columns().into_iter().filter(|column| !columns.contains(column)).collect::<Vec<_>>());
    }
    Ok(Request::Repartition { from, into, columns: Some(columns) })
}
