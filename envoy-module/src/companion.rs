//! The `meshkey_peer` network filter: first on the chain of a listener with a
//! `meshkey` transport socket, so that nothing else runs before the peer is
//! known.
//!
//! Envoy starts the filters before the handshake; a `tcp_proxy` would dial its
//! upstream for a peer that is about to be refused. This filter holds the chain
//! until the handshake is done and the peer's identity is in filter state.
//!
//! Envoy's network RBAC decides when data arrives, which is too late for an
//! upstream that speaks first: there the transport socket's own `peers` must say
//! who is welcome.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::abi::{Alive, FilterStatus, Level, NetworkFilter, log};
use crate::peer::Peer;
use crate::stats::{self, Anchored};

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

/// The configuration: none but the statistics anchored on it.
pub struct CompanionConfig {
    _stats: Anchored,
    _alive: Alive,
}

impl CompanionConfig {
    /// In `network_filter_config_new`.
    pub fn new(envoy: *mut std::ffi::c_void) -> Self {
        Self {
            _stats: stats::anchor(envoy),
            _alive: Alive::new(),
        }
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
    /// How often reading was enabled on behalf of the handshake.
    enabled: Cell<u32>,
    held: Cell<bool>,
}

impl Companion {
    pub fn new(envoy: NetworkFilter) -> Self {
        let connection = envoy.connection_id();
        EXPECTED.with(|expected| expected.borrow_mut().insert(connection, None));
        Self {
            envoy,
            connection,
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
        let peer = EXPECTED.with(|expected| {
            let mut expected = expected.borrow_mut();
            expected.get_mut(&self.connection).and_then(Option::take)
        });
        let Some(peer) = peer else {
            let detail = "meshkey_peer: a connection without a meshkey transport socket is closed";
            log(Level::Warn, detail);
            self.envoy.close();
            return;
        };
        self.envoy.set_filter_state(PEER, peer.spiffe_id.as_str());
        self.envoy.set_filter_state(XFCC, &peer.forwarded);
        self.envoy.set_filter_state(TLS, &peer.tls);
        for _ in 0..self.enabled.take() {
            self.envoy.read_disable(true);
        }
        self.held.set(false);
        self.envoy.continue_reading();
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
