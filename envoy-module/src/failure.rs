//! Why a handshake failed: a sentence for people and a class for counters.

use std::fmt;

/// The closed set of classes that failures are counted under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    NoPeerCertificate,
    PeerMalformed,
    PeerIdentity,
    PeerUsage,
    PeerExpired,
    PeerIssuer,
    PeerUnexpected,
    PeerDenied,
    PeerSignature,
    PeerAlert,
    PeerClosed,
    Protocol,
    NoSigner,
    SignerRefused,
    SignerTimeout,
    IdentityExpired,
    IdentityWithdrawn,
    KeyRevoked,
    TooMany,
    RateLimited,
    SourceTooMany,
    SourceRateLimited,
    Timeout,
    NoCompanion,
    Internal,
}

impl Reason {
    pub const ALL: [Self; 25] = [
        Self::NoPeerCertificate,
        Self::PeerMalformed,
        Self::PeerIdentity,
        Self::PeerUsage,
        Self::PeerExpired,
        Self::PeerIssuer,
        Self::PeerUnexpected,
        Self::PeerDenied,
        Self::PeerSignature,
        Self::PeerAlert,
        Self::PeerClosed,
        Self::Protocol,
        Self::NoSigner,
        Self::SignerRefused,
        Self::SignerTimeout,
        Self::IdentityExpired,
        Self::IdentityWithdrawn,
        Self::KeyRevoked,
        Self::TooMany,
        Self::RateLimited,
        Self::SourceTooMany,
        Self::SourceRateLimited,
        Self::Timeout,
        Self::NoCompanion,
        Self::Internal,
    ];

    /// Whether the fault is on this side, so that the peer's alert is
    /// internal_error and not one about its certificate.
    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Self::NoSigner
                | Self::SignerRefused
                | Self::SignerTimeout
                | Self::IdentityExpired
                | Self::IdentityWithdrawn
                | Self::KeyRevoked
                | Self::TooMany
                | Self::RateLimited
                | Self::SourceTooMany
                | Self::SourceRateLimited
                | Self::Timeout
                | Self::Internal
        )
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPeerCertificate => "no_peer_certificate",
            Self::PeerMalformed => "peer_malformed",
            Self::PeerIdentity => "peer_identity",
            Self::PeerUsage => "peer_usage",
            Self::PeerExpired => "peer_expired",
            Self::PeerIssuer => "peer_issuer",
            Self::PeerUnexpected => "peer_unexpected",
            Self::PeerDenied => "peer_denied",
            Self::PeerSignature => "peer_signature",
            Self::PeerAlert => "peer_alert",
            Self::PeerClosed => "peer_closed",
            Self::Protocol => "protocol",
            Self::NoSigner => "no_signer",
            Self::SignerRefused => "signer_refused",
            Self::SignerTimeout => "signer_timeout",
            Self::IdentityExpired => "identity_expired",
            Self::IdentityWithdrawn => "identity_withdrawn",
            Self::KeyRevoked => "key_revoked",
            Self::TooMany => "too_many",
            Self::RateLimited => "rate_limited",
            Self::SourceTooMany => "source_too_many",
            Self::SourceRateLimited => "source_rate_limited",
            Self::Timeout => "timeout",
            Self::NoCompanion => "no_companion",
            Self::Internal => "internal",
        }
    }
}

/// The closed set of classes that connections which the module ends are counted
/// under. A handshake that comes too late for one fails with the same reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    IdentityWithdrawn,
    KeyRevoked,
    PeerDenied,
    PeerExpired,
    PeerUnexpected,
}

impl Ending {
    pub const ALL: [Self; 5] = [
        Self::IdentityWithdrawn,
        Self::KeyRevoked,
        Self::PeerDenied,
        Self::PeerExpired,
        Self::PeerUnexpected,
    ];

    pub fn reason(self) -> Reason {
        match self {
            Self::IdentityWithdrawn => Reason::IdentityWithdrawn,
            Self::KeyRevoked => Reason::KeyRevoked,
            Self::PeerDenied => Reason::PeerDenied,
            Self::PeerExpired => Reason::PeerExpired,
            Self::PeerUnexpected => Reason::PeerUnexpected,
        }
    }
}

/// A failed handshake. Travels through rustls as `Error::Other` (signatures) or
/// `CertificateError::Other` (peer checks) and comes out whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub reason: Reason,
    pub detail: String,
}

impl Failure {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        use rustls::{CertificateError, Error};
        let reason = match &error {
            Error::Other(other) | Error::InvalidCertificate(CertificateError::Other(other)) => {
                return match other.0.downcast_ref::<Self>() {
                    Some(failure) => failure.clone(),
                    None => Self::new(Reason::Internal, other.to_string()),
                };
            }
            Error::NoCertificatesPresented => {
                let detail = "the peer presented no certificate";
                return Self::new(Reason::NoPeerCertificate, detail);
            }
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                let detail = "the peer's CertificateVerify was not made with the key of its \
                              certificate";
                return Self::new(Reason::PeerSignature, detail);
            }
            Error::AlertReceived(alert) => {
                let detail = format!("the peer refused the handshake with alert {alert:?}");
                return Self::new(Reason::PeerAlert, detail);
            }
            Error::InvalidCertificate(_) => Reason::PeerMalformed,
            _ => Reason::Protocol,
        };
        Self::new(reason, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_are_listed_in_order_of_their_numbers() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, index);
        }
    }
}
