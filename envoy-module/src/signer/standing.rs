//! What a signer has taken back of an identity, and the connections that were
//! made with it. They also end when their peers' certificates or lists say so.
//!
//! A [`Standing`] lies under its link's lock: a connection is judged and entered
//! in one step, and whoever takes something back finds every connection that was
//! entered before. None slips through between the two.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::denied::DeniedPeers;
use crate::failure::{Ending, Failure};
use crate::peers::listed::Listed;
use crate::spiffe::SpiffeId;
use crate::wake::target::Target;

/// An established connection, as the threads see it that it does not belong to.
#[derive(Debug)]
pub struct Connection {
    pub peer: SpiffeId,
    /// The key that signed its handshake.
    pub key_id: Vec<u8>,
    /// When it ends at the latest, if the peer's certificate matters for that.
    pub expires: Option<SystemTime>,
    /// The list that its peer has to be on, if that can change.
    pub listed: Option<Arc<Listed>>,
    pub target: Arc<Target>,
    /// Why it is to be closed, once it is.
    ended: OnceLock<Ended>,
}

/// Why a connection may not be, or not any longer.
#[derive(Clone, Debug)]
pub struct Ended {
    pub ending: Ending,
    pub detail: String,
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::new(ended.ending.reason(), ended.detail)
    }
}

impl Connection {
    pub fn new(
        peer: SpiffeId,
        key_id: Vec<u8>,
        expires: Option<SystemTime>,
        listed: Option<Arc<Listed>>,
        target: Arc<Target>,
    ) -> Self {
        Self {
            peer,
            key_id,
            expires,
            listed,
            target,
            ended: OnceLock::new(),
        }
    }

    fn check(&self, now: SystemTime) -> Result<(), Ended> {
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(expired(&self.peer));
        }
        self.check_listed()
    }

    fn check_listed(&self) -> Result<(), Ended> {
        let checked = self.listed.as_ref().map(|listed| listed.check(&self.peer));
        checked.unwrap_or(Ok(())).map_err(|failure| Ended {
            ending: Ending::PeerUnexpected,
            detail: failure.detail,
        })
    }

    /// On the data path: one atomic load.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }
}

/// What is taken back, and from whom.
#[derive(Debug)]
pub struct Standing {
    identity: String,
    withdrawn: bool,
    revoked_keys: HashSet<Vec<u8>>,
    denied: Arc<DeniedPeers>,
    connections: HashMap<u64, Arc<Connection>>,
    last_entry: u64,
}

impl Standing {
    pub fn new(identity: &str, denied: Arc<DeniedPeers>) -> Self {
        Self {
            identity: identity.to_owned(),
            withdrawn: false,
            revoked_keys: HashSet::new(),
            denied,
            connections: HashMap::new(),
            last_entry: 0,
        }
    }

    /// The identity is served no more. Stays so until it is reinstated: that the
    /// signer goes away is no word of his.
    pub fn withdraw(&mut self) -> Vec<Arc<Connection>> {
        self.withdrawn = true;
        self.end_what_may_not_be()
    }

    pub fn reinstate(&mut self) {
        self.withdrawn = false;
    }

    /// From now on these keys and peers, and no others, are out.
    pub fn exclude(
        &mut self,
        revoked_keys: Vec<Vec<u8>>,
        denied: Arc<DeniedPeers>,
    ) -> Vec<Arc<Connection>> {
        self.revoked_keys = revoked_keys.into_iter().collect();
        self.denied = denied;
        self.end_what_may_not_be()
    }

    /// Ends the connections that have outlived their peers' certificates, and those
    /// whose peers are on their lists no more.
    pub fn sweep(&self, now: SystemTime) -> Vec<Arc<Connection>> {
        self.end_those(|connection| connection.check(now))
    }

    /// Whether handshakes may use the identity and this key of it.
    pub fn check_key(&self, key_id: &[u8]) -> Result<(), Ended> {
        self.check_not_withdrawn()?;
        if self.revoked_keys.contains(key_id) {
            let identity = &self.identity;
            let detail = format!("the key of identity {identity} in use was revoked");
            let ending = Ending::KeyRevoked;
            return Err(Ended { ending, detail });
        }
        Ok(())
    }

    pub fn check_not_withdrawn(&self) -> Result<(), Ended> {
        if self.withdrawn {
            let identity = &self.identity;
            let detail = format!("identity {identity} was withdrawn at the signer");
            let ending = Ending::IdentityWithdrawn;
            return Err(Ended { ending, detail });
        }
        Ok(())
    }

    pub fn check_peer(&self, peer: &SpiffeId) -> Result<(), Ended> {
        if self.denied.contains(peer) {
            let detail = format!("peer {peer} is denied (list {})", self.denied.sequence);
            let ending = Ending::PeerDenied;
            return Err(Ended { ending, detail });
        }
        Ok(())
    }

    /// Enters a connection whose handshake is done, if it still may be: the entry
    /// to strike out when it is over.
    pub fn enter(&mut self, connection: Arc<Connection>) -> Result<u64, Ended> {
        self.check(&connection)?;
        self.last_entry += 1;
        self.connections.insert(self.last_entry, connection);
        Ok(self.last_entry)
    }

    pub fn strike_out(&mut self, entry: u64) {
        self.connections.remove(&entry);
    }

    fn check(&self, connection: &Connection) -> Result<(), Ended> {
        self.check_key(&connection.key_id)?;
        self.check_peer(&connection.peer)?;
        connection.check_listed()
    }

    fn end_what_may_not_be(&self) -> Vec<Arc<Connection>> {
        self.end_those(|connection| self.check(connection))
    }

    /// Those that are news, to be woken outside of the lock.
    fn end_those(&self, judge: impl Fn(&Connection) -> Result<(), Ended>) -> Vec<Arc<Connection>> {
        let ended = self.connections.values().filter(|connection| {
            let verdict = judge(connection);
            verdict.is_err_and(|ended| connection.ended.set(ended).is_ok())
        });
        ended.cloned().collect()
    }
}

fn expired(peer: &SpiffeId) -> Ended {
    let detail = format!("the certificate that peer {peer} connected with has expired");
    let ending = Ending::PeerExpired;
    Ended { ending, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::TransportSocket;
    use crate::proto;
    use crate::signer::denied;
    use crate::testing::certificates::{CLIENT, SERVER};
    use crate::testing::{socket_path, until};

    fn connection(peer: &str, key_id: &[u8]) -> Arc<Connection> {
        let target = Target::new(TransportSocket(std::ptr::null_mut()));
        let peer = peer.parse().unwrap();
        Arc::new(Connection::new(peer, key_id.to_vec(), None, None, target))
    }

    fn denied(ids: &[&str]) -> Arc<DeniedPeers> {
        let spiffe_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let list = proto::DeniedPeers {
            sequence: 3,
            spiffe_ids,
        };
        denied::newest(&socket_path(), Some(&list))
    }

    /// With a connection for each of two peers and each of two keys.
    fn standing() -> (Standing, [Arc<Connection>; 4]) {
        let mut standing = Standing::new("default", Arc::default());
        let connections = [
            connection(CLIENT, b"old"),
            connection(CLIENT, b"new"),
            connection(SERVER, b"old"),
            connection(SERVER, b"new"),
        ];
        for connection in &connections {
            standing.enter(connection.clone()).unwrap();
        }
        (standing, connections)
    }

    fn endings(connections: &[Arc<Connection>]) -> Vec<Option<Ending>> {
        let ended = connections.iter().map(|connection| connection.ended());
        ended.map(|ended| ended.map(|ended| ended.ending)).collect()
    }

    #[test]
    fn a_withdrawal_ends_every_connection_and_lets_none_in_until_it_is_taken_back() {
        let (mut standing, connections) = standing();
        assert_eq!(standing.withdraw().len(), 4);
        assert_eq!(endings(&connections), [Some(Ending::IdentityWithdrawn); 4]);
        let late = standing.enter(connection(CLIENT, b"new")).unwrap_err();
        assert_eq!(late.ending, Ending::IdentityWithdrawn);
        assert_eq!(late.detail, "identity default was withdrawn at the signer");
        standing.reinstate();
        assert!(standing.enter(connection(CLIENT, b"new")).is_ok());
    }

    #[test]
    fn a_revoked_key_ends_what_it_signed_and_nothing_else() {
        let (mut standing, connections) = standing();
        let ended = standing.exclude(vec![b"old".to_vec()], Arc::default());
        assert_eq!(ended.len(), 2);
        let revoked = Some(Ending::KeyRevoked);
        assert_eq!(endings(&connections), [revoked, None, revoked, None]);
        assert!(standing.check_key(b"new").is_ok());
        assert!(standing.enter(connection(SERVER, b"old")).is_err());
        assert!(standing.enter(connection(SERVER, b"new")).is_ok());
    }

    #[test]
    fn a_denied_peer_loses_its_connections_and_makes_no_new_ones() {
        let (mut standing, connections) = standing();
        assert_eq!(standing.exclude(Vec::new(), denied(&[CLIENT])).len(), 2);
        let denied = Some(Ending::PeerDenied);
        assert_eq!(endings(&connections), [denied, denied, None, None]);
        let refused = standing.enter(connection(CLIENT, b"new")).unwrap_err();
        assert_eq!(refused.detail, format!("peer {CLIENT} is denied (list 3)"));
        assert!(standing.enter(connection(SERVER, b"new")).is_ok());
    }

    #[test]
    fn a_connection_ends_when_its_peers_certificate_has_expired_and_not_before() {
        let (mut standing, others) = standing();
        let expires = SystemTime::now();
        let target = Target::new(TransportSocket(std::ptr::null_mut()));
        let peer = CLIENT.parse().unwrap();
        let connection = Connection::new(peer, b"new".to_vec(), Some(expires), None, target);
        let connection = Arc::new(connection);
        standing.enter(connection.clone()).unwrap();
        let moment = std::time::Duration::from_millis(1);
        assert!(standing.sweep(expires - moment).is_empty());
        assert_eq!(standing.sweep(expires).len(), 1);
        assert!(standing.sweep(expires + moment).is_empty());
        assert_eq!(endings(&[connection]), [Some(Ending::PeerExpired)]);
        assert_eq!(endings(&others), [None; 4]);
    }

    #[test]
    fn a_connection_ends_when_its_peer_is_taken_off_its_list() {
        let path = socket_path().with_extension("json");
        let write = |ids: &[&str]| {
            let new = path.with_extension("new");
            std::fs::write(&new, serde_json::json!({ "a": ids }).to_string()).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        write(&[CLIENT]);
        let listed = Listed::open(&path, "a").unwrap();
        let with = |peer: &str| {
            let target = Target::new(TransportSocket(std::ptr::null_mut()));
            let (peer, listed) = (peer.parse().unwrap(), Some(listed.clone()));
            Arc::new(Connection::new(peer, b"k".to_vec(), None, listed, target))
        };
        let mut standing = Standing::new("default", Arc::default());
        let client = with(CLIENT);
        until("the list", || standing.enter(client.clone()).is_ok());
        let refused = standing.enter(with(SERVER)).unwrap_err();
        assert_eq!(refused.ending, Ending::PeerUnexpected);
        assert!(standing.sweep(SystemTime::now()).is_empty());
        write(&[SERVER]);
        until("the end", || standing.sweep(SystemTime::now()).len() == 1);
        assert_eq!(endings(&[client]), [Some(Ending::PeerUnexpected)]);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_over_is_no_longer_looked_at_and_nothing_ends_twice() {
        let mut standing = Standing::new("default", Arc::default());
        let (over, open) = (connection(CLIENT, b"k"), connection(CLIENT, b"k"));
        let entry = standing.enter(over.clone()).unwrap();
        standing.enter(open.clone()).unwrap();
        standing.strike_out(entry);
        assert_eq!(standing.withdraw().len(), 1);
        assert_eq!(standing.withdraw().len(), 0);
        assert_eq!(
            endings(&[over, open]),
            [None, Some(Ending::IdentityWithdrawn)]
        );
    }
}
