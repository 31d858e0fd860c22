//! The deny lists of peers that signers have sent, for as long as the process
//! lives.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::{Level, log};
use crate::proto;
use crate::spiffe::SpiffeId;

/// Peers that are refused whoever certifies them.
#[derive(Debug, Default)]
pub struct DeniedPeers {
    pub sequence: u64,
    spiffe_ids: HashSet<SpiffeId>,
}

impl DeniedPeers {
    /// What is no SPIFFE ID is no peer's, so it denies nobody; the rest of the
    /// list counts, and the log says so.
    fn parse(list: &proto::DeniedPeers) -> Self {
        let (ids, malformed): (Vec<_>, Vec<_>) = list
            .spiffe_ids
            .iter()
            .map(|id| id.parse())
            .partition(Result::is_ok);
        if let Some(Err(reason)) = malformed.first() {
            let (count, sequence) = (malformed.len(), list.sequence);
            log(
                Level::Error,
                &format!("deny list {sequence}: {count} entries deny nobody: {reason}"),
            );
        }
        Self {
            sequence: list.sequence,
            spiffe_ids: ids.into_iter().flatten().collect(),
        }
    }

    pub fn contains(&self, peer: &SpiffeId) -> bool {
        self.spiffe_ids.contains(peer)
    }
}

/// The newest list of each signer. Never forgotten: neither a reconnect nor a
/// change of Envoy's configuration brings a denied peer back.
static NEWEST: Mutex<Option<HashMap<PathBuf, Arc<DeniedPeers>>>> = Mutex::new(None);

/// The list in force for the peers of `signer`, now that it has sent `list`: the
/// one with the highest sequence. A signer without a list has not lifted one.
pub fn newest(signer: &Path, list: Option<&proto::DeniedPeers>) -> Arc<DeniedPeers> {
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    let newest = newest.get_or_insert_default();
    let current = newest.entry(signer.to_owned()).or_default();
    match list {
        Some(list) if list.sequence >= current.sequence => {
            *current = Arc::new(DeniedPeers::parse(list));
        }
        Some(list) => {
            let (old, kept) = (list.sequence, current.sequence);
            log(
                Level::Warn,
                &format!("deny list {old} is older than {kept}, which stays in force"),
            );
        }
        None => {}
    }
    current.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::certificates::{CLIENT, SERVER};
    use crate::testing::socket_path;

    fn list(sequence: u64, ids: &[&str]) -> proto::DeniedPeers {
        proto::DeniedPeers {
            sequence,
            spiffe_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    fn denied(list: &DeniedPeers) -> [bool; 2] {
        [CLIENT, SERVER].map(|id| list.contains(&id.parse().unwrap()))
    }

    #[test]
    fn only_a_list_of_the_same_or_a_higher_sequence_replaces_one() {
        let signer = socket_path();
        let after = |next: Option<proto::DeniedPeers>| denied(&newest(&signer, next.as_ref()));
        assert_eq!(after(None), [false, false]);
        assert_eq!(after(Some(list(5, &[CLIENT]))), [true, false]);
        assert_eq!(after(Some(list(4, &[]))), [true, false]);
        assert_eq!(after(None), [true, false]);
        assert_eq!(after(Some(list(6, &[SERVER]))), [false, true]);
        assert_eq!(after(Some(list(7, &[]))), [false, false]);
    }

    #[test]
    fn each_signer_has_its_own_list() {
        newest(&socket_path(), Some(&list(9, &[CLIENT])));
        let other = newest(&socket_path(), Some(&list(1, &[SERVER])));
        assert_eq!(denied(&other), [false, true]);
    }

    #[test]
    fn an_entry_that_is_no_spiffe_id_does_not_lift_the_others() {
        let entries = ["spiffe://demo.mesh/*", CLIENT, ""];
        let list = newest(&socket_path(), Some(&list(1, &entries)));
        assert_eq!(denied(&list), [true, false]);
    }
}
