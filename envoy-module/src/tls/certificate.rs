//! What a SPIFFE leaf certificate says (X509-SVID, sections 2 to 4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages, SubjectAltName};

use crate::failure::{Failure, Reason};
use crate::spiffe::SpiffeId;

/// A parsed leaf.
pub struct Leaf(Certificate);

impl Leaf {
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, Failure> {
        Certificate::from_der(der)
            .map(Self)
            .map_err(|error| malformed(&format!("does not parse: {error}")))
    }

    /// X509-SVID 2: exactly one URI SAN, which is the SPIFFE ID.
    pub fn spiffe_id(&self) -> Result<SpiffeId, Failure> {
        let names = match self.0.tbs_certificate().get_extension::<SubjectAltName>() {
            Ok(names) => names.map(|(_, names)| names.0).unwrap_or_default(),
            Err(error) => return Err(malformed(&format!("has a malformed SAN: {error}"))),
        };
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
                _ => None,
            })
            .collect();
        let identity = |detail: String| Failure::new(Reason::PeerIdentity, detail);
        match uris.as_slice() {
            [uri] => match uri.parse::<SpiffeId>() {
                Ok(id) if id.has_path() => Ok(id),
                Ok(id) => Err(identity(format!(
                    "peer certificate: {id} is a trust domain, not a workload"
                ))),
                Err(reason) => Err(identity(format!("peer certificate: {reason}"))),
            },
            uris => Err(identity(format!(
                "peer certificate has {} URI SANs, exactly one SPIFFE ID is required",
                uris.len()
            ))),
        }
    }

    /// X509-SVID 4.1 and 4.3: a leaf is no CA and signs neither certificates nor
    /// CRLs.
    pub fn check_is_leaf(&self) -> Result<(), Failure> {
        let usage = |detail| Err(Failure::new(Reason::PeerUsage, detail));
        let certificate = self.0.tbs_certificate();
        match certificate.get_extension::<BasicConstraints>() {
            Ok(Some((_, constraints))) if constraints.ca => {
                return usage("peer certificate is a CA certificate, a leaf is required");
            }
            Ok(_) => {}
            Err(error) => {
                return Err(malformed(&format!(
                    "has malformed basic constraints: {error}"
                )));
            }
        }
        match certificate.get_extension::<KeyUsage>() {
            Ok(Some((_, KeyUsage(usages))))
                if usages.contains(KeyUsages::KeyCertSign)
                    || usages.contains(KeyUsages::CRLSign) =>
            {
                usage("peer certificate may sign certificates or CRLs, a leaf must not")
            }
            Ok(Some((_, KeyUsage(usages)))) if !usages.contains(KeyUsages::DigitalSignature) => {
                usage("peer certificate's key usage lacks digitalSignature")
            }
            Ok(_) => Ok(()),
            Err(error) => Err(malformed(&format!("has a malformed key usage: {error}"))),
        }
    }

    /// The end of the last second in which it is valid (RFC 5280 4.1.2.5).
    pub fn expires(&self) -> SystemTime {
        let not_after = self.0.tbs_certificate().validity().not_after;
        UNIX_EPOCH + not_after.to_unix_duration() + Duration::from_secs(1)
    }

    /// The TLS 1.3 schemes that a key of this type can make (RFC 8446 4.2.3).
    pub fn usable_schemes(&self) -> &'static [SignatureScheme] {
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
        let algorithm = &self.0.tbs_certificate().subject_public_key_info().algorithm;
        match algorithm.oid {
            EC => match algorithm
                .parameters
                .as_ref()
                .and_then(|curve| curve.decode_as().ok())
            {
                Some(P256) => &[SignatureScheme::ECDSA_NISTP256_SHA256],
                Some(P384) => &[SignatureScheme::ECDSA_NISTP384_SHA384],
                Some(P521) => &[SignatureScheme::ECDSA_NISTP521_SHA512],
                _ => &[],
            },
            RSA => &[
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
            ],
            ED25519 => &[SignatureScheme::ED25519],
            _ => &[],
        }
    }
}

fn malformed(what: &str) -> Failure {
    Failure::new(Reason::PeerMalformed, format!("peer certificate {what}"))
}
