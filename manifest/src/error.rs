//! What a caller should do about an error; shared by every crate's error type.

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Try the same again, with backoff: it was not done, or doing it again is harmless.
    Retry,
    /// Read routes and schema again, then try: the request was made under an old state.
    Refresh,
    /// Stop: another writer owns the object now.
    Fenced,
    /// Change the request: it can never succeed as it is.
    Invalid,
    /// Stop and look: stored bytes are damaged or missing.
    Corrupt,
    /// The store, the disk or the network does not answer; it may come back.
    Unavailable,
    /// A defect of this program; please report it.
    Bug,
}
