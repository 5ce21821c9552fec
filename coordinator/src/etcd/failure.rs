//! What went wrong with a call to etcd, and above all whether it may have been carried out.

use etcd_client::Error;
use std::error::Error as _;
use tonic::Code;

/// Why etcd refuses, in the kinds that operators mend differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// User or password.
    Credentials,
    /// The user may not touch these keys.
    Permission,
    /// Certificates, on either side.
    Tls,
    /// The request itself.
    Request,
}

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It never reached etcd, or etcd says that it did nothing and that asking again may help.
    #[error("{0}")]
    NotSent(String),
    /// It may have been carried out.
    #[error("{0}")]
    Unknown(String),
    /// etcd has no space, and is known to say so also about what it has just carried out (reliability F10).
    #[error(
        "etcd is full (NOSPACE), and takes nothing new until there is room: `etcdctl compact REVISION`, `etcdctl defrag \
         --cluster`, then `etcdctl alarm disarm`; a larger --quota-backend-bytes keeps it from coming back"
    )]
    NoSpace,
    /// The token of the user is no longer good. Nothing was carried out.
    #[error("etcd wants the user to log in again: {0}")]
    LoggedOut(String),
    /// The lease does not exist.
    #[error("the lease does not exist in etcd")]
    LeaseGone,
    /// Older revisions than this are gone; list anew.
    #[error("etcd has compacted the revision that was asked for")]
    Compacted,
    /// Nothing was carried out, and asking again will not help before somebody mends something.
    #[error("{1}")]
    Refused(Refusal, String),
}

impl CallError {
    /// Reads what the client says. The words of etcd are matched where its codes do not tell enough.
    pub(super) fn of(error: Error) -> Self {
        let words = chain(&error);
        // rustls and its alerts come wrapped in several layers, differently on connecting and on the first read.
        let tls =
            ["invalid peer certificate", "received fatal alert", "received corrupt message", "InvalidContentType"];
        // A clock that is not set yet after a boot, or a certificate that is about to be renewed, mends itself.
        let for_now = ["not valid yet", "NotValidYet", "certificate expired", "CertificateExpired"];
        if for_now.iter().any(|sign| words.contains(sign)) {
            return Self::NotSent(words);
        }
        if tls.iter().any(|sign| words.contains(sign)) {
            return Self::Refused(Refusal::Tls, words);
        }
        match error {
            Error::GRpcStatus(status) => Self::of_status(&status, words),
            Error::LeaseKeepAliveError(why) if why.contains("lease not found") => Self::LeaseGone,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
                Self::Refused(Refusal::Request, words)
            }
            Error::TransportError(_) if never_connected(&error) => Self::NotSent(words),
            _ => Self::Unknown(words),
        }
    }

    fn of_status(status: &tonic::Status, words: String) -> Self {
        let says = |part: &str| status.message().contains(part);
        if says("database space exceeded") {
            return Self::NoSpace;
        }
        // A member that is being added, or that knows itself not to lead, does nothing of it; another one may.
        if says("not supported for learner") || says("etcdserver: not leader") || says("etcdserver: not capable") {
            return Self::NotSent(words);
        }
        if says("invalid auth token") || says("revision of auth store is old") {
            return Self::LoggedOut(words);
        }
        if says("authentication failed") || says("user name is empty") || says("authentication is not enabled") {
            return Self::Refused(Refusal::Credentials, words);
        }
        if says("revision has been compacted") {
            return Self::Compacted;
        }
        if says("requested lease not found") {
            return Self::LeaseGone;
        }
        match status.code() {
            Code::Unauthenticated => Self::LoggedOut(words),
            Code::PermissionDenied => Self::Refused(Refusal::Permission, words),
            Code::ResourceExhausted if says("too many requests") => Self::NotSent(words),
            // The read side of a connection gives these too, for an answer that is too large: it is said, not repeated.
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::NotFound
            | Code::Unimplemented
            | Code::FailedPrecondition => Self::Refused(Refusal::Request, words),
            _ if never_connected(status) => Self::NotSent(words),
            _ => Self::Unknown(words),
        }
    }

    /// Whether it is certain that nothing was carried out.
    pub(super) fn was_not_sent(&self) -> bool {
        !matches!(self, Self::Unknown(_) | Self::NoSpace)
    }

    /// Whether another member of etcd may do better. One that is being added does not know of users yet.
    pub(super) fn is_of_the_member(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Unknown(_) | Self::Refused(Refusal::Tls | Refusal::Credentials, _))
    }
}

fn never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error and what it came from, without what an outer one has said already.
fn chain(error: &Error) -> String {
    let mut words = match error {
        // Its own text also has its metadata.
        Error::GRpcStatus(status) if !status.message().is_empty() => status.message().to_owned(),
        Error::GRpcStatus(status) => status.code().description().to_owned(),
        other => other.to_string(),
    };
    let mut inner = match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        other => other.source(),
    };
    while let Some(error) = inner {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        inner = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    fn of(code: Code, message: &str) -> CallError {
        CallError::of(Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn only_what_surely_did_nothing_counts_as_not_sent() {
        for unsure in [
            of(Code::Unavailable, "etcdserver: request timed out"),
            of(Code::Unavailable, "etcdserver: leader changed"),
            of(Code::Unknown, "h2 protocol error: http2 error"),
            of(Code::Cancelled, "Timeout expired"),
            of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            of(Code::Internal, ""),
        ] {
            assert!(!unsure.was_not_sent(), "{unsure:?}");
        }
        for sure in [
            of(Code::ResourceExhausted, "etcdserver: too many requests"),
            of(Code::Unauthenticated, "etcdserver: invalid auth token"),
            of(Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            of(Code::FailedPrecondition, "etcdserver: rpc not supported for learner"),
            of(Code::Unavailable, "invalid peer certificate: certificate not valid yet"),
        ] {
            assert!(sure.was_not_sent(), "{sure:?}");
        }
    }

    #[test]
    fn a_refused_connection_is_known_by_its_source() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        assert!(matches!(CallError::of(Error::GRpcStatus(error)), CallError::NotSent(_)));
    }

    #[test]
    fn what_mends_itself_is_no_refusal() {
        for passing in [
            of(Code::FailedPrecondition, "etcdserver: rpc not supported for learner"),
            of(Code::Unavailable, "invalid peer certificate: certificate expired"),
        ] {
            assert!(matches!(passing, CallError::NotSent(_)), "{passing:?}");
        }
        let failed = of(Code::FailedPrecondition, "etcdserver: authentication is not enabled");
        assert!(failed.is_of_the_member(), "other members are asked before that is believed");
    }

    #[test]
    fn what_an_operator_must_mend_is_told_apart() {
        let kind = |error| match error {
            CallError::Refused(kind, _) => Some(kind),
            _ => None,
        };
        let failed = "etcdserver: authentication failed, invalid user ID or password";
        assert_eq!(kind(of(Code::InvalidArgument, failed)), Some(Refusal::Credentials));
        assert_eq!(kind(of(Code::InvalidArgument, "etcdserver: user name is empty")), Some(Refusal::Credentials));
        assert_eq!(kind(of(Code::PermissionDenied, "etcdserver: permission denied")), Some(Refusal::Permission));
        assert_eq!(kind(of(Code::Unavailable, "invalid peer certificate: UnknownIssuer")), Some(Refusal::Tls));
        assert_eq!(kind(of(Code::InvalidArgument, "etcdserver: request is too large")), Some(Refusal::Request));
        assert_eq!(
            of(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            CallError::Compacted
        );
        assert_eq!(of(Code::NotFound, "etcdserver: requested lease not found"), CallError::LeaseGone);
    }
}
