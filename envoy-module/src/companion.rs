//! The `meshkey_peer` network filter: first on the chain of a listener with a
//! `meshkey` transport socket, so that nothing else runs before the peer is
//! known.
//!
//! Envoy starts the filters before the handshake; a `tcp_proxy` would dial its
//! upstream for a peer that is about to be refused. This filter holds the chain
//! until the handshake is done and the peer's identity is in filter state.
//!
//! Envoy's network RBAC decides when data arrives, which is too late for an
//! upstream that speaks first: there `peers`, of the transport socket or in this
//! filter's own `filter_config`, must say who is welcome.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use crate::abi::{Alive, FilterStatus, NetworkFilter};
use crate::config::CompanionConfig;
use crate::peer::Peer;
use crate::report;
use crate::stats::{self, Anchored, Counter};
use crate::tls::matcher::PeerMatcher;

/// The keys of filter state. `meshkey.peer`: the peer's SPIFFE ID;
/// `meshkey.xfcc`: one whole x-forwarded-client-cert element; `meshkey.tls`:
/// version, cipher suite, key exchange.
const PEER: &str = "meshkey.peer";
const XFCC: &str = "meshkey.xfcc";
const TLS: &str = "meshkey.tls";

thread_local! {
    // Leaked, so that no destructor runs while Envoy ends the thread. A
    // connection stays on its thread, and so do its socket and its filters.
    static EXPECTED: &'static RefCell<HashMap<u64, Option<Peer>>> =
        Box::leak(Box::default());
}

/// One listener's filter, and the statistics anchored on it.
pub struct CompanionFactory {
    peers: Option<Arc<PeerMatcher>>,
    _stats: Anchored,
    _alive: Alive,
}

impl CompanionFactory {
    /// In `network_filter_config_new`.
    pub fn new(envoy: *mut std::ffi::c_void, json: &[u8]) -> Result<Self, String> {
        Ok(Self {
            peers: CompanionConfig::parse(json)?.peers.map(Arc::new),
            _stats: stats::anchor(envoy),
            _alive: Alive::new(),
        })
    }

    pub fn companion(&self, envoy: NetworkFilter) -> Companion {
        Companion::new(envoy, self.peers.clone())
    }
}

/// The transport socket's half: leaves the peer for the companion to pick up in
/// its Connected event. `false`: there is no companion on this connection.
pub fn announce(connection: u64, peer: Peer) -> bool {
    EXPECTED.with(
        |expected| match expected.borrow_mut().get_mut(&connection) {
            Some(slot) => {
                *slot = Some(peer);
                true
            }
            None => false,
        },
    )
}

/// One connection's filter.
pub struct Companion {
    envoy: NetworkFilter,
    connection: u64,
    peers: Option<Arc<PeerMatcher>>,
    /// How often reading was enabled on behalf of the handshake.
    enabled: Cell<u32>,
    held: Cell<bool>,
}

impl Companion {
    fn new(envoy: NetworkFilter, peers: Option<Arc<PeerMatcher>>) -> Self {
        let connection = envoy.connection_id();
        EXPECTED.with(|expected| expected.borrow_mut().insert(connection, None));
        Self {
            envoy,
            connection,
            peers,
            enabled: Cell::new(0),
            held: Cell::new(true),
        }
    }

    /// Holds the chain. `tcp_proxy` has disabled reading until its upstream is
    /// there; the handshake has to read before that.
    pub fn new_connection(&self) -> FilterStatus {
        const MOST: u32 = 8;
        while !self.envoy.read_enabled() && self.enabled.get() < MOST {
            self.envoy.read_disable(false);
            self.enabled.set(self.enabled.get() + 1);
        }
        FilterStatus::StopIteration
    }

    /// The transport socket has raised Connected: the peer is known.
    pub fn connected(&self) {
        match self.introduce() {
            Ok(()) => self.release(),
            Err(reason) => {
                report::closed(&reason);
                self.envoy.close();
            }
        }
    }

    /// Tells the other filters who the peer is, if it may come in.
    fn introduce(&self) -> Result<(), String> {
        let peer = EXPECTED.with(|expected| {
            let mut expected = expected.borrow_mut();
            expected.get_mut(&self.connection).and_then(Option::take)
        });
        let peer = peer.ok_or("it has no meshkey transport socket")?;
        if let Some(peers) = &self.peers {
            peers.check(&peer.spiffe_id).map_err(|failure| {
                stats::count(Counter::PeerDenied);
                failure.to_string()
            })?;
        }
        self.tell(PEER, peer.spiffe_id.as_str())?;
        self.tell(XFCC, &peer.forwarded)?;
        self.tell(TLS, &peer.tls)
    }

    fn tell(&self, key: &str, value: &str) -> Result<(), String> {
        if self.envoy.set_filter_state(key, value) {
            return Ok(());
        }
        Err(format!(
            "filter state {key} cannot be set: no other filter may set it"
        ))
    }

    /// Lets the other filters run.
    fn release(&self) {
        for _ in 0..self.enabled.take() {
            self.envoy.read_disable(true);
        }
        self.held.set(false);
        self.envoy.continue_reading();
    }

    /// Nobody gets in.
    pub fn close(&self) {
        self.envoy.close();
    }

    pub fn received(&self) -> FilterStatus {
        if self.held.get() {
            FilterStatus::StopIteration
        } else {
            FilterStatus::Continue
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        EXPECTED.with(|expected| expected.borrow_mut().remove(&self.connection));
    }
}

/// Runs `body` while what is expected is borrowed, which makes its users panic.
#[cfg(test)]
pub fn while_in_use(body: impl FnOnce()) {
    EXPECTED.with(|expected| {
        let _borrowed = expected.borrow_mut();
        body();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::fake::{self, seen};
    use crate::testing::certificates::{CLIENT, SERVER};

    /// A companion that takes the client only, and the log that it writes.
    fn companion() -> (Companion, CompanionFactory) {
        fake::install();
        let json = format!(r#"{{"peers":{{"spiffe_ids":["{CLIENT}"]}}}}"#);
        let factory = CompanionFactory::new(std::ptr::null_mut(), json.as_bytes()).unwrap();
        let companion = factory.companion(NetworkFilter(std::ptr::null_mut()));
        assert_eq!(companion.new_connection(), FilterStatus::StopIteration);
        (companion, factory)
    }

    fn shake(companion: &Companion, spiffe_id: &str) {
        let peer = Peer {
            spiffe_id: spiffe_id.parse().unwrap(),
            expires: std::time::SystemTime::now(),
            forwarded: "By=us".to_owned(),
            tls: "TLSv1.3".to_owned(),
            protocol: Vec::new(),
        };
        assert!(announce(companion.connection, peer));
        companion.connected();
    }

    fn assert_closed(companion: &Companion, reason: &str) {
        assert_eq!(companion.received(), FilterStatus::StopIteration);
        assert_eq!(seen(|seen| (seen.closed, seen.continued)), (1, 0));
        let line = format!("meshkey: meshkey_peer closed a connection: {reason}");
        assert_eq!(seen(|seen| seen.log.clone()), [line]);
    }

    #[test]
    fn an_expected_peer_is_introduced_and_let_in() {
        let (companion, _factory) = companion();
        shake(&companion, CLIENT);
        assert_eq!(companion.received(), FilterStatus::Continue);
        assert_eq!(seen(|seen| (seen.closed, seen.continued)), (0, 1));
        assert_eq!(seen(|seen| seen.filter_state[PEER].clone()), CLIENT);
    }

    #[test]
    fn another_peer_is_neither_introduced_nor_let_in() {
        let (companion, _factory) = companion();
        shake(&companion, SERVER);
        let reason = format!("peer {SERVER} is not among the expected peers");
        assert_closed(&companion, &reason);
        assert!(seen(|seen| seen.filter_state.is_empty()));
    }

    #[test]
    fn a_peer_that_cannot_be_introduced_is_not_let_in() {
        let (companion, _factory) = companion();
        seen(|seen| {
            let planted = (PEER.to_owned(), "spiffe://demo.mesh/admin".to_owned());
            seen.filter_state.extend([planted]);
            seen.filter_state_is_fixed = true;
        });
        shake(&companion, CLIENT);
        let reason = "filter state meshkey.peer cannot be set: no other filter may set it";
        assert_closed(&companion, reason);
    }

    #[test]
    fn a_connection_that_nobody_vouches_for_is_closed() {
        let (companion, _factory) = companion();
        companion.connected();
        assert_closed(&companion, "it has no meshkey transport socket");
    }
}
