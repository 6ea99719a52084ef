//! From what there is to what is wrong with it. Pure.

use serde::{Deserialize, Serialize};
use tessera_manifest::id::TableId;

use super::survey::Survey;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work, or would go wrong.
    Problem,
    /// Worth knowing; nothing has to be done.
    Note,
}

/// What can be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// The next table id is that of a table that there is or was, or below it.
    NextIdTooLow {
        /// The next id.
        next: TableId,
        /// The highest id that is in use.
        highest: TableId,
    },
    /// The catalog has a table of which the store has nothing.
    FolderMissing {
        /// The table.
        table: TableId,
        /// `database.name`.
        name: String,
    },
    /// The store has a folder of a table that the catalog does not have and nobody dropped.
    FolderUnknown {
        /// The table.
        table: TableId,
    },
    /// The drop of a table is decided, and the catalog still has it.
    DropUnfinished {
        /// The table.
        table: TableId,
        /// `database.name`.
        name: String,
    },
    /// A switch is on.
    SwitchedOn {
        /// Its name.
        switch: String,
        /// Since when, in milliseconds since 1970.
        since_unix_ms: u64,
    },
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::NextIdTooLow { .. } | Self::FolderMissing { .. } => Severity::Problem,
            Self::FolderUnknown { .. } | Self::DropUnfinished { .. } | Self::SwitchedOn { .. } => Severity::Note,
        }
    }

    /// What was found.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::NextIdTooLow { next, highest } => format!(
                "the next table id is {next}, but id {highest} is in use: no table can be created, because one would get the folder of another"
            ),
            Self::FolderMissing { table, name } => format!("table {name} ({table}) is in the catalog, but the store has no folder of it"),
            Self::FolderUnknown { table } => format!("the store has a folder of table {table}, which the catalog does not have"),
            Self::DropUnfinished { table, name } => format!("table {name} ({table}) is dropped, but the catalog still has it"),
            Self::SwitchedOn { switch, .. } => format!("the switch '{switch}' is on"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::NextIdTooLow { highest, .. } => how_to_raise(*highest),
            Self::FolderMissing { .. } => {
                "bring the folder back from a backup of the store, or drop the table; is this the store of this metadata?".to_owned()
            }
            Self::FolderUnknown { .. } => {
                "nothing, if a CREATE TABLE was interrupted; if there are more of them than that, the metadata is older \
                 than the store: restore a newer copy of it"
                    .to_owned()
            }
            Self::DropUnfinished { .. } => "nothing: the next start of the server finishes the drop".to_owned(),
            Self::SwitchedOn { switch, .. } if switch == "recovery" => {
                "nothing is created until it is off: POST /admin/recovery/disable".to_owned()
            }
            Self::SwitchedOn { switch, .. } if switch == "procedures-paused" => {
                "procedures take no step until it is off: POST /admin/procedure-manager/resume".to_owned()
            }
            Self::SwitchedOn { switch, .. } => format!("POST /admin/{switch}/disable turns it off"),
        }
    }
}

/// How the next table id is raised above `highest`.
#[must_use]
pub fn how_to_raise(highest: TableId) -> String {
    let Some(next) = highest.0.checked_add(1) else {
        return "all table ids are used up".to_owned();
    };
    format!(
        "stop the server and run `tessera doctor DATA_HOME --fix`; or, while it runs, POST /admin/recovery/enable, \
         POST /admin/sequence/table/set-next-id with {{\"next_table_id\":{next}}}, POST /admin/recovery/disable"
    )
}

/// A finding with what people are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub advice: String,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        Self { severity: finding.severity(), message: finding.message(), advice: finding.advice(), finding }
    }
}

/// What was examined and found. Its JSON form is what `tessera doctor --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The id that the next table gets.
    pub next_table_id: TableId,
    /// The highest id of a table or a tombstone in the catalog.
    pub highest_in_catalog: Option<TableId>,
    /// The highest id of which the store has a folder, of whatever it holds.
    pub highest_on_store: Option<TableId>,
    /// Tables in the catalog.
    pub tables: usize,
    /// Table folders on the store.
    pub folders: usize,
    /// Problems first, then by table.
    pub findings: Vec<Found>,
}

impl Report {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|found| found.severity == Severity::Note)
    }
}

/// Compares what there is.
#[must_use]
pub fn check(survey: &Survey) -> Report {
    let Survey { next_table_id: next, tables, tombstones, folders, switches } = survey;
    let in_catalog = tables.keys().chain(tombstones).max().copied();
    let on_store = folders.keys().max().copied();
    let mut findings = Vec::new();
    if let Some(highest) = in_catalog.max(on_store).filter(|highest| highest >= next) {
        findings.push(Finding::NextIdTooLow { next: *next, highest });
    }
    for (table, name) in tables.iter().filter(|(table, _)| !folders.contains_key(table)) {
        findings.push(Finding::FolderMissing { table: *table, name: name.clone() });
    }
    for (table, folder) in folders {
        match tables.get(table) {
            Some(name) if folder.is_dropped => findings.push(Finding::DropUnfinished { table: *table, name: name.clone() }),
            None if !folder.is_dropped && !tombstones.contains(table) => findings.push(Finding::FolderUnknown { table: *table }),
            _ => {}
        }
    }
    for (switch, on) in switches {
        findings.push(Finding::SwitchedOn { switch: switch.as_str().to_owned(), since_unix_ms: on.since_unix_ms });
    }
    Report {
        next_table_id: *next,
        highest_in_catalog: in_catalog,
        highest_on_store: on_store,
        tables: tables.len(),
        folders: folders.len(),
        findings: findings.into_iter().map(Found::from).collect(),
    }
}
