//! Settings of a store's client: from the environment and from an explicit list.

use std::fmt;

use super::OpenError;

/// Settings of a store's client: server, region, keys. Later ones win; explicit ones win over the environment.
///
/// The keys are those of the crate `object_store`, with or without their prefix `aws_` or `azure_`:
/// `endpoint`, `allow_http`, `region`, `access_key_id`, `secret_access_key`; `account_name`, `access_key`, and so on.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Options {
    environment: bool,
    pairs: Vec<(String, String)>,
}

impl Options {
    /// Nothing but what is added with [`with`](Self::with).
    #[must_use]
    pub fn explicit() -> Self {
        Self::default()
    }

    /// What the environment variables `AWS_*` and `AZURE_*` say when the store is opened, and what is added.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { environment: true, pairs: Vec::new() }
    }

    /// These, and one more.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.pairs.push((key.into(), value.into()));
        self
    }

    /// These, and those of `pairs`, each in the form `key=value`.
    ///
    /// # Errors
    /// [`OpenError::OptionForm`] for one without `=`; it is not repeated, since it may be a secret.
    pub fn with_pairs<'a>(self, pairs: impl IntoIterator<Item = &'a str>) -> Result<Self, OpenError> {
        pairs.into_iter().try_fold(self, |options, pair| {
            let (key, value) = pair.split_once('=').ok_or(OpenError::OptionForm)?;
            Ok(options.with(key.trim(), value))
        })
    }

    #[cfg(feature = "network")]
    pub(super) fn environment(&self) -> bool {
        self.environment
    }

    #[cfg(feature = "network")]
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// Shows the keys only: a value may be a secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.pairs.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("Options").field("environment", &self.environment).field("keys", &keys).finish()
    }
}
