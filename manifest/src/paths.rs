//! The names of objects on the store. See DESIGN section 2.

use object_store::path::Path;

use crate::id::{FileId, FileKey, RegionId, TableId, TxnId};
use crate::slot::Layout;
use ulid::Ulid;

/// The folder in which a cluster keeps its objects; empty for the root of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root(Path);

impl Root {
    /// Objects go below `folder`.
    #[must_use]
    pub fn new(folder: Path) -> Self {
        Self(folder)
    }

    /// `{root}/{table:010}`: everything of a table.
    #[must_use]
    pub fn table(&self, table: TableId) -> Path {
        self.0.clone().join(format!("{:010}", table.0))
    }

    /// `{root}/{table:010}/{region:010}`: everything that was born in a region.
    #[must_use]
    pub fn region(&self, region: RegionId) -> Path {
        self.table(region.table()).join(format!("{:010}", region.number().0))
    }

    /// `{root}/probe`: what the capability probe writes, and deletes again.
    #[must_use]
    pub fn probe(&self) -> Path {
        self.0.clone().join("probe")
    }

    /// The slot log that is the region's manifest.
    #[must_use]
    pub fn manifest(&self, region: RegionId) -> Layout {
        Layout { folder: self.region(region).join("manifest"), extension: "json" }
    }

    /// The folder of the region's segments.
    #[must_use]
    pub fn segments(&self, region: RegionId) -> Path {
        self.region(region).join("manifest").join("seg")
    }

    /// The object of a segment of the region.
    #[must_use]
    pub fn segment(&self, region: RegionId, file: FileId) -> Path {
        self.segments(region).join(format!("{file}.parquet"))
    }

    /// `{root}/{table:010}/{region:010}/sst`: the SSTs that were born in a region.
    #[must_use]
    pub fn ssts(&self, region: RegionId) -> Path {
        self.region(region).join("sst")
    }

    /// The object of an SST.
    #[must_use]
    pub fn sst(&self, key: FileKey) -> Path {
        self.ssts(key.origin).join(format!("{}.parquet", key.file))
    }

    /// `{root}/{table:010}/drop`: the drop markers of a table.
    #[must_use]
    pub fn drops(&self, table: TableId) -> Path {
        self.table(table).join("drop")
    }

    /// The object that marks one drop of a table.
    #[must_use]
    pub fn drop_marker(&self, table: TableId, drop: Ulid) -> Path {
        self.drops(table).join(format!("{drop}.json"))
    }

    /// `{root}/{table:010}/txn`: the decisions of a table's repartitions.
    #[must_use]
    pub fn txns(&self, table: TableId) -> Path {
        self.table(table).join("txn")
    }

    /// The object that decides one repartition group.
    #[must_use]
    pub fn txn(&self, table: TableId, txn: TxnId) -> Path {
        self.txns(table).join(format!("{txn}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, FileId, RegionNumber, Slot};

    #[test]
    fn names_are_those_of_the_design() {
        let root = Root::new(Path::from("c1"));
        let region = RegionId::new(TableId(1024), RegionNumber(7));
        let key = FileKey { origin: region, file: FileId::new(Epoch(2), Ulid(0)) };
        assert_eq!(root.sst(key).as_ref(), "c1/0000001024/0000000007/sst/0000000002-00000000000000000000000000.parquet");
        let layout = root.manifest(region);
        let slot = Slot::new(Epoch(2), 9);
        assert_eq!(layout.path(slot).as_ref(), "c1/0000001024/0000000007/manifest/0000000002-00000000000000000009.json");
        assert_eq!(layout.parse("0000000002-00000000000000000009.json"), Some(slot));
        assert_eq!(layout.parse("0000000002-00000000000000000009.checkpoint"), None);
        assert_eq!(root.txn(TableId(1024), TxnId(Ulid(1))).as_ref(), "c1/0000001024/txn/00000000000000000000000001.json");
        assert_eq!(Root::default().table(TableId(1)).as_ref(), "0000000001");
    }
}
