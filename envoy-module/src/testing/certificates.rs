//! A certificate authority and its leaves.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub const DOMAIN: &str = "demo.mesh";
pub const SERVER: &str = "spiffe://demo.mesh/ns/demo/sa/server";
pub const CLIENT: &str = "spiffe://demo.mesh/ns/demo/sa/client";

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root: CertificateDer<'static>,
}

/// A leaf and its key.
pub struct Certified {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    /// A good leaf, after `change`.
    pub fn leaf(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certified {
        self.certify(uris, KeyPair::generate().unwrap(), change)
    }

    fn certify(
        &self,
        uris: &[&str],
        key: KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(120)).into();
        params.not_after = (now + Duration::from_secs(1200)).into();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Certified {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    /// A good leaf for a key of another kind than P-256.
    pub fn workload_with(&self, uri: &str, kind: &'static SignatureAlgorithm) -> Certified {
        self.certify(&[uri], KeyPair::generate_for(kind).unwrap(), |_| {})
    }

    pub fn workload(&self, uri: &str) -> Certified {
        self.leaf(&[uri], |_| {})
    }
}
