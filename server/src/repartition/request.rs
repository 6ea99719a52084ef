//! From the texts of a statement to what is asked of a table.

use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_metaclient::repartition::{PlanError, Request};

use crate::catalog::Table;
use crate::error::{Code, ServerError, chain};
use crate::query::rules;
use crate::sql::PartitionChange;

/// What a change asks of a table.
///
/// # Errors
/// A rule that is none over the columns of the table, or an unknown column.
pub fn request(change: &PartitionChange, table: &Table) -> Result<Request, ServerError> {
    let rule = |text: &String| rules::parse(text, &table.info.schema);
    let list = |texts: &[String]| texts.iter().map(rule).collect::<Result<Vec<Expr>, ServerError>>();
    Ok(match change {
        PartitionChange::Split { rule: text, into } => Request::Split { rule: rule(text)?, into: list(into)? },
        PartitionChange::Merge { rules } => Request::Merge { rules: list(rules)? },
        PartitionChange::Replace { from, columns: names, into } => {
            let columns = names.as_ref().map(|names| columns(names, table)).transpose()?;
            Request::Repartition { from: list(from)?, into: list(into)?, columns }
        }
        PartitionChange::On { columns: names, rules } => Request::PartitionOn { columns: columns(names, table)?, rules: list(rules)? },
    })
}

fn columns(names: &[String], table: &Table) -> Result<Vec<ColumnId>, ServerError> {
    let column = |name: &String| {
        let found = table.info.schema.column_by_name(name).map(|column| column.id);
        found.ok_or_else(|| ServerError::new(Code::ColumnNotFound, format!("table {} has no column '{name}'", table.shown())))
    };
    names.iter().map(column).collect()
}

/// An error of planning, for people.
#[must_use]
pub fn from_plan(error: &PlanError) -> ServerError {
    ServerError::from_class(error.class(), error)
}

/// That a request can be planned at all, so that a statement that cannot says so at once.
///
/// # Errors
/// Why not.
pub fn check(request: &Request, table: &Table) -> Result<(), ServerError> {
    if !table.sets.is_settled() {
        // The procedure waits for the repartition that is under way, and plans then.
        return Ok(());
    }
    let planned = tessera_metaclient::repartition::plan(&table.info, table.write_routes(), request, |_, _| 0);
    planned.map(|_| ()).map_err(|error| ServerError { message: chain(&error), ..from_plan(&error) })
}
