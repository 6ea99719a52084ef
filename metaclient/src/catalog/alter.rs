//! Verbs that change what a table or a database is.

use std::collections::BTreeMap;

use super::Catalog;
use super::error::CatalogError;
use super::model::{Database, TableInfo, check_name};
use super::table::{id_key, name_key};
use crate::keys::MetaKey;
use crate::kv::{Compare, Op, Txn};
use crate::limits::ATTEMPTS_MAX;
use crate::values::{self, TableName};

impl Catalog {
    /// Replaces a table that is still as `expected` with `new`: name, schema, options. One transaction: a reader sees
    /// all of it or nothing. Done again, it changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::TableChanged`] when it is not as expected; [`CatalogError::TableExists`] when another table has
    /// the new name; [`CatalogError::FixedPart`] when id, database or creation time differ;
    /// [`CatalogError::TableIdNotFound`].
    pub async fn alter_table(&self, expected: &TableInfo, new: &TableInfo) -> Result<(), CatalogError> {
        check_name(&new.name)?;
        if new.table_ref() == expected.table_ref() {
            return match self.update_table(expected, new).await {
                Err(CatalogError::TableChanged { .. }) if self.table_by_id(new.id).await? == *new => Ok(()),
                result => result,
            };
        }
        new.check()?;
        let fixed = |part| Err(CatalogError::FixedPart { table: expected.table_ref(), part });
        if new.id != expected.id || new.created_unix_ms != expected.created_unix_ms {
            return fixed("id or creation time");
        }
        if new.database != expected.database {
            return fixed("database");
        }
        let found = self.read::<TableInfo>(&MetaKey::Table { id: expected.id }).await?;
        let (entry, info) = found.ok_or(CatalogError::TableIdNotFound { id: expected.id })?;
        if info == *new {
            return Ok(());
        }
        if info != *expected {
            return Err(CatalogError::TableChanged { table: expected.table_ref() });
        }
        let name = name_key(&new.table_ref());
        let txn = Txn::new()
            .when(Compare::unchanged(&entry))
            .when(Compare::Absent { key: name.clone() })
            .then([
                Op::delete(name_key(&expected.table_ref())),
                Op::put(name.clone(), values::encode(&TableName(new.id))),
                Op::put(id_key(new.id), values::encode(new)),
            ])
            .otherwise([Op::get(name)]);
        let answer = self.kv.txn(txn).await?;
        if answer.succeeded {
            return Ok(());
        }
        if let Some(taken) = answer.entry(0) {
            let TableName(id) = values::decode_entry(taken)?;
            return Err(CatalogError::TableExists { table: new.table_ref(), id });
        }
        Err(CatalogError::TableChanged { table: expected.table_ref() })
    }

    /// Gives a database other options; `change` makes them of the present ones, and is asked again when somebody else
    /// was faster. Answers the database as it is now.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseNotFound`]; [`CatalogError::Contended`]; what `change` says.
    pub async fn alter_database<E: From<CatalogError>>(
        &self,
        name: &str,
        change: impl Fn(&BTreeMap<String, String>) -> Result<BTreeMap<String, String>, E>,
    ) -> Result<Database, E> {
        let key = MetaKey::Database { database: name.to_owned() };
        for _ in 0..ATTEMPTS_MAX {
            let found = self.read::<Database>(&key).await?;
            let (entry, database) = found.ok_or_else(|| CatalogError::DatabaseNotFound { database: name.to_owned() })?;
            let altered = Database { options: change(&database.options)?, ..database };
            let put = Op::put(key.to_key(), values::encode(&altered));
            let answer = self.kv.txn(Txn::new().when(Compare::unchanged(&entry)).then([put])).await;
            if answer.map_err(CatalogError::from)?.succeeded {
                return Ok(altered);
            }
        }
        Err(CatalogError::Contended { what: format!("database '{name}'") }.into())
    }
}
