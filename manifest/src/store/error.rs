//! Why a store could not be opened, and what to do about it.

use std::path::PathBuf;

use crate::error::ErrorClass;

/// Why a store could not be opened. Nothing was sent to it yet. No message and no debug form holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The text does not name a store.
    #[error("'{location}' does not name an object store: {reason}")]
    Location {
        /// The text, without what may be a secret.
        location: String,
        /// What is wrong, and what to write instead.
        reason: &'static str,
    },
    /// The store's client is not part of this build.
    #[error("'{location}' needs a client that this build lacks: build with the feature '{feature}' (cargo build --features {feature})")]
    FeatureOff {
        /// The store.
        location: String,
        /// The feature that has the client.
        feature: &'static str,
    },
    /// An option is not of the form `key=value`.
    #[error("an option of the object store has no '=': write key=value")]
    OptionForm,
    /// An option is not known.
    #[error("'{location}' has no option '{key}': use those of the crate object_store, such as {examples}")]
    UnknownOption {
        /// The store.
        location: String,
        /// The option.
        key: String,
        /// Some that there are.
        examples: &'static str,
    },
    /// The server is named without TLS, and that was not allowed.
    #[error("the endpoint of '{location}' is plain http: set the option allow_http=true if nobody else can listen, else use https")]
    PlainHttp {
        /// The store.
        location: String,
    },
    /// The folder cannot be used.
    #[error("cannot use folder '{}' as object store: create it, or correct its permissions", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: Box<object_store::Error>,
    },
    /// The client refuses its settings.
    #[error("cannot make a client for '{location}': correct the options and the environment variables {variables}")]
    Client {
        /// The store.
        location: String,
        /// The variables that were read.
        variables: &'static str,
        /// What the client says; `None` if its words repeat an option.
        source: Option<Box<object_store::Error>>,
    },
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Folder { .. } => ErrorClass::Unavailable,
            Self::Location { .. } | Self::FeatureOff { .. } | Self::OptionForm | Self::UnknownOption { .. } => ErrorClass::Invalid,
            Self::PlainHttp { .. } | Self::Client { .. } => ErrorClass::Invalid,
        }
    }
}
