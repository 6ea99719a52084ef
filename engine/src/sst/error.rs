//! Why rows could not be sorted, merged, written or read.

use object_store::path::Path;
use parquet::errors::ParquetError;
use tessera_manifest::error::ErrorClass;

/// An error of memtable, merge or SST; those of a file name its full object path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store has no such object.
    #[error("sst '{path}' is missing from the object store")]
    Missing {
        /// The object.
        path: Path,
        /// What the store says.
        #[source]
        source: object_store::Error,
    },
    /// The object has another size than the manifest says.
    #[error("sst '{path}' has {actual} bytes, expected {expected}")]
    WrongSize {
        /// The object.
        path: Path,
        /// As the manifest says.
        expected: u64,
        /// As the store says.
        actual: u64,
    },
    /// The object's bytes are not those that were written.
    #[error("sst '{path}' is damaged: its crc32 is {actual:08x}, expected {expected:08x}")]
    Checksum {
        /// The object.
        path: Path,
        /// As the manifest says.
        expected: u32,
        /// Of the bytes read.
        actual: u32,
    },
    /// The object does not decode.
    #[error("sst '{path}' cannot be decoded")]
    Damaged {
        /// The object.
        path: Path,
        /// What the decoder says.
        #[source]
        source: ParquetError,
    },
    /// The object decodes, but is not the file that the manifest means.
    #[error("sst '{path}' is not what the manifest says: {detail}")]
    Mismatch {
        /// The object.
        path: Path,
        /// What differs.
        detail: String,
    },
    /// The object was written by a later release.
    #[error("sst '{path}' needs a reader of format {needed}, this one reads up to {supported}; upgrade this node")]
    NewerFormat {
        /// The object.
        path: Path,
        /// The least format number that can read it.
        needed: u32,
        /// The last that this release knows.
        supported: u32,
    },
    /// The store failed.
    #[error("object store failed on sst '{path}'")]
    Store {
        /// The object.
        path: Path,
        /// What the store says.
        #[source]
        source: object_store::Error,
    },
    /// There is another object of this name.
    #[error("sst '{path}' already exists with other content")]
    Exists {
        /// The object.
        path: Path,
    },
    /// Rows could not be encoded.
    #[error("cannot encode sst '{path}'")]
    Encode {
        /// The object.
        path: Path,
        /// What the encoder says.
        #[source]
        source: ParquetError,
    },
    /// A column that may not be NULL is missing from older data and has no default value.
    #[error("column '{column}' is not nullable, but older rows have no value for it and it has no default")]
    NoValue {
        /// The column.
        column: String,
    },
    /// A value does not fit the type that the statement knows the column by.
    #[error("column '{column}' was widened from {to} meanwhile and holds values ({from}) that {to} does not: run the statement again")]
    Narrowed {
        /// The column.
        column: String,
        /// The type of the rows.
        from: arrow::datatypes::DataType,
        /// The type that was asked for.
        to: tessera_manifest::value::DataType,
    },
    /// A batch does not have the columns that it must have.
    #[error("batch does not fit the schema: {detail}")]
    BatchShape {
        /// What differs.
        detail: String,
    },
    /// Arrow refused an operation on rows.
    #[error("cannot {doing}")]
    Arrow {
        /// What was tried.
        doing: &'static str,
        /// What arrow says.
        #[source]
        source: arrow::error::ArrowError,
    },
    /// The scans of a statement would hold more than they may.
    #[error(
        "the scans of the statement need {needed} bytes of memory, more than the {bytes_max} that they may hold together: ask for fewer columns or a shorter time, or raise engine.scan_bytes_max"
    )]
    ScanMemory {
        /// What they hold and would hold.
        needed: usize,
        /// What they may hold.
        bytes_max: usize,
    },
    /// A helper thread ended before its work was done, as at shutdown.
    #[error("work on sst '{path}' was stopped")]
    Stopped {
        /// The object.
        path: Path,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Missing { .. } | Self::WrongSize { .. } | Self::Checksum { .. } | Self::Damaged { .. } | Self::Mismatch { .. } => {
                ErrorClass::Corrupt
            }
            Self::Store { .. } | Self::Stopped { .. } | Self::NewerFormat { .. } => ErrorClass::Unavailable,
            Self::BatchShape { .. } | Self::NoValue { .. } | Self::ScanMemory { .. } => ErrorClass::Invalid,
            Self::Narrowed { .. } => ErrorClass::Refresh,
            Self::Exists { .. } | Self::Encode { .. } | Self::Arrow { .. } => ErrorClass::Bug,
        }
    }

    /// Wraps an Arrow error with what was tried.
    pub(crate) fn arrow(doing: &'static str) -> impl FnOnce(arrow::error::ArrowError) -> Self {
        move |source| Self::Arrow { doing, source }
    }

    /// A store error on an object.
    pub(crate) fn store(path: &Path, source: object_store::Error) -> Self {
        let path = path.clone();
        match source {
            object_store::Error::NotFound { .. } => Self::Missing { path, source },
            source => Self::Store { path, source },
        }
    }

    /// A decoder error on an object; what came from the store below it stays a store error.
    pub(crate) fn decode(path: &Path, source: ParquetError) -> Self {
        match source {
            ParquetError::External(inner) => match inner.downcast::<object_store::Error>() {
                Ok(inner) => Self::store(path, *inner),
                Err(other) => Self::Damaged { path: path.clone(), source: ParquetError::External(other) },
            },
            source => Self::Damaged { path: path.clone(), source },
        }
    }
}
