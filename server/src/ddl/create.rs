//! CREATE DATABASE and CREATE TABLE.

use std::collections::BTreeMap;

use tessera_manifest::id::{ColumnId, NodeId};
use tessera_manifest::limits::NAME_BYTES_MAX;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::DataType;
use tessera_metaclient::catalog::CatalogError;
use tessera_metaclient::keys::Switch;

use super::{Ddl, options, procedure};
use crate::catalog::{Catalogs, from_catalog, information_schema};
use crate::error::{Code, ServerError};
use crate::query::session::Sessions;
use crate::query::{limits, rules, value};
use crate::sql::CreateTable;
use crate::sql::ast::{ColumnDef, OptionChange};
use datafusion::sql::sqlparser::ast as df;

/// What a CREATE TABLE asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The columns.
    pub schema: Schema,
    /// The partition columns, in the user's order.
    pub partition_columns: Vec<ColumnId>,
    /// The rule of each region, in order of their numbers; at least one.
    pub rules: Vec<Expr>,
    /// The options.
    pub options: BTreeMap<String, String>,
}

/// Checks a CREATE TABLE without looking at what exists.
///
/// # Errors
/// The first thing that cannot be.
pub fn define(create: &CreateTable, sessions: &Sessions) -> Result<Definition, ServerError> {
    check_name("table", &create.name.table)?;
    let mut columns = Vec::with_capacity(create.columns.len());
    for (at, column) in create.columns.iter().enumerate() {
        let id = ColumnId(u32::try_from(at).unwrap_or(u32::MAX));
        let is_key = create.primary_key.contains(&column.name);
        columns.push(define_column(column, id, is_key, sessions)?);
    }
    let primary_key = ids(&create.primary_key, &columns, "PRIMARY KEY")?;
    let partition_columns = ids(&create.partition_columns, &columns, "PARTITION ON COLUMNS")?;
    let schema = Schema::new(columns, primary_key).map_err(|error| invalid(error.to_string()))?;
    for id in &partition_columns {
        if let Some(column) = schema.column(*id).filter(|column| column.semantic == SemanticType::Field) {
            return Err(invalid(format!("partition column '{}' must be in the PRIMARY KEY or be the TIME INDEX", column.name)));
        }
    }
    let rules = define_rules(create, &schema, &partition_columns)?;
    let mut options = options::check(&create.options)?;
    for (column, defined) in create.columns.iter().zip(schema.columns()) {
        if column.skipping.is_some() {
            options::set_skipping(&mut options, defined.id, column.skipping);
        }
    }
    Ok(Definition { schema, partition_columns, rules, options })
}

pub(super) fn define_column(column: &ColumnDef, id: ColumnId, is_key: bool, sessions: &Sessions) -> Result<Column, ServerError> {
    let semantic = match (column.time_index, is_key) {
        (true, true) => return Err(invalid(format!("column '{}' cannot be both TIME INDEX and part of the PRIMARY KEY", column.name))),
        (true, false) => SemanticType::TimeIndex,
        (false, true) => SemanticType::Tag,
        (false, false) => SemanticType::Field,
    };
    if column.time_index && column.nullable == Some(true) {
        return Err(invalid(format!("time index column '{}' cannot be NULL", column.name)));
    }
    let nullable = column.nullable.unwrap_or(!column.time_index);
    let default = column.default.as_ref().map(|expr| define_default(expr, column, sessions)).transpose()?;
    let (name, data_type, comment) = (column.name.clone(), column.data_type, column.comment.clone());
    Ok(Column { id, name, data_type, semantic, nullable, default, comment })
}

fn define_default(expr: &df::Expr, column: &ColumnDef, sessions: &Sessions) -> Result<ColumnDefault, ServerError> {
    if is_now(expr) && matches!(column.data_type, DataType::Timestamp(_)) {
        return Ok(ColumnDefault::CurrentTimestamp);
    }
    let bad = |why: &str| {
        invalid(format!("the DEFAULT of column '{}' ({expr}) is not a constant of type {}{why}", column.name, column.data_type))
    };
    let scalar = sessions.constant(expr.clone(), &column.data_type.to_arrow()).map_err(|error| bad(&format!(": {}", error.message)))?;
    value::from_scalar(&scalar, column.data_type).map(ColumnDefault::Value).ok_or_else(|| bad(""))
}

fn is_now(expr: &df::Expr) -> bool {
    let df::Expr::Function(function) = expr else { return false };
    let name = function.name.to_string().to_lowercase();
    name == "now" || name == "current_timestamp"
}

fn ids(names: &[String], columns: &[Column], clause: &str) -> Result<Vec<ColumnId>, ServerError> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let Some(column) = columns.iter().find(|column| column.name == *name) else {
            return Err(ServerError::new(Code::ColumnNotFound, format!("{clause} names column '{name}', which is not defined")));
        };
        if found.contains(&column.id) {
            return Err(invalid(format!("{clause} names column '{name}' twice")));
        }
        found.push(column.id);
    }
    Ok(found)
}

fn define_rules(create: &CreateTable, schema: &Schema, partition_columns: &[ColumnId]) -> Result<Vec<Expr>, ServerError> {
    if create.rules.is_empty() {
        return Ok(vec![Expr::always()]);
    }
    if create.rules.len() > limits::PARTITIONS_MAX {
        return Err(invalid(format!("a table has at most {} partitions, not {}", limits::PARTITIONS_MAX, create.rules.len())));
    }
    let mut parsed = Vec::with_capacity(create.rules.len());
    for text in &create.rules {
        let rule = rules::parse(text, schema)?;
        let outside = rule.columns().into_iter().find(|id| !partition_columns.contains(id));
        if let Some(column) = outside.and_then(|id| schema.column(id)) {
            return Err(invalid(format!("the rule ({text}) uses column '{}', which PARTITION ON COLUMNS does not name", column.name)));
        }
        parsed.push(rule);
    }
    rules::validate(&parsed, schema)?;
    Ok(parsed)
}

/// Creates a table; whether it was made (it may exist already where that is fine).
///
/// # Errors
/// A bad definition, a name that is taken, recovery mode, or a store that does not answer.
pub async fn create_table(create: &CreateTable, database: &str, node: NodeId, ddl: &Ddl, sessions: &Sessions) -> Result<bool, ServerError> {
    let definition = define(create, sessions)?;
    writable(database)?;
    let (name, catalogs) = (&create.name.table, &ddl.tools.catalogs);
    catalogs.require_database(database).await?;
    // What is found here costs no procedure; what comes between is found by the procedure.
    if catalogs.catalog.switch(Switch::Recovery).await.map_err(|error| from_catalog(&error))?.is_some() {
        return Err(from_catalog(&CatalogError::RecoveryMode { what: "table" }));
    }
    if catalogs.find(database, name).await?.is_some() {
        return taken(create, database);
    }
    let procedure = procedure::CreateTable::new(database, name, definition, node, ddl.tools.clone());
    match ddl.procedures.carry_out(&procedure).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::TableAlreadyExists => taken(create, database),
        Err(error) => Err(error),
    }
}

fn taken(create: &CreateTable, database: &str) -> Result<bool, ServerError> {
    if create.if_not_exists {
        return Ok(false);
    }
    let message = format!("table '{}' already exists in database '{database}'", create.name.table);
    Err(ServerError::new(Code::TableAlreadyExists, message))
}

/// Creates a database; whether it was made.
///
/// # Errors
/// A bad name, or one that is taken.
pub async fn create_database(
    name: &str,
    if_not_exists: bool,
    options: &[(String, String)],
    catalogs: &Catalogs,
) -> Result<bool, ServerError> {
    check_name("database", name)?;
    let options = options::changed_of_database(&BTreeMap::new(), &OptionChange::Set(options.to_vec()))?;
    let exists = name == information_schema::NAME || catalogs.databases().await?.iter().any(|other| other == name);
    let result =
        if exists { Ok(false) } else { catalogs.catalog.create_database_with(name, catalogs.env.unix_ms(), options).await.map(|_| true) };
    match result {
        Ok(true) => Ok(true),
        Ok(false) | Err(CatalogError::DatabaseExists { .. }) if if_not_exists => Ok(false),
        Ok(false) | Err(CatalogError::DatabaseExists { .. }) => {
            Err(ServerError::new(Code::DatabaseAlreadyExists, format!("database '{name}' already exists")))
        }
        Err(error) => Err(from_catalog(&error)),
    }
}

/// That the tables of a database may be changed.
pub(crate) fn writable(database: &str) -> Result<(), ServerError> {
    if database == information_schema::NAME {
        return Err(ServerError::new(Code::Unsupported, format!("{} cannot be changed", information_schema::NAME)));
    }
    Ok(())
}

pub(super) fn check_name(kind: &str, name: &str) -> Result<(), ServerError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(invalid(format!("'{name}' cannot be a {kind} name: it has 1 to {NAME_BYTES_MAX} bytes and no control characters")));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
