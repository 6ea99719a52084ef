//! One alteration of a table at a time, so that each begins with what the one before left.
//!
//! Invariant: statements on other tables wait for nothing here, whatever a table's own wait for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// A database and a table of it.
type Name = (String, String);

/// The turns of all tables.
#[derive(Debug, Default)]
pub struct Turns {
    /// Those that somebody has or awaits.
    tables: StdMutex<HashMap<Name, Weak<Mutex<()>>>>,
}

impl Turns {
    /// Waits for the turn of a table, which lasts as long as the answer.
    pub async fn take(&self, database: &str, table: &str) -> OwnedMutexGuard<()> {
        self.of(database, table).lock_owned().await
    }

    fn of(&self, database: &str, table: &str) -> Arc<Mutex<()>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, turn| turn.strong_count() > 0);
        let slot = tables.entry((database.to_owned(), table.to_owned())).or_default();
        slot.upgrade().unwrap_or_else(|| {
            let turn = Arc::default();
            *slot = Arc::downgrade(&turn);
            turn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_table_has_one_turn_and_others_have_theirs() {
        let turns = Turns::default();
        let first = turns.take("public", "a").await;
        let second = turns.of("public", "a");
        assert!(second.try_lock().is_err());
        drop(turns.take("public", "b").await);
        drop(turns.take("other", "a").await);
        drop(first);
        assert!(second.try_lock().is_ok());
        drop(second);
        drop(turns.take("public", "c").await);
        assert_eq!(turns.tables.lock().unwrap().len(), 1, "those that nobody wants are forgotten");
    }
}
