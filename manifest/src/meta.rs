//! What a region records of itself besides its files, so that a lost catalog can be rebuilt from the regions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, Generation, RegionId};
use crate::rule::{Expr, RuleVersion};
use crate::schema::Schema;

/// The metadata of a region: table names, schema, rule and options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionMeta {
    /// The region.
    pub region: RegionId,
    /// The database that the table is in.
    pub database: String,
    /// The table's name.
    pub table: String,
    /// The table's schema.
    pub schema: Arc<Schema>,
    /// The columns that the table is partitioned on, in the user's order; empty if it is not partitioned.
    pub partition_columns: Vec<ColumnId>,
    /// The rule that every row of the region satisfies, in canonical form.
    pub rule: Arc<Expr>,
    /// How often the rule has changed.
    pub generation: Generation,
    /// Table options as the user gave them.
    pub options: BTreeMap<String, String>,
}

impl RegionMeta {
    /// The hash of the rule, which every write must name.
    #[must_use]
    pub fn rule_version(&self) -> RuleVersion {
        self.rule.version()
    }
}
