//! What an attempt that failed says about the request.
//!
//! Invariant: a failure counts as "not applied" only when it is known to be raised before the request is
//! proposed to the cluster. Whatever else there is may have been applied.

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status};

pub(super) type Cause = Box<dyn StdError + Send + Sync>;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Not applied: it did not reach a server that could, or this server cannot now. Another attempt may succeed.
    NotApplied(Cause),
    /// It may have been applied.
    Unknown(Cause),
    /// Not applied, for a reason that lies with the request, the user or the set-up.
    Refused(String),
    /// Not applied: the transaction has more parts than the server takes.
    TooManyOps,
    /// Not applied: the request has more bytes than the server takes.
    TooLarge,
    /// Not applied: there is no such lease.
    LeaseNotFound,
    /// Not applied: the revision is compacted.
    Compacted,
    /// Not applied: the revision has not been reached.
    FutureRevision,
    /// The server did what was asked, and the answer is too large to be read.
    AnswerTooLarge(Cause),
}

/// No answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
pub(super) struct NoAnswer(pub(super) std::time::Duration);

/// An answer that does not fit what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not one to this request: {0}")]
pub(super) struct StrangeAnswer(pub(super) &'static str);

impl From<StrangeAnswer> for Failure {
    fn from(error: StrangeAnswer) -> Self {
        Self::Unknown(Box::new(error))
    }
}

/// The server's words and what they mean.
fn of_words(message: &str) -> Option<Failure> {
    let known = [
        ("too many operations in txn request", Failure::TooManyOps),
        ("request is too large", Failure::TooLarge),
        ("received message larger than max", Failure::TooLarge),
        ("requested lease not found", Failure::LeaseNotFound),
        ("required revision has been compacted", Failure::Compacted),
        ("required revision is a future revision", Failure::FutureRevision),
    ];
    known.into_iter().find(|(words, _)| message.contains(words)).map(|(_, failure)| failure)
}

/// Said before a request is proposed, by a server that cannot propose now.
const NOT_PROPOSED: &[&str] = &["etcdserver: no leader", "too many requests", "not capable", "rpc not supported for learner"];

/// A connection that was never made carried no request.
fn never_connected(status: &Status) -> bool {
    let mut cause = StdError::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn of_status(status: Status) -> Failure {
    if let Some(failure) = of_words(status.message()) {
        return failure;
    }
    let not_proposed = NOT_PROPOSED.iter().any(|words| status.message().contains(words));
    match status.code() {
        Code::OutOfRange if status.message().contains("decoded message length too large") => Failure::AnswerTooLarge(Box::new(status)),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Failure::Refused(status.message().to_owned()),
        // The disk quota is checked before a request is proposed; writing goes on once there is room.
        Code::ResourceExhausted => Failure::NotApplied(Box::new(status)),
        _ if not_proposed || never_connected(&status) => Failure::NotApplied(Box::new(status)),
        _ => Failure::Unknown(Box::new(status)),
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error;
        match error {
            Error::GRpcStatus(status) => of_status(status),
            // The client's words when a keep-alive is answered with a time to live of zero.
            Error::LeaseKeepAliveError(text) if text == "lease not found" => Self::LeaseNotFound,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => Self::Refused(error.to_string()),
            other => Self::Unknown(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Failure {
        etcd_client::Error::GRpcStatus(Status::new(code, message)).into()
    }

    #[test]
    fn what_is_raised_before_the_proposal_was_not_applied() {
        assert!(matches!(of(Code::Unavailable, "etcdserver: no leader"), Failure::NotApplied(_)));
        assert!(matches!(of(Code::ResourceExhausted, "etcdserver: too many requests"), Failure::NotApplied(_)));
        assert!(matches!(of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), Failure::NotApplied(_)));
        assert!(matches!(of(Code::InvalidArgument, "etcdserver: too many operations in txn request"), Failure::TooManyOps));
        assert!(matches!(of(Code::InvalidArgument, "etcdserver: request is too large"), Failure::TooLarge));
        let text = "grpc: received message larger than max (70000 vs. 66048)";
        assert!(matches!(of(Code::ResourceExhausted, text), Failure::TooLarge));
        assert!(matches!(of(Code::NotFound, "etcdserver: requested lease not found"), Failure::LeaseNotFound));
        assert!(matches!(of(Code::PermissionDenied, "etcdserver: permission denied"), Failure::Refused(_)));
    }

    #[test]
    fn what_may_come_after_the_proposal_is_unknown() {
        let cases = [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::DeadlineExceeded, "context deadline exceeded"),
            (Code::Cancelled, "Timeout expired"),
            (Code::Unknown, "transport error"),
            (Code::Unknown, "raft proposal dropped"),
            (Code::Internal, "stream closed"),
            (Code::DataLoss, "etcdserver: corrupt cluster"),
        ];
        for (code, message) in cases {
            assert!(matches!(of(code, message), Failure::Unknown(_)), "{message}");
        }
        assert!(matches!(Failure::from(etcd_client::Error::WatchError("x".into())), Failure::Unknown(_)));
    }
}
