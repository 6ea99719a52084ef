//! DDL as procedures: what a crash, a restart or an unreachable store interrupts is finished or undone.
//!
//! ```text
//! CREATE TABLE   allocate: take an id ─► regions: create them ─► publish: the table is there      undo: drop the regions
//! ALTER TABLE    check ─► regions: alter them ─► publish: statements see it
//! DROP TABLE     mark: write the marker, the table is gone ─► leave: the catalog ─► clear: drop the regions
//! REPARTITION    see tessera_metaclient::repartition
//! ```
//!
//! Invariants:
//! - A statement submits its procedure, which makes it durable, and waits for it. Whether the statement, its client or
//!   the process goes away meanwhile changes nothing.
//! - Each step finds its work done, partly or not at all, and ends with it done once.
//! - A change of the catalog is part of the transaction that stores that the step is done.
//! - The state of a procedure is JSON with a version; a newer version is refused, and the procedure waits for a program
//!   that knows it.

mod alter;
mod create;
mod drop;
mod run;
use std::sync::Arc;

use object_store::ObjectStore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tessera_manifest::id::TableId;
use tessera_metaclient::procedure::{Registry, State, StepError};
use tessera_metaclient::repartition;

pub use alter::AlterTable;
pub use create::CreateTable;
pub use drop::{DropTable, GONE};
pub use run::{Procedures, from_procedure, obstructed};
pub(crate) use run::{is_stuck, outcome};

use crate::catalog::Catalogs;
use crate::error::{Code, ServerError};

/// The version of the states that are written here.
const STATE_VERSION: u32 = 1;

/// What the steps work on.
#[derive(Clone)]
pub struct Tools {
    /// Catalog and regions of this process.
    pub catalogs: Catalogs,
    /// SSTs, manifests and drop markers.
    pub store: Arc<dyn ObjectStore>,
    /// The highest table id that the store had a folder of when the process started; new ids lie above it.
    pub in_use: Option<TableId>,
    /// What repartitions work on.
    pub repartition: repartition::Tools,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

/// The kinds of procedures that this program can run.
#[must_use]
pub fn registry(tools: &Tools) -> Registry {
    let (for_create, for_alter, for_drop) = (tools.clone(), tools.clone(), tools.clone());
    let load_repartition = tools.repartition.clone().loader();
    Registry::new()
        .with(repartition::KIND, move |state| load_repartition(state))
        .with(alter::KIND, move |state| Ok(Box::new(AlterTable::load(decode(state)?, for_alter.clone())?)))
        .with(create::KIND, move |state| Ok(Box::new(CreateTable::load(decode(state)?, for_create.clone()))))
        .with(drop::KIND, move |state| Ok(Box::new(DropTable::load(decode(state)?, for_drop.clone()))))
}

fn encode(state: &impl Serialize) -> State {
    let plain = "a state is structs, lists and texts, which JSON can always hold";
    // By way of a value, which sorts the fields: so it is what tools make of it again, byte for byte.
    let bytes = serde_json::to_vec(&serde_json::to_value(state).expect(plain)).expect(plain);
    State { version: STATE_VERSION, bytes: bytes.into() }
}

fn decode<T: DeserializeOwned>(state: &State) -> Result<T, String> {
    if state.version != STATE_VERSION {
        return Err(format!("it has version {}, and this program reads version {STATE_VERSION}", state.version));
    }
    serde_json::from_slice(&state.bytes).map_err(|error| error.to_string())
}

/// What the end of a text says about its code; see [`coded`].
const CODE: &str = " (error ";

/// An error of a step. Its text ends with its code, so that whoever reads the record can answer with the same code.
fn coded(error: &ServerError) -> StepError {
    let text = format!("{}{CODE}{})", error.message, error.code as u32);
    match error.code {
        Code::StorageUnavailable | Code::RegionBusy | Code::RegionNotReady | Code::ResourcesExhausted => StepError::retryable(text),
        _ => StepError::fatal(text),
    }
}

/// The error whose text a record has.
fn decoded(text: &str) -> ServerError {
    let parts = text.strip_suffix(')').and_then(|text| text.rsplit_once(CODE));
    let found = parts.and_then(|(message, number)| Some((message, Code::of_number(number.parse().ok()?)?)));
    match found {
        Some((message, code)) => ServerError::new(code, message),
        None => ServerError::new(Code::Internal, text),
    }
}
