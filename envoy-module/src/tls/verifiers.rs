//! The peer checks that rustls calls in a handshake: SPIFFE in place of names.
//!
//! Signature checks are rustls' own, over aws-lc-rs.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::Leaf;
use super::matcher::PeerMatcher;
use crate::failure::{Failure, Reason};
use crate::identity::bundles::TrustBundles;
use crate::spiffe::SpiffeId;

/// Checks a peer's chain against the roots of the trust domain that its own ID
/// names, and its ID against the expected peers.
#[derive(Debug)]
pub struct PeerVerifier {
    pub bundles: Arc<TrustBundles>,
    pub expected: PeerMatcher,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// `usage` is the extended key usage that the peer's role demands.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<SpiffeId, Failure> {
        let parsed = Leaf::parse(leaf)?;
        parsed.check_is_leaf()?;
        let peer = parsed.spiffe_id()?;
        let roots = self.bundles.roots(peer.trust_domain()).ok_or_else(|| {
            let domain = peer.trust_domain();
            let detail = format!("no trusted roots for the peer's trust domain {domain}");
            Failure::new(Reason::PeerIssuer, detail)
        })?;
        EndEntityCert::try_from(leaf)
            .and_then(|certificate| {
                let algorithms = self.algorithms.all;
                certificate
                    .verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)
                    .map(|_| ())
            })
            .map_err(|error| chain_failure(&peer, &error))?;
        self.expected.check(&peer)?;
        Ok(peer)
    }

    fn for_rustls(result: Result<SpiffeId, Failure>) -> Result<(), Error> {
        result.map(|_| ()).map_err(|failure| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(failure))))
        })
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

fn chain_failure(peer: &SpiffeId, error: &webpki::Error) -> Failure {
    use webpki::Error as Chain;
    let (reason, what) = match error {
        Chain::CertExpired { time, not_after } => {
            let late = time.as_secs().saturating_sub(not_after.as_secs());
            (Reason::PeerExpired, format!("expired {late} s ago"))
        }
        Chain::CertNotValidYet { time, not_before } => {
            let early = not_before.as_secs().saturating_sub(time.as_secs());
            (
                Reason::PeerExpired,
                format!("is not valid for another {early} s"),
            )
        }
        Chain::UnknownIssuer => (Reason::PeerIssuer, "has an unknown issuer".to_owned()),
        Chain::RequiredEkuNotFoundContext(_) => (
            Reason::PeerUsage,
            "lacks the extended key usage for its side".to_owned(),
        ),
        Chain::CaUsedAsEndEntity => (Reason::PeerUsage, "is a CA certificate".to_owned()),
        other => (Reason::PeerMalformed, format!("does not verify: {other:?}")),
    };
    Failure::new(reason, format!("peer certificate of {peer} {what}"))
}

/// TLS 1.2 is not compiled in.
fn no_tls12() -> Error {
    Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
}

/// The server's check of its clients, who must present a certificate.
#[derive(Debug)]
pub struct ClientVerifier(pub PeerVerifier);

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let usage = KeyUsage::client_auth();
        PeerVerifier::for_rustls(self.0.verify(leaf, intermediates, now, usage))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// The client's check of its server.
#[derive(Debug)]
pub struct ServerVerifier(pub PeerVerifier);

impl ServerCertVerifier for ServerVerifier {
    /// The name is not looked at: a SPIFFE leaf has none, its ID is what counts.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usage = KeyUsage::server_auth();
        PeerVerifier::for_rustls(self.0.verify(leaf, intermediates, now, usage))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}
