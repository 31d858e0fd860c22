//! One generation of the identity, checked before anyone uses it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::bundles::TrustBundles;
use crate::failure::{Failure, Reason};
use crate::proto::IdentityUpdate;
use crate::spiffe::SpiffeId;
use crate::tls::certificate::Leaf;

/// An immutable whole: chain and key belong together.
#[derive(Debug)]
pub struct Snapshot {
    pub generation: u64,
    /// Names the key in sign requests.
    pub key_id: Vec<u8>,
    pub spiffe_id: SpiffeId,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub bundles: Arc<TrustBundles>,
    /// Best first; what both the token and the leaf's key type can do. Never
    /// empty.
    pub schemes: Vec<SignatureScheme>,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub not_after: i64,
}

impl Snapshot {
    /// The error is what the sidecar is told about the refused generation.
    pub fn parse(update: IdentityUpdate) -> Result<Self, String> {
        let spiffe_id: SpiffeId = update.spiffe_id.parse()?;
        let chain: Vec<_> = update
            .certificate_chain
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let schemes = check_chain(&chain, &spiffe_id, &update.schemes)?;
        let bundles = TrustBundles::parse(update.trust_bundles.iter().map(|bundle| {
            let roots = bundle.roots.iter().map(Vec::as_slice);
            (bundle.trust_domain.as_str(), roots)
        }))?;
        if update.key_id.is_empty() {
            return Err("no key id".to_owned());
        }
        Ok(Self {
            generation: update.generation,
            key_id: update.key_id,
            spiffe_id,
            chain,
            bundles: Arc::new(bundles),
            schemes,
            not_after: update.not_after,
        })
    }

    /// An expired leaf makes no new handshakes.
    pub fn check_not_expired(&self, now: SystemTime) -> Result<(), Failure> {
        let now = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() as i64);
        if now > self.not_after {
            let (id, late) = (&self.spiffe_id, now - self.not_after);
            let detail = format!("our own certificate of {id} expired {late} s ago");
            return Err(Failure::new(Reason::IdentityExpired, detail));
        }
        Ok(())
    }
}

fn check_chain(
    chain: &[CertificateDer<'static>],
    spiffe_id: &SpiffeId,
    token_schemes: &[u32],
) -> Result<Vec<SignatureScheme>, String> {
    let leaf = chain.first().ok_or("no certificate")?;
    for certificate in chain {
        EndEntityCert::try_from(certificate)
            .map_err(|error| format!("a certificate of the chain does not parse: {error:?}"))?;
    }
    let leaf = Leaf::parse(leaf).map_err(ours)?;
    let certified = leaf.spiffe_id().map_err(ours)?;
    if certified != *spiffe_id {
        return Err(format!(
            "the leaf certifies {certified}, the update is for {spiffe_id}"
        ));
    }
    let usable = leaf.usable_schemes();
    let schemes: Vec<_> = token_schemes
        .iter()
        .filter_map(|scheme| u16::try_from(*scheme).ok().map(SignatureScheme::from))
        .filter(|scheme| usable.contains(scheme))
        .collect();
    if schemes.is_empty() {
        return Err("no signature scheme fits both the token and the leaf's key".to_owned());
    }
    Ok(schemes)
}

/// The checks of leaves speak of peers; here the leaf is ours.
fn ours(failure: Failure) -> String {
    failure
        .detail
        .replace("peer certificate", "our certificate")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::TrustBundle;
    use crate::testing::certificates::{Authority, CLIENT, SERVER};
    use crate::testing::signer::update;

    fn changed(change: impl FnOnce(&mut IdentityUpdate)) -> Result<Snapshot, String> {
        let ca = Authority::new();
        let mut update = update(3, SERVER, &ca, &ca.workload(SERVER));
        change(&mut update);
        Snapshot::parse(update)
    }

    #[test]
    fn a_whole_update_becomes_a_snapshot() {
        let snapshot = changed(|_| {}).unwrap();
        assert_eq!(snapshot.generation, 3);
        assert_eq!(snapshot.spiffe_id.as_str(), SERVER);
        assert_eq!(snapshot.schemes, [SignatureScheme::ECDSA_NISTP256_SHA256]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(changed(|update| update.spiffe_id = CLIENT.to_owned()).is_err());
        assert!(changed(|update| update.spiffe_id.clear()).is_err());
        assert!(changed(|update| update.certificate_chain.clear()).is_err());
        assert!(changed(|update| update.certificate_chain[0].truncate(99)).is_err());
        assert!(changed(|update| update.certificate_chain.push(vec![0])).is_err());
        assert!(changed(|update| update.trust_bundles.clear()).is_err());
        assert!(changed(|update| update.trust_bundles[0].roots.clear()).is_err());
        assert!(changed(|update| update.trust_bundles[0].roots[0].truncate(9)).is_err());
        assert!(changed(|update| update.trust_bundles[0].trust_domain = "A".to_owned()).is_err());
        assert!(changed(|update| update.key_id.clear()).is_err());
        // RSA-PSS and P-384 with a P-256 key; nothing at all; no code point.
        for schemes in [vec![0x0804, 0x0503], vec![], vec![0x1_0403]] {
            assert!(changed(|update| update.schemes = schemes).is_err());
        }
        let empty = TrustBundle {
            trust_domain: "other.mesh".to_owned(),
            roots: Vec::new(),
        };
        assert!(changed(|update| update.trust_bundles.push(empty)).is_err());
    }

    #[test]
    fn the_leaf_expires_with_its_last_second() {
        let snapshot = changed(|update| update.not_after = 1000).unwrap();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(snapshot.check_not_expired(at(1000)).is_ok());
        let failure = snapshot.check_not_expired(at(1001)).unwrap_err();
        assert_eq!(failure.reason, Reason::IdentityExpired);
    }
}
