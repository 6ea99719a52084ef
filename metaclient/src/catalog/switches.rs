//! Switches: recovery mode, maintenance mode, procedures paused.
//!
//! Invariants:
//! - A switch is on while its key exists. A transaction that may only run while it is off compares that key, so that
//!   turning it on and such a transaction have one order.
//! - Turning a switch to where it is already changes nothing, not even since when it is on.

use super::Catalog;
use super::error::CatalogError;
use crate::keys::{MetaKey, Switch};
use crate::kv::{Compare, Key, Op, Txn};
use crate::values;

/// A switch that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchedOn {
    /// Since when, in milliseconds since 1970, by the clock of whoever turned it on; for people only.
    pub since_unix_ms: u64,
}

impl Switch {
    /// Its key in the store.
    #[must_use]
    pub fn key(self) -> Key {
        MetaKey::Switch { switch: self }.to_key()
    }

    /// The condition that it is off.
    #[must_use]
    pub fn is_off(self) -> Compare {
        Compare::Absent { key: self.key() }
    }

    /// The condition that it is on.
    #[must_use]
    pub fn is_on(self) -> Compare {
        Compare::Exists { key: self.key() }
    }
}

impl Catalog {
    /// Since when a switch is on; `None` while it is off.
    ///
    /// # Errors
    /// When the store fails or holds what cannot be read.
    pub async fn switch(&self, switch: Switch) -> Result<Option<SwitchedOn>, CatalogError> {
        Ok(self.read(&MetaKey::Switch { switch }).await?.map(|(_, on)| on))
    }

    /// Turns a switch on; whether it was off. When this answers, every transaction that needs it off is either done or
    /// will be refused.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn turn_on(&self, switch: Switch, unix_ms: u64) -> Result<bool, CatalogError> {
        let on = SwitchedOn { since_unix_ms: unix_ms };
        let txn = Txn::new().when(switch.is_off()).then([Op::put(switch.key(), values::encode(&on))]);
        Ok(self.kv.txn(txn).await?.succeeded)
    }

    /// Turns a switch off; whether it was on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn turn_off(&self, switch: Switch) -> Result<bool, CatalogError> {
        let txn = Txn::new().when(switch.is_on()).then([Op::delete(switch.key())]);
        Ok(self.kv.txn(txn).await?.succeeded)
    }
}
