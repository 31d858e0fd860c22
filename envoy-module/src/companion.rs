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
//!
//! Envoy lets every filter overwrite what another has put into filter state
//! (envoyproxy/envoy#44343). What one before this filter says about the peer is
//! overwritten; one after it is found out before it or any other filter gets the
//! next data, and the connection is closed.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use crate::abi::{Alive, FilterStatus, NetworkFilter};
use crate::config::CompanionConfig;
use crate::peer::Peer;
use crate::peers::Expected;
use crate::report;
use crate::stats::{self, Anchored, Counter};

/// The keys of filter state. `meshkey.peer`: the peer's SPIFFE ID;
/// `meshkey.xfcc`: one whole x-forwarded-client-cert element; `meshkey.tls`:
/// version, cipher suite, key exchange.
const PEER: &str = "meshkey.peer";
const XFCC: &str = "meshkey.xfcc";
const TLS: &str = "meshkey.tls";
/// What Istio calls the two ends where it does not take them from Envoy's own TLS
/// (istio's pilot/pkg/security/authz/model/principal.go and
/// pilot/pkg/xds/filters/filters.go): whole SPIFFE IDs.
const PEER_PRINCIPAL: &str = "io.istio.peer_principal";
const LOCAL_PRINCIPAL: &str = "io.istio.local_principal";

/// Dynamic metadata: what Istio's authorization policies can ask for on a sidecar, where they read
/// filter state not at all (`attrEnvoyFilter` in pilot/pkg/security/authz/model/model.go).
const METADATA: &str = "envoy.filters.meshkey";
const PRINCIPAL: &str = "principal";
const NAMESPACE: &str = "namespace";

/// Something that other filters are told, and where.
struct Fact {
    in_metadata: bool,
    key: &'static str,
    value: String,
}

impl Fact {
    fn state(key: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        Self {
            in_metadata: false,
            key,
            value,
        }
    }

    fn metadata(key: &'static str, value: &str) -> Self {
        Self {
            in_metadata: true,
            ..Self::state(key, value)
        }
    }

    /// Whether it could be told.
    fn tell(&self, envoy: NetworkFilter) -> bool {
        if self.in_metadata {
            return envoy.set_metadata(METADATA, self.key, &self.value);
        }
        envoy.set_filter_state(self.key, &self.value)
    }

    /// Whether nothing else is told in its place.
    fn holds(&self, envoy: NetworkFilter) -> bool {
        if self.in_metadata {
            return envoy.has_metadata(METADATA, self.key, &self.value);
        }
        envoy.has_filter_state(self.key, &self.value)
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key;
        if self.in_metadata {
            return write!(to, "dynamic metadata {METADATA}[{key}]");
        }
        write!(to, "filter state {key}")
    }
}

thread_local! {
    // Leaked, so that no destructor runs while Envoy ends the thread. A
    // connection stays on its thread, and so do its socket and its filters.
    static EXPECTED: &'static RefCell<HashMap<u64, Option<Peer>>> =
        Box::leak(Box::default());
}

/// One listener's filter, and the statistics anchored on it.
pub struct CompanionFactory {
    peers: Option<Arc<Expected>>,
    _stats: Anchored,
    _alive: Alive,
}

impl CompanionFactory {
    /// In `network_filter_config_new`.
    pub fn new(envoy: *mut std::ffi::c_void, json: &[u8]) -> Result<Self, String> {
        let rule = CompanionConfig::parse(json)?.peers;
        let peers = rule.as_ref().map(Expected::open).transpose()?;
        Ok(Self {
            peers: peers.map(Arc::new),
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
    peers: Option<Arc<Expected>>,
    /// How often reading was enabled on behalf of the handshake.
    enabled: Cell<u32>,
    /// What the other filters were told, once they were: they run.
    told: OnceCell<Box<Told>>,
}

/// Filter state, by its keys.
type Told = [Fact; 7];

impl Companion {
    fn new(envoy: NetworkFilter, peers: Option<Arc<Expected>>) -> Self {
        let connection = envoy.connection_id();
        EXPECTED.with(|expected| expected.borrow_mut().insert(connection, None));
        Self {
            envoy,
            connection,
            peers,
            enabled: Cell::new(0),
            told: OnceCell::new(),
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
        let introduced = self.introduce().and_then(|told| {
            self.release(told);
            // Those after this one have begun meanwhile.
            self.check()
        });
        if let Err(reason) = introduced {
            self.refuse(&reason);
        }
    }

    /// Tells the other filters who the peer is, if it may come in.
    fn introduce(&self) -> Result<Told, String> {
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
        let told = told(peer);
        match told.iter().find(|fact| !fact.tell(self.envoy)) {
            Some(fact) => Err(format!("{fact} cannot be set: no other filter may set it")),
            None => Ok(told),
        }
    }

    /// Lets the other filters run.
    fn release(&self, told: Told) {
        for _ in 0..self.enabled.take() {
            self.envoy.read_disable(true);
        }
        let _ = self.told.set(Box::new(told));
        self.envoy.continue_reading();
    }

    /// Whether all still is what this filter has made it.
    fn check(&self) -> Result<(), String> {
        let mut told = self.told.get().into_iter().flat_map(|told| told.iter());
        match told.find(|fact| !fact.holds(self.envoy)) {
            Some(fact) => Err(format!("{fact} was changed: no other filter may set it")),
            None => Ok(()),
        }
    }

    fn refuse(&self, reason: &str) {
        report::closed(reason);
        self.envoy.close();
    }

    /// Nobody gets in.
    pub fn close(&self) {
        self.envoy.close();
    }

    pub fn received(&self) -> FilterStatus {
        if self.told.get().is_none() {
            return FilterStatus::StopIteration;
        }
        match self.check() {
            Ok(()) => FilterStatus::Continue,
            Err(reason) => {
                self.refuse(&reason);
                FilterStatus::StopIteration
            }
        }
    }
}

fn told(peer: Peer) -> Told {
    let id = peer.spiffe_id.as_str();
    let principal = id.strip_prefix("spiffe://").unwrap_or(id);
    [
        Fact::state(PEER, id),
        Fact::state(PEER_PRINCIPAL, id),
        Fact::state(LOCAL_PRINCIPAL, peer.local.as_str()),
        Fact::state(XFCC, &peer.forwarded),
        Fact::state(TLS, &peer.tls),
        Fact::metadata(PRINCIPAL, principal),
        Fact::metadata(NAMESPACE, namespace(principal)),
    ]
}

/// Empty if it is not of Istio's form: what a filter before has set does not stay.
fn namespace(principal: &str) -> &str {
    match principal.split('/').collect::<Vec<_>>()[..] {
        [_, "ns", namespace, "sa", _] => namespace,
        _ => "",
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

    /// A companion that takes the client only.
    fn companion() -> (Companion, CompanionFactory) {
        companion_of(&format!(r#"{{"peers":{{"spiffe_ids":["{CLIENT}"]}}}}"#))
    }

    fn companion_of(json: &str) -> (Companion, CompanionFactory) {
        fake::install();
        let factory = CompanionFactory::new(std::ptr::null_mut(), json.as_bytes()).unwrap();
        let companion = factory.companion(NetworkFilter(std::ptr::null_mut()));
        assert_eq!(companion.new_connection(), FilterStatus::StopIteration);
        (companion, factory)
    }

    fn shake(companion: &Companion, spiffe_id: &str) {
        let peer = Peer {
            spiffe_id: spiffe_id.parse().unwrap(),
            local: SERVER.parse().unwrap(),
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
        let told = |key: &str| seen(|seen| seen.filter_state[key].clone());
        assert_eq!([PEER, PEER_PRINCIPAL].map(told), [CLIENT, CLIENT]);
        assert_eq!(told(LOCAL_PRINCIPAL), SERVER);
    }

    #[test]
    fn a_peer_is_described_in_istios_words() {
        for (id, namespace) in [
            ("spiffe://demo.mesh/ns/shop/sa/cart", "shop"),
            ("spiffe://demo.mesh/ns/shop", ""),
        ] {
            let (companion, _factory) = companion_of("{}");
            shake(&companion, id);
            let told = |key: &str| seen(|seen| seen.metadata[&place(key)].clone());
            assert_eq!(format!("spiffe://{}", told(PRINCIPAL)), id);
            assert_eq!(told(NAMESPACE), namespace);
        }
    }

    fn place(key: &str) -> [String; 2] {
        [METADATA, key].map(str::to_owned)
    }

    #[test]
    fn a_peer_that_another_filter_describes_is_heard_no_more() {
        for key in [PRINCIPAL, NAMESPACE] {
            let (companion, _factory) = companion();
            shake(&companion, CLIENT);
            assert_eq!(companion.received(), FilterStatus::Continue);
            seen(|seen| seen.metadata.insert(place(key), "admin".to_owned()));
            assert_eq!(companion.received(), FilterStatus::StopIteration);
            let said = format!(
                "dynamic metadata {METADATA}[{key}] was changed: no other filter may set it"
            );
            assert!(seen(|seen| seen.closed == 1 && seen.log[0].ends_with(&said)));
        }
    }

    #[test]
    fn another_peer_is_neither_introduced_nor_let_in() {
        let (companion, _factory) = companion();
        shake(&companion, SERVER);
        let reason = format!("peer {SERVER} is not among the expected peers");
        assert_closed(&companion, &reason);
        assert!(seen(
            |seen| seen.filter_state.is_empty() && seen.metadata.is_empty()
        ));
    }

    #[test]
    fn a_peer_that_cannot_be_introduced_is_not_let_in() {
        for key in [PEER, XFCC, TLS, PEER_PRINCIPAL, LOCAL_PRINCIPAL] {
            let (companion, _factory) = companion();
            seen(|seen| {
                let planted = (key.to_owned(), "spiffe://demo.mesh/admin".to_owned());
                seen.filter_state.extend([planted]);
                seen.fixed_filter_state = Some(key.to_owned());
            });
            shake(&companion, CLIENT);
            let reason = format!("filter state {key} cannot be set: no other filter may set it");
            assert_closed(&companion, &reason);
        }
    }

    #[test]
    fn a_peer_that_another_filter_renames_is_heard_no_more() {
        for key in [PEER, XFCC, TLS, PEER_PRINCIPAL, LOCAL_PRINCIPAL] {
            let (companion, _factory) = companion();
            shake(&companion, CLIENT);
            assert_eq!(companion.received(), FilterStatus::Continue);
            let admin = "spiffe://demo.mesh/admin".to_owned();
            seen(|seen| seen.filter_state.insert(key.to_owned(), admin));
            assert_eq!(companion.received(), FilterStatus::StopIteration);
            let said = format!("filter state {key} was changed: no other filter may set it");
            assert!(seen(|seen| seen.closed == 1 && seen.log[0].ends_with(&said)));
        }
    }

    #[test]
    fn a_connection_that_nobody_vouches_for_is_closed() {
        let (companion, _factory) = companion();
        companion.connected();
        assert_closed(&companion, "it has no meshkey transport socket");
    }
}
