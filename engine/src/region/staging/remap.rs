//! The references that a target gets.

use tessera_manifest::action::{Action, RemapStaged};

use crate::error::Error;
use crate::region::Region;
use crate::staging::Remapped;

impl Region {
    /// Records what the region will refer to of the group's files. The manifest reads the segments, checks their checksums
    /// and applies the record before it is written.
    ///
    /// Idempotent: the same references again change nothing. Not cancel safe: do it again.
    ///
    /// # Errors
    /// [`Error::StaleRemap`], with the present epoch, when the region was opened again since the segments were named;
    /// [`Error::StagedTooEarly`] before it is drained; [`Error::NotStaged`]; the manifest's.
    pub async fn apply_remap(&self, remap: RemapStaged) -> Result<Remapped, Error> {
        let mut manifest = self.writable_manifest().await?;
        let state = manifest.state();
        let (txn, staging) = (remap.txn, self.staging_of(state, remap.txn)?);
        let version = state.version().ok_or(Error::NotStaged { region: self.id, txn })?;
        if let Some(done) = staging.remap() {
            return match done.set_hash() == remap.set_hash {
                true => Ok(Remapped { version, references: done.files().len() as u64 }),
                false => Err(self.otherwise(txn, "it has other references from this repartition")),
            };
        }
        if state.is_drained() != Some(true) {
            return Err(Error::StagedTooEarly { region: self.id, txn, detail: "drain it first" });
        }
        let epoch = manifest.epoch();
        if remap.segments.iter().any(|segment| segment.file.epoch != epoch) {
            return Err(Error::StaleRemap { region: self.id, epoch });
        }
        let references = remap.segments.iter().map(|segment| segment.rows).sum();
        let state = self.commit(&mut manifest, vec![Action::RemapStaged(remap)]).await?;
        let version = state.version().unwrap_or(version);
        self.version.update(|version| version.state = state);
        tracing::info!(region = %self.id, %txn, references, "remapped");
        Ok(Remapped { version, references })
    }
}
