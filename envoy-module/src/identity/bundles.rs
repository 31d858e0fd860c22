//! Whom to trust: the roots of each trust domain.

use std::collections::HashMap;

use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::spiffe::TrustDomain;

/// A peer verifies against the roots of its own trust domain and no other.
#[derive(Debug)]
pub struct TrustBundles(HashMap<TrustDomain, Vec<TrustAnchor<'static>>>);

impl TrustBundles {
    /// `bundles`: names of trust domains with the DER certificates of their
    /// roots.
    pub fn parse<'a, Roots>(
        bundles: impl IntoIterator<Item = (&'a str, Roots)>,
    ) -> Result<Self, String>
    where
        Roots: IntoIterator<Item = &'a [u8]>,
    {
        let mut parsed: HashMap<_, Vec<_>> = HashMap::new();
        for (domain, roots) in bundles {
            let anchors = roots
                .into_iter()
                .map(anchor)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|reason| format!("trust bundle {domain}: {reason}"))?;
            if anchors.is_empty() {
                return Err(format!("trust bundle {domain} has no root"));
            }
            let domain = domain
                .parse::<TrustDomain>()
                .map_err(|reason| format!("trust bundle: {reason}"))?;
            parsed.entry(domain).or_default().extend(anchors);
        }
        if parsed.is_empty() {
            return Err("no trust bundle".to_owned());
        }
        Ok(Self(parsed))
    }

    pub fn roots(&self, domain: &TrustDomain) -> Option<&[TrustAnchor<'static>]> {
        self.0.get(domain).map(Vec::as_slice)
    }
}

fn anchor(root: &[u8]) -> Result<TrustAnchor<'static>, String> {
    webpki::anchor_from_trusted_cert(&CertificateDer::from(root))
        .map(|anchor| anchor.to_owned())
        .map_err(|error| format!("a root does not parse: {error:?}"))
}
