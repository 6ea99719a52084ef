//! Verbs on databases.

use std::collections::BTreeMap;

use super::Catalog;
use super::error::CatalogError;
use super::model::{DEFAULT_DATABASE, Database, check_name};
use crate::keys::{self, MetaKey, Switch};
use crate::kv::{Compare, Op, Txn, range_all};
use crate::values;

fn key(name: &str) -> MetaKey {
    MetaKey::Database { database: name.to_owned() }
}

impl Catalog {
    /// Creates a database.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseExists`]; [`CatalogError::RecoveryMode`]; [`CatalogError::Table`] for a bad name.
    pub async fn create_database(&self, name: &str, created_unix_ms: u64) -> Result<Database, CatalogError> {
        self.create_database_with(name, created_unix_ms, BTreeMap::new()).await
    }

    /// Creates a database with options.
    ///
    /// # Errors
    /// Those of [`create_database`](Self::create_database).
    pub async fn create_database_with(
        &self,
        name: &str,
        created_unix_ms: u64,
        options: BTreeMap<String, String>,
    ) -> Result<Database, CatalogError> {
        check_name(name)?;
        let database = Database { name: name.to_owned(), created_unix_ms, options };
        let key = key(name).to_key();
        let txn = Txn::new()
            .when(Switch::Recovery.is_off())
            .when(Compare::Absent { key: key.clone() })
            .then([Op::put(key, values::encode(&database))])
            .otherwise([Op::get(Switch::Recovery.key())]);
        let answer = self.kv.txn(txn).await?;
        match (answer.succeeded, answer.entry(0)) {
            (true, _) => Ok(database),
            (false, Some(_)) => Err(CatalogError::RecoveryMode { what: "database" }),
            (false, None) => Err(CatalogError::DatabaseExists { database: name.to_owned() }),
        }
    }

    /// The database of that name.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseNotFound`].
    pub async fn database(&self, name: &str) -> Result<Database, CatalogError> {
        let found = self.read(&key(name)).await?;
        found.map(|(_, database)| database).ok_or_else(|| CatalogError::DatabaseNotFound { database: name.to_owned() })
    }

    /// All databases, in byte order of their names as they stand in keys.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn databases(&self) -> Result<Vec<Database>, CatalogError> {
        let entries = range_all(&*self.kv, keys::databases()).await?;
        Ok(entries.iter().map(values::decode_entry).collect::<Result<_, _>>()?)
    }

    /// Drops a database that has no tables, and answers it.
    ///
    /// # Errors
    /// [`CatalogError::DatabaseNotFound`], [`CatalogError::DatabaseNotEmpty`],
    /// [`CatalogError::DefaultDatabase`].
    pub async fn drop_database(&self, name: &str) -> Result<Database, CatalogError> {
        if name == DEFAULT_DATABASE {
            return Err(CatalogError::DefaultDatabase);
        }
        let database = self.database(name).await?;
        let key = key(name).to_key();
        let txn = Txn::new()
            .when(Compare::Exists { key: key.clone() })
            .when(Compare::PrefixEmpty { prefix: keys::table_names_prefix(name) })
            .then([Op::delete(key.clone())])
            .otherwise([Op::get(key)]);
        let answer = self.kv.txn(txn).await?;
        match (answer.succeeded, answer.entry(0)) {
            (true, _) => Ok(database),
            (false, Some(_)) => Err(CatalogError::DatabaseNotEmpty { database: name.to_owned() }),
            (false, None) => Err(CatalogError::DatabaseNotFound { database: name.to_owned() }),
        }
    }
}
