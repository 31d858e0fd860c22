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
use crate::failure::{Failure, Reason};
use crate::identity::bundles::TrustBundles;
use crate::peers::Expected;
use crate::signer::link::Link;
use crate::spiffe::SpiffeId;

/// Checks a peer's chain against the roots of the trust domain that its own ID
/// names, and its ID against the expected peers.
#[derive(Debug)]
pub struct PeerVerifier {
    pub bundles: Arc<TrustBundles>,
    pub expected: Expected,
    /// Knows who is denied at the moment.
    pub link: Arc<Link>,
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
        self.link.check_peer(&peer)?;
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
        // The second: a root of the same name, but not this key's.
        Chain::UnknownIssuer | Chain::InvalidSignatureForPublicKey => {
            (Reason::PeerIssuer, "has an unknown issuer".to_owned())
        }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

    use super::*;
    use crate::proto::DeniedPeers;
    use crate::testing::certificates::{Authority, CLIENT, Certified, DOMAIN, SERVER};
    use crate::testing::{address, socket_path};
    use crate::tls::matcher::PeerMatcher;

    const OTHER: &str = "spiffe://other.mesh/a";

    fn verifier(bundles: &[(&str, &Authority)], expected: PeerMatcher) -> PeerVerifier {
        let roots = bundles
            .iter()
            .map(|(domain, ca)| (*domain, [ca.root.as_ref()]));
        PeerVerifier {
            bundles: Arc::new(TrustBundles::parse(roots).unwrap()),
            expected: Expected::Fixed(expected),
            link: Arc::new(Link::new(&address(&socket_path()))),
            algorithms: rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms,
        }
    }

    fn any_of(domain: &str) -> PeerMatcher {
        PeerMatcher::AnyOf(domain.parse().unwrap())
    }

    fn check(verifier: &PeerVerifier, peer: &Certified) -> Result<SpiffeId, Failure> {
        let (leaf, intermediates) = peer.chain.split_first().unwrap();
        verifier.verify(
            leaf,
            intermediates,
            UnixTime::now(),
            KeyUsage::client_auth(),
        )
    }

    fn refused(ca: &Authority, peer: &Certified) -> Failure {
        check(&verifier(&[(DOMAIN, ca)], any_of(DOMAIN)), peer).unwrap_err()
    }

    #[test]
    fn a_workload_of_the_trust_domain_is_accepted() {
        let ca = Authority::new();
        let verifier = verifier(&[(DOMAIN, &ca)], any_of(DOMAIN));
        let peer = check(&verifier, &ca.workload(CLIENT)).unwrap();
        assert_eq!(peer.as_str(), CLIENT);
    }

    #[test]
    fn another_workload_than_the_expected_one_is_refused() {
        let ca = Authority::new();
        let expected = PeerMatcher::Exactly(vec![SERVER.parse().unwrap()]);
        let verifier = verifier(&[(DOMAIN, &ca)], expected);
        let failure = check(&verifier, &ca.workload(CLIENT)).unwrap_err();
        assert_eq!(failure.reason, Reason::PeerUnexpected);
        let detail = format!("peer {CLIENT} is not among the expected peers");
        assert_eq!(failure.detail, detail);
    }

    #[test]
    fn a_denied_peer_is_refused_from_the_moment_on() {
        let ca = Authority::new();
        let verifier = verifier(&[(DOMAIN, &ca)], any_of(DOMAIN));
        let peer = ca.workload(CLIENT);
        assert!(check(&verifier, &peer).is_ok());
        let list = DeniedPeers {
            sequence: 8,
            spiffe_ids: vec![CLIENT.to_owned()],
        };
        verifier.link.exclude(Vec::new(), Some(&list));
        let failure = check(&verifier, &peer).unwrap_err();
        assert_eq!(failure.reason, Reason::PeerDenied);
        assert_eq!(failure.detail, format!("peer {CLIENT} is denied (list 8)"));
        assert!(check(&verifier, &ca.workload(SERVER)).is_ok());
    }

    #[test]
    fn exactly_one_uri_san_is_required() {
        let ca = Authority::new();
        for uris in [
            &[][..],
            &[CLIENT, SERVER],
            &["https://demo.mesh/a"],
            &["spiffe://demo.mesh"],
        ] {
            let failure = refused(&ca, &ca.leaf(uris, |_| {}));
            assert_eq!(failure.reason, Reason::PeerIdentity, "{failure}");
        }
        let failure = refused(&ca, &ca.leaf(&[CLIENT, SERVER], |_| {}));
        assert_eq!(
            failure.detail,
            "peer certificate has 2 URI SANs, exactly one SPIFFE ID is required"
        );
    }

    #[test]
    fn dns_names_beside_the_spiffe_id_do_no_harm() {
        let ca = Authority::new();
        let peer = ca.leaf(&[CLIENT], |params| {
            let name = rcgen::SanType::DnsName("client.demo".try_into().unwrap());
            params.subject_alt_names.push(name);
        });
        assert!(check(&verifier(&[(DOMAIN, &ca)], any_of(DOMAIN)), &peer).is_ok());
    }

    #[test]
    fn a_ca_certificate_is_no_leaf() {
        let ca = Authority::new();
        let peer = ca.leaf(&[CLIENT], |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        assert_eq!(refused(&ca, &peer).reason, Reason::PeerUsage);
        for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
            let peer = ca.leaf(&[CLIENT], |params| params.key_usages.push(usage));
            assert_eq!(refused(&ca, &peer).reason, Reason::PeerUsage);
        }
    }

    #[test]
    fn the_extended_key_usage_must_fit_the_side() {
        let ca = Authority::new();
        let peer = ca.leaf(&[CLIENT], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        assert_eq!(refused(&ca, &peer).reason, Reason::PeerUsage);
        let verifier = verifier(&[(DOMAIN, &ca)], any_of(DOMAIN));
        let now = UnixTime::now();
        let leaf = &peer.chain[0];
        assert!(
            verifier
                .verify(leaf, &[], now, KeyUsage::server_auth())
                .is_ok()
        );
    }

    #[test]
    fn an_expired_or_early_certificate_is_refused() {
        let ca = Authority::new();
        let now = SystemTime::now();
        let expired = ca.leaf(&[CLIENT], |params| {
            params.not_after = (now - Duration::from_secs(30)).into();
        });
        let failure = refused(&ca, &expired);
        assert_eq!(failure.reason, Reason::PeerExpired);
        assert!(failure.detail.contains("expired 3"), "{failure}");
        let early = ca.leaf(&[CLIENT], |params| {
            params.not_before = (now + Duration::from_secs(60)).into();
        });
        assert_eq!(refused(&ca, &early).reason, Reason::PeerExpired);
    }

    #[test]
    fn the_issuer_must_be_a_root_of_the_peers_own_trust_domain() {
        let (ca, other) = (Authority::new(), Authority::new());
        let failure = refused(&ca, &other.workload(CLIENT));
        assert_eq!(failure.reason, Reason::PeerIssuer);
        assert!(failure.detail.contains("unknown issuer"), "{failure}");
        assert_eq!(refused(&ca, &ca.workload(OTHER)).reason, Reason::PeerIssuer);
        // Both domains are trusted, each for itself alone.
        let both = verifier(
            &[(DOMAIN, &ca), ("other.mesh", &other)],
            any_of("other.mesh"),
        );
        let failure = check(&both, &ca.workload(OTHER)).unwrap_err();
        assert_eq!(failure.reason, Reason::PeerIssuer);
        assert!(check(&both, &other.workload(OTHER)).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_certificate_panics(der in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let peer = CertificateDer::from(der);
            if let Ok(leaf) = Leaf::parse(&peer) {
                let _ = (leaf.check_is_leaf(), leaf.spiffe_id(), leaf.usable_schemes());
            }
        }

        #[test]
        fn no_damaged_certificate_is_accepted(at in 0usize..400, bit in 0u8..8) {
            static CA: std::sync::LazyLock<(Authority, Certified)> =
                std::sync::LazyLock::new(|| {
                    let ca = Authority::new();
                    let peer = ca.workload(CLIENT);
                    (ca, peer)
                });
            let (ca, peer) = &*CA;
            let mut der = peer.chain[0].to_vec();
            let at = at % der.len();
            der[at] ^= 1 << bit;
            let damaged = CertificateDer::from(der);
            let verifier = verifier(&[(DOMAIN, ca)], any_of(DOMAIN));
            let now = UnixTime::now();
            let checked = verifier.verify(&damaged, &[], now, KeyUsage::client_auth());
            proptest::prop_assert!(checked.is_err());
        }
    }
}
