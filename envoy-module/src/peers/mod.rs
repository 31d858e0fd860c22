//! Who may be on the other end: what a configuration says, and lists in files that
//! change while Envoy runs.

mod file;
pub mod listed;
mod lists;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use crate::failure::Failure;
use crate::spiffe::SpiffeId;
use crate::tls::matcher::PeerMatcher;
use listed::Listed;

/// What a listener, a cluster or a filter is configured with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// All that there is to know.
    Fixed(PeerMatcher),
    /// A list of that name in a file.
    Listed { file: PathBuf, entry: String },
}

/// A rule in force.
#[derive(Clone, Debug)]
pub enum Expected {
    Fixed(PeerMatcher),
    Listed(Arc<Listed>),
}

impl Expected {
    /// In a `config_new` hook. A file is followed from now on; it need not be there.
    pub fn open(rule: &Rule) -> Result<Self, String> {
        Ok(match rule {
            Rule::Fixed(matcher) => Self::Fixed(matcher.clone()),
            Rule::Listed { file, entry } => Self::Listed(Listed::open(file, entry)?),
        })
    }

    pub fn check(&self, peer: &SpiffeId) -> Result<(), Failure> {
        match self {
            Self::Fixed(matcher) => matcher.check(peer),
            Self::Listed(listed) => listed.check(peer),
        }
    }

    /// The list that can change under an established connection, if it is one.
    pub fn listed(&self) -> Option<&Arc<Listed>> {
        match self {
            Self::Fixed(_) => None,
            Self::Listed(listed) => Some(listed),
        }
    }
}
