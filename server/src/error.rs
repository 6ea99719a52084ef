//! What a client is told when a statement fails.
//!
//! Codes are those that GreptimeDB's clients know; the HTTP status follows from the code.

use tessera_manifest::error::ErrorClass;

/// The kind of a failure, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The server cannot do this (yet).
    Unsupported = 1001,
    /// A defect of the server.
    Internal = 1003,
    /// The client went away before the statement had an answer.
    Cancelled = 1005,
    /// An argument, value or option is wrong.
    InvalidArguments = 1004,
    /// Something has to be in another state first; the message says which and how.
    IllegalState = 1006,
    /// The text is not SQL that the server knows.
    InvalidSyntax = 2000,
    /// The statement cannot be planned: unknown function, wrong types.
    PlanQuery = 3000,
    /// The statement failed while it ran.
    ExecuteQuery = 3001,
    /// There is a table of that name.
    TableAlreadyExists = 4000,
    /// There is no table of that name.
    TableNotFound = 4001,
    /// There is no column of that name.
    ColumnNotFound = 4002,
    /// There is no database of that name.
    DatabaseNotFound = 4004,
    /// The region is not open; it failed to open, or the route is old.
    RegionNotReady = 4008,
    /// The region is busy; try again.
    RegionBusy = 4009,
    /// There is a database of that name.
    DatabaseAlreadyExists = 4012,
    /// The store or the disk does not answer, or what it holds is damaged.
    StorageUnavailable = 5000,
    /// Memory or another bound is used up; try again later.
    ResourcesExhausted = 6000,
    /// There is no procedure with that id. Not one of GreptimeDB's codes.
    ProcedureNotFound = 9000,
}

impl Code {
    /// All codes.
    pub const ALL: [Self; 18] = [
        Self::Unsupported,
        Self::Internal,
        Self::InvalidArguments,
        Self::Cancelled,
        Self::IllegalState,
        Self::InvalidSyntax,
        Self::PlanQuery,
        Self::ExecuteQuery,
        Self::TableAlreadyExists,
        Self::TableNotFound,
        Self::ColumnNotFound,
        Self::DatabaseNotFound,
        Self::RegionNotReady,
        Self::RegionBusy,
        Self::DatabaseAlreadyExists,
        Self::StorageUnavailable,
        Self::ResourcesExhausted,
        Self::ProcedureNotFound,
    ];

    /// The code with this number.
    #[must_use]
    pub fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u32 == number)
    }

    /// The HTTP status of an answer with this code.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Unsupported | Self::InvalidArguments | Self::InvalidSyntax | Self::PlanQuery => 400,
            Self::TableNotFound | Self::ColumnNotFound | Self::DatabaseNotFound | Self::ProcedureNotFound => 404,
            Self::TableAlreadyExists | Self::DatabaseAlreadyExists | Self::IllegalState => 409,
            Self::ResourcesExhausted => 429,
            Self::Cancelled => 499,
            Self::RegionNotReady | Self::RegionBusy | Self::StorageUnavailable => 503,
            Self::Internal | Self::ExecuteQuery => 500,
        }
    }
}

/// A failed statement.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServerError {
    /// The kind.
    pub code: Code,
    /// What failed, on which object, and what to do about it; causes included.
    pub message: String,
}

impl ServerError {
    /// An error with this code and message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An error of a lower layer: the message is the whole chain of causes, the code follows from the class.
    pub fn from_class(class: ErrorClass, error: &dyn std::error::Error) -> Self {
        let code = match class {
            ErrorClass::Retry | ErrorClass::Refresh => Code::RegionBusy,
            ErrorClass::Fenced => Code::RegionNotReady,
            ErrorClass::Invalid => Code::InvalidArguments,
            ErrorClass::Corrupt | ErrorClass::Unavailable => Code::StorageUnavailable,
            ErrorClass::Bug => Code::Internal,
        };
        Self { code, message: chain(error) }
    }
}

/// The messages of an error and of its causes, outermost first.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = inner.source();
    }
    text
}
