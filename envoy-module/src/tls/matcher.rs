//! Which peers are expected.

use crate::failure::{Failure, Reason};
use crate::spiffe::{SpiffeId, TrustDomain};

/// The rule of one listener or cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMatcher {
    /// One of these; never empty.
    Exactly(Vec<SpiffeId>),
    /// Any workload of the trust domain.
    AnyOf(TrustDomain),
}

impl PeerMatcher {
    pub fn check(&self, peer: &SpiffeId) -> Result<(), Failure> {
        let detail = match self {
            Self::Exactly(expected) if expected.contains(peer) => return Ok(()),
            Self::Exactly(_) => format!("peer {peer} is not among the expected peers"),
            Self::AnyOf(domain) if peer.trust_domain() == domain => return Ok(()),
            Self::AnyOf(domain) => format!("peer {peer} is not in the trust domain {domain}"),
        };
        Err(Failure::new(Reason::PeerUnexpected, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn an_exact_list_takes_nothing_else() {
        let matcher = PeerMatcher::Exactly(vec![id("spiffe://demo.mesh/a")]);
        assert!(matcher.check(&id("spiffe://demo.mesh/a")).is_ok());
        assert!(matcher.check(&id("spiffe://demo.mesh/a/b")).is_err());
        assert!(matcher.check(&id("spiffe://demo.mesh")).is_err());
        assert!(matcher.check(&id("spiffe://other.mesh/a")).is_err());
    }

    #[test]
    fn a_trust_domain_is_compared_whole() {
        let matcher = PeerMatcher::AnyOf("demo.mesh".parse().unwrap());
        assert!(matcher.check(&id("spiffe://demo.mesh/a")).is_ok());
        assert!(matcher.check(&id("spiffe://demo.mesh.evil/a")).is_err());
        assert!(matcher.check(&id("spiffe://sub.demo.mesh/a")).is_err());
    }
}
